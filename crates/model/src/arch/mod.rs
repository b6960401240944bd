//! Architectures: what distinguishes one Qwen from another, as data. To add one, write its file
//! and name it in [`ARCHITECTURES`].

mod qwen2;
mod qwen3;
mod qwen3moe;

/// Whether a tensor belongs to an architecture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It must be in the file.
    Required,
    /// It is used where the file has it.
    Optional,
    /// It has no meaning here.
    Absent,
}

/// What follows attention.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feed {
    /// One gate, up, down for every row.
    Dense,
    /// A router and experts.
    Experts,
}

/// One architecture.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// `general.architecture`, also the prefix of its keys.
    pub name: &'static str,
    /// Biases of q, k and v.
    pub qkv_bias: Presence,
    /// Norms of each query and key head.
    pub head_norm: Presence,
    /// What follows attention.
    pub feed: Feed,
}

/// Every architecture that runs.
pub static ARCHITECTURES: [&Architecture; 3] = [&qwen2::QWEN2, &qwen3::QWEN3, &qwen3moe::QWEN3MOE];

/// The architecture of that name.
pub fn architecture(name: &str) -> Option<&'static Architecture> {
    ARCHITECTURES.iter().find(|arch| arch.name == name).copied()
}
