//! Pages of keys and values on a CPU: [page][layer][kv head], so that a page moves as one piece and
//! large pages of the system fill as the pool does.

use std::io;
use std::ops::Range;

use bytemuck::Pod;
use memmap2::MmapMut;
use qwire_kernels::attention::{Element, Head, PAGE, Part, scales};
use qwire_model::{KvType, PageForm, PageId, Shape};

use crate::memory;

/// The pool of one backend.
pub(crate) struct Cache {
    pub kv: KvType,
    layers: usize,
    heads: usize,
    head_dim: usize,
    pools: [Pool; 2], // numbers, and scales where numbers are codes
}

/// Bytes in pages.
struct Pool {
    memory: MmapMut,
    page: usize,
}

impl Pool {
    fn place(&self, page: PageId) -> Range<usize> {
        page.0 as usize * self.page..(page.0 as usize + 1) * self.page
    }
}

impl Cache {
    pub(crate) fn new(shape: &Shape, pages: usize, kv: KvType) -> io::Result<Self> {
        let (layers, heads, head_dim) = (shape.layers, shape.kv_heads, shape.head_dim);
        let scales = layers * heads * 2 * PAGE * scales(head_dim) * size_of::<f32>();
        let scales = if kv == KvType::I8 { scales } else { 0 };
        let pool = |page| Ok::<_, io::Error>(Pool { memory: memory::reserve(pages * page)?, page });
        let pools = [pool(shape.page_bytes(kv) - scales)?, pool(scales)?];
        Ok(Self { kv, layers, heads, head_dim, pools })
    }

    /// What a head of a layer reads through a table.
    pub(crate) fn head<'a, E: Element + Pod>(
        &'a self,
        (layer, head): (usize, usize),
        table: &'a [u32],
    ) -> Head<'a, E> {
        Head {
            numbers: bytemuck::cast_slice(&self.pools[0].memory),
            scales: bytemuck::cast_slice(&self.pools[1].memory),
            parts: self.layers * self.heads,
            part: layer * self.heads + head,
            table,
        }
    }

    /// A layer's parts of some pages, which ascend, head by head: to be written.
    pub(crate) fn parts<E: Element + Pod>(
        &mut self,
        layer: usize,
        pages: impl Iterator<Item = usize>,
    ) -> Vec<Part<'_, E>> {
        let (layers, heads) = (self.layers, self.heads);
        let [len, scales_len] = [self.head_dim, if E::CODED { scales(self.head_dim) } else { 0 }]
            .map(|width| 2 * PAGE * width);
        let [numbers, scales] = &mut self.pools;
        let mut numbers: &mut [E] = bytemuck::cast_slice_mut(&mut numbers.memory);
        let mut scales: &mut [f32] = bytemuck::cast_slice_mut(&mut scales.memory);
        let whole = "pages lie in the pool";
        let (mut parts, mut next) = (Vec::new(), 0);
        for page in pages {
            let first = (page * layers + layer) * heads;
            numbers.split_off_mut(..(first - next) * len).expect(whole);
            scales.split_off_mut(..(first - next) * scales_len).expect(whole);
            parts.extend((0..heads).map(|_| Part {
                numbers: numbers.split_off_mut(..len).expect(whole),
                scales: scales.split_off_mut(..scales_len).expect(whole),
            }));
            next = first + heads;
        }
        parts
    }

    /// Every layer, and in it every head; then the scales of all.
    pub(crate) fn page_form(&self) -> PageForm {
        let layout = match self.kv {
            KvType::F16 | KvType::F32 => "layer, head: keys [tile, d, 16], values [slot, d]",
            KvType::I8 => {
                "layer, head: keys [tile, d, 16], values [slot, d]; \
                 layer, head: [tile, scales, 16], [slot, scales]"
            }
        };
        let bytes = self.pools.iter().map(|pool| pool.page).sum();
        PageForm { bytes, layout, numbers: "definition", host_layers: 0 }
    }

    /// A page: its numbers, and its scales.
    pub(crate) fn page(&self, page: PageId) -> [&[u8]; 2] {
        self.pools.each_ref().map(|pool| &pool.memory[pool.place(page)])
    }

    pub(crate) fn page_mut(&mut self, page: PageId) -> [&mut [u8]; 2] {
        self.pools.each_mut().map(|pool| {
            let place = pool.place(page);
            &mut pool.memory[place]
        })
    }

    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId) {
        for pool in &mut self.pools {
            let (from, to) = (pool.place(from), pool.place(to));
            pool.memory.copy_within(from, to.start);
        }
    }
}
