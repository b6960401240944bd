//! Qwen2 and Qwen2.5, dense: biased q, k, v and no head norms.

use super::{Architecture, Feed, Presence};

/// Qwen2 and Qwen2.5, dense: biased q, k, v and no head norms.
pub const QWEN2: Architecture = Architecture {
    name: "qwen2",
    qkv_bias: Presence::Required,
    head_norm: Presence::Absent,
    feed: Feed::Dense,
};
