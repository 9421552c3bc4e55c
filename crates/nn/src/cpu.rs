//! What the fused CPU kernels are made of: strided GEMM, row-parallel loops, vectorised `exp` and `erf`.
//!
//! Two rules keep results independent of the number of threads and of the vector width: work is cut into pieces that
//! depend on shapes only, and sums run over a fixed number of lanes in a fixed order. The loops use no fused multiply-add
//! and no system libm, so only GEMM differs between processor types.

use super::gemm::kernel::{self, Strided, Sums};
use candle_core::{CpuStorage, Layout, Result, WithDType};
use rayon::prelude::*;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Range, Sub};

/// The element types of the kernels: `f32` for training, `f64` so that finite differences can check gradients.
pub trait Real:
    WithDType
    + Copy
    + Send
    + Sync
    + PartialOrd
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + MulAssign
{
    fn of(x: f64) -> Self;
    fn exp_(self) -> Self;
    fn erf_(self) -> Self;
    /// ln(1 + x) for 0 ≤ x ≤ 1.
    fn ln_1p_(self) -> Self;
    fn sqrt_(self) -> Self;

    /// `a · b` (MR×NR) over a depth of `k` to `sums`, for the vector width `LEVEL` (see [`super::gemm`]).
    ///
    /// # Safety
    /// `a` must have MR rows of depth `k`, `b` must hold `k` packed rows of NR, `sums` must have room for the tile, and the
    /// processor must have the features.
    #[inline(always)]
    unsafe fn micro<const MR: usize, const NR: usize, const LEVEL: u8>(
        k: usize,
        a: Strided<Self>,
        b: *const Self,
        sums: Sums<Self>,
    ) {
        // SAFETY: passed on to the caller.
        unsafe { kernel::portable::<Self, MR, NR>(k, a, b, sums) }
    }
}

impl Real for f32 {
    #[inline(always)]
    unsafe fn micro<const MR: usize, const NR: usize, const LEVEL: u8>(
        k: usize,
        a: Strided<Self>,
        b: *const Self,
        sums: Sums<Self>,
    ) {
        // SAFETY: passed on to the caller.
        unsafe { kernel::micro_f32::<MR, NR, LEVEL>(k, a, b, sums) }
    }

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }

    /// Relative error below 2e-7 on [-87, 88]; 0 below and +inf above. Range reduction by ln 2 in two parts, then Taylor.
    #[inline(always)]
    fn exp_(self) -> Self {
        let x = if self > 88.7 { 88.7 } else { self };
        let x = if x < -87.3 { -87.3 } else { x };
        let magic = 12_582_912.0_f32;
        let t = x * std::f32::consts::LOG2_E + magic;
        let n = t - magic;
        let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
        let mut p = 1.0 / 5040.0;
        p = p * r + 1.0 / 720.0;
        p = p * r + 1.0 / 120.0;
        p = p * r + 1.0 / 24.0;
        p = p * r + 1.0 / 6.0;
        p = p * r + 0.5;
        p = p * r + 1.0;
        p = p * r + 1.0;
        // 2^n in two factors, so that n = 128 does not overflow the exponent field.
        // The sum's last bits are n: a cast of n would saturate, and with that check the loop would not be vectorised.
        let k = t.to_bits().wrapping_sub(magic.to_bits()) as i32;
        let half = k >> 1;
        let y = p
            * f32::from_bits((half.wrapping_add(127) << 23) as u32)
            * f32::from_bits((k.wrapping_sub(half).wrapping_add(127) << 23) as u32);
        if self < -87.3 {
            0.0
        } else if self > 88.7 {
            f32::INFINITY
        } else {
            y
        }
    }

    /// Relative error below 5e-7: x·P(x²)/Q(x²), fitted by Lawson iteration to erf on [0, 4] (maximum of the fit 6.6e-8).
    #[inline(always)]
    fn erf_(self) -> Self {
        let x = if self > 4.0 { 4.0 } else { self };
        let x = if x < -4.0 { -4.0 } else { x };
        let z = x * x;
        let mut p = 1.910_210_4e-8_f32;
        p = p * z - 1.940_890_7e-6;
        p = p * z + 1.470_993_6e-4;
        p = p * z + 3.984_255e-3;
        p = p * z + 5.150_598_7e-2;
        p = p * z + 0.206_988_85;
        p = p * z + std::f32::consts::FRAC_2_SQRT_PI;
        let mut q = 1.019_461_5e-3_f32;
        q = q * z + 1.494_574_7e-2;
        q = q * z + 0.117_913_56;
        q = q * z + 0.516_770_37;
        q = q * z + 1.0;
        let y = x * p / q;
        let y = if y > 1.0 { 1.0 } else { y };
        if y < -1.0 { -1.0 } else { y }
    }

    /// Relative error below 3e-7: 2·artanh(s) with s = x/(2+x) ≤ 1/3, by its series, cut where a term is below 2e-8.
    #[inline(always)]
    fn ln_1p_(self) -> Self {
        let s = self / (2.0 + self);
        let w = s * s;
        let mut p = 1.0 / 13.0_f32;
        p = p * w + 1.0 / 11.0;
        p = p * w + 1.0 / 9.0;
        p = p * w + 1.0 / 7.0;
        p = p * w + 1.0 / 5.0;
        p = p * w + 1.0 / 3.0;
        p = p * w + 1.0;
        2.0 * s * p
    }

    #[inline(always)]
    fn sqrt_(self) -> Self {
        self.sqrt()
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn exp_(self) -> Self {
        libm::exp(self)
    }
    fn erf_(self) -> Self {
        libm::erf(self)
    }
    fn ln_1p_(self) -> Self {
        libm::log1p(self)
    }
    fn sqrt_(self) -> Self {
        self.sqrt()
    }
}

