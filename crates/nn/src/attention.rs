//! Scaled dot-product attention with its own backward, one task per (batch, head).
//!
//! A few rows of one head's score matrix at a time live in a buffer of the worker thread; the backward pass computes them again
//! from the row maxima and sums, so nothing of size (B, H, N, M) is ever stored. Operands may be strided views: a packed
//! (B, N, 3·H·d) projection is read and its gradient is written in place, without a copy or a transpose.

use super::cpu::{self, Real, Shared, filled, lane_max, lane_sum, simd_fn};
use super::cuda;
use super::dispatch::uses_kernels;
use super::gemm::{
    Affine, InPlace, PackedRight, Plain, of, pack_right, packed_len, product_rows, transposed, with_scratch,
};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Attention over a packed projection `qkv` (B, N, 3·H·d), laid out as q | k | v, each (H, d); scale 1/√d.
/// Returns (B, N, H·d).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn attention_packed(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (_, _, c) = qkv.dims3()?;
    if heads == 0 || !c.is_multiple_of(3 * heads) {
        bail!("attention: a width of {c} does not split into q, k, v of {heads} heads");
    }
    if uses_kernels(qkv) {
        return cuda::attention_packed(qkv, heads);
    }
    qkv.contiguous()?.apply_op1(Packed {
        heads,
        stats: OnceLock::new(),
    })
}

/// Attention of `q` (B, N, H, d) over `k`, `v` (B, M, H, d); scale 1/√d. Returns (B, N, H·d).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, _, h, d) = q.dims4()?;
    let m = k.dim(1)?;
    if k.dims() != [b, m, h, d] || v.dims() != k.dims() {
        bail!("attention: q {:?}, k {:?}, v {:?}", q.dims(), k.dims(), v.dims());
    }
    if uses_kernels(q) {
        return cuda::attention(q, k, v);
    }
    let op = Separate { stats: OnceLock::new() };
    q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op)
}

/// How a (B, L, H, d) operand lies in memory; the last axis is contiguous. In elements.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    start: usize,
    batch: usize,
    row: usize,
    head: usize,
}

impl Strides {
    /// Queries, keys and values in a packed projection (B, N, 3·H·d): the three thirds of each row.
    fn packed(x: Dims) -> [Self; 3] {
        let w = x.h * x.d;
        [0, 1, 2].map(|i| Self {
            start: i * w,
            batch: x.n * 3 * w,
            row: 3 * w,
            head: x.d,
        })
    }

    /// `rows` rows an image, each all heads.
    fn separate(rows: usize, x: Dims) -> Self {
        Self {
            start: 0,
            batch: rows * x.h * x.d,
            row: x.h * x.d,
            head: x.d,
        }
    }

    fn at(self, b: usize, row: usize, h: usize) -> usize {
        self.start + b * self.batch + row * self.row + h * self.head
    }
}

/// An operand.
pub(super) struct View<'a, T> {
    data: &'a [T],
    strides: Strides,
}

impl<'a, T> View<'a, T> {
    /// One head's rows (L, d), from `first` on.
    fn rows(&self, b: usize, first: usize, h: usize) -> Plain<'a, T> {
        Plain::new(&self.data[self.strides.at(b, first, h)..], self.strides.row)
    }
}

/// Queries, keys and values in a packed projection.
pub(super) fn packed_views<T>(data: &[T], x: Dims) -> [View<'_, T>; 3] {
    Strides::packed(x).map(|strides| View { data, strides })
}

/// Where a gradient is written.
pub(super) struct Target<'a, T> {
    memory: &'a Shared<'a, T>,
    strides: Strides,
}

impl<'a, T: Real> Target<'a, T> {
    /// One head's rows, which get `alpha` times a product.
    ///
    /// # Safety
    /// Nobody else may use them.
    unsafe fn head(&self, b: usize, h: usize, alpha: T) -> Affine<'a, T> {
        // SAFETY: passed on to the caller.
        let out = unsafe { self.memory.from(self.strides.at(b, 0, h)) };
        Affine {
            alpha,
            ..Affine::plain(out, self.strides.row)
        }
    }
}

/// The three of a packed projection.
pub(super) fn packed_targets<'a, T>(memory: &'a Shared<'a, T>, x: Dims) -> [Target<'a, T>; 3] {
    Strides::packed(x).map(|strides| Target { memory, strides })
}

