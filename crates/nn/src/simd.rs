//! Loops compiled for several vector instructions.
//!
//! The build targets the baseline CPU of its architecture. Functions declared in [`vectorised!`](crate::vectorised) are compiled
//! again for AVX2 and AVX-512, and [`crate::isa`] says at run time which copy is used. All copies are the same Rust code on
//! integers and IEEE floats (no contraction, no reassociation), so they give the same bits.

/// Declares functions with twins for wider vectors. The body must be a loop nest that the compiler can vectorise, and everything
/// it calls must be `#[inline(always)]`.
///
/// ```
/// medft_nn::vectorised! {
///     /// `y += x`.
///     fn add(y: &mut [f32], x: &[f32]) {
///         for (y, x) in y.iter_mut().zip(x) {
///             *y += x;
///         }
///     }
/// }
/// let mut y = [1.0, 2.0];
/// add(&mut y, &[3.0, 4.0]);
/// assert_eq!(y, [4.0, 6.0]);
/// ```
#[macro_export]
macro_rules! vectorised {
    ($($(#[$meta:meta])* $vis:vis fn $name:ident ( $($arg:ident : $ty:ty),* $(,)? ) $(-> $ret:ty)? $body:block)+) => {$(
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    plain($($arg),*)
                }
                match $crate::isa::current() {
                    // SAFETY: the processor has the features; the functions are otherwise safe.
                    $crate::isa::Isa::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::isa::Isa::Generic => {}
                }
            }
            plain($($arg),*)
        }
    )+};
}
