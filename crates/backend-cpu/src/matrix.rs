//! Matrices on a CPU: panels of sixteen rows, packed once at load.

use std::ops::Range;

use memmap2::{Advice, MmapMut};
use qwire_kernels::Isa;
use qwire_kernels::quant::{FORMATS, Format};
use qwire_kernels::tile::{Panel, ROWS, Sums};
use qwire_model::{LoadError, Role, Weights};

use crate::activations::{Activations, Form};
use crate::pool::Pool;

/// One matrix, or one per expert.
pub struct Matrix {
    /// The file's tensor: shape, and rows of an embedding.
    pub(crate) weights: Weights,
    pub(crate) form: Form,
    format: &'static Format,
    panels: Option<MmapMut>, // [count, rows / 16, panel]; none for an embedding
    panel_bytes: usize,
}

impl Matrix {
    pub(crate) fn new(weights: Weights, role: Role, pool: &Pool) -> Result<Self, LoadError> {
        let router = role == Role::Router && weights.format.quantised;
        let format = if router { &FORMATS[0] } else { weights.format };
        let form = match role {
            _ if !format.quantised => Form::Float,
            Role::IntoStream | Role::Head => Form::Wide,
            _ => Form::Narrow,
        };
        let panel_bytes = format.layout.panel_bytes(weights.k);
        let mut matrix = Self { weights, form, format, panels: None, panel_bytes };
        if role != Role::Embedding {
            matrix.panels = Some(matrix.pack(pool)?);
        }
        Ok(matrix)
    }

    /// Panels of one matrix.
    pub(crate) fn panels(&self) -> usize {
        self.weights.rows.div_ceil(ROWS)
    }

    fn pack(&self, pool: &Pool) -> Result<MmapMut, LoadError> {
        let (weights, panels) = (&self.weights, self.panels());
        let len = weights.count * panels * self.panel_bytes;
        let out_of_memory =
            |error| LoadError(format!("tensor `{}`: {len} bytes: {error}", weights.name()));
        let mut memory = MmapMut::map_anon(len).map_err(out_of_memory)?;
        // Large pages spare the table walks of a stream through gigabytes; without them it works.
        #[cfg(target_os = "linux")]
        let _ = memory.advise(Advice::HugePage);
        pool.chunks(&mut memory, self.panel_bytes, |_, task, panel| {
            let (matrix, first) = (task / panels, task % panels * ROWS);
            let rows = ROWS.min(weights.rows - first);
            let first = matrix * weights.rows + first;
            if self.format.id == weights.format.id {
                self.format.layout.pack(weights.row_bytes(first, rows), weights.k, panel);
            } else {
                self.format.layout.pack(&floats(weights, first, rows), weights.k, panel);
            }
        });
        weights.release();
        Ok(memory)
    }

    /// Panel `panel` of matrix `index` times some neighbouring tiles of `x`, the sums of each.
    pub(crate) fn tiles(
        &self,
        isa: Isa,
        (index, panel): (usize, usize),
        x: &Activations,
        tiles: Range<usize>,
        sums: &mut [Sums],
    ) {
        let panels = self.panels.as_ref().expect("an embedding is not multiplied");
        let at = (index * self.panels() + panel) * self.panel_bytes;
        let panel = Panel { bytes: &panels[at..at + self.panel_bytes], k: self.weights.k };
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
