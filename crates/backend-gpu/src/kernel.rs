//! The kernels by name, each with its file and the threads of a block. A driver has them in its own
//! language; what stands here says the same, and its tests compare.

/// One kernel of a file.
#[derive(Debug)]
pub struct Kernel {
    /// Which file, without its ending.
    pub op: &'static str,
    /// The name of its entry.
    pub name: &'static str,
    /// Threads of a block, where a driver does not say otherwise.
    pub threads: u32,
}

/// The files of kernels; each is compiled behind a prelude.
pub const OPS: [&str; 8] =
    ["norm", "quantise", "matmul", "attend", "route", "expand", "reduce", "best"];

macro_rules! kernels {
    ($(#[$said:meta])* $all:ident:
        $($constant:ident: $op:literal $name:literal $threads:literal;)+) => {
        $(pub(crate) static $constant: Kernel =
            Kernel { op: $op, name: $name, threads: $threads };)+

        $(#[$said])*
        pub static $all: &[&Kernel] = &[$(&$constant),+];
    };
}

kernels! {
    /// The kernels that every driver has.
    KERNELS:
    NORM: "norm" "norm_rows" 256;
    QUANTISE: "quantise" "quantise_rows" 256;
    MATMUL_1: "matmul" "matmul_1" 256;
    MATMUL_8: "matmul" "matmul_8" 256;
    ROTATE: "attend" "rotate" 256;
    ATTEND: "attend" "attend" 256;
    ATTEND_CODES: "attend" "attend_codes" 256;
    GATHER: "attend" "gather" 256;
    ROUTE: "route" "route" 1024;
    EXPAND_1: "expand" "expand_1" 256;
    EXPAND_8: "expand" "expand_8" 256;
    DOWN_8: "reduce" "down_8" 128;
    BLEND: "reduce" "blend" 256;
    REDUCE_1: "reduce" "reduce_1" 128;
    BEST: "best" "best" 1024;
}

kernels! {
    /// Products of wide tiles, on matrix units; the same bits as those of narrow ones.
    WIDE_KERNELS:
    MATMUL_32: "matmul" "matmul_32" 256;
    EXPAND_32: "expand" "expand_32" 256;
    DOWN_32: "reduce" "down_32" 256;
}

/// Warps of a block of 256 threads: rows of a matrix, heads, or groups of a row of activations.
pub(crate) const WARPS: usize = 8;
/// Rows of a matrix in a block that multiplies one column.
pub(crate) const MATMUL_ROWS: usize = 16;
/// Columns that one pass over a matrix meets, and visits of a tile.
pub const COLUMNS: usize = 8;
/// Columns of a wide tile.
pub const WIDE: usize = 32;
/// Rows of a matrix in a block that multiplies one.
pub(crate) const WIDE_ROWS: usize = 64;
/// Positions of a split of attention.
pub const SPLIT: usize = 256;
/// Rows of `gate` and of `up` in a block.
pub(crate) const EXPAND_ROWS: usize = 32;
/// Rows of `down` in a block, and in one that has all experts of a row alone.
pub(crate) const DOWN_ROWS: usize = 16;
pub(crate) const REDUCE_ROWS: usize = 4;
/// Logits of which a block keeps the best.
pub const SORTED: usize = 2048;
/// Threads of the block that routes, each an expert.
pub const EXPERTS: usize = 1024;
