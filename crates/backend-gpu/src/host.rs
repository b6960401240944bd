//! The host's share: the experts of a model's last layers, computed by another backend where the
//! device has no memory for them.
//!
//! ```text
//! device   qkv ─ attend ─ project ─ route ─┐ h, routes            sums ┌─ x += sums
//! host                                     └────► expand ─ reduce ─────┘
//! ```
//! What the host computes has the bits that it would have if `h` and the routes were its own.

use qwire_model::{Experts, Halt, Host, KvType, Limits, LoadError, Role, Shape, Tap, Weights};

use crate::Gpu;
use crate::device::Device;
use crate::matrix::Matrix;

/// What a device asks of its host, whatever backend that is.
pub(crate) trait Share: Send {
    /// Takes the experts of a layer.
    fn take(&mut self, experts: Experts<Weights>, into: Role) -> Result<(), LoadError>;
    /// Reserves room for so many rows, and none for keys and values.
    fn reserve(&mut self, shape: &Shape, rows: usize) -> Result<(), LoadError>;
    /// What ends its part of a step.
    fn halt(&self) -> Halt;
    /// m of rows, from their h [rows, hidden] and routes [rows, used].
    fn expand(&mut self, layer: usize, h: &[f32], routes: &[(u32, f32)]);
    /// What is added to x [rows, hidden].
    fn reduce(&mut self, layer: usize) -> Vec<f32>;
    /// m, as [`Tap::M`] has it.
    fn read(&self) -> Vec<f32>;
    /// Overwrites it.
    fn write(&mut self, m: &[f32]);
}

/// A backend, and the experts that it was given.
struct Shelf<H: Host> {
    backend: H,
    experts: Vec<Experts<H::Matrix>>,
}

impl<H: Host> Shelf<H> {
    fn of(&mut self, layer: usize) -> (&mut H, &Experts<H::Matrix>) {
        let experts = self.experts.iter().find(|experts| experts.layer == layer);
        (&mut self.backend, experts.expect("the experts of a host's layer were given to it"))
    }
}

impl<H: Host> Share for Shelf<H> {
    fn take(&mut self, experts: Experts<Weights>, into: Role) -> Result<(), LoadError> {
        let experts = self.backend.experts(experts, into)?;
        self.experts.push(experts);
        Ok(())
    }

    fn reserve(&mut self, shape: &Shape, rows: usize) -> Result<(), LoadError> {
        self.backend.reserve(shape, Limits { rows, outputs: 0, pages: 0, kv: KvType::F16 })
    }

    fn halt(&self) -> Halt {
        self.backend.halt()
    }

    fn expand(&mut self, layer: usize, h: &[f32], routes: &[(u32, f32)]) {
        let (backend, experts) = self.of(layer);
        backend.visit(h, routes);
        backend.expand(experts);
    }

    fn reduce(&mut self, layer: usize) -> Vec<f32> {
        let (backend, experts) = self.of(layer);
        backend.reduce(experts);
        backend.read(Tap::X)
    }

    fn read(&self) -> Vec<f32> {
        self.backend.read(Tap::M)
    }

    fn write(&mut self, m: &[f32]) {
        self.backend.write(Tap::M, m);
    }
}

/// Who computes the experts of the last layers.
pub(crate) struct Sharing {
    /// The first of them.
    pub(crate) first: usize,
    pub(crate) host: Box<dyn Share>,
    /// Whether m of the layer at hand is the host's.
    pub(crate) holds_m: bool,
}

impl<D: Device> Gpu<D> {
    /// A backend whose device has the experts of the first `layers` alone, and everything else of
    /// every layer; the others' experts are the host's.
    pub fn sharing<H: Host + 'static>(device: D, host: H, layers: usize) -> Self {
        let host = Box::new(Shelf { backend: host, experts: Vec::new() });
        Self { sharing: Some(Sharing { first: layers, host, holds_m: false }), ..Self::new(device) }
    }

    /// The host takes the experts of one of its layers.
    pub(crate) fn give(
        &mut self,
        experts: Experts<Weights>,
        into: Role,
    ) -> Result<Experts<Matrix>, LoadError> {
        self.host().take(experts.clone(), into)?;
        experts.place(into, |weights, _| Ok(Matrix::elsewhere(weights)))
    }

    /// The host expands a layer.
    pub(crate) fn ask(&mut self, layer: usize) {
        let (h, routes) = self.desk().visits();
        self.host().expand(layer, &h, &routes);
    }

    /// The host reduces it.
    pub(crate) fn answer(&mut self, layer: usize) {
        let sums = self.host().reduce(layer);
        self.desk().add(&sums);
    }

    fn host(&mut self) -> &mut dyn Share {
        &mut *self.sharing.as_mut().expect("some layers are a host's").host
    }

    /// Notes whose m is the one at hand.
    pub(crate) fn hold(&mut self, by_host: bool) {
        self.sharing.iter_mut().for_each(|sharing| sharing.holds_m = by_host);
    }
}
