//! Rows of activations in the forms that matrices read, and packed in tiles of tokens.

use std::ops::Range;

use qwire_kernels::activation::{self, Row};
use qwire_kernels::tile::pack::Pack;
use qwire_kernels::tile::{Acts, ROWS, Sums, TOKENS, next_tokens};
use qwire_model::Role;

/// The form of activations that a matrix reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Form {
    Float,
    Narrow,
    Wide,
}

impl Form {
    /// The form that quantised weights in this role read.
    pub(crate) fn of(role: Role) -> Self {
        match role {
            Role::IntoMixture | Role::Head => Self::Wide,
            _ => Self::Narrow,
        }
    }
}

/// Rows of activations, and tiles of them.
pub(crate) struct Activations {
    /// Values of a row.
    pub k: usize,
    /// [rows, k]
    pub floats: Vec<f32>,
    /// [rows] in 8 bits, where some matrix reads them
    pub narrow: Vec<Row<1>>,
    /// [rows] in 15 bits
    pub wide: Vec<Row<2>>,
    /// Tiles of the narrow rows.
    pub narrow_packs: Vec<Pack<1>>,
    /// Tiles of the wide rows.
    pub wide_packs: Vec<Pack<2>>,
    /// Which of `order` each tile has.
    pub tiles: Vec<Range<usize>>,
    /// Rows in the order of tiles.
    pub order: Vec<usize>,
}

impl Activations {
    /// Room for rows of k values in tiles of at most `groups` groups.
    pub(crate) fn new(rows: usize, k: usize, form: Form, groups: usize) -> Self {
        Self::grouped(rows, rows, k, form, groups)
    }

    /// The same where rows may be visited more than once: `visits` in all.
    pub(crate) fn grouped(rows: usize, visits: usize, k: usize, form: Form, groups: usize) -> Self {
        let whole = k.is_multiple_of(activation::BLOCK);
        let room = |wanted: Form, n: usize| if whole && form == wanted { n } else { 0 };
        // Each group ends in at most four tiles of less than sixteen.
        let tiles = visits.div_ceil(TOKENS) + 4 * groups.min(visits);
        Self {
            k,
            floats: vec![0.0; rows * k],
            narrow: vec![Row::new(if whole { k } else { 0 }); room(Form::Narrow, rows)],
            wide: vec![Row::new(if whole { k } else { 0 }); room(Form::Wide, rows)],
            narrow_packs: vec![Pack::default(); room(Form::Narrow, tiles)],
            wide_packs: vec![Pack::default(); room(Form::Wide, tiles)],
            tiles: Vec::with_capacity(tiles),
            order: Vec::with_capacity(visits),
        }
    }

    /// Tiles of the first rows, in order.
    pub(crate) fn tile_rows(&mut self, rows: usize) {
        self.order.clear();
        self.order.extend(0..rows);
        self.tile_groups(&[0, rows]);
    }

    /// Tiles of rows in the order given, none crossing a bound.
    pub(crate) fn tile_groups(&mut self, bounds: &[usize]) {
        self.tiles.clear();
        for group in bounds.windows(2) {
            let mut start = group[0];
            while start < group[1] {
                let end = start + next_tokens(group[1] - start);
                self.tiles.push(start..end);
                start = end;
            }
        }
    }

    /// The sums of some neighbouring tiles by row, in the order of tiles.
    pub(crate) fn sums<'a>(
        &'a self,
        tiles: Range<usize>,
        sums: &'a [Sums],
    ) -> impl Iterator<Item = (usize, &'a [f32; ROWS])> {
        self.tiles[tiles].iter().zip(sums).flat_map(|(rows, sums)| rows.clone().zip(sums))
    }

    /// Hands some neighbouring tiles to `f` in the form wanted; as floats one by one, with each
    /// one's place.
    pub(crate) fn with_acts(
        &self,
        form: Form,
        tiles: Range<usize>,
        mut f: impl FnMut(Acts<'_>, Range<usize>),
    ) {
        let all = 0..tiles.len();
        match form {
            Form::Narrow => f(Acts::Narrow(&self.narrow_packs[tiles]), all),
            Form::Wide => f(Acts::Wide(&self.wide_packs[tiles]), all),
            Form::Float => {
                for (place, tile) in tiles.enumerate() {
                    let rows = &self.order[self.tiles[tile].clone()];
                    let mut picked: [&[f32]; TOKENS] = [&[]; TOKENS];
                    for (to, row) in picked.iter_mut().zip(rows) {
                        *to = &self.floats[row * self.k..][..self.k];
                    }
                    f(Acts::Float(&picked[..rows.len()]), place..place + 1);
                }
            }
        }
    }
}