#[derive(Clone, Copy)]
pub(super) struct Dims {
    pub b: usize,
    pub h: usize,
    /// Queries.
    pub n: usize,
    /// Keys.
    pub m: usize,
    pub d: usize,
}

impl Dims {
    fn scale<T: Real>(&self) -> T {
        T::of(1.0 / (self.d as f64).sqrt())
    }
}

simd_fn! {
    /// Softmax of one row in place; returns its maximum and 1/sum.
    pub(super) fn softmax_row<T>(s: &mut [T]) -> (T, T) {
        let max = lane_max(s);
        for v in s.iter_mut() {
            *v = (*v - max).exp_();
        }
        let inv = T::of(1.0) / lane_sum(s.len(), |i| s[i]);
        for v in s.iter_mut() {
            *v *= inv;
        }
        (max, inv)
    }
}

simd_fn! {
    /// The same probabilities again, from the stored maximum and 1/sum.
    pub(super) fn softmax_row_again<T>(s: &mut [T], max: T, inv: T) {
        for v in s.iter_mut() {
            *v = (*v - max).exp_() * inv;
        }
    }
}

simd_fn! {
    /// Turns dP into dS = P ⊙ (dP − ⟨P, dP⟩).
    pub(super) fn softmax_row_grad<T>(p: &[T], dp: &mut [T]) {
        let n = p.len().min(dp.len());
        let dot = lane_sum(n, |i| p[i] * dp[i]);
        for i in 0..n {
            dp[i] = p[i] * (dp[i] - dot);
        }
    }
}

/// Rows of scores that are in work at a time: a multiple of the register tiles' heights.
const QUERIES: usize = 96;
/// Rows that the kernel may read, and ignore, behind the last one.
const SPARE: usize = 16;

/// Returns the output (B, N, H·d), and each row's maximum and reciprocal sum (B, H, N).
pub(super) fn forward<T: Real>(x: Dims, [q, k, v]: [View<'_, T>; 3]) -> (Vec<T>, Vec<(T, T)>) {
    let width = x.h * x.d;
    let mut stats = vec![(T::default(), T::default()); x.b * x.h * x.n];
    let room = [
        packed_len(x.m, x.d),
        packed_len(x.d, x.m),
        (QUERIES.min(x.n) + SPARE) * x.m,
    ];
    let head = |task: usize, stats: &mut [(T, T)], out: &Shared<'_, T>| {
        let (b, h) = (task / x.h, task % x.h);
        with_scratch::<T, _>(room.iter().sum(), |scratch| {
            let (kp, rest) = scratch.split_at_mut(room[0]);
            let (vp, scores) = rest.split_at_mut(room[1]);
            let kt = pack_right(&transposed(k.rows(b, 0, h)), x.m, x.d, kp);
            let vp = pack_right(&of(v.rows(b, 0, h)), x.d, x.m, vp);
            for first in (0..x.n).step_by(QUERIES) {
                let rows = QUERIES.min(x.n - first);
                score_rows(x, rows, &q.rows(b, first, h), &kt, x.scale(), scores);
                for (stats, row) in stats[first..first + rows].iter_mut().zip(scores.chunks_exact_mut(x.m)) {
                    *stats = softmax_row(row);
                }
                // The rows behind the last one serve as the panel's rest.
                let p = InPlace::new(scores, x.m, 1);
                // SAFETY: every task writes the rows of its own head.
                unsafe {
                    let o = out.from((b * x.n + first) * width + h * x.d);
                    product_rows(0..rows, &p, &vp, &Affine::plain(o, width), &mut []);
                }
            }
        });
    };
    // SAFETY: all rows of all heads are written; without keys there are none to write, and zeros are right.
    let out = unsafe {
        filled(x.b * x.n * width, |out| {
            stats
                .par_chunks_mut(x.n.max(1))
                .enumerate()
                .for_each(|(task, stats)| head(task, stats, &out));
        })
    };
    (out, stats)
}

/// `scale · (the first rows of left) · right`, to the start of `out` (rows × M).
fn score_rows<T: Real>(x: Dims, rows: usize, left: &Plain<'_, T>, right: &PackedRight<'_, T>, scale: T, out: &mut [T]) {
    let epilogue = Affine {
        alpha: scale,
        ..Affine::plain(Shared::new(out), x.m)
    };
    // SAFETY: nobody else has this epilogue.
    unsafe { product_rows(0..rows, &of(*left), right, &epilogue, &mut []) };
}

