//! Kernels in WGSL: the sources of each, and which fields of its arguments are places in which
//! binding. A driver compiles a kernel's files one behind the other.

use qwire_backend_gpu::kernel::{KERNELS, Kernel};

/// What a kernel does to what is bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// It reads.
    Read,
    /// It may write as well.
    Write,
}

/// One binding, by the number that it has in all kernels.
#[derive(Debug)]
pub struct Binding {
    /// Its number.
    pub number: u32,
    /// What is done to it.
    pub access: Access,
    /// Offsets of the addresses in the arguments that lie in it, in bytes.
    pub fields: &'static [usize],
}

/// A kernel's entry in its source.
#[derive(Debug)]
pub struct Source {
    /// The kernel that it computes.
    pub kernel: &'static str,
    /// The name of the function.
    pub entry: &'static str,
    /// Files behind the prelude.
    pub files: &'static [&'static str],
    /// What is bound.
    pub bindings: &'static [Binding],
    /// Columns that it meets at once, where it multiplies.
    pub columns: Option<u32>,
}

const PRELUDE: &str = include_str!("../kernels/prelude.wgsl");
const CODES: &str = include_str!("../kernels/codes.wgsl");
const WEIGHTS: &str = include_str!("../kernels/weights.wgsl");
const HEADS: &str = include_str!("../kernels/heads.wgsl");
const ROUTER: &str = include_str!("../kernels/router.wgsl");

const NORM: &str = include_str!("../kernels/norm.wgsl");
const QUANTISE: &str = include_str!("../kernels/quantise.wgsl");
const MATMUL: &str = include_str!("../kernels/matmul.wgsl");
const ROTATE: &str = include_str!("../kernels/rotate.wgsl");
const ATTEND: &str = include_str!("../kernels/attend.wgsl");
const ROUTE: &str = include_str!("../kernels/route.wgsl");
const EXPAND: &str = include_str!("../kernels/expand.wgsl");
const REDUCE: &str = include_str!("../kernels/reduce.wgsl");
const BEST: &str = include_str!("../kernels/best.wgsl");

const fn reads(number: u32, fields: &'static [usize]) -> Binding {
    Binding { number, access: Access::Read, fields }
}

const fn writes(number: u32, fields: &'static [usize]) -> Binding {
    Binding { number, access: Access::Write, fields }
}

const MATMUL_BINDINGS: &[Binding] = &[
    writes(1, &[56, 136, 216]),
    reads(3, &[240, 248, 256, 264]),
    reads(4, &[0, 8, 16, 24]),
    reads(5, &[80, 88, 96, 104]),
    reads(6, &[160, 168, 176, 184]),
    reads(7, &[48]),
    reads(8, &[128]),
    reads(9, &[208]),
];
// Both have four addresses from 176 on, of visits or of a router.
const EXPAND_BINDINGS: &[Binding] = &[
    writes(1, &[176, 184, 192, 200]),
    writes(2, &[136, 144, 152, 160]),
    reads(3, &[96, 104, 112, 120]),
    reads(4, &[0, 8, 16, 24]),
    reads(5, &[48, 56, 64, 72]),
];
const DOWN_BINDINGS: &[Binding] =
    &[writes(1, &[88, 96, 104, 112, 120]), reads(3, &[48, 56, 64, 72]), reads(4, &[0, 8, 16, 24])];
const REDUCE_BINDINGS: &[Binding] =
    &[writes(1, &[88, 96, 104]), reads(3, &[48, 56, 64, 72]), reads(4, &[0, 8, 16, 24])];

