//! LayerNorm and RMSNorm over the last axis, with their own backward (candle's fused ones cut the graph).

use super::cpu::{Real, lane_sum, par_columns, par_filled, par_filled2, simd_fn, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use super::precision::{compute_type, computed_in};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

/// LayerNorm over the last axis; weight and bias (D).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    /// (D).
    pub weight: Tensor,
    /// (D).
    pub bias: Tensor,
    /// Added to the variance, or to the mean square.
    pub eps: f64,
}

impl LayerNorm {
    /// A norm of these parameters.
    pub fn new(weight: Tensor, bias: Tensor, eps: f64) -> Self {
        Self { weight, bias, eps }
    }

    /// `(…, D)` → `(…, D)`; biased variance, as torch.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, compute_type(x))
    }

    /// The same in float32 where [`Self::forward`] would give 16 bits: for what leaves the layers.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn forward_float(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, computed_in(x.dtype()))
    }

    fn forward_as(&self, x: &Tensor, out: DType) -> Result<Tensor> {
        if uses_kernels(x) {
            return cuda::layer_norm(x, &self.weight, &self.bias, self.eps, out);
        }
        let op = LayerNormOp { eps: self.eps };
        x.contiguous()?
            .apply_op3(&self.weight.contiguous()?, &self.bias.contiguous()?, op)
    }
}

/// RMSNorm over the last axis; weight (D).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// (D).
    pub weight: Tensor,
    /// Added to the variance, or to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// A norm of these parameters.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps }
    }

    /// `(…, D)` → `(…, D)`.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, compute_type(x))
    }

    /// The same in float32 where [`Self::forward`] would give 16 bits: for what leaves the layers.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn forward_float(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_as(x, computed_in(x.dtype()))
    }

    fn forward_as(&self, x: &Tensor, out: DType) -> Result<Tensor> {
        if uses_kernels(x) {
            return cuda::rms_norm(x, &self.weight, self.eps, out);
        }
        x.contiguous()?
            .apply_op2(&self.weight.contiguous()?, RmsNormOp { eps: self.eps })
    }
}

