//! What the fused CPU loops are made of: row-parallel loops, memory that threads write side by side, vectorised `exp` and `erf`.
//!
//! Two rules keep results independent of the number of threads and of the vector width: work is cut into pieces that
//! depend on shapes only, and sums run over a fixed number of lanes in a fixed order. The loops use no fused multiply-add
//! (products alone do, everywhere) and no system libm, so every processor type gives the same bits.

use candle_core::{CpuStorage, Layout, Result, Storage, WithDType};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Range, Sub};

/// The element types of the kernels: `f32` for training, `f64` so that finite differences can check gradients.
pub(crate) trait Real:
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
    /// `self · a + b` as products add up: rounded once in f32, twice in f64.
    fn mul_add_(self, a: Self, b: Self) -> Self;
}

impl Real for f32 {
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

    #[inline(always)]
    fn mul_add_(self, a: Self, b: Self) -> Self {
        // An instruction where the target has it; elsewhere software, slow and equally exact.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            self.mul_add(a, b)
        } else {
            libm::fmaf(self, a, b)
        }
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
    #[inline(always)]
    fn mul_add_(self, a: Self, b: Self) -> Self {
        self * a + b
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
                match $crate::isa::current() {
                    // SAFETY: the processor has the features.
                    $crate::isa::Isa::Avx512 => return unsafe { v4($($a),*) },
                    // SAFETY: as above.
                    $crate::isa::Isa::Avx2 => return unsafe { v3($($a),*) },
                    $crate::isa::Isa::Generic => {}
                }
            }
            body($($a),*)
        }
    };
}
pub(crate) use simd_fn;

/// Accumulators of a sum; fixed, so that the order of additions is the same on every machine.
pub(crate) const LANES: usize = 16;

/// Sum of `f(i)` for `i` in `0..n` over [`LANES`] accumulators in a fixed order.
#[inline(always)]
pub(crate) fn lane_sum<T: Real>(n: usize, f: impl Fn(usize) -> T) -> T {
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
pub(crate) fn lane_max<T: Real>(x: &[T]) -> T {
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
pub(crate) fn slice<'a, T: Real>(op: &'static str, s: &'a CpuStorage, l: &Layout) -> Result<&'a [T]> {
    let data = s.as_slice::<T>()?;
    match l.contiguous_offsets() {
        Some((a, b)) => Ok(&data[a..b]),
        None => candle_core::bail!("{op}: the operand must be contiguous, its layout is {l:?}"),
    }
}

/// The contiguous elements of a CPU tensor.
pub(crate) fn with_cpu<'a, T: Real>(s: &'a Storage, l: &Layout) -> Result<&'a [T]> {
    match s {
        Storage::Cpu(c) => slice::<T>("backward", c, l),
        _ => candle_core::bail!("a CPU tensor was expected"),
    }
}

/// Elements that several threads write side by side. Bounds are checked; that no two use the same elements, callers promise.
pub(crate) struct Shared<'a, T> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}
// SAFETY: elements are reached through `slice` alone, whose callers promise that nobody else uses them.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(all: &'a mut [T]) -> Self {
        Self {
            ptr: all.as_mut_ptr(),
            len: all.len(),
            life: PhantomData,
        }
    }

    /// # Safety
    /// `len` elements at `ptr` must live for `'a`, and be reached through the result alone meanwhile.
    pub(crate) unsafe fn raw(ptr: *mut T, len: usize) -> Self {
        Self {
            ptr,
            len,
            life: PhantomData,
        }
    }

    /// `len` elements from `at` on.
    ///
    /// # Safety
    /// Nobody else may use them as long as the result is used, and what is not initialised is written before it is read.
    #[inline]
    pub(crate) unsafe fn slice(&self, at: usize, len: usize) -> &'a mut [T] {
        assert!(at <= self.len && len <= self.len - at, "{at}+{len} of {}", self.len);
        // SAFETY: inside the buffer; the caller promises that they are nobody else's.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(at), len) }
    }

    /// The elements from `at` on, once more.
    ///
    /// # Safety
    /// As [`Shared::slice`] for every element that is reached through the result.
    pub(crate) unsafe fn from(&self, at: usize) -> Self {
        assert!(at <= self.len, "{at} of {}", self.len);
        Self {
            // SAFETY: inside the buffer.
            ptr: unsafe { self.ptr.add(at) },
            len: self.len - at,
            life: PhantomData,
        }
    }
}

