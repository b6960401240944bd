//! The kernels by name, each with its file and the threads of a block. The files are the source;
//! what stands here says the same, and a test compares.

/// One kernel of a `.cu` file.
#[derive(Debug)]
pub struct Kernel {
    /// Which file, without its ending.
    pub op: &'static str,
    /// The name of its entry.
    pub name: &'static str,
    /// Threads of a block.
    pub threads: u32,
}

/// The files of kernels; each is compiled behind `prelude.cu`.
pub const OPS: [&str; 8] =
    ["norm", "quantise", "matmul", "rotate", "attend", "route", "expand", "reduce"];

macro_rules! kernels {
    ($($constant:ident: $op:literal $name:literal $threads:literal;)+) => {
        $(pub(crate) static $constant: Kernel =
            Kernel { op: $op, name: $name, threads: $threads };)+

        /// Every kernel.
        pub static KERNELS: &[&Kernel] = &[$(&$constant),+];
    };
}

kernels! {
    NORM: "norm" "norm_rows" 256;
    QUANTISE: "quantise" "quantise_rows" 256;
    MATMUL_1: "matmul" "matmul_1" 256;
    MATMUL_8: "matmul" "matmul_8" 256;
    ROTATE: "rotate" "rotate" 256;
    ATTEND: "attend" "attend" 256;
    GATHER: "attend" "gather" 256;
    ROUTE: "route" "route" 1024;
    EXPAND_1: "expand" "expand_1" 256;
    EXPAND_8: "expand" "expand_8" 256;
    DOWN_1: "reduce" "down_1" 128;
    DOWN_8: "reduce" "down_8" 128;
    BLEND: "reduce" "blend" 256;
}

/// Warps of a block of 256 threads: rows of a matrix, heads, or groups of a row of activations.
pub(crate) const WARPS: usize = 8;
/// Columns that one pass over a matrix meets, and visits of a tile.
pub(crate) const COLUMNS: usize = 8;
/// Positions of a split of attention.
pub(crate) const SPLIT: usize = 256;
/// Rows of `gate` and of `up` in a block.
pub(crate) const EXPAND_ROWS: usize = 32;
/// Rows of `down` in a block.
pub(crate) const DOWN_ROWS: usize = 16;
/// Threads of the block that routes, each an expert.
pub(crate) const EXPERTS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn source(op: &str) -> String {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/kernels");
        std::fs::read_to_string(format!("{folder}/{op}.cu")).expect("an op has a file")
    }

    #[test]
    fn the_files_declare_these_kernels_and_no_other() {
        for op in OPS {
            let declared: Vec<String> = source(op)
                .lines()
                .filter_map(|line| line.strip_prefix("ENTRY("))
                .map(|rest| rest.split(',').take(2).collect::<String>())
                .collect();
            let listed = KERNELS.iter().filter(|kernel| kernel.op == op);
            let listed: Vec<_> =
                listed.map(|kernel| format!("{} {}", kernel.name, kernel.threads)).collect();
            assert_eq!(declared, listed, "{op}.cu");
        }
    }

    #[test]
    fn both_sides_agree_on_sizes() {
        for (op, text) in [
            ("prelude", format!("#define TILE {COLUMNS}\n")),
            ("attend", format!("#define SPLIT {SPLIT}\n")),
            ("route", format!("pairs[{EXPERTS}], tiles[{EXPERTS}]")),
        ] {
            assert!(source(op).contains(&text), "{op}.cu holds {text}");
        }
    }
}
