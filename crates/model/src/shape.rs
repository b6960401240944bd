//! The shape of a model: every number that decides its computation, read from metadata alone.

use qwire_gguf::{Error, Metadata};
use qwire_kernels::attention::PAGE;
use qwire_kernels::rope::{Rope, Scaling};
use qwire_kernels::route::Routing;

use crate::arch::{Architecture, Feed, Presence};
use crate::backend::{KvType, Role};

/// Rotary embedding parameters.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rotation {
    /// Dimensions of a head that turn.
    pub dims: usize,
    /// Base of the frequencies.
    pub base: f64,
    /// Context extension.
    pub scaling: Scaling,
}

impl Rotation {
    /// The frequencies.
    pub fn rope(&self) -> Rope {
        Rope::new(self.dims, self.base, self.scaling)
    }
}

/// The shape of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Name of the architecture.
    pub architecture: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Longest sequence the model was made for.
    pub context: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Experts of a layer; 1 in a dense model.
    pub experts: usize,
    /// Experts a row visits, and their weights; 1 in a dense model.
    pub routing: Routing,
    /// Whether there is a router (a mixture), even of one expert.
    pub routed: bool,
    /// Width of one expert.
    pub ffn: usize,
    /// Epsilon of every norm.
    pub eps: f32,
    /// Rotary embedding.
    pub rotation: Rotation,
}

impl Shape {
    /// Reads and checks `metadata` for an architecture.
    pub fn read(arch: &'static Architecture, metadata: &Metadata) -> Result<Self, Error> {
        let keys = Keys { prefix: arch.name, metadata };
        let hidden = keys.count("embedding_length", 1 << 24)?;
        let heads = keys.count("attention.head_count", 1 << 16)?;
        let kv_heads = keys.count_or("attention.head_count_kv", 1 << 16, heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}; expected a divisor of the {heads} heads");
            return Err(keys.invalid("attention.head_count_kv", problem));
        }
        let head_dim = keys.head_dim(hidden, heads)?;
        let routed = arch.feed == Feed::Experts;
        let (experts, routing, ffn) = if routed { keys.experts()? } else { keys.dense()? };
        let eps = keys.float("attention.layer_norm_rms_epsilon", None, 0.0..=1.0)? as f32;
        Ok(Self {
            architecture: arch.name,
            layers: keys.count("block_count", 1 << 16)?,
            context: keys.count("context_length", 1 << 32)?,
            hidden,
            heads,
            kv_heads,
            head_dim,
            experts,
            routing,
            routed,
            ffn,
            eps,
            rotation: keys.rotation(head_dim)?,
        })
    }

    /// Values of a row of queries.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Values of a row of keys, or of values.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The role of matrices whose results are added to the residual stream.
    pub fn into_stream(&self) -> Role {
        if self.routed { Role::IntoMixture } else { Role::Linear }
    }

    /// Bytes of a page, keys and values of all layers.
    pub fn page_bytes(&self, kv: KvType) -> usize {
        2 * self.layers * self.kv_heads * PAGE * kv.head_bytes(self.head_dim)
    }

    /// Pages that hold this many positions.
    pub fn pages_for(positions: usize) -> usize {
        positions.div_ceil(PAGE)
    }
}

/// Whether an architecture's q, k and v have a bias in this file is for the tensors to say.
pub(crate) fn wants(presence: Presence, found: bool) -> bool {
    presence == Presence::Required || presence == Presence::Optional && found
}

