//! Modules: the compiled kernels that are part of the binary, and which of them a card gets.
//!
//! A cubin is code of one compute capability, and runs on cards of the same major number whose
//! minor number is not lower. Every other card gets PTX, which its driver compiles when it is
//! opened; then the driver's version has a say in what runs.

use std::fmt;

use qwire_backend_gpu::kernel::OPS;

use crate::archive;

/// Compute capabilities that have cubins, ascending: from an A100 to an RTX 5090.
pub const TARGETS: [(i32, i32); 5] = [(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)];

/// A part of a processor, which runs no code of cards.
const TEGRA: (i32, i32) = (8, 7);

/// Every op as PTX. `cargo xtask kernels` writes it.
pub(crate) const PTX: [(&str, &str); OPS.len()] = [
    ("norm", include_str!("../kernels/ptx/norm.ptx")),
    ("quantise", include_str!("../kernels/ptx/quantise.ptx")),
    ("matmul", include_str!("../kernels/ptx/matmul.ptx")),
    ("attend", include_str!("../kernels/ptx/attend.ptx")),
    ("route", include_str!("../kernels/ptx/route.ptx")),
    ("expand", include_str!("../kernels/ptx/expand.ptx")),
    ("reduce", include_str!("../kernels/ptx/reduce.ptx")),
    ("best", include_str!("../kernels/ptx/best.ptx")),
];

/// Every op for every target, as the same command writes it.
static CUBINS: &[u8] = include_bytes!("../kernels/cubins.bin");

/// What a card runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// The cubin of this compute capability.
    Cubin(i32, i32),
    /// PTX.
    Ptx,
}

impl Code {
    /// What a card of this compute capability gets.
    pub fn of((major, minor): (i32, i32)) -> Self {
        if (major, minor) == TEGRA {
            return Self::Ptx;
        }
        let fits = |target: &&(i32, i32)| target.0 == major && target.1 <= minor;
        let best = TARGETS.iter().filter(fits).max();
        best.map_or(Self::Ptx, |(major, minor)| Self::Cubin(*major, *minor))
    }

    /// Each op's name and image, in the order of [`OPS`].
    pub(crate) fn images(self) -> Vec<(&'static str, Vec<u8>)> {
        let Self::Cubin(major, minor) = self else {
            // The driver reads text up to a NUL.
            return PTX.map(|(op, text)| (op, [text.as_bytes(), b"\0"].concat())).into();
        };
        let mut files = archive::unpack(CUBINS);
        let mut image = |op: &'static str| {
            let name = file(op, (major, minor));
            let at = files.iter().position(|file| file.0 == name);
            (op, files.swap_remove(at.expect("every op of every target")).1)
        };
        OPS.map(&mut image).into()
    }
}

/// What an op's cubin is called in the archive.
pub(crate) fn file(op: &str, (major, minor): (i32, i32)) -> String {
    format!("{op}.sm_{major}{minor}")
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cubin(major, minor) => write!(f, "cubin sm_{major}{minor}"),
            Self::Ptx => f.write_str("PTX that the driver compiles"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::kernels;

    #[test]
    fn a_card_gets_the_code_nearest_to_it() {
        for (capability, code) in [
            ((7, 5), Code::Ptx), // refused before
            ((8, 0), Code::Cubin(8, 0)),
            ((8, 6), Code::Cubin(8, 6)),
            ((8, 7), Code::Ptx), // no card
            ((8, 9), Code::Cubin(8, 9)),
            ((9, 0), Code::Cubin(9, 0)),
            ((10, 0), Code::Ptx),
            ((10, 3), Code::Ptx),
            ((11, 0), Code::Ptx),
            ((12, 0), Code::Cubin(12, 0)),
            ((12, 1), Code::Cubin(12, 0)),
            ((13, 0), Code::Ptx),
        ] {
            assert_eq!(Code::of(capability), code, "{capability:?}");
        }
    }

    #[test]
    fn every_op_is_compiled() {
        assert_eq!(PTX.map(|(op, _)| op), OPS);
        for kernel in kernels() {
            let entry = format!(".visible .entry {}(", kernel.name);
            let (_, ptx) = PTX.iter().find(|(op, _)| *op == kernel.op).expect("an op");
            assert!(ptx.contains(&entry), "{}", kernel.name);
            assert!(ptx.contains(".version 8.4") && ptx.contains(".target sm_80"));
        }
    }

    #[test]
    fn every_target_has_every_kernel() {
        let holds = |image: &[u8], name: &str| {
            image.windows(name.len()).any(|window| window == name.as_bytes())
        };
        for (major, minor) in TARGETS {
            let images = Code::Cubin(major, minor).images();
            for kernel in kernels() {
                let (_, image) = images.iter().find(|(op, _)| *op == kernel.op).expect("an op");
                assert!(image.starts_with(b"\x7fELF"), "{} of sm_{major}{minor}", kernel.op);
                let section = format!(".text.{}\0", kernel.name);
                assert!(holds(image, &section), "{} for sm_{major}{minor}", kernel.name);
            }
        }
        assert_eq!(archive::unpack(CUBINS).len(), OPS.len() * TARGETS.len());
    }
}
