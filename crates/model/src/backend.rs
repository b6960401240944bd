//! What a device must do: hold weights, and compute six phases of a layer.
//!
//! Loading may fail and allocate. A step neither fails, allocates, nor hands data back until
//! [`Backend::finish`]: what goes wrong inside is recorded per row as [`Poison`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use qwire_kernels::attention::{GROUP, scales};

use crate::batch::{Batch, PageId};
use crate::model::{Experts, Layer};
use crate::shape::Shape;
use crate::weights::{LoadError, Weights};

/// What a matrix is read for; it decides the form of the activations that meet it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Rows are looked up, exactly.
    Embedding,
    /// A linear map: 8-bit activations where its weights are quantised.
    Linear,
    /// A linear map whose result is added to the residual stream of a mixture, where a rounding may
    /// flip an expert (output, down): 15-bit ones.
    IntoMixture,
    /// The head: 15-bit ones.
    Head,
    /// The router: always f32.
    Router,
}

/// How keys and values are stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KvType {
    /// IEEE half precision.
    F16,
    /// Single precision.
    F32,
    /// Codes of 8 bits, 32 channels to a scale in single precision.
    I8,
}

impl KvType {
    /// Bytes of the key or the value of a head of d channels.
    pub fn head_bytes(self, d: usize) -> usize {
        match self {
            Self::F16 => 2 * d,
            Self::F32 => 4 * d,
            Self::I8 => d + 4 * scales(d),
        }
    }

    /// Why heads of d channels cannot be stored like this, if so.
    pub fn refusal(self, d: usize) -> Option<String> {
        let whole = self != Self::I8 || d.is_multiple_of(GROUP);
        let found = format!("keys and values of {d} channels cannot be stored as i8");
        (!whole).then(|| format!("{found}; accepted: multiples of {GROUP}"))
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::F32 => "f32",
            Self::I8 => "i8",
        }
    }
}

/// What a backend reserves at load; nothing grows later.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most rows of a step, and of a parked batch.
    pub rows: usize,
    /// Most rows of a step that give logits.
    pub outputs: usize,
    /// Pages of the key/value pool.
    pub pages: usize,
    /// Their storage.
    pub kv: KvType,
}

/// What the bytes of a page are, for whoever keeps them beyond the device and beyond this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageForm {
    /// Their number, of all layers together.
    pub bytes: usize,
    /// The order in which they lie; a change of any byte changes it.
    pub layout: &'static str,
    /// Whose numbers they are: backends of one name compute the same bits.
    pub numbers: &'static str,
    /// Layers whose experts a host computed, the last ones: other numbers than where it is none.
    pub host_layers: usize,
}

/// Rows of logits computed at once.
pub const LOGIT_ROWS: usize = 64;

/// Tokens of a row that a device ranks, or all of a smaller vocabulary.
pub const BEST: usize = 64;

/// A token and its logit.
#[derive(Clone, Copy, PartialEq, Debug)]
#[allow(missing_docs)]
pub struct Ranked {
    pub token: u32,
    pub logit: f32,
}

/// A buffer between phases, for comparison and for tests: [rows, ..] in f32.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tap {
    /// The residual stream [rows, hidden].
    X,
    /// Queries before norm and rotation [rows, heads * d].
    Q,
    /// Keys before norm and rotation [rows, kv_heads * d].
    K,
    /// Values [rows, kv_heads * d].
    V,
    /// Attended values [rows, heads * d].
    A,
    /// The normed input of router and experts [rows, hidden].
    H,
    /// Weight of each expert, 0 where not routed [rows, experts].
    Route,
    /// silu(gate) * up per routed expert, ids ascending [rows, used, ffn].
    M,
}

/// The phases of a layer, in order; then the final norm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Phase {
    Qkv,
    Attend,
    Project,
    Route,
    Expand,
    Reduce,
    Norm,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 7] = [
        Self::Qkv,
        Self::Attend,
        Self::Project,
        Self::Route,
        Self::Expand,
        Self::Reduce,
        Self::Norm,
    ];
}

/// The first number of a row that was not finite.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Poison {
    /// Row of the batch.
    pub row: usize,
    /// Layer whose phase found it.
    pub layer: usize,
    /// The phase that found it in its input (qkv, route, norm) or made it (route).
    pub phase: Phase,
}

impl Poison {
    /// The code of a row without a fault.
    pub const NO_CODE: u32 = u32::MAX;

    /// A fault as one number, of which the least is the first: so threads need no lock for it.
    pub const fn code(layer: usize, phase: Phase) -> u32 {
        (layer as u32) << 3 | phase as u32
    }

    /// What such a number says of a row.
    pub fn of_code(row: usize, code: u32) -> Option<Self> {
        let phase = *Phase::ALL.get((code & 7) as usize)?;
        Some(Self { row, layer: (code >> 3) as usize, phase })
    }
}

