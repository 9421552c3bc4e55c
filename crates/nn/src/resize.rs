//! Bicubic resizing of position tables as PyTorch does it, written as two matrix products so that it is differentiable.

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
    let y = mat(gh, oh, sy, table.device())?.matmul(&table.reshape((gh, gw * d))?)?;
    let y = y
        .reshape((oh, gw, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((gw, oh * d))?;
    let y = mat(gw, ow, sx, table.device())?.matmul(&y)?;
    y.reshape((ow, oh, d))?
        .transpose(0, 1)?
        .contiguous()?
        .reshape((1, oh * ow, d))
}
