//! What the processor can do at most: the limits that other measurements are held against.

use crate::isa;
use std::hint::black_box;

/// Sums that are under way at once: more than any processor's multiply-add takes steps for, as many as registers hold.
const CHAINS: usize = 12;

/// Runs `rounds` rounds of independent float32 multiply-adds on this thread, with the instructions of [`isa::chosen`] and no
/// memory; returns their floating-point operations, two a multiply-add. Without AVX2 these are the fused multiply-adds of the
/// standard library, as in the products; on x86-64 that is software.
pub fn multiply_adds(rounds: u64) -> u64 {
    let lanes = match isa::current() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has them, or they would not be chosen.
        isa::Isa::Avx512 => unsafe { avx512(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        isa::Isa::Avx2 => unsafe { avx2(rounds) },
        _ => plain(rounds),
    };
    rounds * (2 * CHAINS * lanes) as u64
}

/// Every sum goes to the fixed point of x ↦ x/2 + 1: nothing overflows, nothing becomes subnormal.
const FACTOR: f32 = 0.5;
const TERM: f32 = 1.0;

fn plain(rounds: u64) -> usize {
    let (x, y) = (black_box(FACTOR), black_box(TERM));
    let mut c = [0f32; CHAINS];
    for _ in 0..rounds {
        for c in &mut c {
            *c = c.mul_add(x, y);
        }
    }
    black_box(c);
    1
}

macro_rules! chains {
    ($name:ident, $features:literal, $lanes:literal, $splat:ident, $fma:ident) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name(rounds: u64) -> usize {
            use std::arch::x86_64::*;
            let (x, y) = ($splat(black_box(FACTOR)), $splat(black_box(TERM)));
            let mut c = [$splat(0.0); CHAINS];
            for _ in 0..rounds {
                for c in &mut c {
                    *c = $fma(*c, x, y);
                }
            }
            black_box(c);
            $lanes
        }
    };
}
chains!(avx2, "avx2,fma", 8, _mm256_set1_ps, _mm256_fmadd_ps);
chains!(avx512, "avx512f", 16, _mm512_set1_ps, _mm512_fmadd_ps);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_counted() {
        let one = multiply_adds(1);
        let lanes = match isa::current() {
            isa::Isa::Avx512 => 16,
            isa::Isa::Avx2 => 8,
            isa::Isa::Generic => 1,
        };
        assert_eq!(one, 2 * 12 * lanes);
        assert_eq!(multiply_adds(1000), 1000 * one);
    }
}
