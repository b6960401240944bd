//! A device: memory that has addresses, and a queue of launches. What this crate asks of a driver,
//! and all that a test must offer to run the same kernels elsewhere.

use qwire_model::LoadError;

use crate::kernel::Kernel;

/// A place in a device's memory; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Address(pub u64);

impl Address {
    /// Where nothing is.
    pub const NONE: Self = Self(0);

    /// So many bytes further on.
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Most bytes of a kernel's arguments.
pub const ARGS: usize = 320;

/// The arguments of one launch: a struct of C, field by field. Fields stand in the order in which
/// the kernel declares them, addresses at multiples of 8.
#[derive(Clone)]
pub struct Args {
    bytes: [u8; ARGS],
    len: usize,
    moved: u64,
}

impl Default for Args {
    fn default() -> Self {
        Self { bytes: [0; ARGS], len: 0, moved: 0 }
    }
}

impl Args {
    /// Appends an address.
    #[must_use]
    pub fn address(mut self, at: Address) -> Self {
        assert!(self.len.is_multiple_of(8), "an address stands at a multiple of 8");
        self.push(&at.0.to_le_bytes());
        self
    }

    /// Appends a count.
    #[must_use]
    pub fn count(mut self, n: usize) -> Self {
        let n = u32::try_from(n).expect("sizes were checked at load");
        self.push(&n.to_le_bytes());
        self
    }

    /// Appends a number.
    #[must_use]
    pub fn number(mut self, x: f32) -> Self {
        self.push(&x.to_le_bytes());
        self
    }

    /// Leaves so many bytes empty.
    #[must_use]
    pub fn skip(mut self, bytes: usize) -> Self {
        self.len += bytes;
        self
    }

    /// Says how many bytes the launch reads and writes if nothing twice. No kernel is told.
    #[must_use]
    pub fn moves(mut self, bytes: usize) -> Self {
        self.moved += bytes as u64;
        self
    }

    /// What [`Args::moves`] was told, in all.
    pub fn moved(&self) -> u64 {
        self.moved
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A kernel on a grid of blocks. Its geometry and arguments follow from shapes and positions.
#[derive(Clone)]
pub struct Launch {
    /// Which.
    pub kernel: &'static Kernel,
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Its one argument.
    pub args: Args,
}

impl PartialEq for Launch {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.kernel, other.kernel)
            && self.grid == other.grid
            && self.args.bytes() == other.args.bytes()
    }
}

/// What a driver offers. Everything happens in the order in which it is asked for. Only
/// [`Device::allocate`] may fail; whatever goes wrong later is a panic, as the device is gone then.
pub trait Device: Send {
    /// What it is called where something cannot run on it: "a CUDA device".
    const KIND: &'static str;
    /// Whose numbers its kernels compute, as pages say.
    const NUMBERS: &'static str;
    /// Whether it has [`WIDE_KERNELS`](crate::kernel::WIDE_KERNELS).
    const WIDE: bool = false;

    /// Memory for as long as the device lives, at a multiple of 256, zeroed.
    fn allocate(&mut self, bytes: usize) -> Result<Address, LoadError>;
    /// Writes.
    fn upload(&mut self, to: Address, bytes: &[u8]);
    /// Reads what all launches so far have left.
    fn download(&mut self, from: Address, bytes: &mut [u8]);
    /// Copies.
    fn copy(&mut self, from: Address, to: Address, bytes: usize);
    /// Runs launches one after the other. A list that comes again may be replayed.
    fn run(&mut self, launches: &[Launch]);
}

/// A device and the launches it has not been told of yet.
pub(crate) struct Stream<D> {
    pub(crate) device: D,
    queue: Vec<Launch>,
    bytes: Vec<u8>, // on their way from or to the device
}

impl<D: Device> Stream<D> {
    pub(crate) fn new(device: D) -> Self {
        Self { device, queue: Vec::new(), bytes: Vec::new() }
    }

    /// Queues a launch.
    pub(crate) fn launch(&mut self, kernel: &'static Kernel, grid: [usize; 3], args: Args) {
        let grid = grid.map(|blocks| u32::try_from(blocks).expect("sizes were checked at load"));
        self.queue.push(Launch { kernel, grid, args });
    }

    /// Runs what is queued.
    pub(crate) fn flush(&mut self) {
        if !self.queue.is_empty() {
            self.device.run(&self.queue);
            self.queue.clear();
        }
    }

    /// Writes numbers behind what is queued.
    pub(crate) fn upload(&mut self, to: Address, values: impl Iterator<Item = u32>) {
        self.flush();
        self.bytes.clear();
        self.bytes.extend(values.flat_map(u32::to_le_bytes));
        self.device.upload(to, &self.bytes);
    }

    /// The same for floats.
    pub(crate) fn upload_floats(&mut self, to: Address, values: &[f32]) {
        self.upload(to, values.iter().map(|x| x.to_bits()));
    }

    /// Reads numbers that everything queued has left.
    pub(crate) fn download(&mut self, from: Address, count: usize) -> impl Iterator<Item = u32> {
        self.flush();
        self.bytes.resize(count * 4, 0);
        self.device.download(from, &mut self.bytes);
        self.bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
    }

    /// The same for floats.
    pub(crate) fn download_floats(&mut self, from: Address, count: usize) -> Vec<f32> {
        self.download(from, count).map(f32::from_bits).collect()
    }
}
