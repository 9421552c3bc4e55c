//! The innermost loop of a matrix product: a few rows by a few vectors of columns, held in registers.
//!
//! Every element is summed over the depth one after the other, in f32 with fused multiply-adds, so that all tiles give the same
//! bits.

use crate::cpu::Real;
use crate::isa::{self, Isa};
use candle_core::DType;

/// Rows and columns of the register tile with AVX2 and AVX-512.
pub(crate) const TILE_V3: (usize, usize) = (6, 16);
pub(crate) const TILE_V4: (usize, usize) = (12, 32);

/// The left operand of a register tile: row `i` at depth `l` is at `ptr + i·rs + l·ks`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<T> {
    pub(crate) ptr: *const T,
    pub(crate) rs: usize,
    pub(crate) ks: usize,
}

/// What the tiles are chosen by: 4 with AVX-512, 3 with AVX2 and FMA, else 0.
#[inline]
pub(crate) fn level() -> u8 {
    match isa::current() {
        Isa::Avx512 => 4,
        Isa::Avx2 => 3,
        Isa::Generic => 0,
    }
}

/// Where the sums of a register tile go: `out (MR×NR) = product`, plus `add` where given; both may be the same place.
#[derive(Clone, Copy)]
pub(crate) struct Sums<T> {
    pub(crate) add: Option<*const T>,
    pub(crate) out: *mut T,
    /// This tile's part (see [`ahead`]) of the right panel that is multiplied next: it is asked for in passing, so that the
    /// next panel is in cache when its turn comes. Need not be inside the buffer.
    pub(crate) next: *const T,
}

/// Elements that a tile of depth `k` asks for ahead: a line every 16 (AVX2) or 4 (AVX-512) depth steps, which makes a
/// whole panel over the tiles of 96 rows.
pub(crate) fn ahead<T>(k: usize, level: u8) -> usize {
    let every = if level == 4 { UNROLL } else { 4 * UNROLL };
    k / every * (LINE / size_of::<T>())
}

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Any tile, for every type and processor. Not inlined: it would be in every product's code.
///
/// # Safety
/// `a` must have MR rows of depth `k`, `b` must hold `k` packed rows of NR, `sums` must have room for the tile.
#[inline(never)]
pub(crate) unsafe fn portable<T: Real, const MR: usize, const NR: usize>(
    k: usize,
    a: Strided<T>,
    b: *const T,
    sums: Sums<T>,
) {
    let mut acc = [[T::default(); NR]; MR];
    // SAFETY: passed on to the caller.
    unsafe {
        for l in 0..k {
            for (i, row) in acc.iter_mut().enumerate() {
                let x = *a.ptr.add(i * a.rs + l * a.ks);
                for (j, c) in row.iter_mut().enumerate() {
                    *c = x.mul_add_(*b.add(l * NR + j), *c);
                }
            }
        }
        for (i, &c) in acc.as_flattened().iter().enumerate() {
            *sums.out.add(i) = match sums.add {
                Some(add) => c + *add.add(i),
                None => c,
            };
        }
    }
}

/// How a left operand lies, to the tiles of vector instructions: packed (`rs` 1, `ks` MR), its columns contiguous (`rs` 1), or its
/// rows (`ks` 1).
#[cfg(target_arch = "x86_64")]
const PACKED: u8 = 0;
#[cfg(target_arch = "x86_64")]
const COLUMNS: u8 = 1;
#[cfg(target_arch = "x86_64")]
const ROWS: u8 = 2;

/// Depth steps of the innermost loop's body.
const UNROLL: usize = 4;

