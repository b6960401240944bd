//! Qwen3, dense: head norms.

use super::{Architecture, Feed, Presence};

/// Qwen3, dense: head norms.
pub const QWEN3: Architecture = Architecture {
    name: "qwen3",
    qkv_bias: Presence::Optional,
    head_norm: Presence::Required,
    feed: Feed::Dense,
};