/// Writes the gradients of q, k, v.
///
/// # Safety
/// The three targets must have room for them, and no element may belong to two heads or two targets; it writes every element of
/// every head.
pub(super) unsafe fn backward<T: Real>(
    x: Dims,
    [q, k, v]: [View<'_, T>; 3],
    stats: &[(T, T)],
    dout: &[T],
    [dq, dk, dv]: [Target<'_, T>; 3],
) {
    let d_o = View {
        data: dout,
        strides: Strides::separate(x.n, x),
    };
    let (keys, queries) = (packed_len(x.d, x.m), packed_len(x.d, x.n));
    let square = (x.n + SPARE) * x.m;
    let room = packed_len(x.m, x.d).max(keys).max(queries);
    (0..x.b * x.h).into_par_iter().for_each(|task| {
        let (b, h) = (task / x.h, task % x.h);
        with_scratch::<T, _>(room + 2 * square, |scratch| {
            let (packed, rest) = scratch.split_at_mut(room);
            let (p, ds) = rest.split_at_mut(square);
            let one = T::of(1.0);
            let right = pack_right(&transposed(k.rows(b, 0, h)), x.m, x.d, packed);
            score_rows(x, x.n, &q.rows(b, 0, h), &right, x.scale(), p);
            let right = pack_right(&transposed(v.rows(b, 0, h)), x.m, x.d, packed);
            score_rows(x, x.n, &d_o.rows(b, 0, h), &right, one, ds);
            for (i, (pr, dr)) in p
                .chunks_exact_mut(x.m)
                .zip(ds.chunks_exact_mut(x.m))
                .enumerate()
                .take(x.n)
            {
                let (max, inv) = stats[task * x.n + i];
                softmax_row_again(pr, max, inv);
                softmax_row_grad(pr, dr);
            }
            // The spare rows also serve the transposed reads.
            let (pt, dst, dsn) = (
                InPlace::new(p, 1, x.m),
                InPlace::new(ds, 1, x.m),
                InPlace::new(ds, x.m, 1),
            );
            let right = pack_right(&of(d_o.rows(b, 0, h)), x.d, x.n, packed);
            // SAFETY: every task writes its own head.
            unsafe { product_rows(0..x.m, &pt, &right, &dv.head(b, h, one), &mut []) };
            let right = pack_right(&of(q.rows(b, 0, h)), x.d, x.n, packed);
            // SAFETY: as above.
            unsafe { product_rows(0..x.m, &dst, &right, &dk.head(b, h, x.scale()), &mut []) };
            let right = pack_right(&of(k.rows(b, 0, h)), x.d, x.m, packed);
            // SAFETY: as above.
            unsafe { product_rows(0..x.n, &dsn, &right, &dq.head(b, h, x.scale()), &mut []) };
        });
    });
}

/// Row maxima and reciprocal sums, kept as `f64` so that one field serves both element types without loss.
type Stats = OnceLock<Vec<(f64, f64)>>;

fn keep<T: Real>(cell: &Stats, stats: Vec<(T, T)>) {
    let _ = cell.set(stats.into_iter().map(|(a, b)| (a.to_f64(), b.to_f64())).collect());
}

fn kept<T: Real>(cell: &Stats) -> Result<Vec<(T, T)>> {
    match cell.get() {
        Some(s) => Ok(s.iter().map(|&(a, b)| (T::of(a), T::of(b))).collect()),
        None => bail!("attention: backward before forward"),
    }
}

struct Packed {
    heads: usize,
    stats: Stats,
}

impl Packed {
    fn dims(&self, dims: &[usize]) -> Dims {
        Dims {
            b: dims[0],
            h: self.heads,
            n: dims[1],
            m: dims[1],
            d: dims[2] / 3 / self.heads,
        }
    }
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &Packed, s: &CpuStorage, l: &Layout, x: Dims) -> Result<CpuStorage> {
            let data = cpu::slice::<T>("attention", s, l)?;
            let (out, stats) = forward(x, packed_views(data, x));
            keep(&op.stats, stats);
            Ok(T::to_cpu_storage_owned(out))
        }
        let x = self.dims(l.dims());
        let out = match s.dtype() {
            DType::F32 => typed::<f32>(self, s, l, x)?,
            DType::F64 => typed::<f64>(self, s, l, x)?,
            t => bail!("attention: {t:?} is not supported on the CPU"),
        };
        Ok((out, Shape::from((x.b, x.n, x.h * x.d))))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, dout: &Tensor) -> Result<Option<Tensor>> {
        fn typed<T: Real>(op: &Packed, qkv: &Tensor, dout: &Tensor) -> Result<Tensor> {
            let x = op.dims(qkv.dims());
            let ((s, l), (gs, gl)) = (qkv.storage_and_layout(), dout.storage_and_layout());
            let (data, g) = (cpu_slice::<T>(&s, l)?, cpu_slice::<T>(&gs, gl)?);
            let stats = kept(&op.stats)?;
            // SAFETY: the heads of q, k and v are a projection's disjoint parts, and all of it.
            let grad = unsafe {
                filled(data.len(), |to| {
                    backward(x, packed_views(data, x), &stats, g, packed_targets(&to, x));
                })
            };
            Tensor::from_vec(grad, qkv.shape(), &Device::Cpu)
        }
        let dout = dout.contiguous()?;
        Ok(Some(match qkv.dtype() {
            DType::F64 => typed::<f64>(self, qkv, &dout)?,
            _ => typed::<f32>(self, qkv, &dout)?,
        }))
    }
}