impl std::fmt::Display for Poison {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = match (self.phase, self.layer) {
            (Phase::Norm, layer) => {
                format!("in the feed-forward part of layer {} or in output_norm", layer.max(1) - 1)
            }
            (Phase::Qkv, 0) => "in the token embedding or attn_norm of layer 0".to_string(),
            (Phase::Qkv, layer) => {
                let before = layer - 1;
                format!("in the feed-forward part of layer {before} or attn_norm of layer {layer}")
            }
            (Phase::Route, layer) => {
                format!("in the attention, ffn_norm or router of layer {layer}")
            }
            (phase, layer) => format!("in phase {phase:?} of layer {layer}"),
        };
        write!(f, "a number that is not finite appeared {place}: the weights are damaged")
    }
}

/// A wish from another thread that a step ends early, because nobody wants its outcome. A device
/// that never looks ends its work in its own time.
#[derive(Clone, Default, Debug)]
pub struct Halt(Arc<AtomicBool>);

impl Halt {
    /// Work under way is worth nothing from here on.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Work counts again; whether it did not.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}

/// A device that runs the forward pass. See `reference.rs` for what each phase means.
pub trait Backend: Sized + Send {
    /// One matrix, or one per expert.
    type Matrix: Send;
    /// Norm weights, biases.
    type Vector: Send;

    /// Takes a matrix, in the device's own layout.
    fn matrix(&mut self, weights: Weights, role: Role) -> Result<Self::Matrix, LoadError>;
    /// Takes the experts of a layer.
    fn experts(
        &mut self,
        weights: Experts<Weights>,
        into: Role,
    ) -> Result<Experts<Self::Matrix>, LoadError> {
        weights.place(into, |weights, role| self.matrix(weights, role))
    }
    /// Takes a vector.
    fn vector(&mut self, values: Vec<f32>) -> Result<Self::Vector, LoadError>;
    /// Reserves pages and scratch.
    fn reserve(&mut self, shape: &Shape, limits: Limits) -> Result<(), LoadError>;

    /// What the device looks at during a step: once it is set the step ends soon, its outcome is
    /// worth nothing, and so is what it stored for the batch's rows. The next step is sound.
    fn halt(&self) -> Halt {
        Halt::default()
    }

    /// Starts a step: rows, positions, rotations; no row is at fault yet.
    fn begin(&mut self, batch: &Batch);
    /// x = table[token]
    fn embed(&mut self, table: &Self::Matrix, batch: &Batch);
    /// h = norm(x); q, k, v = Wq h, Wk h, Wv h (+ bias)
    fn qkv(&mut self, layer: &Layer<Self>);
    /// q, k = rope(norm(q, k)); store k, v; a = softmax(q K / sqrt d) V
    fn attend(&mut self, layer: &Layer<Self>, batch: &Batch);
    /// x += Wo a
    fn project(&mut self, layer: &Layer<Self>);
    /// h = norm(x); p = softmax(Wr h), top k
    fn route(&mut self, layer: &Layer<Self>);
    /// m_e = silu(gate_e h) * up_e h
    fn expand(&mut self, experts: &Experts<Self::Matrix>);
    /// x += sum p_e down_e m_e, e ascending
    fn reduce(&mut self, experts: &Experts<Self::Matrix>);
    /// The final norm, of the batch's outputs.
    fn close(&mut self, norm: &Self::Vector, batch: &Batch);
    /// Ends the step: the first fault of each row that had one.
    fn finish(&mut self) -> Vec<Poison>;

    /// Logits of some outputs of the last step, [outputs, vocab]; at most [`LOGIT_ROWS`].
    fn logits(&mut self, head: &Self::Matrix, outputs: Range<usize>) -> &[f32];
    /// The best of them, [outputs, [`BEST`]]: falling, equal ones by their tokens, NaN before all.
    /// None where the device has all of them at hand, and nothing is gained.
    fn best(&mut self, _head: &Self::Matrix, _outputs: Range<usize>) -> Option<Vec<Ranked>> {
        None
    }
    /// Final-normed rows of the last step's outputs, [outputs, hidden].
    fn hidden(&self, outputs: Range<usize>) -> Vec<f32>;
    /// Copies a page of every layer.
    fn copy_page(&mut self, from: PageId, to: PageId);
    /// What [`Backend::read_page`] gives and [`Backend::write_page`] takes.
    fn page_form(&self) -> PageForm;
    /// Hands out a page of every layer, between two steps.
    fn read_page(&mut self, page: PageId, bytes: &mut [u8]);
    /// Puts such bytes into a page: then it holds what the page held that they were read from.
    fn write_page(&mut self, page: PageId, bytes: &[u8]);
    /// Exchanges the residual stream with one that is kept aside. It is all that lives between two
    /// layers, so a batch is parked by an exchange after one layer and another before the next.
    fn exchange(&mut self);

    /// Reads a buffer of the last step.
    fn read(&self, tap: Tap) -> Vec<f32>;
    /// Overwrites one.
    fn write(&mut self, tap: Tap, values: &[f32]);
}

/// A backend that computes the experts of rows whose other phases another device computes.
pub trait Host: Backend {
    /// Takes what `route` would have left of the rows: h = norm(x) [rows, hidden], and their routes
    /// [rows, used], ids ascending. Of x it takes nothing: what `reduce` adds, it adds to zeros.
    fn visit(&mut self, h: &[f32], routes: &[(u32, f32)]);
}
