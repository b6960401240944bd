//! A batch: the rows one step computes, and where each stands in its sequence.

pub use qwire_kernels::attention::PAGE;

/// A token of the vocabulary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TokenId(pub u32);

/// A page of the key/value pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageId(pub u32);

/// Consecutive positions of one sequence: a prompt's chunk is a long span, decoding a span of one.
#[derive(Clone, Debug)]
pub struct Span {
    /// Position of the first row.
    pub start: usize,
    /// Rows.
    pub len: usize,
    /// The sequence's pages, enough for positions 0..start + len.
    pub pages: Vec<PageId>,
}

/// All spans of one step, their rows one after the other.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// [rows]
    pub tokens: Vec<TokenId>,
    /// Their lengths sum to `tokens.len()`.
    pub spans: Vec<Span>,
    /// Rows whose logits are wanted, ascending.
    pub outputs: Vec<usize>,
}

impl Batch {
    /// One span whose every row, or only whose last, gives logits.
    pub fn single(tokens: &[TokenId], start: usize, pages: Vec<PageId>, every: bool) -> Self {
        let len = tokens.len();
        Self {
            tokens: tokens.to_vec(),
            spans: vec![Span { start, len, pages }],
            outputs: if every { (0..len).collect() } else { vec![len - 1] },
        }
    }

    /// Rows of the step.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Position of each row, in order.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().flat_map(|span| span.start..span.start + span.len)
    }

    /// The cache slot of each row: page * PAGE + offset.
    pub fn slots(&self) -> impl Iterator<Item = usize> {
        self.spans.iter().flat_map(|span| {
            let positions = span.start..span.start + span.len;
            positions.map(|at| span.pages[at / PAGE].0 as usize * PAGE + at % PAGE)
        })
    }

    /// The span that a row belongs to.
    pub fn span_of(&self, row: usize) -> usize {
        let mut end = 0;
        let holds = |span: &Span| {
            end += span.len;
            row < end
        };
        self.spans.iter().position(holds).unwrap_or(0)
    }

    /// Asserts what every backend relies on.
    pub fn check(&self, vocab: usize) {
        let rows: usize = self.spans.iter().map(|span| span.len).sum();
        assert_eq!(rows, self.rows(), "spans cover the rows");
        assert!(self.tokens.iter().all(|token| (token.0 as usize) < vocab), "token in vocabulary");
        assert!(self.outputs.windows(2).all(|pair| pair[0] < pair[1]), "outputs ascend");
        assert!(self.outputs.last().is_none_or(|row| *row < rows), "outputs are rows");
        let fits = |span: &Span| span.len > 0 && span.pages.len() * PAGE >= span.start + span.len;
        assert!(self.spans.iter().all(fits), "pages cover each span");
    }
}
