//! The shim as a device: kernels compiled for the CPU by whatever C++ compiler there is, and run
//! by `shim.h` in an order of our choice.
#![allow(unsafe_code)] // calls what was compiled from our own files

use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libloading::{Library, Symbol};
use qwire_backend_cuda::device::{Address, Device, Launch};
use qwire_backend_cuda::kernel::Kernel;
use qwire_model::LoadError;

use crate::compiler::{self, Compiled};

/// In which order threads and blocks run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    Forward,
    Reverse,
    Seeded(u32),
}

impl Order {
    /// Orders that must give the same bits.
    pub const ALL: [Self; 3] = [Self::Forward, Self::Reverse, Self::Seeded(7)];

    fn number(self) -> u32 {
        match self {
            Self::Forward => 0,
            Self::Reverse => 1,
            Self::Seeded(seed) => seed + 2,
        }
    }
}

// SAFETY: these are the types that the macro ENTRY of `shim.h` gives its functions.
type Entry = unsafe extern "C" fn(*const u8, *const u32, u32) -> i32;
type Size = unsafe extern "C" fn() -> u32;

/// Memory of this process, and kernels in a library of their own: each has its statics.
pub struct Shim {
    library: Library,
    order: u32,
    memory: Vec<Box<[u128]>>,
}

/// A device, or none where no compiler is, which is said once.
pub fn shim(order: Order) -> Option<Shim> {
    static COMPILED: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    static COPIES: AtomicUsize = AtomicUsize::new(0);
    let compiled = COMPILED.get_or_init(compile).as_ref()?;
    let copy = COPIES.fetch_add(1, Ordering::Relaxed);
    let copy = folder().join(format!("shim-{}-{copy}.so", std::process::id()));
    fs::write(&copy, compiled).expect("a copy of the library");
    // SAFETY: the library was compiled from the files beside this one; loading it runs nothing.
    let library = unsafe { Library::new(&copy) }.expect("the compiled kernels load");
    fs::remove_file(&copy).expect("it is there");
    Some(Shim { library, order: order.number(), memory: Vec::new() })
}

fn folder() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// The bytes of the library.
fn compile() -> Option<Vec<u8>> {
    let library = folder().join(format!("shim-{}.so", std::process::id()));
    match compiler::compile(Path::new(env!("CARGO_MANIFEST_DIR")), None, &library) {
        Compiled::Done => {
            let bytes = fs::read(&library).expect("the library");
            fs::remove_file(&library).expect("it is there");
            Some(bytes)
        }
        Compiled::Absent(why) => {
            println!("skipped: {why}");
            None
        }
        Compiled::Refused(complaint) => panic!("the kernels do not compile:\n{complaint}"),
    }
}

impl Shim {
    /// Runs one kernel.
    pub fn launch(&self, launch: &Launch) {
        let name = launch.kernel.name;
        let args = launch.args.bytes();
        assert_eq!(self.args_of(launch.kernel), args.len(), "arguments of {name}");
        // Structs of C hold addresses; a copy stands where those may.
        let aligned: Vec<u64> =
            args.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        // SAFETY: the symbol has this type by the macro ENTRY of `shim.h`, and arguments of this
        // size. Addresses in them come from `allocate`.
        let outcome = unsafe {
            let entry: Symbol<'_, Entry> =
                self.library.get(format!("shim_{name}")).expect("a kernel of the table");
            entry(aligned.as_ptr().cast(), launch.grid.as_ptr(), self.order)
        };
        assert_eq!(outcome, 0, "{name}: threads wait for others that never come");
    }

    /// Bytes of a kernel's arguments, as the compiler lays them out.
    pub fn args_of(&self, kernel: &Kernel) -> usize {
        // SAFETY: the symbol has this type by the macro ENTRY of `shim.h`.
        unsafe {
            let size: Symbol<'_, Size> =
                self.library.get(format!("shim_args_{}", kernel.name)).expect("a kernel");
            size() as usize
        }
    }

    /// Memory at an address.
    fn bytes(&mut self, at: Address, len: usize) -> &mut [u8] {
        let inside = |piece: &[u128]| {
            let start = piece.as_ptr() as u64;
            start <= at.0 && at.0 + len as u64 <= start + 16 * piece.len() as u64
        };
        assert!(len == 0 || self.memory.iter().any(|piece| inside(piece)), "memory of the device");
        // SAFETY: the range lies in one allocation of ours, checked above, which lives as long as
        // `self`; nothing else refers to it while no kernel runs.
        unsafe { std::slice::from_raw_parts_mut(at.0 as *mut u8, len) }
    }
}

impl Device for Shim {
    const KIND: &'static str = "a CUDA device";
    const NUMBERS: &'static str = "cuda";
    const WIDE: bool = true;

    fn allocate(&mut self, bytes: usize) -> Result<Address, LoadError> {
        // 256 bytes of alignment, as a driver gives it.
        let piece = vec![0; (bytes + 256).div_ceil(16)].into_boxed_slice();
        let start = (piece.as_ptr() as u64).next_multiple_of(256);
        self.memory.push(piece);
        Ok(Address(start))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        self.bytes(to, bytes.len()).copy_from_slice(bytes);
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) {
        let len = bytes.len();
        bytes.copy_from_slice(self.bytes(from, len));
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        let copy = self.bytes(from, bytes).to_vec();
        self.upload(to, &copy);
    }

    fn run(&mut self, launches: &[Launch]) {
        launches.iter().for_each(|launch| Self::launch(self, launch));
    }
}
