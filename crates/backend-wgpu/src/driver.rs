//! wgpu: adapters of Vulkan, Metal and DirectX 12, asked for when a device is. What is found is
//! said in words; there is no way back to another device from here.
//!
//! ```text
//! address     a piece's number and a place in it; kernels get the place within what is bound
//! arguments   all launches of a list in one buffer, written before it; each binds its own part
//! a list      one encoder, one pass, one submission
//! ```
//! Pieces, bindings and staging are made at load and kept: the first step of a kind asks wgpu for
//! descriptors, later ones for none.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use qwire_backend_gpu::device::{ARGS, Address, Device, Launch};
use qwire_model::LoadError;

use crate::kernel::{Access, Binding, SOURCES, Source};

/// What is asked of an adapter: threads of a workgroup, its memory, and buffers at once.
const THREADS: u32 = 256;
const WORKGROUP_BYTES: u32 = 20 << 10;
const BUFFERS: u32 = 9;

/// Arguments stand this far apart, as any device can bind them.
const STRIDE: usize = ARGS.next_multiple_of(256);
/// Launches of a submission.
const LAUNCHES: usize = 2048;
/// What goes from the device to the host at once, or from one place of a piece to another.
const STAGE: usize = 4 << 20;
/// What may be on its way to the device before somebody waits for it.
const UNDER_WAY: usize = 64 << 20;
/// Bits of an address that say where in a piece it is.
const PLACE_BITS: u32 = 40;

/// An adapter that wgpu knows.
#[derive(Clone, Debug)]
pub struct Adapter {
    known: wgpu::Adapter,
    info: Arc<wgpu::AdapterInfo>,
    /// Its place in the list.
    pub ordinal: usize,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wgpu::AdapterInfo { name, backend, device_type, .. } = &*self.info;
        let kind = match device_type {
            wgpu::DeviceType::DiscreteGpu => "a card of its own",
            wgpu::DeviceType::IntegratedGpu => "part of the processor",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "computes on the CPU",
            wgpu::DeviceType::Other => "of unknown kind",
        };
        write!(f, "wgpu:{} {name} through {backend}, {kind}", self.ordinal)
    }
}

impl Adapter {
    /// Its name on the command line.
    pub fn name(&self) -> String {
        format!("wgpu:{}", self.ordinal)
    }

    /// Why kernels do not run on it, if they do not.
    pub fn refusal(&self) -> Option<String> {
        let limits = self.known.limits();
        [
            ("threads of a workgroup", limits.max_compute_invocations_per_workgroup, THREADS),
            ("bytes of a workgroup", limits.max_compute_workgroup_storage_size, WORKGROUP_BYTES),
            ("buffers of a kernel", limits.max_storage_buffers_per_shader_stage, BUFFERS + 1),
        ]
        .into_iter()
        .find(|(_, found, needed)| found < needed)
        .map(|(what, found, needed)| format!("{self} has {found} {what}; needed: {needed}"))
    }
}

/// What a future of wgpu gives, which on these backends is there at once.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}

/// The adapters there are, the most capable kind first, or why none can be had.
pub fn probe() -> Result<Vec<Adapter>, String> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    let instance = wgpu::Instance::new(descriptor);
    let found = now(instance.enumerate_adapters(backends));
    let mut found: Vec<_> =
        found.into_iter().map(|adapter| (Arc::new(adapter.get_info()), adapter)).collect();
    if found.is_empty() {
        return Err("no driver for Vulkan, Metal or DirectX 12 knows a device".into());
    }
    let rank = |info: &wgpu::AdapterInfo| match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu | wgpu::DeviceType::Other => 2,
        wgpu::DeviceType::Cpu => 3,
    };
    found.sort_by_key(|(info, _)| rank(info));
    let numbered = found.into_iter().enumerate();
    Ok(numbered.map(|(ordinal, (info, known))| Adapter { known, info, ordinal }).collect())
}

/// A kernel as the device has it.
struct Pipeline {
    compiled: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
    bindings: &'static [Binding],
}

/// A kernel by number, and the piece that each of its bindings is.
type Bound = (usize, Vec<Option<usize>>);

/// An adapter in use, with its kernels. Several backends may have it together.
pub struct Opened {
    adapter: Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Vec<Pipeline>, // as SOURCES
}

impl Opened {
    /// Takes an adapter and compiles the kernels for it.
    pub fn open(adapter: &Adapter) -> Result<Arc<Self>, LoadError> {
        if let Some(refusal) = adapter.refusal() {
            return Err(LoadError(refusal));
        }
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: adapter.known.limits(),
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = now(adapter.known.request_device(&descriptor));
        let (device, queue) =
            opened.map_err(|error| LoadError(format!("{adapter} cannot be opened: {error}")))?;
        let pipelines = SOURCES.iter().map(|source| compile(&device, source)).collect();
        Ok(Arc::new(Self { adapter: adapter.clone(), device, queue, pipelines }))
    }
}