macro_rules! f32_tile {
    ($name:ident, $features:literal, $mr:expr, $lanes:expr, $every:expr, $zero:ident, $load:ident, $splat:ident, $fma:ident, $add:ident, $store:ident) => {
        /// `ORDER`: how `a` lies, see above.
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $name<const ORDER: u8>(k: usize, a: Strided<f32>, b: *const f32, sums: Sums<f32>) {
            use std::arch::x86_64::*;
            let mut c = [[$zero(); 2]; $mr];
            let rows: [*const f32; $mr] = std::array::from_fn(|i| a.ptr.wrapping_add(i * a.rs));
            let (mut a, ks, mut at, mut b, mut next) = (a.ptr, a.ks, 0, b, sums.next);
            macro_rules! steps {
                ($count:expr) => {
                    for u in 0..$count {
                        let (b0, b1) = (
                            $load(b.add(u * 2 * $lanes)),
                            $load(b.add((u * 2 + 1) * $lanes)),
                        );
                        for i in 0..$mr {
                            let x = $splat(*match ORDER {
                                PACKED => a.add(u * $mr + i),
                                COLUMNS => a.add(u * ks + i),
                                _ => rows[i].add(at + u),
                            });
                            c[i][0] = $fma(x, b0, c[i][0]);
                            c[i][1] = $fma(x, b1, c[i][1]);
                        }
                    }
                    b = b.wrapping_add($count * 2 * $lanes);
                    at += $count;
                    a = a.wrapping_add($count * if ORDER == PACKED { $mr } else { ks });
                };
            }
            // SAFETY: the caller gives `k` rows of both operands, and room for the tile.
            unsafe {
                let every = UNROLL * $every;
                for _ in 0..k / every {
                    prefetch(next);
                    next = next.wrapping_add(LINE / size_of::<f32>());
                    for _ in 0..$every {
                        steps!(UNROLL);
                    }
                }
                for _ in 0..k % every / UNROLL {
                    steps!(UNROLL);
                }
                for _ in 0..k % UNROLL {
                    steps!(1);
                }
                if let Some(add) = sums.add {
                    for i in 0..$mr {
                        c[i][0] = $add(c[i][0], $load(add.add(i * 2 * $lanes)));
                        c[i][1] = $add(c[i][1], $load(add.add((i * 2 + 1) * $lanes)));
                    }
                }
                for i in 0..$mr {
                    $store(sums.out.add(i * 2 * $lanes), c[i][0]);
                    $store(sums.out.add((i * 2 + 1) * $lanes), c[i][1]);
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
    4,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps,
    _mm256_storeu_ps
);
f32_tile!(
    tile_v4,
    "avx512f",
    12,
    16,
    1,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps,
    _mm512_storeu_ps
);

/// `a · b` (MR×NR) over a depth of `k` to `sums`, for the vector width `LEVEL`: by the float32 tile of that size, or by [`portable`].
///
/// # Safety
/// As [`portable`], and the processor must have the features of `LEVEL` (see [`level`]).
#[inline(always)]
pub(crate) unsafe fn micro<T: Real, const MR: usize, const NR: usize, const LEVEL: u8>(
    k: usize,
    a: Strided<T>,
    b: *const T,
    sums: Sums<T>,
) {
    // SAFETY: passed on to the caller; where T is f32, a pointer to it is one to f32.
    unsafe {
        if T::DTYPE == DType::F32 {
            let a = Strided {
                ptr: a.ptr.cast(),
                rs: a.rs,
                ks: a.ks,
            };
            let sums = Sums {
                add: sums.add.map(<*const T>::cast),
                out: sums.out.cast(),
                next: sums.next.cast(),
            };
            micro_f32::<MR, NR, LEVEL>(k, a, b.cast(), sums);
        } else {
            portable::<T, MR, NR>(k, a, b, sums);
        }
    }
}

/// One register tile in float32 for the tile sizes above; anything else goes to [`portable`].
///
/// # Safety
/// As [`portable`], and the processor must have the features of `LEVEL` (see [`level`]).
#[inline(always)]
unsafe fn micro_f32<const MR: usize, const NR: usize, const LEVEL: u8>(
    k: usize,
    a: Strided<f32>,
    b: *const f32,
    sums: Sums<f32>,
) {
    // SAFETY: the caller vouches for pointers and features; the sizes are those of the tile.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if LEVEL == 4 && (MR, NR) == TILE_V4 {
            return match (a.rs, a.ks) {
                (1, ks) if ks == MR => tile_v4::<PACKED>(k, a, b, sums),
                (1, _) => tile_v4::<COLUMNS>(k, a, b, sums),
                (_, 1) => tile_v4::<ROWS>(k, a, b, sums),
                _ => portable::<f32, MR, NR>(k, a, b, sums),
            };
        } else if LEVEL == 3 && (MR, NR) == TILE_V3 {
            return match (a.rs, a.ks) {
                (1, ks) if ks == MR => tile_v3::<PACKED>(k, a, b, sums),
                (1, _) => tile_v3::<COLUMNS>(k, a, b, sums),
                (_, 1) => tile_v3::<ROWS>(k, a, b, sums),
                _ => portable::<f32, MR, NR>(k, a, b, sums),
            };
        }
        portable::<f32, MR, NR>(k, a, b, sums);
    }
}

/// Copies `W` rows of `n` elements to `out` (n × W), 8 columns at a time; returns how many columns are done.
///
/// # Safety
/// The rows must have `n` elements, `out` room for `n · W`; the processor must have AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn turn_avx2<const W: usize>(rows: &[*const f32; W], n: usize, out: *mut f32) -> usize {
    use std::arch::x86_64::*;
    const { assert!(matches!(W % 8, 0 | 4 | 6)) };
    for l in (0..n / 8 * 8).step_by(8) {
        for first in (0..W).step_by(8) {
            let valid = (W - first).min(8);
            // SAFETY: 8 columns are left in every row; a missing row is replaced by the last one and not stored.
            unsafe {
                let r: [__m256; 8] = std::array::from_fn(|i| _mm256_loadu_ps(rows[first + i.min(valid - 1)].add(l)));
                let mut t = [_mm256_setzero_ps(); 8];
                for i in 0..4 {
                    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
                }
                let mut s = [_mm256_setzero_ps(); 8];
                for h in 0..2 {
                    let (a, b, c, d) = (t[4 * h], t[4 * h + 1], t[4 * h + 2], t[4 * h + 3]);
                    s[4 * h] = _mm256_shuffle_ps::<0x44>(a, c);
                    s[4 * h + 1] = _mm256_shuffle_ps::<0xEE>(a, c);
                    s[4 * h + 2] = _mm256_shuffle_ps::<0x44>(b, d);
                    s[4 * h + 3] = _mm256_shuffle_ps::<0xEE>(b, d);
                }
                for i in 0..8 {
                    let v = if i < 4 {
                        _mm256_permute2f128_ps::<0x20>(s[i], s[i + 4])
                    } else {
                        _mm256_permute2f128_ps::<0x31>(s[i - 4], s[i])
                    };
                    let to = out.add((l + i) * W + first);
                    match valid {
                        8 => _mm256_storeu_ps(to, v),
                        4 => _mm_storeu_ps(to, _mm256_castps256_ps128(v)),
                        _ => {
                            _mm_storeu_ps(to, _mm256_castps256_ps128(v));
                            _mm_storel_epi64(to.add(4).cast(), _mm_castps_si128(_mm256_extractf128_ps::<1>(v)));
                        }
                    }
                }
            }
        }
    }
    n / 8 * 8
}

/// `out (n × W)` = the transpose of `W` rows of at least `n` elements.
#[inline(always)]
pub(crate) fn turn<T: Real, const W: usize>(rows: &[&[T]; W], n: usize, out: &mut [T]) {
    assert!(out.len() >= n * W && rows.iter().all(|r| r.len() >= n));
    #[cfg(target_arch = "x86_64")]
    let done = if T::DTYPE == DType::F32 && level() >= 3 {
        let pointers: [*const f32; W] = std::array::from_fn(|i| rows[i].as_ptr().cast());
        // SAFETY: T is f32, the lengths were checked, the features detected.
        unsafe { turn_avx2::<W>(&pointers, n, out.as_mut_ptr().cast()) }
    } else {
        0
    };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for (l, o) in out.chunks_exact_mut(W).enumerate().take(n).skip(done) {
        for (o, r) in o.iter_mut().zip(rows) {
            *o = r[l];
        }
    }
}

/// Asks for a cache line that is read soon.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch reads nothing, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = p;
}
