//! Convolutions as matrix products: non-overlapping patches, and general windows through an own unfold with backward
//! (candle's conv2d fails on some non-square inputs in the backward pass).

use super::conv_map::conv2d_map;
use super::cpu::{Real, par_filled, slice, with_cpu};
use super::dispatch::uses_kernels;
use super::linear::linear_float;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Non-overlapping patch projection, float32 in any scope. x (B, C, H, W), weight (D, C, p, p), bias (D) → (B, H/p · W/p, D), row-major patches.
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn patch_embed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let (d, cw, p, p2) = weight.dims4()?;
    if c != cw || p != p2 || h % p != 0 || w % p != 0 {
        bail!(
            "patch embedding: input {:?} does not fit a kernel {:?}",
            x.dims(),
            weight.dims()
        );
    }
    let (gh, gw) = (h / p, w / p);
    let x = x
        .reshape((b, c, gh, p, gw, p))?
        .permute((0, 2, 4, 1, 3, 5))?
        .contiguous()?
        .reshape((b, gh * gw, c * p * p))?;
    linear_float(&x, &weight.reshape((d, c * p * p))?, bias)
}

/// 2-D convolution to channels-last tokens, float32 in any scope. x (B, C, H, W), weight (D, C, k, k), bias (D) → (B, Ho, Wo, D).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn conv2d_tokens(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    let (d, cw, k, k2) = weight.dims4()?;
    if c != cw || k != k2 || h + 2 * padding < k || w + 2 * padding < k {
        bail!(
            "convolution: input {:?} does not fit a kernel {:?}",
            x.dims(),
            weight.dims()
        );
    }
    let (ho, wo) = ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1);
    if uses_kernels(x) {
        return conv2d_map(&x.permute((0, 2, 3, 1))?, weight, bias, stride, padding);
    }
    let cols = x.contiguous()?.apply_op1(Unfold {
        k,
        stride,
        padding,
        out: (ho, wo),
    })?;
    linear_float(&cols, &weight.reshape((d, c * k * k))?, bias)?.reshape((b, ho, wo, d))
}

/// (B, C, H, W) → (B, Ho·Wo, C·k·k), zero-padded.
struct Unfold {
    k: usize,
    stride: usize,
    padding: usize,
    out: (usize, usize),
}

impl Unfold {
    /// Calls `f(column in the row, y, x)` for every tap of one output pixel that lies inside the image.
    #[inline(always)]
    fn taps(&self, (h, w): (usize, usize), (oy, ox): (usize, usize), mut f: impl FnMut(usize, usize, usize)) {
        for i in 0..self.k {
            let Some(y) = (oy * self.stride + i).checked_sub(self.padding).filter(|&y| y < h) else {
                continue;
            };
            for j in 0..self.k {
                if let Some(x) = (ox * self.stride + j).checked_sub(self.padding).filter(|&x| x < w) {
                    f(i * self.k + j, y, x);
                }
            }
        }
    }
}

impl CustomOp1 for Unfold {
    fn name(&self) -> &'static str {
        "unfold"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = l.shape().dims4()?;
        let (ho, wo) = self.out;
        let row = c * self.k * self.k;
        fn typed<T: Real>(
            op: &Unfold,
            s: &CpuStorage,
            l: &Layout,
            (c, h, w): (usize, usize, usize),
            row: usize,
        ) -> Result<CpuStorage> {
            let x = slice::<T>("unfold", s, l)?;
            let (ho, wo) = op.out;
            let (b, kk) = (x.len() / (c * h * w), op.k * op.k);
            // A row is a line of the output; what no tap reaches stays zero.
            let y = par_filled(b * ho, wo * row, |lines, out| {
                for (t, line) in lines.zip(out.chunks_exact_mut(wo * row)) {
                    let (n, oy) = (t / ho, t % ho);
                    for (ox, out) in line.chunks_exact_mut(row).enumerate() {
                        for ch in 0..c {
                            let img = &x[(n * c + ch) * h * w..][..h * w];
                            op.taps((h, w), (oy, ox), |k, y, x| out[ch * kk + k] = img[y * w + x]);
                        }
                    }
                }
            });
            Ok(T::to_cpu_storage_owned(y))
        }
        let y = match s.dtype() {
            DType::F32 => typed::<f32>(self, s, l, (c, h, w), row)?,
            DType::F64 => typed::<f64>(self, s, l, (c, h, w), row)?,
            t => bail!("unfold: {t:?} is not supported on the CPU"),
        };
        Ok((y, Shape::from((b, ho * wo, row))))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        fn typed<T: Real>(op: &Unfold, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
            let (b, c, h, w) = x.dims4()?;
            let (ho, wo) = op.out;
            let kk = op.k * op.k;
            let row = c * kk;
            let (s, l) = dy.storage_and_layout();
            let g = with_cpu::<T>(&s, l)?;
            let mut dx = vec![T::default(); b * c * h * w];
            dx.par_chunks_mut(h * w).enumerate().for_each(|(t, img)| {
                let (n, ch) = (t / c, t % c);
                for o in 0..ho * wo {
                    let taps = &g[(n * ho * wo + o) * row + ch * kk..][..kk];
                    op.taps((h, w), (o / wo, o % wo), |k, y, x| img[y * w + x] += taps[k]);
                }
            });
            Tensor::from_vec(dx, x.shape(), &Device::Cpu)
        }
        let dy = dy.contiguous()?;
        Ok(Some(match x.dtype() {
            DType::F64 => typed::<f64>(self, x, &dy)?,
            _ => typed::<f32>(self, x, &dy)?,
        }))
    }
}
