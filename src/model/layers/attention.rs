//! Scaled dot-product attention with its own backward, one task per (batch, head).
//!
//! The (N, M) score matrix of one head lives in a buffer of the worker thread and is recomputed in the backward pass from
//! the row maxima and sums, so nothing of size (B, H, N, M) is ever stored. Operands may be strided views: a packed
//! (B, N, 3·H·d) projection is read and its gradient is written in place, without a copy or a transpose.

use super::cpu::{self, Mat, Out, Ptr, Real, lane_max, lane_sum, simd_fn};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Attention over a packed projection `qkv` (B, N, 3·H·d), laid out as q | k | v, each (H, d); scale 1/√d.
/// Returns (B, N, H·d).
pub fn attention_packed(qkv: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, n, c) = qkv.dims3()?;
    if !c.is_multiple_of(3 * heads) {
        bail!("attention: a width of {c} does not split into q, k, v of {heads} heads");
    }
    let d = c / 3 / heads;
    if qkv.device().is_cpu() {
        return qkv.contiguous()?.apply_op1(Packed {
            heads,
            stats: OnceLock::new(),
        });
    }
    let qkv = qkv.reshape((b, n, 3, heads, d))?;
    let part = |i| qkv.narrow(2, i, 1)?.squeeze(2);
    attention(&part(0)?, &part(1)?, &part(2)?)
}

/// Attention of `q` (B, N, H, d) over `k`, `v` (B, M, H, d); scale 1/√d. Returns (B, N, H·d).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, n, h, d) = q.dims4()?;
    let m = k.dim(1)?;
    if k.dims() != [b, m, h, d] || v.dims() != k.dims() {
        bail!("attention: q {:?}, k {:?}, v {:?}", q.dims(), k.dims(), v.dims());
    }
    if q.device().is_cpu() {
        let op = Separate { stats: OnceLock::new() };
        return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, op);
    }
    let t = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let scores = (t(q)?.matmul(&t(k)?.transpose(2, 3)?.contiguous()?)? * (1.0 / (d as f64).sqrt()))?;
    let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
    p.matmul(&t(v)?)?.transpose(1, 2)?.contiguous()?.reshape((b, n, h * d))
}

/// A (B, L, H, d) operand in memory; the last axis is contiguous. Strides in elements.
struct View<T> {
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

    fn mat(&self, b: usize, h: usize) -> Mat<T> {
        Mat::new(self.head(b, h), self.row, 1)
    }
}

#[derive(Clone, Copy)]
struct Dims {
    b: usize,
    h: usize,
    n: usize,
    m: usize,
    d: usize,
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

fn forward<T: Real>(x: Dims, q: View<T>, k: View<T>, v: View<T>) -> (Vec<T>, Vec<(T, T)>) {
    let width = x.h * x.d;
    let mut out = Out::<T>::new(x.b * x.n * width);
    let mut stats = Out::<(T, T)>::new(x.b * x.h * x.n);
    let (po, ps) = (out.ptr(), stats.ptr());
    (0..x.b * x.h)
        .into_par_iter()
        .for_each_init(Vec::<T>::new, |scores, task| {
            let (b, h) = (task / x.h, task % x.h);
            scores.resize(x.n * x.m, T::default());
            // SAFETY: views were built from the operands' shapes; every task writes its own head.
            unsafe {
                let s = scores.as_mut_ptr();
                let (km, vm) = (k.mat(b, h).t(), v.mat(b, h));
                cpu::gemm((x.n, x.m, x.d), s, x.m, q.mat(b, h), km, x.scale(), false, false);
                for (i, row) in scores.chunks_exact_mut(x.m).enumerate() {
                    ps.slice(task * x.n + i, 1)[0] = softmax_row(row);
                }
                let p = Mat::new(scores.as_ptr(), x.m, 1);
                let o = po.at(b * x.n * width + h * x.d);
                cpu::gemm((x.n, x.d, x.m), o, width, p, vm, T::of(1.0), false, false);
            }
        });
    // SAFETY: all heads of all batches were written.
    unsafe { (out.finish(), stats.finish()) }
}

/// Writes the gradients of q, k, v through views of the same form.
fn backward<T: Real>(x: Dims, [q, k, v]: [View<T>; 3], stats: &[(T, T)], dout: &[T], [dq, dk, dv]: [View<T>; 3]) {
    let width = x.h * x.d;
    let dptr = Ptr(dout.as_ptr().cast_mut());
    (0..x.b * x.h).into_par_iter().for_each_init(
        || (Vec::<T>::new(), Vec::<T>::new()),
        |(p, dp), task| {
            let (b, h) = (task / x.h, task % x.h);
            p.resize(x.n * x.m, T::default());
            dp.resize(x.n * x.m, T::default());
            // SAFETY: as in `forward`; `dout` is only read.
            unsafe {
                let go = Mat::new(dptr.at(b * x.n * width + h * x.d), width, 1);
                let (qm, km, vm) = (q.mat(b, h), k.mat(b, h), v.mat(b, h));
                let (nmd, one) = ((x.n, x.m, x.d), T::of(1.0));
                cpu::gemm(nmd, p.as_mut_ptr(), x.m, qm, km.t(), x.scale(), false, false);
                cpu::gemm(nmd, dp.as_mut_ptr(), x.m, go, vm.t(), one, false, false);
                for (i, (pr, dr)) in p.chunks_exact_mut(x.m).zip(dp.chunks_exact_mut(x.m)).enumerate() {
                    let (max, inv) = stats[task * x.n + i];
                    softmax_row_again(pr, max, inv);
                    softmax_row_grad(pr, dr);
                }
                let (pm, ds) = (Mat::new(p.as_ptr(), x.m, 1), Mat::new(dp.as_ptr(), x.m, 1));
                cpu::gemm((x.m, x.d, x.n), dv.head(b, h), dv.row, pm.t(), go, one, false, false);
                cpu::gemm((x.n, x.d, x.m), dq.head(b, h), dq.row, ds, km, x.scale(), false, false);
                cpu::gemm(
                    (x.m, x.d, x.n),
                    dk.head(b, h),
                    dk.row,
                    ds.t(),
                    qm,
                    x.scale(),
                    false,
                    false,
                );
            }
        },
    );
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

    fn views<T: Real>(&self, p: *mut T, x: Dims) -> [View<T>; 3] {
        let w = x.h * x.d;
        [0, 1, 2].map(|i| View {
            // SAFETY: q, k and v are the three thirds of each row.
            ptr: Ptr(unsafe { p.add(i * w) }),
            batch: x.n * 3 * w,
            row: 3 * w,
            head: x.d,
        })
    }
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &Packed, s: &CpuStorage, l: &Layout, x: Dims) -> Result<CpuStorage> {
            let data = cpu::slice::<T>("attention", s, l)?;
            let [q, k, v] = op.views(data.as_ptr().cast_mut(), x);
            let (out, stats) = forward(x, q, k, v);
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
            let views = op.views(data.as_ptr().cast_mut(), x);
            backward(x, views, &kept(&op.stats)?, g, op.views(p.0, x));
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
            let (q, k, v) = (
                separate_view(p(0)?, x.n, x),
                separate_view(p(1)?, x.m, x),
                separate_view(p(2)?, x.m, x),
            );
            let (out, stats) = forward(x, q, k, v);
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