simd_fn! {
    /// One row's mean and 1/√(var+eps).
    pub(super) fn row_stats<T>(x: &[T], eps: T) -> (T, T) {
        let n = T::of(x.len() as f64);
        let mean = lane_sum(x.len(), |i| x[i]) / n;
        let var = lane_sum(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / n;
        (mean, T::of(1.0) / (var + eps).sqrt_())
    }
}

simd_fn! {
    fn layer_norm_row<T>(x: &[T], w: &[T], b: &[T], eps: T, y: &mut [T]) {
        let (mean, rstd) = row_stats(x, eps);
        for i in 0..x.len().min(w.len()).min(b.len()).min(y.len()) {
            y[i] = (x[i] - mean) * rstd * w[i] + b[i];
        }
    }
}

simd_fn! {
    fn layer_norm_row_grad<T>(x: &[T], w: &[T], g: &[T], mean: T, rstd: T, dx: &mut [T]) {
        let d = x.len().min(w.len()).min(g.len()).min(dx.len());
        let n = T::of(d as f64);
        let a = lane_sum(d, |i| g[i] * w[i]) / n;
        let c = lane_sum(d, |i| g[i] * w[i] * (x[i] - mean) * rstd) / n;
        for i in 0..d {
            dx[i] = rstd * (g[i] * w[i] - a - (x[i] - mean) * rstd * c);
        }
    }
}

simd_fn! {
    /// `g`, the gradient at the output, becomes `residual` + the gradient at the input.
    pub(super) fn layer_norm_row_grad_onto<T>(x: &[T], w: &[T], mean: T, rstd: T, residual: &[T], g: &mut [T]) {
        let d = x.len().min(w.len()).min(g.len()).min(residual.len());
        let n = T::of(d as f64);
        let a = lane_sum(d, |i| g[i] * w[i]) / n;
        let c = lane_sum(d, |i| g[i] * w[i] * (x[i] - mean) * rstd) / n;
        for i in 0..d {
            g[i] = residual[i] + rstd * (g[i] * w[i] - a - (x[i] - mean) * rstd * c);
        }
    }
}

simd_fn! {
    pub(super) fn layer_norm_params_grad<T>(x: &[T], g: &[T], mean: T, rstd: T, dw: &mut [T], db: &mut [T]) {
        for i in 0..x.len().min(g.len()).min(dw.len()).min(db.len()) {
            dw[i] += g[i] * (x[i] - mean) * rstd;
            db[i] += g[i];
        }
    }
}

simd_fn! {
    fn rms_norm_row<T>(x: &[T], w: &[T], eps: T, y: &mut [T]) {
        let d = x.len().min(w.len()).min(y.len());
        let r = T::of(1.0) / (lane_sum(d, |i| x[i] * x[i]) / T::of(d as f64) + eps).sqrt_();
        for i in 0..d {
            y[i] = x[i] * r * w[i];
        }
    }
}

simd_fn! {
    /// Writes dx; adds `g · x · r` to dw where it is not empty.
    fn rms_norm_row_grad<T>(x: &[T], w: &[T], g: &[T], eps: T, dx: &mut [T]) {
        let d = x.len().min(w.len()).min(g.len()).min(dx.len());
        let n = T::of(d as f64);
        let r = T::of(1.0) / (lane_sum(d, |i| x[i] * x[i]) / n + eps).sqrt_();
        let c = lane_sum(d, |i| g[i] * w[i] * x[i]) / n * r * r;
        for i in 0..d {
            dx[i] = r * (g[i] * w[i] - x[i] * c);
        }
    }
}

simd_fn! {
    fn rms_norm_params_grad<T>(x: &[T], g: &[T], eps: T, dw: &mut [T]) {
        let d = x.len().min(g.len()).min(dw.len());
        let r = T::of(1.0) / (lane_sum(d, |i| x[i] * x[i]) / T::of(d as f64) + eps).sqrt_();
        for i in 0..d {
            dw[i] += g[i] * x[i] * r;
        }
    }
}

struct LayerNormOp {
    eps: f64,
}

impl CustomOp3 for LayerNormOp {
    fn name(&self) -> &'static str {
        "layer_norm"
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
        let d = l2.shape().dims1()?;
        if d == 0 || l1.dims().last() != Some(&d) || l3.dims() != [d] {
            bail!(
                "layer_norm: x {:?}, weight {:?}, bias {:?}",
                l1.dims(),
                l2.dims(),
                l3.dims()
            );
        }
        fn typed<T: Real>(s: [&CpuStorage; 3], l: [&Layout; 3], d: usize, eps: f64) -> Result<CpuStorage> {
            let x = slice::<T>("layer_norm", s[0], l[0])?;
            let (w, b) = (
                slice::<T>("layer_norm", s[1], l[1])?,
                slice::<T>("layer_norm", s[2], l[2])?,
            );
            let y = par_filled(x.len() / d, d, |rows, out| {
                for (r, o) in rows.zip(out.chunks_exact_mut(d)) {
                    layer_norm_row(&x[r * d..(r + 1) * d], w, b, T::of(eps), o);
                }
            });
            Ok(T::to_cpu_storage_owned(y))
        }
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>([s1, s2, s3], [l1, l2, l3], d, self.eps)?,
            DType::F64 => typed::<f64>([s1, s2, s3], [l1, l2, l3], d, self.eps)?,
            t => bail!("layer_norm: {t:?} is not supported on the CPU"),
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(
            x: &Tensor,
            w: &Tensor,
            b: &Tensor,
            dy: &Tensor,
            eps: f64,
        ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
            let d = w.elem_count();
            let ((xs, xl), (ws, wl), (gs, gl)) =
                (x.storage_and_layout(), w.storage_and_layout(), dy.storage_and_layout());
            let (xv, wv, gv) = (
                with_cpu::<T>(&xs, xl)?,
                with_cpu::<T>(&ws, wl)?,
                with_cpu::<T>(&gs, gl)?,
            );
            let rows = xv.len() / d;
            let want_x = x.track_op();
            let width = if want_x { d } else { 0 };
            let (stats, dx) = par_filled2(rows, (1, width), |range, stats: &mut [(T, T)], dx: &mut [T]| {
                for (i, (r, stats)) in range.zip(stats).enumerate() {
                    let row = &xv[r * d..(r + 1) * d];
                    *stats = row_stats(row, T::of(eps));
                    if want_x {
                        let dx = &mut dx[i * d..(i + 1) * d];
                        layer_norm_row_grad(row, wv, &gv[r * d..(r + 1) * d], stats.0, stats.1, dx);
                    }
                }
            });
            let dx = if want_x {
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            } else {
                None
            };
            if !(w.track_op() || b.track_op()) {
                return Ok((dx, None, None));
            }
            let both = par_columns(rows, 2 * d, |r, acc| {
                let (dw, db) = acc.split_at_mut(d);
                let s = r * d..(r + 1) * d;
                layer_norm_params_grad(&xv[s.clone()], &gv[s], stats[r].0, stats[r].1, dw, db);
            });
            let dw = Tensor::from_slice(&both[..d], d, w.device())?;
            let db = Tensor::from_slice(&both[d..], d, w.device())?;
            Ok((dx, Some(dw), Some(db)))
        }
        let dy = dy.contiguous()?;
        match x.dtype() {
            DType::F64 => typed::<f64>(x, w, b, &dy, self.eps),
            _ => typed::<f32>(x, w, b, &dy, self.eps),
        }
    }
}

