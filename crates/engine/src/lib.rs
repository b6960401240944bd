//! Tokens in, tokens out: many requests on one model, their pages, and the sampler.
//!
//! ```text
//! Service     a thread, a bounded queue, and a sink of events per request
//!  └ Engine     turn: plan ─ step ─ sample ─ deliver ─ layers of a prompt
//!     ├ Runner     the model on its device
//!     └ Scheduler  who is next; pages, prefix tree, pace; pure, time is an argument
//! ```
//! It knows tokens and never text; devices only through [`qwire_model::Runner`].

pub mod constraint;
pub mod engine;
pub mod event;
pub mod pages;
pub mod request;
pub mod sampler;
pub mod scheduler;
pub mod service;
pub mod stats;
pub mod toy;
pub mod tree;

pub use constraint::{Allowed, Constraint, Mask};
pub use engine::{Engine, Watch};
pub use event::{Delivery, Event, Fault, Finish, Sampled, Usage};
pub use pages::store::{Arrival, Bell, Fetch, Holding, Key, Named, Store};
pub use pages::{Pages, Table};
pub use qwire_model::TokenId;
pub use request::{
    Bounds, Choice, Class, Pooling, Refusal, Report, Request, RequestId, Salt, Settings,
};
pub use sampler::{Sampler, Sampling};
pub use scheduler::{MOST_GUESSES, Plan, Scheduler};
pub use service::{Answer, Handle, Health, Service, Sink};
pub use stats::{Counters, Histogram, Progress, Stats};
pub use tree::{Cached, Explanation, Listing, Miss};
