//! Qwen3 mixtures of experts, Qwen3-Coder-30B-A3B among them.

use super::{Architecture, Feed, Presence};

/// Qwen3 mixtures of experts, Qwen3-Coder-30B-A3B among them.
pub const QWEN3MOE: Architecture = Architecture {
    name: "qwen3moe",
    qkv_bias: Presence::Optional,
    head_norm: Presence::Required,
    feed: Feed::Experts,
};
