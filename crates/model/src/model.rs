//! A model: the weights of a file, bound strictly by name and shape, on a backend.

use std::collections::HashSet;
use std::sync::Arc;

use qwire_gguf::File;

use crate::arch::{self, ARCHITECTURES, Architecture, Presence};
use crate::backend::{Backend, Role};
use crate::shape::{Shape, wants};
use crate::weights::{LoadError, Weights};

/// A linear map with an optional bias.
pub struct Projection<B: Backend> {
    /// [rows, k]
    pub matrix: B::Matrix,
    /// [rows]
    pub bias: Option<B::Vector>,
}

/// The matrices of a layer's experts; a dense model has one.
#[derive(Clone)]
pub struct Experts<M> {
    /// The number of their layer.
    pub layer: usize,
    /// [experts, ffn, hidden]
    pub gate: M,
    /// [experts, ffn, hidden]
    pub up: M,
    /// [experts, hidden, ffn]
    pub down: M,
}

impl Experts<Weights> {
    /// Each of them where `take` puts it.
    pub fn place<M>(
        self,
        into: Role,
        mut take: impl FnMut(Weights, Role) -> Result<M, LoadError>,
    ) -> Result<Experts<M>, LoadError> {
        let (gate, up) = (take(self.gate, Role::Linear)?, take(self.up, Role::Linear)?);
        Ok(Experts { layer: self.layer, gate, up, down: take(self.down, into)? })
    }
}

/// The weights of one layer.
pub struct Layer<B: Backend> {
    /// Its number.
    pub index: usize,
    /// [hidden]
    pub attn_norm: B::Vector,
    /// [heads * d, hidden]
    pub attn_q: Projection<B>,
    /// [kv_heads * d, hidden]
    pub attn_k: Projection<B>,
    /// [kv_heads * d, hidden]
    pub attn_v: Projection<B>,
    /// [d] each, for queries and keys
    pub head_norms: Option<(B::Vector, B::Vector)>,
    /// [hidden, heads * d]
    pub attn_output: B::Matrix,
    /// [hidden]
    pub ffn_norm: B::Vector,
    /// [experts, hidden]; none in a dense model
    pub router: Option<B::Matrix>,
    /// What a row's routes lead to.
    pub experts: Experts<B::Matrix>,
}

/// The weights of a model.
pub struct Model<B: Backend> {
    /// Every size.
    pub shape: Shape,
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// [vocab, hidden]
    pub token_embd: B::Matrix,
    /// In order.
    pub layers: Vec<Layer<B>>,
    /// [hidden]
    pub output_norm: B::Vector,
    /// [vocab, hidden]; the embedding again where the file has no own head
    pub output: B::Matrix,
    /// Tensors of the file that have no place in the architecture.
    pub unused: Vec<String>,
}

/// The architecture and shape that a file's metadata declare.
pub fn describe(file: &File) -> Result<(&'static Architecture, Shape), LoadError> {
    let metadata = file.metadata();
    let name = metadata.require_str("general.architecture")?;
    let Some(arch) = arch::architecture(name) else {
        let known: Vec<_> = ARCHITECTURES.iter().map(|arch| arch.name).collect();
        let problem = format!("is `{name}`; architectures that run: {}", known.join(", "));
        return Err(metadata.invalid("general.architecture", problem).into());
    };
    Ok((arch, Shape::read(arch, metadata)?))
}

impl<B: Backend> Model<B> {
    /// Binds every tensor and hands it to the backend. `progress` hears (layers done, layers).
    pub fn load(
        file: &Arc<File>,
        backend: &mut B,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, LoadError> {
        let (arch, shape) = describe(file)?;
        let mut binder = Binder { file, backend, used: HashSet::new() };
        let vocab = binder.vocabulary(&shape)?;
        let table = [shape.hidden, vocab];
        let token_embd = binder.matrix("token_embd.weight", &table, Role::Embedding)?;
        let mut layers = Vec::new();
        for index in 0..shape.layers {
            layers.push(binder.layer(arch, &shape, index)?);
            progress(index + 1, shape.layers);
        }
        let output_norm = binder.vector("output_norm.weight", shape.hidden)?;
        let own = file.tensor("output.weight").is_some();
        let head = if own { "output.weight" } else { "token_embd.weight" };
        let output = binder.matrix(head, &table, Role::Head)?;
        let unused = binder.unused();
        Ok(Self { shape, vocab, token_embd, layers, output_norm, output, unused })
    }
}

/// Takes tensors out of a file by name and proves that each fits.
struct Binder<'a, B> {
    file: &'a Arc<File>,
    backend: &'a mut B,
    used: HashSet<String>,
}

