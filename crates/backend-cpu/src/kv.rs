//! Pages of keys and values on a CPU: [layer][kv head][page], so that a head's pages are one slice.

use std::ops::Range;

use qwire_kernels::Isa;
use qwire_kernels::attention::{self, Element, F16, Head, PAGE, Slots, scales};
use qwire_model::{KvType, PageForm, PageId, Shape};

/// A number as bytes, the lowest first.
pub(crate) trait Bytes: Element {
    fn read(from: &[Self], to: &mut [u8]);
    fn write(to: &mut [Self], from: &[u8]);
}

impl Bytes for F16 {
    fn read(from: &[Self], to: &mut [u8]) {
        from.iter().zip(to.as_chunks_mut().0).for_each(|(x, to)| *to = x.to_le_bytes());
    }

    fn write(to: &mut [Self], from: &[u8]) {
        to.iter_mut().zip(from.as_chunks().0).for_each(|(x, from)| *x = Self::from_le_bytes(*from));
    }
}

impl Bytes for f32 {
    fn read(from: &[Self], to: &mut [u8]) {
        from.iter().zip(to.as_chunks_mut().0).for_each(|(x, to)| *to = x.to_le_bytes());
    }

    fn write(to: &mut [Self], from: &[u8]) {
        to.iter_mut().zip(from.as_chunks().0).for_each(|(x, from)| *x = Self::from_le_bytes(*from));
    }
}

impl Bytes for i8 {
    fn read(from: &[Self], to: &mut [u8]) {
        from.iter().zip(to).for_each(|(x, to)| *to = *x as u8);
    }

    fn write(to: &mut [Self], from: &[u8]) {
        to.iter_mut().zip(from).for_each(|(x, from)| *x = *from as Self);
    }
}

/// The pool of one backend.
pub(crate) enum Cache {
    F16(Layers<F16>),
    F32(Layers<f32>),
    I8(Layers<i8>),
}

/// Keys and values of every layer.
pub(crate) struct Layers<E> {
    pub layers: Vec<Vec<HeadCache<E>>>, // [layers][kv_heads]
}

/// Every page of one head.
pub(crate) struct HeadCache<E> {
    keys: Side<E>,   // [pages, PAGE / TILE, ..]
    values: Side<E>, // [pages, PAGE, ..]
}

/// Its keys or its values.
struct Side<E> {
    numbers: Vec<E>,  // [pages, PAGE d]
    scales: Vec<f32>, // [pages, PAGE scales(d)] of codes
}

impl<E: Element> Side<E> {
    fn new(pages: usize, d: usize) -> Self {
        let scales = if E::CODED { pages * PAGE * scales(d) } else { 0 };
        Self { numbers: vec![E::default(); pages * PAGE * d], scales: vec![0.0; scales] }
    }

    fn copy_page(&mut self, from: PageId, to: PageId, d: usize) {
        let [numbers, scales] = [PAGE * d, PAGE * scales(d)];
        self.numbers.copy_within(place(from, numbers), place(to, numbers).start);
        if E::CODED {
            self.scales.copy_within(place(from, scales), place(to, scales).start);
        }
    }
}

/// Where a page of so many numbers each lies.
fn place(page: PageId, len: usize) -> Range<usize> {
    page.0 as usize * len..(page.0 as usize + 1) * len
}

impl<E: Bytes> Side<E> {
    /// The numbers of a page, then their scales.
    fn read_page(&self, page: PageId, d: usize, bytes: &mut [u8]) {
        let (numbers, scaled) = bytes.split_at_mut(PAGE * d * size_of::<E>());
        E::read(&self.numbers[place(page, PAGE * d)], numbers);
        if E::CODED {
            f32::read(&self.scales[place(page, PAGE * scales(d))], scaled);
        }
    }

    fn write_page(&mut self, page: PageId, d: usize, bytes: &[u8]) {
        let (numbers, scaled) = bytes.split_at(PAGE * d * size_of::<E>());
        E::write(&mut self.numbers[place(page, PAGE * d)], numbers);
        if E::CODED {
            f32::write(&mut self.scales[place(page, PAGE * scales(d))], scaled);
        }
    }
}

impl<E: Element> HeadCache<E> {
    pub(crate) fn store(&mut self, isa: Isa, slot: usize, k: &[f32], v: &[f32]) {
        let Self { keys, values } = self;
        let mut to = Slots {
            keys: &mut keys.numbers,
            key_scales: &mut keys.scales,
            values: &mut values.numbers,
            value_scales: &mut values.scales,
        };
        attention::store(isa, slot, k, v, &mut to);
    }

    pub(crate) fn head<'a>(&'a self, table: &'a [u32]) -> Head<'a, E> {
        let Self { keys, values } = self;
        Head {
            keys: &keys.numbers,
            key_scales: &keys.scales,
            values: &values.numbers,
            value_scales: &values.scales,
            table,
        }
    }
}

impl<E: Bytes> HeadCache<E> {
    /// Keys, then values of a page.
    pub(crate) fn read_page(&self, page: PageId, d: usize, bytes: &mut [u8]) {
        let (keys, values) = bytes.split_at_mut(bytes.len() / 2);
        self.keys.read_page(page, d, keys);
        self.values.read_page(page, d, values);
    }

    pub(crate) fn write_page(&mut self, page: PageId, d: usize, bytes: &[u8]) {
        let (keys, values) = bytes.split_at(bytes.len() / 2);
        self.keys.write_page(page, d, keys);
        self.values.write_page(page, d, values);
    }
}

impl<E: Element> Layers<E> {
    fn new(shape: &Shape, pages: usize) -> Self {
        let side = || Side::new(pages, shape.head_dim);
        let head = || HeadCache { keys: side(), values: side() };
        let layer = || (0..shape.kv_heads).map(|_| head()).collect();
        Self { layers: (0..shape.layers).map(|_| layer()).collect() }
    }

    fn copy_page(&mut self, from: PageId, to: PageId, d: usize) {
        for HeadCache { keys, values } in self.layers.iter_mut().flatten() {
            keys.copy_page(from, to, d);
            values.copy_page(from, to, d);
        }
    }
}

impl Cache {
    pub(crate) fn new(shape: &Shape, pages: usize, kv: KvType) -> Self {
        match kv {
            KvType::F16 => Self::F16(Layers::new(shape, pages)),
            KvType::F32 => Self::F32(Layers::new(shape, pages)),
            KvType::I8 => Self::I8(Layers::new(shape, pages)),
        }
    }

    /// Head by head, layer by layer, as attention reads them.
    pub(crate) fn page_form(&self, shape: &Shape) -> PageForm {
        let (kv, layout) = match self {
            Self::F16(_) => (KvType::F16, "layer, head: keys [tile, d, 16], values [slot, d]"),
            Self::F32(_) => (KvType::F32, "layer, head: keys [tile, d, 16], values [slot, d]"),
            Self::I8(_) => (
                KvType::I8,
                "layer, head: keys [tile, d, 16], [tile, scales, 16], values [slot, d], \
                 [slot, scales]",
            ),
        };
        let bytes = shape.page_bytes(kv);
        PageForm { bytes, layout, numbers: "definition", host_layers: 0 }
    }

    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId, head_dim: usize) {
        match self {
            Self::F16(layers) => layers.copy_page(from, to, head_dim),
            Self::F32(layers) => layers.copy_page(from, to, head_dim),
            Self::I8(layers) => layers.copy_page(from, to, head_dim),
        }
    }
}
