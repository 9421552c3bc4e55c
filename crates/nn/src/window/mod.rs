//! Attention inside the windows of a map, with pooled queries: Hiera's attention (SAM 2) in one differentiable op.
//!
//! The projection is applied to the map before it is cut: a padded position is all zero after the norm, so its q, k and v
//! are the projection's bias, and nothing has to be padded, partitioned or put together again. All padded keys of a window
//! are equal; they enter as one key whose score is raised by ln(count), which is the same softmax.

mod geometry;
mod kernels;

use super::attention::{attention, attention_packed};
use super::cpu::{self, Real, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use super::pool::max_pool;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Device, Layout, Result, Shape, Tensor, bail};
pub(crate) use geometry::Geometry;
pub use geometry::Windows;
use kernels::{backward, forward};
use std::sync::OnceLock;

/// Attention over a packed projection `qkv` (B, H, W, 3·h·d), q | k | v, inside windows; scale 1/√d.
/// Returns (B, H/py, W/px, h·d).
///
/// Windows that do not divide the map reach over its lower and right border. What lies there takes part as keys and values
/// (and in pooled queries) with the projection's `bias` (3·h·d).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn window_attention(qkv: &Tensor, bias: &Tensor, windows: Windows) -> Result<Tensor> {
    let g = Geometry::new(qkv.dims(), windows)?;
    if bias.dims() != [3 * g.width()] {
        bail!("window attention: qkv {:?}, bias {:?}", qkv.dims(), bias.dims());
    }
    if uses_kernels(qkv) {
        return cuda::window_attention(qkv, bias, g);
    }
    let op = WindowAttention {
        windows,
        stats: OnceLock::new(),
    };
    // Without padding the bias plays no part, and no gradient is formed for it.
    let bias = if g.padded() {
        bias.contiguous()?
    } else {
        Tensor::zeros(0, qkv.dtype(), qkv.device())?
    };
    qkv.contiguous()?.apply_op2(&bias, op)
}

impl Geometry {
    /// The same from other layers: windows (B·windows, positions, 3·C) are cut out of the map, (B·windows, queries, C) put back.
    pub(crate) fn attend(
        self,
        qkv: &Tensor,
        cut: impl FnOnce(&Tensor) -> Result<Tensor>,
        join: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (c, n) = (self.width(), self.b * self.ny * self.nx);
        let x = cut(qkv)?;
        if !self.pooled() {
            return join(&attention_packed(&x, self.heads)?);
        }
        let part = |i: usize| x.narrow(2, i * c, c)?.contiguous();
        let q = max_pool(&part(0)?.reshape((n, self.wh, self.ww, c))?, (self.py, self.px))?;
        let heads = |t: Tensor, m: usize| t.reshape((n, m, self.heads, self.d));
        let y = attention(
            &heads(q, self.qh * self.qw)?,
            &heads(part(1)?, self.wh * self.ww)?,
            &heads(part(2)?, self.wh * self.ww)?,
        )?;
        join(&y)
    }
}

/// From candle's ops around the other layers, to compare with.
#[cfg(test)]
fn composed(qkv: &Tensor, bias: &Tensor, g: Geometry) -> Result<Tensor> {
    g.attend(qkv, |x| cut(x, bias, g), |y| put_together(y, g))
}

/// A map (B, H, W, 3·C) as windows (B·windows, positions, 3·C).
pub(crate) fn cut(qkv: &Tensor, bias: &Tensor, g: Geometry) -> Result<Tensor> {
    let (c3, n) = (3 * g.width(), g.b * g.ny * g.nx);
    let (bottom, right) = (g.ny * g.wh - g.h, g.nx * g.ww - g.w);
    let mut x = qkv.clone();
    if right > 0 {
        x = Tensor::cat(&[&x, &bias.broadcast_as((g.b, g.h, right, c3))?.contiguous()?], 2)?;
    }
    if bottom > 0 {
        let pad = bias.broadcast_as((g.b, bottom, g.w + right, c3))?.contiguous()?;
        x = Tensor::cat(&[&x, &pad], 1)?;
    }
    x.reshape((g.b, g.ny, g.wh, g.nx, g.ww, c3))?
        .permute((0, 1, 3, 2, 4, 5))?
        .contiguous()?
        .reshape((n, g.wh * g.ww, c3))
}

/// Windows (B·windows, queries, C) as a map (B, OH, OW, C).
pub(crate) fn put_together(y: &Tensor, g: Geometry) -> Result<Tensor> {
    let c = g.width();
    y.reshape((g.b, g.ny, g.nx, g.qh, g.qw, c))?
        .permute((0, 1, 3, 2, 4, 5))?
        .contiguous()?
        .reshape((g.b, g.ny * g.qh, g.nx * g.qw, c))?
        .narrow(1, 0, g.oh)?
        .narrow(2, 0, g.ow)?
        .contiguous()
}

struct WindowAttention {
    windows: Windows,
    /// Row maxima and reciprocal sums, as `f64` so that one field serves both element types without loss.
    stats: OnceLock<Vec<(f64, f64)>>,
}

