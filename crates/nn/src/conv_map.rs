//! Convolution of a channels-last map: an unfold that copies whole pixels, then a matrix product.

use super::cuda;
use super::dispatch::uses_kernels;
use super::linear::linear_float;
use super::unfold_map::UnfoldMap;
use candle_core::{Result, Tensor, bail};

/// 2-D convolution, channels last, float32 in any scope. x (B, H, W, C), weight (D, C, k, k), bias (D) → (B, Ho, Wo, D).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn conv2d_map(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let (b, h, w, c) = x.dims4()?;
    let (d, cw, k, k2) = weight.dims4()?;
    if c != cw || k != k2 || h + 2 * padding < k || w + 2 * padding < k {
        bail!(
            "convolution: input {:?} does not fit a kernel {:?}",
            x.dims(),
            weight.dims()
        );
    }
    let op = UnfoldMap {
        k,
        stride,
        padding,
        out: ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1),
    };
    let (ho, wo) = op.out;
    let cols = if uses_kernels(x) {
        cuda::unfold(x, op)?
    } else {
        x.contiguous()?.apply_op1(op)?
    };
    let weight = weight.permute((0, 2, 3, 1))?.contiguous()?.reshape((d, k * k * c))?;
    linear_float(&cols, &weight, bias)?.reshape((b, ho, wo, d))
}

#[cfg(test)]
mod tests {
    use super::super::conv2d_tokens;
    use super::super::tests::{check, random};
    use super::*;

    #[test]
    fn convolutions_of_maps() {
        check("conv2d_map", &[&[2, 8, 5, 3], &[4, 3, 3, 3], &[4]], |x| {
            conv2d_map(&x[0], &x[1], Some(&x[2]), 2, 1)
        });
        check("conv2d_map", &[&[1, 4, 5, 3], &[2, 3, 3, 3]], |x| {
            conv2d_map(&x[0], &x[1], None, 1, 1)
        });
    }

    #[test]
    fn maps_and_images_convolve_alike() {
        let (x, w) = (random(&[2, 9, 6, 4], 1), random(&[5, 4, 3, 3], 2));
        let a = conv2d_map(&x, &w, None, 2, 1).unwrap();
        let nchw = x.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let b = conv2d_tokens(&nchw, &w, None, 2, 1).unwrap();
        let d = (a - b).unwrap().abs().unwrap().max_all().unwrap();
        assert!(d.to_scalar::<f64>().unwrap() < 1e-12);
    }
}