impl<B: Backend> Binder<'_, B> {
    /// Rows of the embedding, which the tokenizer must agree with.
    fn vocabulary(&self, shape: &Shape) -> Result<usize, LoadError> {
        let rows = self.file.tensor("token_embd.weight").map_or(0, |tensor| tensor.rows() as usize);
        if let Some(tokens) = self.file.metadata().strings("tokenizer.ggml.tokens")?
            && tokens.len() != rows
            && rows > 0
        {
            return Err(LoadError(format!(
                "tensor `token_embd.weight` has {rows} rows; `tokenizer.ggml.tokens` has {} tokens",
                tokens.len()
            )));
        }
        if rows == 0 {
            let dims = format!("[{}, tokens]", shape.hidden);
            let problem = format!("tensor `token_embd.weight` is missing; expected shape {dims}");
            return Err(LoadError(problem));
        }
        Ok(rows)
    }

    fn bind(&mut self, name: &str, dims: &[usize]) -> Result<Weights, LoadError> {
        let weights = Weights::bind(self.file, name, dims)?;
        self.used.insert(name.to_string());
        Ok(weights)
    }

    fn matrix(&mut self, name: &str, dims: &[usize], role: Role) -> Result<B::Matrix, LoadError> {
        let weights = self.bind(name, dims)?;
        self.backend.matrix(weights, role)
    }

    fn vector(&mut self, name: &str, len: usize) -> Result<B::Vector, LoadError> {
        let weights = self.bind(name, &[len])?;
        self.backend.vector(weights.values())
    }

    fn projection(
        &mut self,
        stem: &str,
        dims: &[usize; 2],
        bias: Presence,
    ) -> Result<Projection<B>, LoadError> {
        let matrix = self.matrix(&format!("{stem}.weight"), dims, Role::Linear)?;
        let name = format!("{stem}.bias");
        let found = self.file.tensor(&name).is_some();
        let bias = wants(bias, found).then(|| self.vector(&name, dims[1])).transpose()?;
        Ok(Projection { matrix, bias })
    }

    fn layer(
        &mut self,
        arch: &Architecture,
        shape: &Shape,
        index: usize,
    ) -> Result<Layer<B>, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let (hidden, ffn, experts) = (shape.hidden, shape.ffn, shape.experts);
        let (q, kv) = ([hidden, shape.q_dim()], [hidden, shape.kv_dim()]);
        let feed = |part: &str| {
            let plural = if shape.routed { "_exps" } else { "" };
            name(&format!("ffn_{part}{plural}.weight"))
        };
        let (wide, narrow) = ([hidden, ffn, experts], [ffn, hidden, experts]);
        let has_norm = self.file.tensor(&name("attn_q_norm.weight")).is_some();
        let head_norms = wants(arch.head_norm, has_norm).then(|| {
            let q = self.vector(&name("attn_q_norm.weight"), shape.head_dim)?;
            Ok::<_, LoadError>((q, self.vector(&name("attn_k_norm.weight"), shape.head_dim)?))
        });
        let router = shape
            .routed
            .then(|| self.matrix(&name("ffn_gate_inp.weight"), &[hidden, experts], Role::Router));
        Ok(Layer {
            index,
            attn_norm: self.vector(&name("attn_norm.weight"), hidden)?,
            attn_q: self.projection(&name("attn_q"), &q, arch.qkv_bias)?,
            attn_k: self.projection(&name("attn_k"), &kv, arch.qkv_bias)?,
            attn_v: self.projection(&name("attn_v"), &kv, arch.qkv_bias)?,
            head_norms: head_norms.transpose()?,
            attn_output: self.matrix(
                &name("attn_output.weight"),
                &[shape.q_dim(), hidden],
                shape.into_stream(),
            )?,
            ffn_norm: self.vector(&name("ffn_norm.weight"), hidden)?,
            router: router.transpose()?,
            experts: {
                let (gate, up) = (self.bind(&feed("gate"), &wide)?, self.bind(&feed("up"), &wide)?);
                let down = self.bind(&feed("down"), &narrow)?;
                let weights = Experts { layer: index, gate, up, down };
                self.backend.experts(weights, shape.into_stream())?
            },
        })
    }

    fn unused(&self) -> Vec<String> {
        let names = self.file.tensors().iter().map(|tensor| tensor.name.clone());
        names.filter(|name| !self.used.contains(name)).collect()
    }
}
