//! One forward pass for every Qwen model, on any device.
//!
//! ```text
//! gguf::File -> Shape (arch/) -> Model<B> (weights bound strictly, uploaded to a Backend)
//! Batch -> forward(backend, model, batch) -> logits           six phases a layer, the same for all
//! ```
//! [`reference`] is the definition in f64, [`conformance`] holds any backend against it, a
//! [`Witness`] stands between the phases of one.

pub mod arch;
pub mod backend;
pub mod batch;
pub mod conformance;
mod forward;
mod model;
pub mod reference;
pub mod runner;
pub mod shape;
pub mod synthetic;
pub mod weights;

pub use backend::{
    Backend, Halt, Host, KvType, Limits, PageForm, Phase, Poison, Ranked, Role, Tap,
};
pub use batch::{Batch, PageId, Span, TokenId};
pub use forward::forward;
pub use model::{Experts, Layer, Model, Projection, describe};
pub use runner::witness::{Taps, Witness, Witnessed};
pub use runner::{Loaded, Runner};
pub use shape::Shape;
pub use weights::{LoadError, Weights};
