//! Runs plain integer loops with the widest vectors the machine has.
//!
//! The build targets the baseline CPU of its architecture, where an 8-lane 32-bit multiply does not exist. Functions
//! declared in [`wide!`] are compiled a second time for AVX2 and the choice is made at run time. Both copies are the same
//! Rust code on integers and IEEE floats (no contraction, no reassociation), so they give the same bits.

/// Declares functions with an AVX2 twin. The body must be a loop nest that the compiler can vectorise, and everything it
/// calls must be `#[inline(always)]`.
macro_rules! wide {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)? $body:block)+) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the CPU has just said that it has AVX2; the function is otherwise safe.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    )+};
}
pub(crate) use wide;
