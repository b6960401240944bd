//! The CUDA driver: loaded when a device is asked for, so that neither building nor starting needs
//! one. What is found is said in words; there is no way back to another device from here.
#![allow(unsafe_code)] // calls the driver

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys::{self, CUdevice_attribute_enum as Attribute};
use cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use qwire_backend_gpu::device::{ARGS, Address, Device, Launch};
use qwire_backend_gpu::kernel::{KERNELS, Kernel, WIDE_KERNELS};
use qwire_model::LoadError;

use crate::meter::{Meter, SCRATCH};
use crate::modules::Code;
use crate::monitor::Monitor;

/// The least that kernels were compiled for: 8.0, an A100 or an RTX 3060.
const CAPABILITY: (i32, i32) = (8, 0);
/// The least version of CUDA whose drivers read them: 12.4, driver 550.
const VERSION: i32 = 12_040;
/// A list of launches is worth a graph from this length on.
const GRAPH: usize = 32;
/// Lists that are remembered, the latest first.
const GRAPHS: usize = 16;

/// Every kernel that a card has.
pub(crate) fn kernels() -> impl Iterator<Item = &'static Kernel> {
    KERNELS.iter().chain(WIDE_KERNELS).copied()
}

/// A device that the driver knows.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its number.
    pub ordinal: usize,
    /// Its name.
    pub name: String,
    /// Its memory.
    pub bytes: usize,
    /// Watches it once it is open, and steers it.
    pub monitor: Arc<Monitor>,
    /// 10⁹ bytes that its memory is built to read in a second, where the driver knows.
    pub gb_s: Option<f64>,
    capability: (i32, i32),
}

impl fmt::Display for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (gb, (major, minor)) = (self.bytes as f64 / 1e9, self.capability);
        write!(f, "cuda:{} {}, {gb:.0} GB, sm_{major}{minor}", self.ordinal, self.name)?;
        write!(f, " ({})", self.code())
    }
}

impl Card {
    /// Why kernels do not run on it, if they do not.
    pub fn refusal(&self) -> Option<String> {
        let Self { ordinal, name, capability: (major, minor), .. } = self;
        let found = format!("cuda:{ordinal} {name} has compute capability {major}.{minor}");
        (self.capability < CAPABILITY).then(|| format!("{found}; needed: 8.0 or later"))
    }

    /// What it runs.
    pub fn code(&self) -> Code {
        Code::of(self.capability)
    }

    /// Bytes of its memory that are taken, by whomever, and all of them.
    pub fn memory(&self) -> Result<(u64, u64), LoadError> {
        let told = CudaContext::new(self.ordinal).and_then(|context| context.mem_get_info());
        let (free, total) = told.map_err(|error| self.said(error))?;
        Ok(((total - free) as u64, total as u64))
    }

    fn said(&self, error: DriverError) -> LoadError {
        LoadError(format!("{self}: the driver says {}", words(error)))
    }
}

/// The cards there are, or why none can be had.
pub fn probe() -> Result<Vec<Card>, String> {
    // SAFETY: asks the system's loader for a library of the driver's name, and lets go of it.
    if !unsafe { sys::is_culib_present() } {
        return Err("no CUDA driver is installed".into());
    }
    cards().map_err(|error| format!("the CUDA driver says {}", words(error)))?
}

fn cards() -> Result<Result<Vec<Card>, String>, DriverError> {
    result::init()?;
    let mut version = 0;
    // SAFETY: writes one number, to where it is given.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    if version < VERSION {
        let found = format!("{}.{}", version / 1000, version % 1000 / 10);
        let problem = format!("the driver is for CUDA {found}; needed: 12.4 (driver 550) or later");
        return Ok(Err(problem));
    }
    let card = |ordinal: i32| {
        let device = result::device::get(ordinal)?;
        // SAFETY: `device` was just given by the driver.
        let (bytes, major, minor, khz, bits) = unsafe {
            let attribute = |which| result::device::get_attribute(device, which);
            let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
            let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
            // Of these a driver may know nothing, or 0.
            let khz = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE).unwrap_or(0);
            let bits = attribute(Attribute::CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
            (result::device::total_mem(device)?, major, minor, khz, bits.unwrap_or(0))
        };
        let name = result::device::get_name(device)?;
        // Two bits a tick and line.
        let gb_s = Some(f64::from(khz) * f64::from(bits) / 4e6).filter(|gb_s| *gb_s > 0.0);
        let (ordinal, monitor) = (ordinal as usize, Arc::default());
        Ok(Card { ordinal, name, bytes, monitor, gb_s, capability: (major, minor) })
    };
    let cards: Result<Vec<Card>, DriverError> =
        (0..result::device::get_count()?).map(card).collect();
    cards.map(Ok)
}

