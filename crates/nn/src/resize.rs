//! Bicubic resizing of position tables as PyTorch does it, written as two matrix products so that it is differentiable.

use super::dispatch::uses_kernels;
use super::linear::linear;
use candle_core::{DType, Device, Result, Tensor, bail};

/// The weights of a 1-D bicubic resize (`align_corners = false`, no antialias, a = −0.75): a matrix (out, in).
///
/// Output `x` samples at `(x + ½)·step − ½`. `step` is in/out where only sizes are given, and 1/scale_factor where a scale
/// factor is (DINOv2's hub rule). Indices are clamped to the border.
pub fn bicubic_matrix(input: usize, output: usize, step: f64) -> Vec<f32> {
    // Coordinates and weights in float32, as torch computes them for float32 tensors.
    let a = -0.75_f32;
    let near = |t: f32| ((a + 2.0) * t - (a + 3.0)) * t * t + 1.0;
    let far = |t: f32| ((a * t - 5.0 * a) * t + 8.0 * a) * t - 4.0 * a;
    let mut m = vec![0f32; output * input];
    for x in 0..output {
        let s = step as f32 * (x as f32 + 0.5) - 0.5;
        let base = s.floor();
        let t = s - base;
        let w = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
        for (k, w) in w.iter().enumerate() {
            let i = (base as i64 - 1 + k as i64).clamp(0, input as i64 - 1) as usize;
            m[x * input + i] += w;
        }
    }
    m
}

/// `weights (out, in) · x (in, n)`. On the CPU by this crate's product, whose sums do not depend on the processor.
fn weighted(weights: &Tensor, x: &Tensor) -> Result<Tensor> {
    if uses_kernels(x) {
        return weights.matmul(x);
    }
    linear(&x.t()?.contiguous()?, weights, None)?.t()?.contiguous()
}

/// Resizes a table (1, gh·gw, D) from the grid (gh, gw) to (oh, ow) with the given sampling steps (vertical, horizontal).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn resize_table(
    table: &Tensor,
    (gh, gw): (usize, usize),
    (oh, ow): (usize, usize),
    (sy, sx): (f64, f64),
) -> Result<Tensor> {
    let (one, n, d) = table.dims3()?;
    if one != 1 || n != gh * gw {
        bail!("position table {:?} is not a {gh}×{gw} grid", table.dims());
    }
    let mat = |i, o, s, dev: &Device| -> Result<Tensor> {
        Tensor::from_vec(bicubic_matrix(i, o, s), (o, i), &Device::Cpu)?
            .to_device(dev)?
            .to_dtype(table.dtype())
    };
    debug_assert!(table.dtype() == DType::F32 || table.dtype() == DType::F64);
    let y = weighted(&mat(gh, oh, sy, table.device())?, &table.reshape((gh, gw * d))?)?;
    let y = y
        .reshape((oh, gw, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((gw, oh * d))?;
    let y = weighted(&mat(gw, ow, sx, table.device())?, &y)?;
    y.reshape((ow, oh, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((1, oh * ow, d))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::random;
    use candle_core::Var;

    /// The bits of candle's own product, of the result and of the gradient.
    #[test]
    fn weighted_sums_are_a_matrix_product() {
        for (input, output, n) in [(14, 16, 5), (37, 16, 384), (16, 14, 100), (7, 7, 6)] {
            let m = Tensor::from_vec(bicubic_matrix(input, output, 0.9), (output, input), &Device::Cpu).unwrap();
            let x = Var::from_tensor(&random(&[input, n], 1).to_dtype(DType::F32).unwrap()).unwrap();
            let w = random(&[output, n], 2).to_dtype(DType::F32).unwrap();
            let run = |y: Tensor| -> [Vec<Vec<f32>>; 2] {
                let g = (&y * &w).unwrap().sum_all().unwrap().backward().unwrap();
                [y.to_vec2().unwrap(), g.get(&x).unwrap().to_vec2().unwrap()]
            };
            let (a, b) = (run(weighted(&m, &x).unwrap()), run(m.matmul(&x).unwrap()));
            assert_eq!(a, b, "{input} to {output}");
        }
    }
}