/// Metadata under one architecture's prefix.
struct Keys<'a> {
    prefix: &'static str,
    metadata: &'a Metadata,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn invalid(&self, name: &str, problem: impl std::fmt::Display) -> Error {
        self.metadata.invalid(&self.key(name), problem)
    }

    fn optional(&self, name: &str, most: u64) -> Result<Option<usize>, Error> {
        let Some(count) = self.metadata.u64(&self.key(name))? else { return Ok(None) };
        if count == 0 || count > most {
            return Err(self.invalid(name, format!("is {count}; expected 1 to {most}")));
        }
        Ok(Some(count as usize))
    }

    fn count(&self, name: &str, most: u64) -> Result<usize, Error> {
        self.optional(name, most)?.ok_or_else(|| self.metadata.missing(&self.key(name)))
    }

    fn count_or(&self, name: &str, most: u64, default: usize) -> Result<usize, Error> {
        Ok(self.optional(name, most)?.unwrap_or(default))
    }

    fn float(
        &self,
        name: &str,
        default: Option<f64>,
        accepted: std::ops::RangeInclusive<f64>,
    ) -> Result<f64, Error> {
        let Some(value) = self.metadata.f32(&self.key(name))? else {
            return default.ok_or_else(|| self.metadata.missing(&self.key(name)));
        };
        let value = f64::from(value);
        if accepted.contains(&value) {
            return Ok(value);
        }
        let (low, high) = accepted.into_inner();
        Err(self.invalid(name, format!("is {value}; expected a number from {low:e} to {high:e}")))
    }

    fn head_dim(&self, hidden: usize, heads: usize) -> Result<usize, Error> {
        let key = self.optional("attention.key_length", 1 << 12)?;
        let head_dim = match key {
            Some(head_dim) => head_dim,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => return Err(self.metadata.missing(&self.key("attention.key_length"))),
        };
        if !head_dim.is_multiple_of(2) {
            let problem = format!("is {head_dim}; rotation needs an even number");
            return Err(self.invalid("attention.key_length", problem));
        }
        let value = self.count_or("attention.value_length", 1 << 12, head_dim)?;
        if value != head_dim {
            let problem = format!("is {value}; expected the key length, {head_dim}");
            return Err(self.invalid("attention.value_length", problem));
        }
        Ok(head_dim)
    }

    fn dense(&self) -> Result<(usize, Routing, usize), Error> {
        let routing = Routing { used: 1, normalised: true, scale: 1.0 };
        Ok((1, routing, self.count("feed_forward_length", 1 << 24)?))
    }

    fn experts(&self) -> Result<(usize, Routing, usize), Error> {
        let experts = self.count("expert_count", 1 << 16)?;
        let used = self.count("expert_used_count", 1 << 16)?;
        if used > experts {
            let problem = format!("is {used}; there are {experts} experts");
            return Err(self.invalid("expert_used_count", problem));
        }
        let normalised = self.metadata.bool(&self.key("expert_weights_norm"))?.unwrap_or(true);
        // Writers store 0 for "no scale".
        let scale = match self.float("expert_weights_scale", Some(1.0), 0.0..=1e6)? {
            0.0 => 1.0,
            scale => scale as f32,
        };
        let ffn = self.count("expert_feed_forward_length", 1 << 24)?;
        Ok((experts, Routing { used, normalised, scale }, ffn))
    }

    fn rotation(&self, head_dim: usize) -> Result<Rotation, Error> {
        let dims = self.count_or("rope.dimension_count", 1 << 12, head_dim)?;
        if dims > head_dim || !dims.is_multiple_of(2) {
            let problem = format!("is {dims}; expected an even number up to {head_dim}");
            return Err(self.invalid("rope.dimension_count", problem));
        }
        let base = self.float("rope.freq_base", Some(10_000.0), 1.000_001..=1e12)?;
        Ok(Rotation { dims, base, scaling: self.scaling()? })
    }

    fn scaling(&self) -> Result<Scaling, Error> {
        // Older files have a factor, under one of two names, and no type: it is linear.
        let older = self.float("rope.scale_linear", Some(1.0), 1e-3..=1e6)?;
        let factor = self.float("rope.scaling.factor", Some(older), 1e-3..=1e6)?;
        let untyped = if factor == 1.0 { "none" } else { "linear" };
        let kind = self.metadata.str(&self.key("rope.scaling.type"))?.unwrap_or(untyped);
        for (name, neutral) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
            let name = format!("rope.scaling.{name}");
            let found = self.float(&name, Some(neutral), f64::MIN..=f64::MAX)?;
            if kind == "yarn" && found != neutral {
                return Err(self.invalid(&name, format!("is {found}; only {neutral} runs")));
            }
        }
        match kind {
            "none" => Ok(Scaling::None),
            "linear" => Ok(Scaling::Linear { factor }),
            "yarn" => Ok(Scaling::Yarn {
                factor,
                original_context: self.count("rope.scaling.original_context_length", 1 << 32)?
                    as f64,
                attn_factor: match self.metadata.f32(&self.key("rope.scaling.yarn_attn_factor"))? {
                    Some(_) => self.float("rope.scaling.yarn_attn_factor", None, 1e-3..=1e3)?,
                    None => self.float("rope.scaling.attn_factor", Some(1.0), 1e-3..=1e3)?,
                },
                beta_fast: self.float("rope.scaling.yarn_beta_fast", Some(32.0), 1e-3..=1e6)?,
                beta_slow: self.float("rope.scaling.yarn_beta_slow", Some(1.0), 1e-3..=1e6)?,
            }),
            other => {
                let problem = format!("is `{other}`; expected none, linear or yarn");
                Err(self.invalid("rope.scaling.type", problem))
            }
        }
    }
}