fn words(error: DriverError) -> String {
    let text = |words: &std::ffi::CStr| words.to_string_lossy().into_owned();
    let name = error.error_name().map_or_else(|_| "an unknown error".into(), text);
    let meaning = error.error_string().map_or_else(|_| "no more".into(), text);
    format!("`{name}` ({meaning})")
}

/// A card in use.
pub struct Cuda {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    functions: HashMap<&'static str, CudaFunction>,
    pieces: Vec<Address>,
    lists: Vec<List>, // the latest first
    monitor: Arc<Monitor>,
    meter: Option<Meter>,
    reads_in_place: bool, // whether the card reads the host's memory by the host's own tables
}

/// Launches that came before, and their graph once they came again.
struct List {
    launches: Vec<Launch>,
    graph: Option<Graph>,
}

/// A graph that one thread at a time has.
struct Graph(CudaGraph);

// SAFETY: the driver wants calls on a graph one after the other, from any thread. It is reached
// only through `&mut Cuda`.
unsafe impl Send for Graph {}

/// The arguments of a launch as the driver copies them.
#[repr(C, align(8))]
struct Block([u8; ARGS]);

// SAFETY: plain bytes; kernels read as many as their one struct has, which is no more than ARGS.
unsafe impl DeviceRepr for Block {}

impl Cuda {
    /// Takes a card and loads its kernels.
    pub fn open(card: &Card) -> Result<Self, LoadError> {
        if let Some(refusal) = card.refusal() {
            return Err(LoadError(refusal));
        }
        let mut cuda = Self::start(card).map_err(|error| card.said(error))?;
        if card.monitor.times() {
            let scratch = [cuda.allocate(SCRATCH)?, cuda.allocate(SCRATCH)?];
            let meter = Meter::start(&cuda.context, &cuda.stream, scratch);
            let meter = meter.map_err(|error| card.said(error))?;
            card.monitor.note_copy(meter.copy_gb_s);
            cuda.meter = Some(meter);
        }
        Ok(cuda)
    }

    fn start(card: &Card) -> Result<Self, DriverError> {
        let context = CudaContext::new(card.ordinal)?;
        // SAFETY: everything happens on one stream, in order, and no memory is freed before the
        // context ends; there is nothing that events would have to guard.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream()?;
        let mut functions = HashMap::new();
        for (op, image) in card.code().images() {
            let module = context.load_module(Ptx::from_binary(image))?;
            for kernel in kernels().filter(|kernel| kernel.op == op) {
                functions.insert(kernel.name, module.load_function(kernel.name)?);
            }
        }
        let which = Attribute::CU_DEVICE_ATTRIBUTE_PAGEABLE_MEMORY_ACCESS_USES_HOST_PAGE_TABLES;
        // A driver that does not know this has no such card.
        let reads_in_place = context.attribute(which).unwrap_or(0) != 0;
        let (pieces, lists, monitor) = (Vec::new(), Vec::new(), card.monitor.clone());
        let meter = None;
        Ok(Self { context, stream, functions, pieces, lists, monitor, meter, reads_in_place })
    }

    fn launch(&self, launches: &[Launch]) -> Result<(), DriverError> {
        for launch in launches {
            let mut args = Block([0; ARGS]);
            args.0[..launch.args.bytes().len()].copy_from_slice(launch.args.bytes());
            let [x, y, z] = launch.grid;
            let config = LaunchConfig {
                grid_dim: (x, y, z),
                block_dim: (launch.kernel.threads, 1, 1),
                shared_mem_bytes: 0,
            };
            let mut builder = self.stream.launch_builder(&self.functions[launch.kernel.name]);
            // SAFETY: the kernel takes one struct, whose layout the shim's tests compare with what
            // is written here; its addresses are memory of this device of the sizes reserved.
            unsafe { builder.arg(&args).launch(config) }?;
        }
        Ok(())
    }

    /// Times each launch.
    fn time(&mut self, launches: &[Launch]) -> Result<(), DriverError> {
        let Some(mut meter) = self.meter.take() else { return self.launch(launches) };
        let times = meter.time(launches.len(), |at| self.launch(&launches[at..=at]));
        self.monitor.note(launches, &times?, meter.idle);
        self.meter = Some(meter);
        Ok(())
    }

    /// Runs a list that came before: the first time it is recorded.
    fn replay(&mut self, at: usize) -> Result<(), DriverError> {
        let list = self.lists.remove(at);
        self.lists.insert(0, list);
        if self.lists[0].graph.is_none() {
            let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
            self.stream.begin_capture(mode)?;
            let launched = self.launch(&self.lists[0].launches);
            let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
            launched?;
            self.lists[0].graph = graph?.map(Graph);
        }
        match &self.lists[0].graph {
            Some(graph) => graph.0.launch(),
            None => self.launch(&self.lists[0].launches),
        }
    }

