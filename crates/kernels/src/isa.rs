//! Instruction sets: which one runs, and the definition compiled again for each.
//!
//! An [`Isa`] above scalar exists only if the processor has it, so calling code compiled for it is
//! sound. The set is a run-time fact, chosen once at start.
#![allow(unsafe_code)] // calls into functions compiled for a detected instruction set

/// An instruction set this processor has. Results never depend on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Isa(Level);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Level {
    Scalar,
    Avx2,
    AvxVnni,
    Avx512,
}

const LEVELS: [(Level, &str); 4] = [
    (Level::Scalar, "scalar"),
    (Level::Avx2, "avx2"),
    (Level::AvxVnni, "avx-vnni"),
    (Level::Avx512, "avx512"),
];

impl Isa {
    /// The definition as the compiler's baseline translates it.
    pub const SCALAR: Self = Self(Level::Scalar);

    /// Every set this processor has, the widest last.
    pub fn available() -> Vec<Self> {
        LEVELS.iter().filter(|(level, _)| has(*level)).map(|(level, _)| Self(*level)).collect()
    }

    /// The widest set this processor has.
    pub fn detect() -> Self {
        Self::available().pop().unwrap_or(Self::SCALAR)
    }

    /// The set of that name, `auto` being the widest; the error names what this processor has.
    pub fn named(name: &str) -> Result<Self, String> {
        if name == "auto" {
            return Ok(Self::detect());
        }
        let available = Self::available();
        if let Some(isa) = available.iter().find(|isa| isa.name() == name) {
            return Ok(*isa);
        }
        let names: Vec<_> = available.iter().map(|isa| isa.name()).collect();
        let known = LEVELS.iter().any(|(_, known)| *known == name);
        let fault = if known { "is not offered by this processor" } else { "is not known" };
        Err(format!("instruction set `{name}` {fault}; it has: {}", names.join(", ")))
    }

    /// The name `named` accepts.
    pub fn name(self) -> &'static str {
        LEVELS.iter().find(|(level, _)| *level == self.0).map_or("", |(_, name)| name)
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
fn has(level: Level) -> bool {
    let avx2 = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    match level {
        Level::Scalar => true,
        Level::Avx2 => avx2,
        Level::AvxVnni => avx2 && is_x86_feature_detected!("avxvnni"),
        Level::Avx512 => {
            avx2 && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has(level: Level) -> bool {
    level == Level::Scalar
}

/// Declares `fn name(isa, args..)` that runs the `#[inline(always)]` definition as compiled for
/// `isa`. The definition is inlined into each wrapper, so it is written once and stays the oracle.
macro_rules! compiled {
    ($(#[$doc:meta])* $vis:vis fn $name:ident $(<$gen:ident: $bound:path>)?
     ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $definition:expr) => {
        $(#[$doc])*
        #[allow(unsafe_code, clippy::too_many_arguments)]
        $vis fn $name $(<$gen: $bound>)? (isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c")]
                fn avx2 $(<$gen: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    $definition($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
                fn avx512 $(<$gen: $bound>)? ($($arg: $ty),*) $(-> $ret)? {
                    $definition($($arg),*)
                }
                match isa.level() {
                    $crate::isa::Level::Scalar => {}
                    // SAFETY: this Isa exists only on processors with these features.
                    $crate::isa::Level::Avx2 | $crate::isa::Level::AvxVnni => {
                        return unsafe { avx2 $(::<$gen>)? ($($arg),*) };
                    }
                    // SAFETY: as above.
                    $crate::isa::Level::Avx512 => {
                        return unsafe { avx512 $(::<$gen>)? ($($arg),*) };
                    }
                }
            }
            let _ = isa;
            $definition($($arg),*)
        }
    };
}
pub(crate) use compiled;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_strangers_are_told_what_is_here() {
        for isa in Isa::available() {
            assert_eq!(Isa::named(isa.name()), Ok(isa));
        }
        let message = Isa::named("neon9").unwrap_err();
        assert!(message.contains("neon9") && message.contains("scalar"), "{message}");
    }
}