/// A vector of `len` elements that `f` writes.
///
/// # Safety
/// `f` must write every element.
pub(crate) unsafe fn filled<T: Copy>(len: usize, f: impl FnOnce(Shared<'_, T>)) -> Vec<T> {
    let mut all = Vec::with_capacity(len);
    // SAFETY: the vector has this capacity, and is not used until `f` has ended.
    f(unsafe { Shared::raw(all.as_mut_ptr(), len) });
    // SAFETY: `f` has written every element.
    unsafe { all.set_len(len) };
    all
}

/// Rows of a piece of work: they depend on the shape only, never on the threads.
fn rows_of_a_piece(rows: usize, row_len: usize) -> usize {
    (16_384 / row_len.max(1)).clamp(1, rows.max(1))
}

/// Writes zeros, so that the memory may be handed to anyone.
fn zeroed<T: Copy + Default>(x: &mut [MaybeUninit<T>]) -> &mut [T] {
    for v in &mut *x {
        v.write(T::default());
    }
    // SAFETY: all elements were written above, and the types have the same layout.
    unsafe { &mut *(std::ptr::from_mut(x) as *mut [T]) }
}

/// `rows` rows of `row_len` elements, in parallel: `f` is given the rows of a piece, and their memory, zeros at first.
pub(crate) fn par_filled<T: Copy + Default + Send>(
    rows: usize,
    row_len: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Send + Sync,
) -> Vec<T> {
    par_filled2(rows, (row_len, 0), |rows, a, _: &mut [T]| f(rows, a)).0
}

/// The same for two results, `row_len` elements a row each.
pub(crate) fn par_filled2<T: Copy + Default + Send, U: Copy + Default + Send>(
    rows: usize,
    row_len: (usize, usize),
    f: impl Fn(Range<usize>, &mut [T], &mut [U]) + Send + Sync,
) -> (Vec<T>, Vec<U>) {
    let per = rows_of_a_piece(rows, row_len.0.max(row_len.1));
    let (n, m) = (rows * row_len.0, rows * row_len.1);
    let (mut a, mut b) = (Vec::with_capacity(n), Vec::with_capacity(m));
    let (left, right) = (&mut a.spare_capacity_mut()[..n], &mut b.spare_capacity_mut()[..m]);
    // A part of no length for every piece where rows have no elements.
    let (mut left, mut right) = (left, right);
    let mut pieces = Vec::with_capacity(rows.div_ceil(per));
    for first in (0..rows).step_by(per) {
        let last = (first + per).min(rows);
        let here;
        (here, left) = std::mem::take(&mut left).split_at_mut((last - first) * row_len.0);
        let there;
        (there, right) = std::mem::take(&mut right).split_at_mut((last - first) * row_len.1);
        pieces.push((first..last, here, there));
    }
    match pieces.len() {
        1 => {
            for (rows, a, b) in pieces {
                f(rows, zeroed(a), zeroed(b));
            }
        }
        _ => pieces
            .into_par_iter()
            .for_each(|(rows, a, b)| f(rows, zeroed(a), zeroed(b))),
    }
    // SAFETY: the pieces cover both, and each was filled with zeros at least.
    unsafe {
        a.set_len(n);
        b.set_len(m);
    }
    (a, b)
}

/// Column sums of `f(row, &mut acc)` over all rows, by partial sums over a fixed number of row blocks.
pub(crate) fn par_columns<T: Real>(rows: usize, cols: usize, f: impl Fn(usize, &mut [T]) + Send + Sync) -> Vec<T> {
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
    pub(crate) fn add_assign<T>(y: &mut [T], x: &[T]) {
        for (a, &b) in y.iter_mut().zip(x) {
            *a += b;
        }
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