struct Separate {
    stats: Stats,
}

impl CustomOp3 for Separate {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &Separate, s: [&CpuStorage; 3], l: [&Layout; 3], x: Dims) -> Result<CpuStorage> {
            let view = |i: usize, rows: usize| {
                Ok::<_, candle_core::Error>(View {
                    data: cpu::slice::<T>("attention", s[i], l[i])?,
                    strides: Strides::separate(rows, x),
                })
            };
            let (out, stats) = forward(x, [view(0, x.n)?, view(1, x.m)?, view(2, x.m)?]);
            keep(&op.stats, stats);
            Ok(T::to_cpu_storage_owned(out))
        }
        let (b, n, h, d) = l1.shape().dims4()?;
        let x = Dims {
            b,
            h,
            n,
            m: l2.dims()[1],
            d,
        };
        let (s, l) = ([s1, s2, s3], [l1, l2, l3]);
        let out = match s1.dtype() {
            DType::F32 => typed::<f32>(self, s, l, x)?,
            DType::F64 => typed::<f64>(self, s, l, x)?,
            t => bail!("attention: {t:?} is not supported on the CPU"),
        };
        Ok((out, Shape::from((b, n, h * d))))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _out: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(op: &Separate, t: [&Tensor; 3], dout: &Tensor) -> Result<[Tensor; 3]> {
            let (b, n, h, d) = t[0].dims4()?;
            let m = t[1].dim(1)?;
            let x = Dims { b, h, n, m, d };
            let (gs, gl) = dout.storage_and_layout();
            let g = cpu_slice::<T>(&gs, gl)?;
            let [(qs, ql), (ks, kl), (vs, vl)] = t.map(Tensor::storage_and_layout);
            let view = |data, rows| View {
                data,
                strides: Strides::separate(rows, x),
            };
            let views = [
                view(cpu_slice::<T>(&qs, ql)?, n),
                view(cpu_slice::<T>(&ks, kl)?, m),
                view(cpu_slice::<T>(&vs, vl)?, m),
            ];
            let stats = kept(&op.stats)?;
            let [mut gq, mut gk, mut gv] = [n, m, m].map(|rows| vec![T::default(); b * rows * h * d]);
            {
                let [dq, dk, dv] = [&mut gq, &mut gk, &mut gv].map(|g| Shared::new(g));
                let target = |memory, rows| Target {
                    memory,
                    strides: Strides::separate(rows, x),
                };
                let targets = [target(&dq, n), target(&dk, m), target(&dv, m)];
                // SAFETY: three buffers, each of all heads' disjoint parts.
                unsafe { backward(x, views, &stats, g, targets) };
            }
            Ok([
                Tensor::from_vec(gq, t[0].shape(), &Device::Cpu)?,
                Tensor::from_vec(gk, t[1].shape(), &Device::Cpu)?,
                Tensor::from_vec(gv, t[2].shape(), &Device::Cpu)?,
            ])
        }
        let dout = dout.contiguous()?;
        let [a, b, c] = match q.dtype() {
            DType::F64 => typed::<f64>(self, [q, k, v], &dout)?,
            _ => typed::<f32>(self, [q, k, v], &dout)?,
        };
        Ok((Some(a), Some(b), Some(c)))
    }
}

fn cpu_slice<'a, T: Real>(s: &'a Storage, l: &Layout) -> Result<&'a [T]> {
    super::cpu::with_cpu::<T>(s, l)
}
