//! Matrices on a CPU: panels of sixteen rows, packed once.

use std::ops::Range;

use qwire_kernels::Isa;
use qwire_kernels::quant::{FORMATS, Format};
use qwire_kernels::tile::{Panel, ROWS, Sums};
use qwire_model::{LoadError, Role, Weights};

use crate::activations::{Activations, Form};
use crate::memory;
use crate::panels::Panels;
use crate::pool::Pool;

/// Panels are packed, written and checked this many bytes at a time, or a little less. What the
/// file's own pages take beside the panels stays as small.
const PIECE_BYTES: usize = 64 << 20;

/// One matrix, or one per expert.
pub struct Matrix {
    /// The file's tensor: shape, and rows of an embedding.
    pub(crate) weights: Weights,
    pub(crate) form: Form,
    /// The format of its panels.
    pub(crate) format: &'static Format,
    pub(crate) panels: Option<Panels>, // none for an embedding
    panel_bytes: usize,
}

impl Matrix {
    /// A matrix whose panels are yet to come.
    pub(crate) fn new(weights: Weights, role: Role) -> Self {
        let router = role == Role::Router && weights.format.quantised;
        let format = if router { &FORMATS[0] } else { weights.format };
        let form = if format.quantised { Form::of(role) } else { Form::Float };
        let panel_bytes = format.layout.panel_bytes(weights.k);
        Self { weights, form, format, panels: None, panel_bytes }
    }

    /// Panels of one matrix.
    pub(crate) fn panels(&self) -> usize {
        self.weights.rows.div_ceil(ROWS)
    }

    /// Bytes of all panels.
    pub(crate) fn len_bytes(&self) -> usize {
        self.weights.count * self.panels() * self.panel_bytes
    }

    /// All panels in order, as ranges of bytes: whole panels, and a bounded number of them.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = self.len_bytes();
        let step = (PIECE_BYTES / self.panel_bytes).max(1) * self.panel_bytes;
        (0..len).step_by(step).map(move |start| start..len.min(start + step))
    }

    /// Packs all panels into memory of their own.
    pub(crate) fn pack(&self, pool: &Pool) -> Result<Panels, LoadError> {
        let len = self.len_bytes();
        let mut memory = memory::reserve(len).map_err(|error| {
            LoadError(format!("tensor `{}`: {len} bytes: {error}", self.weights.name()))
        })?;
        for piece in self.pieces() {
            self.pack_piece(pool, piece.clone(), &mut memory[piece]);
        }
        Ok(Panels::Packed(memory))
    }

    /// Packs one of the pieces; the bytes of the file that it read make way.
    pub(crate) fn pack_piece(&self, pool: &Pool, piece: Range<usize>, out: &mut [u8]) {
        let (weights, first) = (&self.weights, piece.start / self.panel_bytes);
        if first == 0 {
            weights.stream();
        }
        pool.chunks(out, self.panel_bytes, |_, task, panel| {
            let start = self.row((first + task) * self.panel_bytes);
            let rows = ROWS.min(weights.rows - start % weights.rows);
            // Packing leaves its padding as it is, and the same panels shall be the same bytes.
            panel[..self.format.layout.head_bytes(weights.k)].fill(0);
            if self.format.id == weights.format.id {
                self.format.layout.pack(weights.row_bytes(start, rows), weights.k, panel);
            } else {
                self.format.layout.pack(&floats(weights, start, rows), weights.k, panel);
            }
        });
        // From the first row on: a page that two pieces share was left by the former.
        weights.release(0..self.row(piece.end));
    }

    /// The first row, over all matrices, of the panel that begins at this byte.
    fn row(&self, at: usize) -> usize {
        let (panel, panels) = (at / self.panel_bytes, self.panels());
        panel / panels * self.weights.rows + panel % panels * ROWS
    }

    /// Neighbouring panels of matrix `index`, their bytes.
    pub(crate) fn run(&self, index: usize, panels: Range<usize>) -> &[u8] {
        let all = self.panels.as_ref().expect("an embedding is not multiplied");
        let at = |panel: usize| (index * self.panels() + panel) * self.panel_bytes;
        &all[at(panels.start)..at(panels.end)]
    }

    /// The panels of a run, one by one, before the run that is read next.
    pub(crate) fn read<'a>(
        &self,
        run: &'a [u8],
        next: &'a [u8],
    ) -> impl Iterator<Item = Panel<'a>> + use<'a> {
        Panel::run(self.panel_bytes, self.weights.k, run, next)
    }

    /// A panel times some neighbouring tiles of `x`, the sums of each.
    pub(crate) fn tiles(
        &self,
        isa: Isa,
        panel: Panel<'_>,
        x: &Activations,
        tiles: Range<usize>,
        sums: &mut [Sums],
    ) {
        x.with_acts(self.form, tiles, |acts, places| {
            self.format.tile(isa, panel, acts, &mut sums[places]);
        });
    }

    /// Output rows of a panel.
    pub(crate) fn rows_of(&self, panel: usize) -> Range<usize> {
        panel * ROWS..(panel * ROWS + ROWS).min(self.weights.rows)
    }
}

/// Rows as the bytes of f32.
fn floats(weights: &Weights, first: usize, rows: usize) -> Vec<u8> {
    let mut row = vec![0.0; weights.k];
    let mut bytes = Vec::with_capacity(rows * weights.k * 4);
    for r in first..first + rows {
        weights.row(r, &mut row);
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}
