//! Pages of keys and values on a CPU: [layer][kv head][page], so that a head's pages are one slice.

use qwire_kernels::attention::{self, Element, F16, Head, PAGE};
use qwire_model::{KvType, PageId, Shape};

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

    pub(crate) fn copy_page(&mut self, from: PageId, to: PageId, head_dim: usize) {
        match self {
            Self::F16(layers) => layers.copy_page(from, to, PAGE * head_dim),
            Self::F32(layers) => layers.copy_page(from, to, PAGE * head_dim),
        }
    }
}