struct RmsNormOp {
    eps: f64,
}

impl CustomOp2 for RmsNormOp {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        let d = l2.shape().dims1()?;
        if d == 0 || l1.dims().last() != Some(&d) {
            bail!("rms_norm: x {:?}, weight {:?}", l1.dims(), l2.dims());
        }
        fn typed<T: Real>(s: [&CpuStorage; 2], l: [&Layout; 2], d: usize, eps: f64) -> Result<CpuStorage> {
            let (x, w) = (slice::<T>("rms_norm", s[0], l[0])?, slice::<T>("rms_norm", s[1], l[1])?);
            let y = par_filled(x.len() / d, d, |rows, out| {
                for (r, o) in rows.zip(out.chunks_exact_mut(d)) {
                    rms_norm_row(&x[r * d..(r + 1) * d], w, T::of(eps), o);
                }
            });
            Ok(T::to_cpu_storage_owned(y))
        }
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>([s1, s2], [l1, l2], d, self.eps)?,
            DType::F64 => typed::<f64>([s1, s2], [l1, l2], d, self.eps)?,
            t => bail!("rms_norm: {t:?} is not supported on the CPU"),
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(x: &Tensor, w: &Tensor, dy: &Tensor, eps: f64) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let d = w.elem_count();
            let ((xs, xl), (ws, wl), (gs, gl)) =
                (x.storage_and_layout(), w.storage_and_layout(), dy.storage_and_layout());
            let (xv, wv, gv) = (
                with_cpu::<T>(&xs, xl)?,
                with_cpu::<T>(&ws, wl)?,
                with_cpu::<T>(&gs, gl)?,
            );
            let rows = xv.len() / d;
            let dx = if x.track_op() {
                let dx = par_filled(rows, d, |range, out| {
                    for (r, o) in range.zip(out.chunks_exact_mut(d)) {
                        let s = r * d..(r + 1) * d;
                        rms_norm_row_grad(&xv[s.clone()], wv, &gv[s], T::of(eps), o);
                    }
                });
                Some(Tensor::from_vec(dx, x.shape(), x.device())?)
            } else {
                None
            };
            let dw = if w.track_op() {
                let g = par_columns(rows, d, |r, acc| {
                    let s = r * d..(r + 1) * d;
                    rms_norm_params_grad(&xv[s.clone()], &gv[s], T::of(eps), acc);
                });
                Some(Tensor::from_vec(g, d, w.device())?)
            } else {
                None
            };
            Ok((dx, dw))
        }
        let dy = dy.contiguous()?;
        match x.dtype() {
            DType::F64 => typed::<f64>(x, w, &dy, self.eps),
            _ => typed::<f32>(x, w, &dy, self.eps),
        }
    }
}
