//! Pages of keys and values on a CPU: [layer][kv head][page], so that a head's pages are one slice.

use qwire_kernels::attention::{self, Element, F16, Head, PAGE};
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

/// The pool of one backend.
pub(crate) enum Cache {
    F16(Layers<F16>),
    F32(Layers<f32>),
}

/// Keys and values of every layer.
pub(crate) struct Layers<E> {
    pub layers: Vec<Vec<HeadCache<E>>>, // [layers][kv_heads]
}

/// Every page of one head.
pub(crate) struct HeadCache<E> {
    keys: Vec<E>,   // [pages, PAGE / TILE, d, TILE]
    values: Vec<E>, // [pages, PAGE, d]
}

impl<E: Element> HeadCache<E> {
    pub(crate) fn store(&mut self, slot: usize, k: &[f32], v: &[f32]) {
        attention::store(slot, k, v, &mut self.keys, &mut self.values);
    }

    pub(crate) fn head<'a>(&'a self, table: &'a [u32]) -> Head<'a, E> {
        Head { keys: &self.keys, values: &self.values, table }
    }

    fn copy_page(&mut self, from: PageId, to: PageId, len: usize) {
        let (from, to) = (from.0 as usize * len, to.0 as usize * len);
        self.keys.copy_within(from..from + len, to);
        self.values.copy_within(from..from + len, to);
    }
}

impl<E: Bytes> HeadCache<E> {
    /// Keys, then values of a page of `len` numbers each.
    pub(crate) fn read_page(&self, page: PageId, len: usize, bytes: &mut [u8]) {
        let (at, half) = (page.0 as usize * len, bytes.len() / 2);
        let (keys, values) = bytes.split_at_mut(half);
        E::read(&self.keys[at..at + len], keys);
        E::read(&self.values[at..at + len], values);
    }

    pub(crate) fn write_page(&mut self, page: PageId, len: usize, bytes: &[u8]) {
        let at = page.0 as usize * len;
        let (keys, values) = bytes.split_at(bytes.len() / 2);
        E::write(&mut self.keys[at..at + len], keys);
        E::write(&mut self.values[at..at + len], values);
    }
}

impl<E: Element> Layers<E> {
    fn new(shape: &Shape, pages: usize) -> Self {
        let len = pages * PAGE * shape.head_dim;
        let head = || HeadCache { keys: vec![E::default(); len], values: vec![E::default(); len] };
        let layer = || (0..shape.kv_heads).map(|_| head()).collect();
        Self { layers: (0..shape.layers).map(|_| layer()).collect() }
    }

    fn copy_page(&mut self, from: PageId, to: PageId, len: usize) {
        self.layers.iter_mut().flatten().for_each(|head| head.copy_page(from, to, len));
    }
}

impl Cache {
    pub(crate) fn new(shape: &Shape, pages: usize, kv: KvType) -> Self {
        match kv {
            KvType::F16 => Self::F16(Layers::new(shape, pages)),
            KvType::F32 => Self::F32(Layers::new(shape, pages)),
        }
    }

    /// Head by head, layer by layer, as attention reads them.
    pub(crate) fn page_form(&self, shape: &Shape) -> PageForm {
        let kv = match self {
            Self::F16(_) => KvType::F16,
            Self::F32(_) => KvType::F32,
        };
        let layout = "layer, head: keys [tile, d, 16], values [slot, d]";
        let bytes = shape.page_bytes(kv);
        PageForm { bytes, layout, numbers: "definition", host_layers: 0 }
    }

    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId, head_dim: usize) {
        match self {
            Self::F16(layers) => layers.copy_page(from, to, PAGE * head_dim),
            Self::F32(layers) => layers.copy_page(from, to, PAGE * head_dim),
        }
    }
}