/// An adapter in use, and memory on it.
pub struct Wgpu {
    on: Arc<Opened>,
    pieces: Vec<wgpu::Buffer>,
    groups: HashMap<Bound, wgpu::BindGroup>,
    args: wgpu::Buffer,    // [LAUNCHES] of STRIDE
    nothing: wgpu::Buffer, // bound where a kernel has no use for a binding
    stage: wgpu::Buffer,   // on the way to the host
    aside: wgpu::Buffer,   // on the way from one place of a piece to another
    bytes: Vec<u8>,        // arguments, before they are written
    under_way: usize,
}

impl Wgpu {
    /// Takes an adapter.
    pub fn open(adapter: &Adapter) -> Result<Self, LoadError> {
        Ok(Self::on(Opened::open(adapter)?))
    }

    /// Memory on an adapter in use.
    pub fn on(on: Arc<Opened>) -> Self {
        let buffer = |size: usize, usage| {
            let label = None;
            let size = size as u64;
            on.device.create_buffer(&wgpu::BufferDescriptor {
                label,
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let copied = wgpu::BufferUsages::COPY_DST;
        let storage = wgpu::BufferUsages::STORAGE;
        let args = buffer(LAUNCHES * STRIDE, storage | copied);
        let nothing = buffer(256, storage);
        let stage = buffer(STAGE, wgpu::BufferUsages::MAP_READ | copied);
        let aside = buffer(STAGE, wgpu::BufferUsages::COPY_SRC | copied);
        Self {
            on,
            pieces: Vec::new(),
            groups: HashMap::new(),
            args,
            nothing,
            stage,
            aside,
            bytes: Vec::new(),
            under_way: 0,
        }
    }

    fn wait(&mut self) {
        let waited = self.on.device.poll(wgpu::PollType::wait_indefinitely());
        waited.unwrap_or_else(|error| panic!("{} is gone: {error}", self.on.adapter));
        self.under_way = 0;
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.on.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Makes the bind group of a launch, if none like it was made before; writes its arguments.
    fn bind(&mut self, launch: &Launch) -> Bound {
        let mut args = [0; STRIDE];
        args[..launch.args.bytes().len()].copy_from_slice(launch.args.bytes());
        let number = Source::of(launch.kernel);
        let mut pieces = Vec::new();
        for binding in self.on.pipelines[number].bindings {
            let mut bound = None;
            for field in binding.fields {
                let bytes = args[*field..][..8].as_chunks().0[0];
                let address = Address(u64::from_le_bytes(bytes));
                let mut words = [0_u32; 2];
                if address != Address::NONE {
                    let (piece, place) = split(address);
                    let one = *bound.get_or_insert(piece) == piece;
                    assert!(one, "what {} binds is one piece", launch.kernel.name);
                    words = [(place / 4) as u32, 1];
                }
                args[*field..][..4].copy_from_slice(&words[0].to_le_bytes());
                args[*field + 4..][..4].copy_from_slice(&words[1].to_le_bytes());
            }
            pieces.push(bound);
        }
        self.bytes.extend_from_slice(&args);
        let bound = (number, pieces);
        if !self.groups.contains_key(&bound) {
            let group = self.group(&bound);
            self.groups.insert(bound.clone(), group);
        }
        bound
    }

    fn group(&self, (number, pieces): &Bound) -> wgpu::BindGroup {
        let Pipeline { layout, bindings, .. } = &self.on.pipelines[*number];
        let args = wgpu::BufferBinding {
            buffer: &self.args,
            offset: 0,
            size: wgpu::BufferSize::new(STRIDE as u64),
        };
        let resource = wgpu::BindingResource::Buffer(args);
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource }];
        for (binding, piece) in bindings.iter().zip(pieces) {
            let buffer = piece.map_or(&self.nothing, |piece| &self.pieces[piece]);
            let resource = buffer.as_entire_binding();
            entries.push(wgpu::BindGroupEntry { binding: binding.number, resource });
        }
        let entries = &entries;
        self.on.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries,
        })
    }