    /// What a driver refuses in the middle of a step leaves no device to go on with.
    fn expect<T>(outcome: Result<T, DriverError>) -> T {
        outcome.unwrap_or_else(|error| panic!("the CUDA device is gone: {}", words(error)))
    }

    fn bind(&self) {
        Self::expect(self.context.bind_to_thread());
    }
}

impl Device for Cuda {
    const KIND: &'static str = "a CUDA device";
    const NUMBERS: &'static str = "cuda";
    const WIDE: bool = true;

    fn allocate(&mut self, bytes: usize) -> Result<Address, LoadError> {
        self.bind();
        let bytes = bytes.max(1);
        // SAFETY: the memory is filled before anything reads it, in the order of the stream, and
        // freed when `self` ends.
        let piece = unsafe {
            result::malloc_sync(bytes).and_then(|at| {
                result::memset_d8_async(at, 0, bytes, self.stream.cu_stream()).map(|()| at)
            })
        };
        let free = result::mem_get_info().map_or(0, |(free, _)| free);
        let piece = piece.map_err(|error| {
            let words = words(error);
            LoadError(format!("{bytes} bytes on the device, {free} are free: it says {words}"))
        })?;
        self.pieces.push(Address(piece));
        Ok(Address(piece))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bind();
        // SAFETY: callers write within what they allocated. Memory that is not pinned is copied
        // before the call returns, or, where cards read it in place, before this function does.
        Self::expect(unsafe { result::memcpy_htod_async(to.0, bytes, self.stream.cu_stream()) });
        if self.reads_in_place {
            Self::expect(self.stream.synchronize());
        }
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bind();
        // SAFETY: callers read within what they allocated; the copy is over when this returns.
        Self::expect(unsafe { result::memcpy_dtoh_async(bytes, from.0, self.stream.cu_stream()) });
        Self::expect(self.stream.synchronize());
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        self.bind();
        // SAFETY: callers copy within what they allocated.
        Self::expect(unsafe {
            result::memcpy_dtod_async(to.0, from.0, bytes, self.stream.cu_stream())
        });
    }

    fn run(&mut self, launches: &[Launch]) {
        self.bind();
        if self.monitor.times() {
            return Self::expect(self.time(launches));
        }
        if launches.len() < GRAPH || !self.monitor.replays() {
            return Self::expect(self.launch(launches));
        }
        if let Some(at) = self.lists.iter().position(|list| list.launches == launches) {
            return Self::expect(self.replay(at));
        }
        self.lists.insert(0, List { launches: launches.to_vec(), graph: None });
        self.lists.truncate(GRAPHS);
        Self::expect(self.launch(launches));
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        // Graphs and events are given back under the context too.
        let bound = self.context.bind_to_thread();
        self.lists.clear();
        self.meter = None;
        if bound.is_err() || self.stream.synchronize().is_err() {
            return;
        }
        for piece in self.pieces.drain(..) {
            // SAFETY: allocated by us, and nothing runs any more. An error changes nothing now.
            let _ = unsafe { result::free_sync(piece.0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use qwire_backend_gpu::kernel::{EXPERTS, OPS, SORTED, SPLIT, WIDE};
    use qwire_model::backend::BEST;

    use super::*;

    #[test]
    fn a_probe_says_what_it_found() {
        match probe() {
            Ok(cards) => cards.iter().for_each(|card| println!("{card}")),
            Err(problem) => println!("skipped: {problem}"),
        }
    }

    fn source(op: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        std::fs::read_to_string(format!("{folder}/{op}.cu")).expect("an op has a file")
    }

    #[test]
    fn the_files_declare_these_kernels_and_no_other() {
        for op in OPS {
            let declared: BTreeSet<String> = source(op)
                .lines()
                .filter_map(|line| line.strip_prefix("ENTRY("))
                .map(|rest| rest.split(',').take(2).collect::<String>())
                .collect();
            let listed = kernels().filter(|kernel| kernel.op == op);
            let listed: BTreeSet<_> =
                listed.map(|kernel| format!("{} {}", kernel.name, kernel.threads)).collect();
            assert_eq!(declared, listed, "{op}.cu");
        }
    }

    #[test]
    fn both_sides_agree_on_sizes() {
        for (op, text) in [
            ("prelude", format!("#define WIDE {WIDE}\n")),
            ("attend", format!("#define SPLIT {SPLIT}\n")),
            ("route", format!("pairs[{EXPERTS}], tiles[{EXPERTS}]")),
            ("best", format!("#define SORTED {SORTED}\n#define KEPT {BEST}\n")),
        ] {
            assert!(source(op).contains(&text), "{op}.cu holds {text}");
        }
    }
}
