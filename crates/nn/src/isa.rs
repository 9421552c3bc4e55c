//! Vector instructions: which ones the loops of this crate run with.
//!
//! Every loop and every product is compiled for each [`Isa`], and all of them give the same bits: loops are elementwise or sum
//! over a fixed number of lanes, and a product is one chain of fused multiply-adds an element, whatever the width. So the choice
//! is one of speed; [`VARIABLE`] takes it from the processor for tests and for portability.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The environment variable that names the instructions to use: `generic`, `avx2` or `avx512`. Read once.
pub const VARIABLE: &str = "MEDFT_ISA";

/// A set of vector instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// What the target architecture always has.
    Generic,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, VL, DQ and BW, with AVX2 and FMA.
    Avx512,
}

impl Isa {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Generic, Self::Avx2, Self::Avx512];

    /// Its name, as [`VARIABLE`] has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor has them.
    pub fn available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = || is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            match self {
                Self::Generic => true,
                Self::Avx2 => avx2(),
                Self::Avx512 => {
                    avx2()
                        && is_x86_feature_detected!("avx512f")
                        && is_x86_feature_detected!("avx512vl")
                        && is_x86_feature_detected!("avx512dq")
                        && is_x86_feature_detected!("avx512bw")
                }
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Generic
        }
    }

    /// Those that this processor has, the narrowest first.
    pub fn all_available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|i| i.available())
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// [`VARIABLE`] names instructions that do not exist, or that this processor lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// What it was set to.
    pub value: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Isa::all_available().map(Isa::name).collect();
        write!(
            f,
            "{VARIABLE} is `{}`; this processor has {}. Set one of them, or leave {VARIABLE} unset for the widest.",
            self.value,
            names.join(", ")
        )
    }
}

impl std::error::Error for Unavailable {}

fn choose(asked: Option<&str>) -> Result<Isa, Unavailable> {
    let available = || Isa::all_available();
    match asked {
        None | Some("") => Ok(available().last().unwrap_or(Isa::Generic)),
        Some(name) => available()
            .find(|i| i.name() == name)
            .ok_or_else(|| Unavailable { value: name.to_owned() }),
    }
}

static CHOSEN: OnceLock<Result<Isa, Unavailable>> = OnceLock::new();

/// What this process uses: what [`VARIABLE`] names, or the widest that the processor has. A program asks at its start, so that
/// a wrong value ends it there; a layer that meets one panics.
///
/// # Errors
/// [`Unavailable`].
pub fn chosen() -> Result<Isa, Unavailable> {
    CHOSEN
        .get_or_init(|| {
            choose(
                std::env::var_os(VARIABLE)
                    .map(|v| v.to_string_lossy().into_owned())
                    .as_deref(),
            )
        })
        .clone()
}

/// One more than the place in [`Isa::ALL`] of what is used instead of what was chosen; 0 for nothing.
static FORCED: AtomicU8 = AtomicU8::new(0);

/// Calls `f` with the whole process computing with `isa`, one call at a time: what others compute meanwhile has the same bits.
///
/// # Panics
/// Where this processor does not have them.
pub(crate) fn with<R>(isa: Isa, f: impl FnOnce() -> R) -> R {
    static ALONE: Mutex<()> = Mutex::new(());
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.store(0, Relaxed);
        }
    }
    assert!(isa.available(), "this processor has no {isa}");
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _restore = Restore;
    FORCED.store(isa as u8 + 1, Relaxed);
    f()
}

/// The same where it must be known.
#[doc(hidden)]
#[inline]
pub fn current() -> Isa {
    match FORCED.load(Relaxed) {
        0 => {}
        forced => return Isa::ALL[usize::from(forced) - 1],
    }
    match CHOSEN.get() {
        Some(Ok(isa)) => *isa,
        _ => first(),
    }
}

#[cold]
fn first() -> Isa {
    chosen().unwrap_or_else(|e| panic!("{e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_processor_has_can_be_asked_for() {
        assert_eq!(choose(Some("generic")), Ok(Isa::Generic));
        assert_eq!(choose(None), Ok(Isa::all_available().last().unwrap()));
        assert_eq!(choose(Some("")), choose(None));
        for name in ["AVX2", "sse", "avx512f", "generic "] {
            let e = choose(Some(name)).unwrap_err().to_string();
            assert!(e.contains(&format!("`{name}`")) && e.contains("generic"), "{e}");
        }
        for isa in Isa::ALL {
            assert_eq!(choose(Some(isa.name())).is_ok(), isa.available(), "{isa}");
        }
    }
}
