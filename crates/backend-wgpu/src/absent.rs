//! The driver where the binary was built without wgpu: no adapter is ever found, and why is said.

use std::convert::Infallible;
use std::fmt;

use qwire_backend_gpu::device::{Address, Device, Launch};
use qwire_model::LoadError;

/// An adapter that the driver knows: none can be.
#[derive(Clone, Debug)]
pub struct Adapter(Infallible);

impl fmt::Display for Adapter {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {}
    }
}

impl Adapter {
    /// Its name on the command line.
    pub fn name(&self) -> String {
        match self.0 {}
    }
}

/// The adapters there are, or why none can be had.
pub fn probe() -> Result<Vec<Adapter>, String> {
    Err("this qwire was built without it; `cargo build --release --features wgpu` has it".into())
}

/// An adapter in use: none can be.
pub struct Wgpu(Infallible);

impl Wgpu {
    /// Takes an adapter.
    pub fn open(adapter: &Adapter) -> Result<Self, LoadError> {
        match adapter.0 {}
    }
}

impl Device for Wgpu {
    const KIND: &'static str = "a wgpu device";
    const NUMBERS: &'static str = "wgpu";

    fn allocate(&mut self, _: usize) -> Result<Address, LoadError> {
        match self.0 {}
    }

    fn upload(&mut self, _: Address, _: &[u8]) {
        match self.0 {}
    }

    fn download(&mut self, _: Address, _: &mut [u8]) {
        match self.0 {}
    }

    fn copy(&mut self, _: Address, _: Address, _: usize) {
        match self.0 {}
    }

    fn run(&mut self, _: &[Launch]) {
        match self.0 {}
    }
}
