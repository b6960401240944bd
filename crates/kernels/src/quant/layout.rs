//! The layout of a panel: sixteen rows interleaved, so that a lane of a vector is a row.
//!
//! ```text
//! panel of K values = head, padded to 64 bytes | K / BLOCK blocks
//! head              = for each block, the fields that would break the alignment of blocks
//! block             = the other fields, one after the other
//! field             = [count][16 rows][unit bytes]
//! ```
//! It is a permutation of sixteen rows' bytes and nothing else; a format declares its fields. Rows
//! that a last panel lacks are zeros.

use crate::quant::QuantFormat;
use crate::tile::ROWS;

/// Counts changes of any byte of any panel. Panels that were kept on disk by another version are
/// packed anew.
pub const LAYOUT_VERSION: u32 = 2;

/// A run of equal units in a block of one row.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Byte offset in the row's block.
    pub at: usize,
    /// Units.
    pub count: usize,
    /// Bytes of a unit.
    pub unit: usize,
    /// Whether it lies in the panel's head.
    pub head: bool,
}

impl Field {
    /// A field inside the panel's blocks.
    pub const fn block(at: usize, count: usize, unit: usize) -> Self {
        Self { at, count, unit, head: false }
    }

    /// A field in the panel's head.
    pub const fn head(at: usize, count: usize, unit: usize) -> Self {
        Self { at, count, unit, head: true }
    }

    const fn bytes(&self) -> usize {
        self.count * self.unit
    }
}

/// The layout of a quantised format.
pub const fn layout<F: QuantFormat>() -> Layout {
    Layout::new(F::FIELDS, F::BYTES, F::BLOCK)
}

/// The fields of a format, and what follows from them.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    fields: &'static [Field],
    /// Bytes of a row's block.
    row_block: usize,
    /// Values of a block.
    values: usize,
}

impl Layout {
    /// From fields that cover a block of a row exactly once.
    pub const fn new(fields: &'static [Field], row_block: usize, values: usize) -> Self {
        Self { fields, row_block, values }
    }

    /// Bytes of one block's share of the head, or of one block.
    pub const fn part(&self, head: bool) -> usize {
        let (mut sum, mut i) = (0, 0);
        while i < self.fields.len() {
            if self.fields[i].head == head {
                sum += self.fields[i].bytes() * ROWS;
            }
            i += 1;
        }
        sum
    }

    /// Bytes of the head of a panel of k values.
    pub const fn head_bytes(&self, k: usize) -> usize {
        (k / self.values * self.part(true)).next_multiple_of(64)
    }

    /// Bytes of a panel of k values.
    pub const fn panel_bytes(&self, k: usize) -> usize {
        self.head_bytes(k) + k / self.values * self.part(false)
    }

    /// Interleaves up to sixteen rows of k values. Padding of the head is left as it is.
    pub fn pack(&self, rows: &[u8], k: usize, panel: &mut [u8]) {
        let row_bytes = k / self.values * self.row_block;
        if rows.len() < row_bytes * ROWS {
            panel.fill(0);
        }
        for (lane, row) in rows.chunks_exact(row_bytes).enumerate() {
            self.walk(k, lane, |at, place, unit| {
                panel[place..place + unit].copy_from_slice(&row[at..at + unit]);
            });
        }
    }

    /// One row of a panel, as it was.
    pub fn unpack(&self, panel: &[u8], k: usize, lane: usize, row: &mut [u8]) {
        self.walk(k, lane, |at, place, unit| {
            row[at..at + unit].copy_from_slice(&panel[place..place + unit]);
        });
    }

    /// Every unit of a row: its place in the row, its place in the panel, its bytes.
    fn walk(&self, k: usize, lane: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let (mut head, mut block) = (0, self.head_bytes(k));
        for index in 0..k / self.values {
            for field in self.fields {
                let start = if field.head { &mut head } else { &mut block };
                for i in 0..field.count {
                    let at = index * self.row_block + field.at + i * field.unit;
                    visit(at, *start + (i * ROWS + lane) * field.unit, field.unit);
                }
                *start += field.bytes() * ROWS;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LAYOUT_VERSION;
    use crate::quant::FORMATS;
    use crate::tile::ROWS;

    /// Panels of every format, folded into one number (FNV-1a).
    fn panels() -> u64 {
        let mut folded = 0xcbf2_9ce4_8422_2325;
        for format in &FORMATS {
            let k = 2 * format.block_values;
            let row = |i: usize| (i * 131 + i / 251) as u8;
            let rows: Vec<u8> = (0..format.row_bytes(k) * ROWS).map(row).collect();
            let mut panel = vec![0; format.layout.panel_bytes(k)];
            format.layout.pack(&rows, k, &mut panel);
            for byte in &panel {
                folded = (folded ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        }
        folded
    }

    #[test]
    fn panels_change_with_the_version_alone() {
        const KNOWN: (u32, u64) = (2, 0xacfa_4268_832f_ed78);
        let found = (LAYOUT_VERSION, panels());
        assert_eq!(found, KNOWN, "panels changed: raise LAYOUT_VERSION and note them here");
    }
}