impl CustomOp2 for WindowAttention {
    fn name(&self) -> &'static str {
        "window_attention"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(
            op: &WindowAttention,
            g: &Geometry,
            s: [&CpuStorage; 2],
            l: [&Layout; 2],
        ) -> Result<CpuStorage> {
            let qkv = slice::<T>("window_attention", s[0], l[0])?;
            let bias = slice::<T>("window_attention", s[1], l[1])?;
            let (out, stats) = forward(g, qkv, bias);
            let _ = op
                .stats
                .set(stats.into_iter().map(|(a, b)| (a.to_f64(), b.to_f64())).collect());
            Ok(T::to_cpu_storage_owned(out))
        }
        let g = Geometry::new(l1.dims(), self.windows)?;
        let (s, l) = ([s1, s2], [l1, l2]);
        let out = match s1.dtype() {
            DType::F32 => typed::<f32>(self, &g, s, l)?,
            DType::F64 => typed::<f64>(self, &g, s, l)?,
            t => bail!("window attention: {t:?} is not supported on the CPU"),
        };
        Ok((out, Shape::from((g.b, g.oh, g.ow, g.width()))))
    }

    fn bwd(
        &self,
        qkv: &Tensor,
        bias: &Tensor,
        _out: &Tensor,
        dout: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(
            op: &WindowAttention,
            qkv: &Tensor,
            bias: &Tensor,
            dout: &Tensor,
        ) -> Result<(Option<Tensor>, Option<Tensor>)> {
            let g = Geometry::new(qkv.dims(), op.windows)?;
            let Some(stats) = op.stats.get() else {
                bail!("window attention: backward before forward");
            };
            let stats: Vec<(T, T)> = stats.iter().map(|&(a, b)| (T::of(a), T::of(b))).collect();
            let ((qs, ql), (bs, bl), (gs, gl)) = (
                qkv.storage_and_layout(),
                bias.storage_and_layout(),
                dout.storage_and_layout(),
            );
            let (qv, bv, gv) = (
                with_cpu::<T>(&qs, ql)?,
                with_cpu::<T>(&bs, bl)?,
                with_cpu::<T>(&gs, gl)?,
            );
            let (grad, shares) = backward(&g, qv, bv, &stats, gv);
            let grad = Tensor::from_vec(grad, qkv.shape(), &Device::Cpu)?;
            if shares.is_empty() || !bias.track_op() {
                return Ok((Some(grad), None));
            }
            let mut db = vec![T::default(); 3 * g.width()];
            for (t, share) in shares.chunks_exact(3 * g.d).enumerate() {
                for (part, v) in share.chunks_exact(g.d).enumerate() {
                    cpu::add_assign(&mut db[part * g.width() + t % g.heads * g.d..][..g.d], v);
                }
            }
            Ok((Some(grad), Some(Tensor::from_vec(db, bias.shape(), &Device::Cpu)?)))
        }
        let dout = dout.contiguous()?;
        match qkv.dtype() {
            DType::F64 => typed::<f64>(self, qkv, bias, &dout),
            _ => typed::<f32>(self, qkv, bias, &dout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{check, random};

    /// (map, side, pool): fitting, padded, pooled, both, global and pooled, a rest that pooling drops.
    type Case = ((usize, usize), usize, (usize, usize));
    const CASES: &[Case] = &[
        ((4, 6), 2, (1, 1)),
        ((5, 7), 3, (1, 1)),
        ((4, 8), 4, (2, 2)),
        ((4, 8), 6, (2, 2)),
        ((6, 4), 0, (2, 2)),
        ((3, 5), 6, (2, 2)),
        ((5, 3), 0, (1, 1)),
    ];

    fn windows(side: usize, pool: (usize, usize)) -> Windows {
        Windows { heads: 2, side, pool }
    }

    #[test]
    fn window_attentions() {
        for &((h, w), side, pool) in CASES {
            let name = format!("window attention {h}×{w}, side {side}, pool {pool:?}");
            let g = Geometry::new(&[2, h, w, 18], windows(side, pool)).unwrap();
            if g.padded() {
                check(&name, &[&[2, h, w, 18], &[18]], |x| {
                    window_attention(&x[0], &x[1], windows(side, pool))
                });
            } else {
                let bias = random(&[18], 5);
                check(&name, &[&[2, h, w, 18]], |x| {
                    window_attention(&x[0], &bias.to_dtype(x[0].dtype())?, windows(side, pool))
                });
            }
        }
    }

    #[test]
    fn composed_and_fused_window_attention_agree() {
        for &((h, w), side, pool) in CASES {
            let (x, bias) = (random(&[2, h, w, 18], 3), random(&[18], 4));
            let s = windows(side, pool);
            let a = window_attention(&x, &bias, s).unwrap();
            let b = composed(&x, &bias, Geometry::new(x.dims(), s).unwrap()).unwrap();
            let d = (a - b).unwrap().abs().unwrap().max_all().unwrap();
            assert!(d.to_scalar::<f64>().unwrap() < 1e-12, "{h}×{w}, {s:?}");
        }
    }

    #[test]
    fn windows_that_cannot_be_pooled_are_an_error() {
        let x = random(&[1, 10, 10, 18], 1);
        let e = window_attention(&x, &random(&[18], 2), windows(5, (2, 2))).unwrap_err();
        assert!(e.to_string().contains("cannot be pooled"), "{e}");
    }
}