/// Compiles a loop for AVX-512, AVX2 and the baseline and picks one at run time. The body must not depend on the
/// vector width: elementwise work, or sums over [`LANES`] accumulators.
macro_rules! simd_fn {
    ($(#[$m:meta])* $vis:vis fn $name:ident<$T:ident>($($a:ident: $t:ty),* $(,)?) $(-> $r:ty)? $body:block) => {
        $(#[$m])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$T: $crate::cpu::Real>($($a: $t),*) $(-> $r)? {
            #[inline(always)]
            fn body<$T: $crate::cpu::Real>($($a: $t),*) $(-> $r)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw")]
                fn v4<$T: $crate::cpu::Real>($($a: $t),*) $(-> $r)? {
                    body($($a),*)
                }
                #[target_feature(enable = "avx2")]
                fn v3<$T: $crate::cpu::Real>($($a: $t),*) $(-> $r)? {
                    body($($a),*)
                }
                match $crate::cpu::vector_level() {
                    // SAFETY: the features were detected.
                    4 => return unsafe { v4($($a),*) },
                    3 => return unsafe { v3($($a),*) },
                    _ => {}
                }
            }
            body($($a),*)
        }
    };
}
pub(crate) use simd_fn;

/// 4 with AVX-512 (F, VL, DQ, BW), 3 with AVX2, else 0.
#[cfg(target_arch = "x86_64")]
#[inline]
pub fn vector_level() -> u8 {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
    {
        4
    } else if is_x86_feature_detected!("avx2") {
        3
    } else {
        0
    }
}

/// Accumulators of a sum; fixed, so that the order of additions is the same on every machine.
pub const LANES: usize = 16;

/// Sum of `f(i)` for `i` in `0..n` over [`LANES`] accumulators in a fixed order.
#[inline(always)]
pub fn lane_sum<T: Real>(n: usize, f: impl Fn(usize) -> T) -> T {
    let mut acc = [T::default(); LANES];
    let whole = n / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (l, a) in acc.iter_mut().enumerate() {
            *a += f(i + l);
        }
        i += LANES;
    }
    let mut width = LANES / 2;
    while width > 0 {
        for l in 0..width {
            let b = acc[l + width];
            acc[l] += b;
        }
        width /= 2;
    }
    let mut s = acc[0];
    while i < n {
        s += f(i);
        i += 1;
    }
    s
}

/// Largest element of a non-empty row.
#[inline(always)]
pub fn lane_max<T: Real>(x: &[T]) -> T {
    let mut acc = [x[0]; LANES];
    let mut chunks = x.chunks_exact(LANES);
    for c in &mut chunks {
        for (a, &v) in acc.iter_mut().zip(c) {
            *a = if v > *a { v } else { *a };
        }
    }
    let mut m = acc[0];
    for &v in acc.iter().chain(chunks.remainder()) {
        m = if v > m { v } else { m };
    }
    m
}

/// The contiguous elements a layout covers.
pub fn slice<'a, T: Real>(op: &'static str, s: &'a CpuStorage, l: &Layout) -> Result<&'a [T]> {
    let data = s.as_slice::<T>()?;
    match l.contiguous_offsets() {
        Some((a, b)) => Ok(&data[a..b]),
        None => candle_core::bail!("{op}: the operand must be contiguous, its layout is {l:?}"),
    }
}

/// An output buffer that is filled through its pointer before it becomes a `Vec`.
pub struct Out<T> {
    buf: Vec<T>,
    len: usize,
}

impl<T: Copy> Out<T> {
    pub fn new(len: usize) -> Self {
        Self {
            buf: Vec::with_capacity(len),
            len,
        }
    }

    pub fn ptr(&mut self) -> Ptr<T> {
        Ptr(self.buf.as_mut_ptr())
    }

    /// # Safety
    /// All `len` elements must have been written.
    pub unsafe fn finish(mut self) -> Vec<T> {
        // SAFETY: capacity is at least `len`, and the caller has written every element.
        unsafe { self.buf.set_len(self.len) };
        self.buf
    }
}

/// A vector of `len` elements, all of which `f` writes.
pub fn filled<T: Copy>(len: usize, f: impl FnOnce(Ptr<T>)) -> Vec<T> {
    let mut out = Out::<T>::new(len);
    f(out.ptr());
    // SAFETY: `f` writes every element.
    unsafe { out.finish() }
}

