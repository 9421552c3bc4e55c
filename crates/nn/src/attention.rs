//! Scaled dot-product attention with its own backward, one task per (batch, head).
//!
//! A few rows of one head's score matrix at a time live in a buffer of the worker thread; the backward pass computes them again
//! from the row maxima and sums, so nothing of size (B, H, N, M) is ever stored. Operands may be strided views: a packed
//! (B, N, 3·H·d) projection is read and its gradient is written in place, without a copy or a transpose.

use super::cpu::{self, Out, Ptr, Real, lane_max, lane_sum, simd_fn};
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
pub fn attention_packed(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (_, _, c) = qkv.dims3()?;
    if !c.is_multiple_of(3 * heads) {
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

/// A (B, L, H, d) operand in memory; the last axis is contiguous. Strides in elements.
pub(super) struct View<T> {
    ptr: Ptr<T>,
    batch: usize,
    row: usize,
    head: usize,
}
impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<T> {}

impl<T> View<T> {
    fn head(&self, b: usize, h: usize) -> *mut T {
        // SAFETY: callers stay inside (B, H).
        unsafe { self.ptr.at(b * self.batch + h * self.head) }
    }

    /// One head's rows (L, d).
    fn rows(&self, b: usize, h: usize) -> Plain<'_, T> {
        // SAFETY: the view was built from the operand's shape; operands are not written while they are read.
        unsafe { Plain::raw(self.head(b, h), self.row) }
    }
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
pub(super) fn forward<T: Real>(x: Dims, [q, k, v]: [View<T>; 3]) -> (Vec<T>, Vec<(T, T)>) {
    let width = x.h * x.d;
    let mut out = Out::<T>::new(x.b * x.n * width);
    let mut stats = Out::<(T, T)>::new(x.b * x.h * x.n);
    let (po, ps) = (out.ptr(), stats.ptr());
    let room = [
        packed_len(x.m, x.d),
        packed_len(x.d, x.m),
        (QUERIES.min(x.n) + SPARE) * x.m,
    ];
    (0..x.b * x.h).into_par_iter().for_each(|task| {
        let (b, h) = (task / x.h, task % x.h);
        with_scratch::<T, _>(room.iter().sum(), |scratch| {
            let (kp, rest) = scratch.split_at_mut(room[0]);
            let (vp, scores) = rest.split_at_mut(room[1]);
            let kt = pack_right(&transposed(k.rows(b, h)), x.m, x.d, kp);
            let vp = pack_right(&of(v.rows(b, h)), x.d, x.m, vp);
            for first in (0..x.n).step_by(QUERIES) {
                let rows = first..(first + QUERIES).min(x.n);
                score_rows(x, rows.clone(), &q.rows(b, h), &kt, x.scale(), scores);
                for (i, row) in rows.clone().zip(scores.chunks_exact_mut(x.m)) {
                    // SAFETY: every task writes its own head.
                    unsafe { ps.slice(task * x.n + i, 1)[0] = softmax_row(row) };
                }
                // SAFETY: the buffer has spare rows; every task writes its own head.
                let (p, o) = unsafe {
                    let o = po.at((b * x.n + first) * width + h * x.d);
                    (InPlace::new(scores.as_ptr(), x.m, 1), Ptr(o))
                };
                product_rows(0..rows.len(), &p, &vp, &Affine::plain(o, width), &mut []);
            }
        });
    });
    // SAFETY: all heads of all batches were written.
    unsafe { (out.finish(), stats.finish()) }
}

/// `scale · (rows of left) · right`, to the start of `out` (rows × M).
fn score_rows<T: Real>(
    x: Dims,
    rows: std::ops::Range<usize>,
    left: &Plain<'_, T>,
    right: &PackedRight<'_, T>,
    scale: T,
    out: &mut [T],
) {
    let start = Ptr(out.as_mut_ptr().wrapping_sub(rows.start * x.m));
    let store = Affine {
        alpha: scale,
        ..Affine::plain(start, x.m)
    };
    product_rows(rows, &of(*left), right, &store, &mut []);
}

/// Writes the gradients of q, k, v through views of the same form.
pub(super) fn backward<T: Real>(
    x: Dims,
    [q, k, v]: [View<T>; 3],
    stats: &[(T, T)],
    dout: &[T],
    [dq, dk, dv]: [View<T>; 3],
) {
    let width = x.h * x.d;
    let d_o = View {
        ptr: Ptr(dout.as_ptr().cast_mut()),
        batch: x.n * width,
        row: width,
        head: x.d,
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
            let right = pack_right(&transposed(k.rows(b, h)), x.m, x.d, packed);
            score_rows(x, 0..x.n, &q.rows(b, h), &right, x.scale(), p);
            let right = pack_right(&transposed(v.rows(b, h)), x.m, x.d, packed);
            score_rows(x, 0..x.n, &d_o.rows(b, h), &right, one, ds);
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
            // SAFETY: the buffers have spare rows, which also serve the transposed reads; tasks write their own heads.
            let (pt, dst, dsn) = unsafe {
                (
                    InPlace::new(p.as_ptr(), 1, x.m),
                    InPlace::new(ds.as_ptr(), 1, x.m),
                    InPlace::new(ds.as_ptr(), x.m, 1),
                )
            };
            let to = |g: &View<T>, alpha: T| Affine {
                alpha,
                ..Affine::plain(Ptr(g.head(b, h)), g.row)
            };
            let right = pack_right(&of(d_o.rows(b, h)), x.d, x.n, packed);
            product_rows(0..x.m, &pt, &right, &to(&dv, one), &mut []);
            let right = pack_right(&of(q.rows(b, h)), x.d, x.n, packed);
            product_rows(0..x.m, &dst, &right, &to(&dk, x.scale()), &mut []);
            let right = pack_right(&of(k.rows(b, h)), x.d, x.m, packed);
            product_rows(0..x.n, &dsn, &right, &to(&dq, x.scale()), &mut []);
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

/// Queries, keys and values in a packed projection (B, N, 3·H·d).
pub(super) fn packed_views<T: Real>(p: *mut T, x: Dims) -> [View<T>; 3] {
    let w = x.h * x.d;
    [0, 1, 2].map(|i| View {
        // Inside the buffer: q, k and v are the three thirds of each row.
        ptr: Ptr(p.wrapping_add(i * w)),
        batch: x.n * 3 * w,
        row: 3 * w,
        head: x.d,
    })
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &Packed, s: &CpuStorage, l: &Layout, x: Dims) -> Result<CpuStorage> {
            let data = cpu::slice::<T>("attention", s, l)?;
            let (out, stats) = forward(x, packed_views(data.as_ptr().cast_mut(), x));
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
            let mut grad = Out::<T>::new(data.len());
            let p = grad.ptr();
            let views = packed_views(data.as_ptr().cast_mut(), x);
            backward(x, views, &kept(&op.stats)?, g, packed_views(p.0, x));
            // SAFETY: every head of q, k and v was written.
            Tensor::from_vec(unsafe { grad.finish() }, qkv.shape(), &Device::Cpu)
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

fn separate_view<T: Real>(p: *mut T, rows: usize, x: Dims) -> View<T> {
    View {
        ptr: Ptr(p),
        batch: rows * x.h * x.d,
        row: x.h * x.d,
        head: x.d,
    }
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
            let p = |i: usize| cpu::slice::<T>("attention", s[i], l[i]).map(|v| v.as_ptr().cast_mut());
            let views = [
                separate_view(p(0)?, x.n, x),
                separate_view(p(1)?, x.m, x),
                separate_view(p(2)?, x.m, x),
            ];
            let (out, stats) = forward(x, views);
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
            let guards = t.map(Tensor::storage_and_layout);
            let (gs, gl) = dout.storage_and_layout();
            let g = cpu_slice::<T>(&gs, gl)?;
            let mut views = Vec::with_capacity(3);
            for ((s, l), rows) in guards.iter().zip([n, m, m]) {
                views.push(separate_view(cpu_slice::<T>(s, l)?.as_ptr().cast_mut(), rows, x));
            }
            let mut grads = [n, m, m].map(|rows| Out::<T>::new(b * rows * h * d));
            let mut targets = Vec::with_capacity(3);
            for (g, rows) in grads.iter_mut().zip([n, m, m]) {
                targets.push(separate_view(g.ptr().0, rows, x));
            }
            let three = |v: Vec<View<T>>| [v[0], v[1], v[2]];
            backward(x, three(views), &kept(&op.stats)?, g, three(targets));
            let [gq, gk, gv] = grads;
            // SAFETY: every head of the three gradients was written.
            unsafe {
                Ok([
                    Tensor::from_vec(gq.finish(), t[0].shape(), &Device::Cpu)?,
                    Tensor::from_vec(gk.finish(), t[1].shape(), &Device::Cpu)?,
                    Tensor::from_vec(gv.finish(), t[2].shape(), &Device::Cpu)?,
                ])
            }
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
    super::linear::with_cpu::<T>(s, l)
}
