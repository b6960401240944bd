//! What one worker writes on while it has a task.

use qwire_kernels::attention;
use qwire_kernels::tile::Sums;

/// Tiles of rows that meet a panel together: its weights unpack once for all of them.
pub(crate) const TILES: usize = 8;

#[derive(Default)]
pub(crate) struct Bench {
    pub sums: [Sums; TILES],
    pub gates: [Sums; TILES],
    pub attention: attention::Scratch,
    pub queries: Vec<f32>, // [n, d], gathered
    pub out: Vec<f32>,     // [n, d]
    pub visible: Vec<usize>,
    pub y: Vec<f32>, // a task's experts summed
}
