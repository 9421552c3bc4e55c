//! Depthwise convolution of a channels-last map, with SiLU as an option, in one differentiable op.
//!
//! Channels are the fastest axis, so a tap is one vector multiply-add over all channels of a pixel; candle's own grouped
//! convolution runs channel by channel and is some thirty times slower.

use super::cpu::{Real, add_assign, par_columns, par_filled, simd_fn, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// Depthwise convolution, stride 1, zero padding that keeps the size. x (B, H, W, C), weight (C, 1, k, k) with k odd,
/// bias (C); `silu` applies x·sigmoid(x) to the result.
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn depthwise_conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, silu: bool) -> Result<Tensor> {
    let (c, one, k, k2) = weight.dims4()?;
    if x.rank() != 4 || x.dim(3)? != c || one != 1 || k != k2 || k.is_multiple_of(2) {
        bail!(
            "depthwise convolution: input {:?} does not fit a kernel {:?}",
            x.dims(),
            weight.dims()
        );
    }
    if uses_kernels(x) {
        return cuda::depthwise_conv2d(x, weight, bias, silu);
    }
    let none = Tensor::zeros(0, x.dtype(), x.device())?;
    let op = Depthwise {
        k,
        silu,
        pre: OnceLock::new(),
    };
    let bias = bias.unwrap_or(&none).contiguous()?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)
}

/// The same without SiLU from candle's ops.
pub(crate) fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (_, h, w, c) = x.dims4()?;
    let k = weight.dim(3)?;
    let p = k / 2;
    let xp = x.pad_with_zeros(1, p, p)?.pad_with_zeros(2, p, p)?;
    let taps = weight.reshape((c, k * k))?.t()?.contiguous()?;
    let mut sum: Option<Tensor> = None;
    for t in 0..k * k {
        let v = xp
            .narrow(1, t / k, h)?
            .narrow(2, t % k, w)?
            .broadcast_mul(&taps.narrow(0, t, 1)?.squeeze(0)?)?;
        sum = Some(match sum {
            Some(s) => (s + v)?,
            None => v,
        });
    }
    let Some(y) = sum else { bail!("a kernel without taps") };
    match bias {
        Some(b) => y.broadcast_add(b),
        None => Ok(y),
    }
}

#[derive(Clone, Copy)]
struct Map {
    h: usize,
    w: usize,
    c: usize,
    k: usize,
}

simd_fn! {
    /// One line of the output: bias + Σ taps; `wt` is (k·k, C), read backwards where `flip` is set.
    fn line<T>(img: &[T], wt: &[T], bias: &[T], m: Map, oy: usize, flip: bool, out: &mut [T]) {
        let (p, c) = (m.k / 2, m.c);
        for ox in 0..m.w {
            let o = &mut out[ox * c..][..c];
            if bias.is_empty() {
                o.fill(T::default());
            } else {
                o.copy_from_slice(&bias[..c]);
            }
            let (left, right) = (p.saturating_sub(ox), (m.w + p - ox).min(m.k));
            for i in p.saturating_sub(oy)..(m.h + p - oy).min(m.k) {
                let row = (oy + i - p) * m.w;
                for j in left..right {
                    let x = &img[(row + ox + j - p) * c..][..c];
                    let tap = i * m.k + j;
                    let tap = if flip { m.k * m.k - 1 - tap } else { tap };
                    let w = &wt[tap * c..][..c];
                    for l in 0..c {
                        o[l] += x[l] * w[l];
                    }
                }
            }
        }
    }
}

simd_fn! {
    /// Adds one output line's share to the kernel's gradient (k·k, C).
    fn line_kernel_grad<T>(img: &[T], dy: &[T], m: Map, oy: usize, dw: &mut [T]) {
        let (p, c) = (m.k / 2, m.c);
        for ox in 0..m.w {
            let g = &dy[ox * c..][..c];
            let (left, right) = (p.saturating_sub(ox), (m.w + p - ox).min(m.k));
            for i in p.saturating_sub(oy)..(m.h + p - oy).min(m.k) {
                let row = (oy + i - p) * m.w;
                for j in left..right {
                    let x = &img[(row + ox + j - p) * c..][..c];
                    let d = &mut dw[(i * m.k + j) * c..][..c];
                    for l in 0..c {
                        d[l] += x[l] * g[l];
                    }
                }
            }
        }
    }
}

simd_fn! {
    fn silu_to<T>(x: &[T], y: &mut [T]) {
        let one = T::of(1.0);
        for (o, &v) in y.iter_mut().zip(x) {
            *o = v / (one + (-v).exp_());
        }
    }
}

simd_fn! {
    fn silu_grad_to<T>(x: &[T], g: &[T], y: &mut [T]) {
        let one = T::of(1.0);
        for ((o, &v), &d) in y.iter_mut().zip(x).zip(g) {
            let s = one / (one + (-v).exp_());
            *o = d * (s + v * s * (one - s));
        }
    }
}

/// The kernel (C, 1, k, k) as (k·k, C).
fn by_tap<T: Real>(w: &[T], c: usize) -> Vec<T> {
    let kk = w.len() / c;
    let mut t = vec![T::default(); w.len()];
    for (ch, taps) in w.chunks_exact(kk).enumerate() {
        for (i, &v) in taps.iter().enumerate() {
            t[i * c + ch] = v;
        }
    }
    t
}

/// Convolves every line of every image of the batch.
fn convolve<T: Real>(x: &[T], wt: &[T], bias: &[T], m: Map, flip: bool) -> Vec<T> {
    let (row, image) = (m.w * m.c, m.h * m.w * m.c);
    par_filled(x.len() / row, row, |lines, out| {
        for (r, o) in lines.zip(out.chunks_exact_mut(row)) {
            line(&x[r / m.h * image..][..image], wt, bias, m, r % m.h, flip, o);
        }
    })
}