/// A pointer that may cross threads; the pieces written through it must be disjoint.
pub struct Ptr<T>(pub *mut T);
impl<T> Clone for Ptr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ptr<T> {}
// SAFETY: users write disjoint ranges only.
unsafe impl<T> Send for Ptr<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Ptr<T> {}

impl<T> Ptr<T> {
    /// # Safety
    /// `at..at+len` must be inside the buffer and not be accessed by anyone else meanwhile.
    #[inline]
    pub unsafe fn slice<'a>(self, at: usize, len: usize) -> &'a mut [T] {
        // SAFETY: passed on to the caller.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), len) }
    }

    /// # Safety
    /// `at` must be inside the buffer.
    #[inline]
    pub unsafe fn at(self, at: usize) -> *mut T {
        // SAFETY: passed on to the caller.
        unsafe { self.0.add(at) }
    }
}

/// Calls `f` on ranges of `rows` in parallel. The ranges depend on `rows` and `row_len` only, never on the threads.
pub fn par_rows(rows: usize, row_len: usize, f: impl Fn(Range<usize>) + Send + Sync) {
    let per = (16_384 / row_len.max(1)).clamp(1, rows.max(1));
    let pieces = rows.div_ceil(per);
    if pieces <= 1 {
        f(0..rows);
        return;
    }
    (0..pieces)
        .into_par_iter()
        .for_each(|p| f(p * per..((p + 1) * per).min(rows)));
}

/// Column sums of `f(row, &mut acc)` over all rows, by partial sums over a fixed number of row blocks.
pub fn par_columns<T: Real>(rows: usize, cols: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) -> Vec<T> {
    let blocks = rows.div_ceil(64).clamp(1, 64);
    let per = rows.div_ceil(blocks);
    let partial: Vec<Vec<T>> = (0..blocks)
        .into_par_iter()
        .map(|b| {
            let mut acc = vec![T::default(); cols];
            for r in b * per..((b + 1) * per).min(rows) {
                f(r, &mut acc);
            }
            acc
        })
        .collect();
    let mut sum = vec![T::default(); cols];
    for p in &partial {
        add_assign(&mut sum, p);
    }
    sum
}

simd_fn! {
    /// `y += x`.
    pub fn add_assign<T>(y: &mut [T], x: &[T]) {
        for (a, &b) in y.iter_mut().zip(x) {
            *a += b;
        }
    }
}

/// A matrix in memory: pointer, row stride, column stride.
#[derive(Clone, Copy)]
pub struct Mat<T> {
    pub ptr: *const T,
    pub rs: isize,
    pub cs: isize,
}

impl<T> Mat<T> {
    pub fn new(ptr: *const T, rs: usize, cs: usize) -> Self {
        Self {
            ptr,
            rs: rs as isize,
            cs: cs as isize,
        }
    }

    pub fn t(self) -> Self {
        Self {
            ptr: self.ptr,
            rs: self.cs,
            cs: self.rs,
        }
    }
}

/// `C (m×n) = alpha · A (m×k) · B (k×n)`, plus the old `C` where `accumulate` is set; `c` is row-major with stride `c_rs`.
///
/// # Safety
/// All three matrices must lie inside their buffers, and `c` must not overlap the others.
#[allow(clippy::too_many_arguments)]
pub unsafe fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    c: *mut T,
    c_rs: usize,
    a: Mat<T>,
    b: Mat<T>,
    alpha: T,
    accumulate: bool,
    parallel: bool,
) {
    let par = if parallel {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: passed on to the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            c_rs as isize,
            accumulate,
            a.ptr,
            a.cs,
            a.rs,
            b.ptr,
            b.cs,
            b.rs,
            T::of(1.0),
            alpha,
            false,
            false,
            false,
            par,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_erf_and_ln_agree_with_libm() {
        let (mut e, mut r) = (0f64, 0f64);
        for i in -80_000..80_000 {
            let x = i as f32 * 1e-3;
            e = e.max((f64::from(x.exp_()) / libm::exp(f64::from(x)) - 1.0).abs());
            let y = i as f32 * 1e-4;
            let t = libm::erf(f64::from(y));
            if i != 0 {
                r = r.max((f64::from(y.erf_()) / t - 1.0).abs());
            }
        }
        assert!(e < 3e-7, "exp {e:e}");
        assert!(r < 5e-7, "erf {r:e}");
        let mut l = 0f64;
        for i in 1..=100_000 {
            let x = i as f32 * 1e-5;
            l = l.max((f64::from(x.ln_1p_()) / libm::log1p(f64::from(x)) - 1.0).abs());
        }
        assert!(l < 3e-7, "ln(1+x) {l:e}");
        assert_eq!(f32::ln_1p_(0.0), 0.0);
        assert_eq!(f32::exp_(-1000.0), 0.0);
        assert_eq!(f32::exp_(1000.0), f32::INFINITY);
        assert!(f32::exp_(f32::NAN).is_nan() && f32::erf_(f32::NAN).is_nan());
        assert_eq!(f32::erf_(0.0), 0.0);
    }
}
