//! Matrices on a CPU, the activations they read, and tiles of their products.

use qwire_kernels::Isa;
use qwire_kernels::activation::{self, Row};
use qwire_kernels::attention;
use qwire_kernels::tile::{Acts, ROWS, Sums, TOKENS, Tile};
use qwire_model::{Role, Weights};

/// The form of activations that a matrix reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Float,
    Narrow,
    Wide,
}

/// One matrix, or one per expert.
pub struct Matrix {
    pub(crate) weights: Weights,
    pub(crate) form: Form,
    /// The router's rows, dequantised; empty otherwise.
    pub(crate) floats: Vec<u8>,
}

impl Matrix {
    pub(crate) fn new(weights: Weights, role: Role) -> Self {
        let quantised = weights.format.quantised;
        let form = match role {
            Role::Embedding | Role::FromStream if quantised => Form::Narrow,
            Role::IntoStream | Role::Head if quantised => Form::Wide,
            _ => Form::Float,
        };
        let floats = if role == Role::Router && quantised {
            weights.values().iter().flat_map(|value| value.to_le_bytes()).collect()
        } else {
            Vec::new()
        };
        Self { weights, form, floats }
    }

    /// Rows `first..first + rows` of matrix `index` times up to sixteen tokens of `x`.
    pub(crate) fn tile(
        &self,
        isa: Isa,
        index: usize,
        rows: std::ops::Range<usize>,
        x: &Activations,
        tokens: &[usize],
        sums: &mut Sums,
    ) {
        assert!(rows.len() <= ROWS && tokens.len() <= TOKENS, "one tile");
        let weights = &self.weights;
        let first = index * weights.rows + rows.start;
        let (format, bytes) = if self.floats.is_empty() {
            (weights.format, weights.row_bytes(first, rows.len()))
        } else {
            let len = 4 * weights.k;
            let float = &qwire_kernels::quant::FORMATS[0];
            (float, &self.floats[first * len..(first + rows.len()) * len])
        };
        let (n, k) = (tokens.len(), weights.k);
        let tile = Tile { bytes, k };
        match self.form {
            Form::Float => {
                let mut picked: [&[f32]; TOKENS] = [&[]; TOKENS];
                for (to, token) in picked.iter_mut().zip(tokens) {
                    *to = &x.floats[token * k..][..k];
                }
                format.tile(isa, tile, Acts::Float(&picked[..n]), sums);
            }
            Form::Narrow => {
                let picked: [&Row<i8>; TOKENS] = pick(&x.narrow, tokens);
                format.tile(isa, tile, Acts::Narrow(&picked[..n]), sums);
            }
            Form::Wide => {
                let picked: [&Row<i16>; TOKENS] = pick(&x.wide, tokens);
                format.tile(isa, tile, Acts::Wide(&picked[..n]), sums);
            }
        }
    }
}

/// References to the chosen rows; places past the end repeat the first.
fn pick<'a, C>(rows: &'a [Row<C>], tokens: &[usize]) -> [&'a Row<C>; TOKENS] {
    std::array::from_fn(|i| &rows[*tokens.get(i).unwrap_or(&tokens[0])])
}

/// Rows of activations in every form that some matrix reads.
pub(crate) struct Activations {
    /// Values of a row.
    pub k: usize,
    /// [rows, k]
    pub floats: Vec<f32>,
    /// [rows], where k fills blocks
    pub narrow: Vec<Row<i8>>,
    /// [rows], where asked for
    pub wide: Vec<Row<i16>>,
}

impl Activations {
    pub(crate) fn new(rows: usize, k: usize, forms: &[Form]) -> Self {
        let whole = k.is_multiple_of(activation::BLOCK);
        let count = |form: Form| if whole && forms.contains(&form) { rows } else { 0 };
        Self {
            k,
            floats: vec![0.0; rows * k],
            narrow: vec![Row::new(if whole { k } else { 0 }); count(Form::Narrow)],
            wide: vec![Row::new(if whole { k } else { 0 }); count(Form::Wide)],
        }
    }
}

/// What one worker writes on.
#[derive(Default)]
pub(crate) struct Bench {
    pub sums: Sums,
    pub gates: Sums,
    pub attention: attention::Scratch,
    pub queries: Vec<f32>, // [n, d], gathered
    pub out: Vec<f32>,     // [n, d]
    pub visible: Vec<usize>,
    pub choice: Vec<(u32, f32)>,
    pub y: Vec<f32>, // [rows, ROWS], one tile's experts summed
}
