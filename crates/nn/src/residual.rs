//! `x + γ ⊙ y`: a residual branch with LayerScale in one pass.

use super::cpu::{Real, par_columns, par_filled, simd_fn, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

/// `x + gamma ⊙ y`; x, y (…, D), gamma (D).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn add_scaled(x: &Tensor, y: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    if uses_kernels(x) {
        return cuda::add_scaled(x, y, gamma);
    }
    x.contiguous()?
        .apply_op3(&y.contiguous()?, &gamma.contiguous()?, AddScaled)
}

/// `x + y`, equal shapes: a residual branch without LayerScale. Where `y` has 16 bits, the sum is float32.
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if uses_kernels(x) {
        return cuda::add(x, y);
    }
    x + y
}

simd_fn! {
    fn add_scaled_row<T>(x: &[T], y: &[T], g: &[T], o: &mut [T]) {
        for i in 0..x.len().min(y.len()).min(g.len()).min(o.len()) {
            o[i] = x[i] + g[i] * y[i];
        }
    }
}

simd_fn! {
    fn scale_row<T>(x: &[T], g: &[T], o: &mut [T]) {
        for i in 0..x.len().min(g.len()).min(o.len()) {
            o[i] = x[i] * g[i];
        }
    }
}

simd_fn! {
    fn mul_add_row<T>(x: &[T], y: &[T], acc: &mut [T]) {
        for i in 0..x.len().min(y.len()).min(acc.len()) {
            acc[i] += x[i] * y[i];
        }
    }
}

struct AddScaled;

impl CustomOp3 for AddScaled {
    fn name(&self) -> &'static str {
        "add_scaled"
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
        let d = l3.shape().dims1()?;
        if d == 0 || l1.dims() != l2.dims() || l1.dims().last() != Some(&d) {
            bail!("add_scaled: {:?}, {:?}, {:?}", l1.dims(), l2.dims(), l3.dims());
        }
        fn typed<T: Real>(s: [&CpuStorage; 3], l: [&Layout; 3], d: usize) -> Result<CpuStorage> {
            let (x, y, g) = (
                slice::<T>("add_scaled", s[0], l[0])?,
                slice::<T>("add_scaled", s[1], l[1])?,
                slice::<T>("add_scaled", s[2], l[2])?,
            );
            let o = par_filled(x.len() / d, d, |rows, out| {
                for (r, o) in rows.zip(out.chunks_exact_mut(d)) {
                    let s = r * d..(r + 1) * d;
                    add_scaled_row(&x[s.clone()], &y[s], g, o);
                }
            });
            Ok(T::to_cpu_storage_owned(o))
        }
        let (s, l) = ([s1, s2, s3], [l1, l2, l3]);
        let o = match s1.dtype() {
            DType::F32 => typed::<f32>(s, l, d)?,
            DType::F64 => typed::<f64>(s, l, d)?,
            t => bail!("add_scaled: {t:?} is not supported on the CPU"),
        };
        Ok((o, l1.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        g: &Tensor,
        _o: &Tensor,
        d_o: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(y: &Tensor, g: &Tensor, d_o: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let d = g.elem_count();
            let ((ys, yl), (gs, gl), (os, ol)) =
                (y.storage_and_layout(), g.storage_and_layout(), d_o.storage_and_layout());
            let (yv, gv, ov) = (
                with_cpu::<T>(&ys, yl)?,
                with_cpu::<T>(&gs, gl)?,
                with_cpu::<T>(&os, ol)?,
            );
            let rows = ov.len() / d;
            let dy = if y.track_op() {
                let o = par_filled(rows, d, |range, out| {
                    for (r, o) in range.zip(out.chunks_exact_mut(d)) {
                        scale_row(&ov[r * d..(r + 1) * d], gv, o);
                    }
                });
                Some(Tensor::from_vec(o, y.shape(), y.device())?)
            } else {
                None
            };
            let dg = if g.track_op() {
                let v = par_columns(rows, d, |r, acc| {
                    let s = r * d..(r + 1) * d;
                    mul_add_row(&ov[s.clone()], &yv[s], acc);
                });
                Some(Tensor::from_vec(v, d, g.device())?)
            } else {
                None
            };
            Ok((dy, dg))
        }
        let d_o = d_o.contiguous()?;
        let (dy, dg) = match y.dtype() {
            DType::F64 => typed::<f64>(y, g, &d_o)?,
            _ => typed::<f32>(y, g, &d_o)?,
        };
        Ok((x.track_op().then(|| d_o.clone()), dy, dg))
    }
}