    /// One encoder, one pass, one submission.
    fn submit(&mut self, launches: &[Launch]) {
        self.bytes.clear();
        let bound: Vec<Bound> = launches.iter().map(|launch| self.bind(launch)).collect();
        self.on.queue.write_buffer(&self.args, 0, &self.bytes);
        let mut encoder = self.encoder();
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for (at, (launch, bound)) in launches.iter().zip(&bound).enumerate() {
            pass.set_pipeline(&self.on.pipelines[bound.0].compiled);
            pass.set_bind_group(0, &self.groups[bound], &[(at * STRIDE) as u32]);
            let [x, y, z] = launch.grid;
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        self.on.queue.submit([encoder.finish()]);
    }
}

/// A piece's number, and a place in it.
fn split(address: Address) -> (usize, u64) {
    ((address.0 >> PLACE_BITS) as usize - 1, address.0 & ((1 << PLACE_BITS) - 1))
}

fn compile(device: &wgpu::Device, source: &Source) -> Pipeline {
    let label = Some(source.kernel);
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label,
        source: wgpu::ShaderSource::Wgsl(source.text().into()),
    });
    let entry = |binding, read_only, has_dynamic_offset| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset,
            min_binding_size: None,
        },
        count: None,
    };
    let others = source.bindings.iter();
    let others = others.map(|binding| entry(binding.number, binding.access == Access::Read, false));
    let entries: Vec<_> = [entry(0, true, true)].into_iter().chain(others).collect();
    let entries = &entries[..];
    let layout =
        device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries });
    let both = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let columns: Vec<_> =
        source.columns.iter().map(|columns| ("COLUMNS", f64::from(*columns))).collect();
    let compiled = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label,
        layout: Some(&both),
        module: &module,
        entry_point: Some(source.entry),
        compilation_options: wgpu::PipelineCompilationOptions {
            constants: &columns,
            // Kernels write what they read there.
            zero_initialize_workgroup_memory: false,
        },
        cache: None,
    });
    Pipeline { compiled, layout, bindings: source.bindings }
}

impl Device for Wgpu {
    const KIND: &'static str = "a wgpu device";
    const NUMBERS: &'static str = "wgpu";

    fn allocate(&mut self, bytes: usize) -> Result<Address, LoadError> {
        let limits = self.on.device.limits();
        let size = bytes.max(4).next_multiple_of(256) as u64;
        if size > limits.max_buffer_size {
            let most = limits.max_buffer_size;
            return Err(LoadError(format!(
                "{size} bytes in one buffer; {} has {most}",
                self.on.adapter
            )));
        }
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let scope = self.on.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let label = None;
        let piece = self.on.device.create_buffer(&wgpu::BufferDescriptor {
            label,
            size,
            usage,
            mapped_at_creation: false,
        });
        if let Some(error) = now(scope.pop()) {
            return Err(LoadError(format!("{size} bytes on {}: {error}", self.on.adapter)));
        }
        self.pieces.push(piece);
        Ok(Address((self.pieces.len() as u64) << PLACE_BITS))
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) {
        let (piece, place) = split(to);
        let (words, tail) = bytes.split_at(bytes.len() / 4 * 4);
        if !words.is_empty() {
            self.on.queue.write_buffer(&self.pieces[piece], place, words);
        }
        if !tail.is_empty() {
            let mut word = [0; 4]; // pieces end at multiples of 256, with zeros
            word[..tail.len()].copy_from_slice(tail);
            self.on.queue.write_buffer(&self.pieces[piece], place + words.len() as u64, &word);
        }
        self.under_way += bytes.len();
        if self.under_way > UNDER_WAY {
            self.on.queue.submit([]);
            self.wait();
        }
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) {
        let (piece, place) = split(from);
        for (at, bytes) in bytes.chunks_mut(STAGE).enumerate() {
            let (start, len) =
                (place + (at * STAGE) as u64, bytes.len().next_multiple_of(4) as u64);
            let mut encoder = self.encoder();
            encoder.copy_buffer_to_buffer(&self.pieces[piece], start, &self.stage, 0, len);
            self.on.queue.submit([encoder.finish()]);
            self.stage.map_async(wgpu::MapMode::Read, ..len, |mapped| {
                mapped.expect("memory of ours is mapped");
            });
            self.wait();
            let view = self.stage.get_mapped_range(..len).expect("mapped");
            bytes.copy_from_slice(&view[..bytes.len()]);
            drop(view);
            self.stage.unmap();
        }
    }

    fn copy(&mut self, from: Address, to: Address, bytes: usize) {
        let ((from, start), (to, end)) = (split(from), split(to));
        let mut encoder = self.encoder();
        for at in (0..bytes).step_by(STAGE) {
            let (at, len) = (at as u64, STAGE.min(bytes - at) as u64);
            encoder.copy_buffer_to_buffer(&self.pieces[from], start + at, &self.aside, 0, len);
            encoder.copy_buffer_to_buffer(&self.aside, 0, &self.pieces[to], end + at, len);
        }
        self.on.queue.submit([encoder.finish()]);
    }

    fn run(&mut self, launches: &[Launch]) {
        launches.chunks(LAUNCHES).for_each(|launches| self.submit(launches));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_says_what_it_found() {
        match probe() {
            Ok(adapters) => adapters.iter().for_each(|adapter| println!("{adapter}")),
            Err(problem) => println!("skipped: {problem}"),
        }
    }

    #[test]
    fn an_address_is_a_piece_and_a_place() {
        assert_eq!(split(Address(3 << PLACE_BITS).plus(260)), (2, 260));
    }
}