struct Depthwise {
    k: usize,
    silu: bool,
    /// Values before SiLU, kept for the backward pass.
    pre: OnceLock<Tensor>,
}

impl Depthwise {
    fn map(&self, dims: &[usize]) -> Map {
        Map {
            h: dims[1],
            w: dims[2],
            c: dims[3],
            k: self.k,
        }
    }
}

impl CustomOp3 for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
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
        fn typed<T: Real>(op: &Depthwise, s: [&CpuStorage; 3], l: [&Layout; 3]) -> Result<CpuStorage> {
            let (x, w, b) = (
                slice::<T>("depthwise_conv2d", s[0], l[0])?,
                slice::<T>("depthwise_conv2d", s[1], l[1])?,
                slice::<T>("depthwise_conv2d", s[2], l[2])?,
            );
            let m = op.map(l[0].dims());
            let y = convolve(x, &by_tap(w, m.c), b, m, false);
            if !op.silu {
                return Ok(T::to_cpu_storage_owned(y));
            }
            let z = par_filled(y.len(), 1, |r, z| silu_to(&y[r], z));
            let _ = op.pre.set(Tensor::from_vec(y, l[0].shape(), &Device::Cpu)?);
            Ok(T::to_cpu_storage_owned(z))
        }
        let (s, l) = ([s1, s2, s3], [l1, l2, l3]);
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>(self, s, l)?,
            DType::F64 => typed::<f64>(self, s, l)?,
            t => bail!("depthwise_conv2d: {t:?} is not supported on the CPU"),
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
        let dy = dy.contiguous()?;
        match x.dtype() {
            DType::F64 => backward::<f64>(self, [x, w, b], &dy),
            _ => backward::<f32>(self, [x, w, b], &dy),
        }
    }
}

/// `dy · silu'(pre)`, or `dy` itself where there was no SiLU.
fn through_silu<T: Real>(pre: Option<&Tensor>, dy: &[T]) -> Result<Option<Vec<T>>> {
    let Some(pre) = pre else { return Ok(None) };
    let (ps, pl) = pre.storage_and_layout();
    let v = with_cpu::<T>(&ps, pl)?;
    Ok(Some(par_filled(dy.len(), 1, |r, g| {
        silu_grad_to(&v[r.clone()], &dy[r], g)
    })))
}

fn backward<T: Real>(
    op: &Depthwise,
    [x, w, b]: [&Tensor; 3],
    dy: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let m = op.map(x.dims());
    let (row, image) = (m.w * m.c, m.h * m.w * m.c);
    let ((xs, xl), (ws, wl), (gs, gl)) = (x.storage_and_layout(), w.storage_and_layout(), dy.storage_and_layout());
    let (xv, wv, gv) = (
        with_cpu::<T>(&xs, xl)?,
        with_cpu::<T>(&ws, wl)?,
        with_cpu::<T>(&gs, gl)?,
    );
    let masked = through_silu(op.pre.get(), gv)?;
    let gv = masked.as_deref().unwrap_or(gv);
    let lines = xv.len() / row;
    let dx = if x.track_op() {
        let g = convolve(gv, &by_tap(wv, m.c), &[], m, true);
        Some(Tensor::from_vec(g, x.shape(), &Device::Cpu)?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let kk = m.k * m.k;
        let t = par_columns(lines, kk * m.c, |r, acc| {
            line_kernel_grad(&xv[r / m.h * image..][..image], &gv[r * row..][..row], m, r % m.h, acc);
        });
        let mut g = vec![T::default(); t.len()];
        for (tap, channels) in t.chunks_exact(m.c).enumerate() {
            for (ch, &v) in channels.iter().enumerate() {
                g[ch * kk + tap] = v;
            }
        }
        Some(Tensor::from_vec(g, w.shape(), &Device::Cpu)?)
    } else {
        None
    };
    let db = if b.elem_count() > 0 && b.track_op() {
        let g = par_columns(xv.len() / m.c, m.c, |r, acc| add_assign(acc, &gv[r * m.c..][..m.c]));
        Some(Tensor::from_vec(g, m.c, &Device::Cpu)?)
    } else {
        None
    };
    Ok((dx, dw, db))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, random};
    use super::*;

    #[test]
    fn depthwise_convolution_with_and_without_silu() {
        for silu in [false, true] {
            check("depthwise", &[&[2, 5, 4, 19], &[19, 1, 3, 3]], |x| {
                depthwise_conv2d(&x[0], &x[1], None, silu)
            });
            check("depthwise", &[&[1, 3, 7, 6], &[6, 1, 5, 5], &[6]], |x| {
                depthwise_conv2d(&x[0], &x[1], Some(&x[2]), silu)
            });
        }
        check("depthwise, composed", &[&[2, 5, 4, 3], &[3, 1, 3, 3], &[3]], |x| {
            composed(&x[0], &x[1], Some(&x[2]))?.silu()
        });
    }

    #[test]
    fn depthwise_convolution_agrees_with_candle() {
        let (x, w) = (random(&[2, 6, 5, 7], 1), random(&[7, 1, 3, 3], 2));
        let a = depthwise_conv2d(&x, &w, None, false).unwrap();
        let c = composed(&x, &w, None).unwrap();
        let b = x.permute((0, 3, 1, 2)).unwrap().conv2d(&w, 1, 1, 1, 7).unwrap();
        let b = b.permute((0, 2, 3, 1)).unwrap();
        for y in [a, c] {
            let d = (y - &b).unwrap().abs().unwrap().max_all().unwrap();
            assert!(d.to_scalar::<f64>().unwrap() < 1e-12);
        }
    }
}
