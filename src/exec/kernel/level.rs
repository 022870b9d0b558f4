//! Which vector instructions the kernels use: found once per process, lowered by `RINGTREE_SIMD`.

use crate::error::{Error, Result};
use std::fmt;
use std::sync::OnceLock;

/// The environment variable that lowers the level. It never raises it above what the processor has.
pub(super) const VARIABLE: &str = "RINGTREE_SIMD";

/// A set of vector instructions. Every level gives the same bits; only the speed differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the architecture has.
    Portable,
    /// 128-bit vectors of aarch64.
    Neon,
    /// 256-bit vectors of x86-64, with the conversions of half precision (F16C).
    Avx2,
    /// 512-bit vectors of x86-64 (F, BW, DQ, VL).
    Avx512,
}

impl Level {
    /// Every level, from the lowest.
    pub const ALL: [Level; 4] = [Level::Portable, Level::Neon, Level::Avx2, Level::Avx512];

    /// The name that `RINGTREE_SIMD` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Neon => "neon",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run it.
    pub fn available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("f16c"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            _ => false,
        }
    }

    /// The level of this process: the highest that the processor has, or what `RINGTREE_SIMD` lowers it to. Read once.
    pub fn of_this_process() -> Result<Level> {
        static LEVEL: OnceLock<Result<Level>> = OnceLock::new();
        LEVEL
            .get_or_init(|| {
                let wish = std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned());
                Level::wished(wish.as_deref())
            })
            .clone()
    }

    /// The highest level that this processor has, or what that wish lowers it to.
    pub fn wished(wish: Option<&str>) -> Result<Level> {
        let highest = Level::ALL.into_iter().rev().find(|level| level.available()).unwrap_or(Level::Portable);
        lowered(highest, wish)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The level to run at where the processor has `highest` and the user wishes `wish`.
fn lowered(highest: Level, wish: Option<&str>) -> Result<Level> {
    let Some(wish) = wish.map(str::trim).filter(|wish| !wish.is_empty()) else { return Ok(highest) };
    match Level::ALL.into_iter().find(|level| level.name() == wish) {
        Some(level) if level >= highest => Ok(highest),
        Some(level) if level.available() => Ok(level),
        Some(_) => Ok(Level::Portable),
        None => Err(Error::Choice {
            what: format!("{VARIABLE} is '{wish}', which is no set of vector instructions"),
            advice: format!("Set {VARIABLE} to portable, avx2 or avx512, or unset it"),
        }),
    }
}

/// A level as a type, so that one generic loop is compiled once for each.
///
/// # Safety
///
/// Code that is generic over this runs only where [`Isa::LEVEL`] is available.
pub(super) unsafe trait Isa: Copy + 'static {
    /// The level.
    const LEVEL: Level;
}

macro_rules! isas {
    ($($name:ident,)*) => {$(
        #[derive(Clone, Copy)]
        pub(super) struct $name;
        // SAFETY: the entry points in `select` are handed out only after `Level::available` has said yes.
        unsafe impl Isa for $name {
            const LEVEL: Level = Level::$name;
        }
    )*};
}

isas!(Portable,);
#[cfg(target_arch = "aarch64")]
isas!(Neon,);
#[cfg(target_arch = "x86_64")]
isas!(Avx2, Avx512,);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_lowers_and_never_raises() {
        assert_eq!(lowered(Level::Avx512, None).unwrap(), Level::Avx512);
        assert_eq!(lowered(Level::Avx512, Some("")).unwrap(), Level::Avx512);
        assert_eq!(lowered(Level::Avx512, Some(" portable ")).unwrap(), Level::Portable);
        assert_eq!(lowered(Level::Portable, Some("avx512")).unwrap(), Level::Portable);
        assert_eq!(lowered(Level::Avx2, Some("avx512")).unwrap(), Level::Avx2);
        if Level::Avx2.available() {
            assert_eq!(lowered(Level::Avx512, Some("avx2")).unwrap(), Level::Avx2);
        }
    }

    #[test]
    fn a_level_that_does_not_exist_is_an_error_that_lists_the_choices() {
        let error = lowered(Level::Avx512, Some("sse9")).unwrap_err().to_string();
        assert!(error.contains("RINGTREE_SIMD is 'sse9'") && error.contains("portable, avx2 or avx512"), "{error}");
    }

    #[test]
    fn the_portable_level_is_everywhere() {
        assert!(Level::Portable.available());
        assert!(Level::of_this_process().unwrap().available());
    }
}
