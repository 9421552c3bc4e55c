//! The innermost loop of a matrix product: a few rows by a few vectors of columns, held in registers.
//!
//! Every element is summed over the depth one after the other with fused multiply-adds, so AVX2 and AVX-512 give the same
//! bits; only processors without FMA differ.

use crate::model::layers::cpu::Real;

/// Rows and columns of the register tile with AVX2 and AVX-512.
pub const TILE_V3: (usize, usize) = (6, 16);
pub const TILE_V4: (usize, usize) = (12, 32);

/// The left operand of a register tile: row `i` at depth `l` is at `ptr + i·rs + l·ks`.
#[derive(Clone, Copy)]
pub struct Strided<T> {
    pub ptr: *const T,
    pub rs: usize,
    pub ks: usize,
}

/// 4 with AVX-512 F, 3 with AVX2 and FMA, else 0.
#[inline]
pub fn level() -> u8 {
    #[cfg(target_arch = "x86_64")]
    {
        let found = crate::model::layers::cpu::vector_level();
        if found >= 3 && is_x86_feature_detected!("fma") {
            return found;
        }
    }
    0
}

/// Multiplication and addition apart, for every type and processor.
///
/// # Safety
/// `a` must have MR rows of depth `k`, `b` must hold `k` packed rows of NR.
#[inline(always)]
pub unsafe fn portable<T: Real, const MR: usize, const NR: usize>(
    k: usize,
    a: Strided<T>,
    b: *const T,
    acc: &mut [[T; NR]; MR],
) {
    *acc = [[T::default(); NR]; MR];
    for l in 0..k {
        for (i, row) in acc.iter_mut().enumerate() {
            // SAFETY: passed on to the caller.
            unsafe {
                let x = *a.ptr.add(i * a.rs + l * a.ks);
                for (j, c) in row.iter_mut().enumerate() {
                    *c += x * *b.add(l * NR + j);
                }
            }
        }
    }
}

macro_rules! f32_tile {
    ($name:ident, $features:literal, $mr:expr, $lanes:expr, $zero:ident, $load:ident, $splat:ident, $fma:ident, $store:ident) => {
        /// `CONTIGUOUS`: the rows of `a` lie side by side (`rs` is 1).
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<const CONTIGUOUS: bool>(k: usize, a: Strided<f32>, b: *const f32, acc: *mut f32) {
            use std::arch::x86_64::*;
            let mut c = [[$zero(); 2]; $mr];
            let rows: [*const f32; $mr] = std::array::from_fn(|i| a.ptr.wrapping_add(i * a.rs));
            let (mut at, mut b) = (0, b);
            for _ in 0..k {
                // SAFETY: the caller gives `k` rows of both operands.
                unsafe {
                    let (b0, b1) = ($load(b), $load(b.add($lanes)));
                    for i in 0..$mr {
                        let x = if CONTIGUOUS {
                            a.ptr.add(at + i)
                        } else {
                            rows[i].add(at)
                        };
                        let x = $splat(*x);
                        c[i][0] = $fma(x, b0, c[i][0]);
                        c[i][1] = $fma(x, b1, c[i][1]);
                    }
                    b = b.add(2 * $lanes);
                }
                at += a.ks;
            }
            for i in 0..$mr {
                // SAFETY: `acc` has room for the tile.
                unsafe {
                    $store(acc.add(i * 2 * $lanes), c[i][0]);
                    $store(acc.add(i * 2 * $lanes + $lanes), c[i][1]);
                }
            }
        }
    };
}

f32_tile!(
    tile_v3,
    "avx2,fma",
    6,
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps
);
f32_tile!(
    tile_v4,
    "avx512f",
    12,
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps
);

/// `acc (MR×NR) = a · b` in float32 for the tile sizes above; anything else goes to [`portable`].
///
/// # Safety
/// As [`portable`], and the processor must have the features of `LEVEL` (see [`level`]).
#[inline(always)]
pub unsafe fn micro_f32<const MR: usize, const NR: usize, const LEVEL: u8>(
    k: usize,
    a: Strided<f32>,
    b: *const f32,
    acc: &mut [[f32; NR]; MR],
) {
    // SAFETY: the caller vouches for pointers and features; the sizes are those of the tile.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if LEVEL == 4 && (MR, NR) == TILE_V4 {
            let p = acc.as_mut_ptr().cast();
            return if a.rs == 1 {
                tile_v4::<true>(k, a, b, p)
            } else {
                tile_v4::<false>(k, a, b, p)
            };
        } else if LEVEL == 3 && (MR, NR) == TILE_V3 {
            let p = acc.as_mut_ptr().cast();
            return if a.rs == 1 {
                tile_v3::<true>(k, a, b, p)
            } else {
                tile_v3::<false>(k, a, b, p)
            };
        }
        portable(k, a, b, acc);
    }
}
