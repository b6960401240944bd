//! Dtype: the number formats that a tensor can have, with their ids and block sizes.
//!
//! Ids 4, 5, 31 to 33 and 36 to 38 once had a meaning and were removed from the format.

use std::fmt;

/// The format of a tensor's numbers. Only ids that exist can be represented.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dtype(u8);

struct Format {
    name: &'static str,
    block_values: u64,
    block_bytes: u64,
}

macro_rules! formats {
    ($($name:ident = $id:literal: $values:literal in $bytes:literal,)*) => {
        #[allow(missing_docs)] // the names are the format's own
        impl Dtype {
            $(pub const $name: Dtype = Dtype($id);)*
            /// Every format, by ascending id.
            pub const ALL: &[Dtype] = &[$(Dtype::$name),*];
        }

        static FORMATS: [Option<Format>; 42] = {
            let mut formats = [const { None }; 42];
            $(formats[$id] = Some(Format {
                name: stringify!($name),
                block_values: $values,
                block_bytes: $bytes,
            });)*
            formats
        };
    };
}

formats! {
    F32 = 0: 1 in 4,
    F16 = 1: 1 in 2,
    Q4_0 = 2: 32 in 18,
    Q4_1 = 3: 32 in 20,
    Q5_0 = 6: 32 in 22,
    Q5_1 = 7: 32 in 24,
    Q8_0 = 8: 32 in 34,
    Q8_1 = 9: 32 in 36,
    Q2_K = 10: 256 in 84,
    Q3_K = 11: 256 in 110,
    Q4_K = 12: 256 in 144,
    Q5_K = 13: 256 in 176,
    Q6_K = 14: 256 in 210,
    Q8_K = 15: 256 in 292,
    IQ2_XXS = 16: 256 in 66,
    IQ2_XS = 17: 256 in 74,
    IQ3_XXS = 18: 256 in 98,
    IQ1_S = 19: 256 in 50,
    IQ4_NL = 20: 32 in 18,
    IQ3_S = 21: 256 in 110,
    IQ2_S = 22: 256 in 82,
    IQ4_XS = 23: 256 in 136,
    I8 = 24: 1 in 1,
    I16 = 25: 1 in 2,
    I32 = 26: 1 in 4,
    I64 = 27: 1 in 8,
    F64 = 28: 1 in 8,
    IQ1_M = 29: 256 in 56,
    BF16 = 30: 1 in 2,
    TQ1_0 = 34: 256 in 54,
    TQ2_0 = 35: 256 in 66,
    MXFP4 = 39: 32 in 17,
    NVFP4 = 40: 64 in 36,
    Q1_0 = 41: 128 in 18,
}

impl Dtype {
    /// The format of this id, if there is one.
    pub fn from_id(id: u32) -> Option<Dtype> {
        FORMATS.get(id as usize)?.as_ref().map(|_| Dtype(id as u8))
    }

    /// The format of this name, such as `Q4_K`; upper and lower case are the same.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().copied().find(|dtype| dtype.name().eq_ignore_ascii_case(name))
    }

    /// What a removed id stood for.
    pub(crate) fn removed(id: u32) -> Option<&'static str> {
        Some(match id {
            4 => "Q4_2",
            5 => "Q4_3",
            31 => "Q4_0_4_4",
            32 => "Q4_0_4_8",
            33 => "Q4_0_8_8",
            36 => "IQ4_NL_4_4",
            37 => "IQ4_NL_4_8",
            38 => "IQ4_NL_8_8",
            _ => return None,
        })
    }

    fn format(self) -> &'static Format {
        FORMATS[usize::from(self.0)].as_ref().expect("a Dtype has a format")
    }

    /// The number that stands for it in files.
    pub fn id(self) -> u32 {
        u32::from(self.0)
    }

    /// Its usual name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.format().name
    }

    /// How many values one block holds; 1 where values stand alone.
    pub fn block_values(self) -> u64 {
        self.format().block_values
    }

    /// How many bytes one block takes.
    pub fn block_bytes(self) -> u64 {
        self.format().block_bytes
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back_to_the_same_format() {
        for &dtype in Dtype::ALL {
            assert_eq!(Dtype::from_id(dtype.id()), Some(dtype));
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
            assert_eq!(Dtype::from_name(&dtype.name().to_lowercase()), Some(dtype));
        }
        assert!(Dtype::ALL.is_sorted() && Dtype::ALL.len() == 34);
        assert_eq!(Dtype::from_name("Q4"), None);
    }

    #[test]
    fn ids_without_a_format_are_none() {
        for id in (0..1000).chain([u32::MAX]).filter(|&id| Dtype::from_id(id).is_none()) {
            assert!(id >= 42 || Dtype::removed(id).is_some(), "{id} is below 42 and unexplained");
        }
        for id in 0..=42 {
            assert!(Dtype::from_id(id).is_none() || Dtype::removed(id).is_none(), "{id}");
        }
    }

    #[test]
    fn block_sizes() {
        let check = |dtype: Dtype, values, bytes| {
            assert_eq!((dtype.block_values(), dtype.block_bytes()), (values, bytes), "{dtype}");
        };
        check(Dtype::F32, 1, 4);
        check(Dtype::BF16, 1, 2);
        check(Dtype::Q8_0, 32, 2 + 32);
        check(Dtype::Q4_K, 256, 2 + 2 + 12 + 128);
        check(Dtype::Q6_K, 256, 128 + 64 + 16 + 2);
        check(Dtype::MXFP4, 32, 1 + 16);
    }
}