/// Every kernel.
pub const SOURCES: [Source; 15] = [
    Source {
        kernel: "norm_rows",
        entry: "norm_rows",
        files: &[CODES, NORM],
        bindings: &[writes(1, &[0, 16, 24]), writes(2, &[32, 40, 48, 56]), reads(7, &[8])],
        columns: None,
    },
    Source {
        kernel: "quantise_rows",
        entry: "quantise_rows",
        files: &[CODES, QUANTISE],
        bindings: &[writes(2, &[0, 8, 16, 24])],
        columns: None,
    },
    multiplies("matmul_1", "matmul", &[WEIGHTS, MATMUL], MATMUL_BINDINGS, 1),
    multiplies("matmul_8", "matmul", &[WEIGHTS, MATMUL], MATMUL_BINDINGS, 8),
    Source {
        kernel: "rotate",
        entry: "rotate",
        files: &[HEADS, ROTATE],
        bindings: &[
            writes(1, &[0, 24, 56, 64]),
            reads(7, &[8]),
            reads(8, &[16]),
            writes(10, &[72]),
        ],
        columns: None,
    },
    attends("attend"),
    attends("attend_codes"),
    Source {
        kernel: "gather",
        entry: "gather",
        files: &[CODES, HEADS, ATTEND],
        bindings: &[writes(1, &[0, 8, 16, 24]), writes(2, &[32, 40, 48, 56])],
        columns: None,
    },
    Source {
        kernel: "route",
        entry: "route",
        files: &[ROUTER, ROUTE],
        bindings: &[writes(1, &[0, 8, 16, 24, 64, 72, 80, 88])],
        columns: None,
    },
    multiplies("expand_1", "expand_1", &[CODES, WEIGHTS, ROUTER, EXPAND], EXPAND_BINDINGS, 1),
    multiplies("expand_8", "expand", &[CODES, WEIGHTS, ROUTER, EXPAND], EXPAND_BINDINGS, 8),
    multiplies("down_8", "down", &[WEIGHTS, REDUCE], DOWN_BINDINGS, 8),
    Source {
        kernel: "blend",
        entry: "blend",
        files: &[WEIGHTS, REDUCE],
        bindings: &[writes(1, &[0, 8, 16])],
        columns: None,
    },
    multiplies("reduce_1", "reduce_1", &[WEIGHTS, REDUCE], REDUCE_BINDINGS, 1),
    Source {
        kernel: "best",
        entry: "best",
        files: &[BEST],
        bindings: &[writes(1, &[0, 8, 16])],
        columns: None,
    },
];

/// One source asks its arguments what is stored.
const fn attends(kernel: &'static str) -> Source {
    const BINDINGS: &[Binding] = &[
        writes(1, &[0, 24, 56, 72, 80, 88, 104, 112, 120]),
        writes(2, &[96]),
        reads(7, &[8]),
        reads(8, &[16]),
        writes(10, &[64]),
    ];
    let files = &[CODES, HEADS, ATTEND];
    Source { kernel, entry: "attend", files, bindings: BINDINGS, columns: None }
}

const fn multiplies(
    kernel: &'static str,
    entry: &'static str,
    files: &'static [&'static str],
    bindings: &'static [Binding],
    columns: u32,
) -> Source {
    Source { kernel, entry, files, bindings, columns: Some(columns) }
}

impl Source {
    /// All of its text.
    pub fn text(&self) -> String {
        [PRELUDE].iter().chain(self.files).copied().collect::<Vec<_>>().join("\n")
    }

    /// The number of a kernel's source.
    pub fn of(kernel: &Kernel) -> usize {
        let same = |source: &Self| source.kernel == kernel.name;
        SOURCES.iter().position(same).expect("every kernel has a source")
    }
}

/// Every kernel by its name and the number of its source.
pub fn numbered() -> impl Iterator<Item = (&'static Kernel, usize)> {
    KERNELS.iter().map(|kernel| (*kernel, Source::of(kernel)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use qwire_backend_gpu::kernel::{COLUMNS, EXPERTS, SORTED, SPLIT};
    use qwire_model::backend::BEST as KEPT;

    #[test]
    fn every_kernel_has_one_source_that_declares_it() {
        assert_eq!(SOURCES.len(), KERNELS.len());
        for (kernel, number) in numbered() {
            let source = &SOURCES[number];
            let declared = format!("\nfn {}(@builtin", source.entry);
            assert_eq!(source.text().matches(&declared).count(), 1, "{}", kernel.name);
            let threads = match kernel.name {
                // Four experts a thread in 256 are as many as a block of one each.
                "route" => EXPERTS as u32 / 4,
                // A thread compares four pairs, of as many as a block has threads.
                "best" => kernel.threads / 4,
                // A thread has one row where others have two.
                "reduce_1" => 2 * kernel.threads,
                _ => kernel.threads,
            };
            let size = format!("@workgroup_size({threads})\nfn {}(", source.entry);
            assert!(source.text().contains(&size), "{}", kernel.name);
        }
    }

    #[test]
    fn bindings_are_those_of_the_source() {
        for source in &SOURCES {
            for binding in source.bindings {
                let number = format!("@binding({}) ", binding.number);
                let text = source.text();
                let line = text.lines().find(|line| line.contains(&number)).expect("a binding");
                assert_eq!(line.contains("read_write"), binding.access == Access::Write, "{line}");
            }
        }
    }

    #[test]
    fn both_sides_agree_on_sizes() {
        assert!(WEIGHTS.contains(&format!("override COLUMNS: u32 = {COLUMNS}u;")));
        assert!(ATTEND.contains(&format!("const SPLIT = {SPLIT}u;")));
        let sorted = format!("const SORTED = {SORTED}u;\nconst KEPT = {KEPT}u;\n");
        assert!(BEST.contains(&sorted));
    }
}
