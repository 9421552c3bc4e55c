//! The same layers from candle's and candle-nn's own ops: slow, whole score matrices in memory, right on every device.
//!
//! What the fast forms are compared with, here and by a program that checks itself on a device it has not met. Only ops whose
//! gradients are right are used: of candle-nn `softmax`, `layer_norm_slow` and `rms_norm_slow`, never their fused twins, which cut
//! the graph without an error.

use candle_core::{D, Result, Tensor};
use candle_nn::Module;

/// [`crate::linear()`].
///
/// # Errors
/// Where shapes do not fit.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    candle_nn::Linear::new(weight.clone(), bias.cloned()).forward(x)
}

/// [`crate::LayerNorm::forward`].
///
/// # Errors
/// Where shapes do not fit.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    candle_nn::ops::layer_norm_slow(x, weight, bias, eps as f32)
}

/// [`crate::RmsNorm::forward`].
///
/// # Errors
/// Where shapes do not fit.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    candle_nn::ops::rms_norm_slow(x, weight, eps as f32)
}

/// [`crate::gelu`].
///
/// # Errors
/// Where candle has no form for the type.
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    x.gelu_erf()
}

/// [`crate::quick_gelu`].
///
/// # Errors
/// Where candle has no form for the type.
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    // sigmoid(t) = (1 + tanh(t/2)) / 2.
    (x * ((x * 0.851)?.tanh()? + 1.0)?)? * 0.5
}

/// [`crate::silu_mul`].
///
/// # Errors
/// Where shapes differ.
pub fn silu_mul(x: &Tensor, z: &Tensor) -> Result<Tensor> {
    candle_nn::ops::silu(x)? * z
}

/// [`crate::attention()`]: q (B, N, H, d), k and v (B, M, H, d) → (B, N, H·d).
///
/// # Errors
/// Where shapes do not fit.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let heads = |x: &Tensor| x.transpose(1, 2)?.contiguous();
    let scores = (heads(q)?.matmul(&heads(k)?.t()?.contiguous()?)? / (q.dim(3)? as f64).sqrt())?;
    let p = candle_nn::ops::softmax(&scores, D::Minus1)?;
    p.matmul(&heads(v)?)?.transpose(1, 2)?.contiguous()?.flatten_from(2)
}

/// [`crate::loss::cross_entropy`].
///
/// # Errors
/// Where shapes do not fit.
pub fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    candle_nn::loss::cross_entropy(logits, classes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{check, random};
    use crate::{LayerNorm, RmsNorm, backward};
    use candle_core::{Device, Var};

    /// Result and gradients of both forms, in float64; the reference's gradients against finite differences too.
    fn agree(
        name: &str,
        shapes: &[&[usize]],
        bound: f64,
        ours: impl Fn(&[Tensor]) -> Result<Tensor>,
        theirs: impl Fn(&[Tensor]) -> Result<Tensor>,
    ) {
        check(name, shapes, &theirs);
        let run = |f: &dyn Fn(&[Tensor]) -> Result<Tensor>| -> Vec<Vec<f64>> {
            let x: Vec<Var> = shapes
                .iter()
                .zip(0..)
                .map(|(s, i)| Var::from_tensor(&random(s, i)).unwrap())
                .collect();
            let y = f(&x.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>()).unwrap();
            let g = backward(&(&y * random(y.dims(), 99)).unwrap().sum_all().unwrap()).unwrap();
            let grads = x.iter().map(|v| g.get(v).unwrap().unwrap());
            std::iter::once(y.clone())
                .chain(grads)
                .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
                .collect()
        };
        for (i, (a, b)) in run(&ours).iter().zip(&run(&theirs)).enumerate() {
            let max = b.iter().fold(0f64, |m, v| m.max(v.abs()));
            assert_eq!(a.len(), b.len());
            for (a, b) in a.iter().zip(b) {
                assert!((a - b).abs() <= bound * max, "{name}, result {i}: {a} against {b}");
            }
        }
    }

    #[test]
    fn fast_layers_are_what_candles_own_ops_make() {
        let exact = 1e-12;
        agree(
            "linear",
            &[&[2, 5, 7], &[6, 7], &[6]],
            exact,
            |x| crate::linear(&x[0], &x[1], Some(&x[2])),
            |x| linear(&x[0], &x[1], Some(&x[2])),
        );
        // candle-nn takes ε in float32.
        let eps = f64::from(1e-5f32);
        agree(
            "layer_norm",
            &[&[3, 4, 37], &[37], &[37]],
            exact,
            |x| LayerNorm::new(x[1].clone(), x[2].clone(), eps).forward(&x[0]),
            |x| layer_norm(&x[0], &x[1], &x[2], eps),
        );
        agree(
            "rms_norm",
            &[&[3, 4, 37], &[37]],
            exact,
            |x| RmsNorm::new(x[1].clone(), eps).forward(&x[0]),
            |x| rms_norm(&x[0], &x[1], eps),
        );
        // candle's own derivative of gelu_erf writes 1/√(2π) with six digits, which is up to 1.7e-7 off.
        agree("gelu", &[&[5, 33]], 3e-7, |x| crate::gelu(&x[0]), |x| gelu(&x[0]));
        agree(
            "quick_gelu",
            &[&[5, 33]],
            exact,
            |x| crate::quick_gelu(&x[0]),
            |x| quick_gelu(&x[0]),
        );
        agree(
            "silu_mul",
            &[&[5, 33], &[5, 33]],
            exact,
            |x| crate::silu_mul(&x[0], &x[1]),
            |x| silu_mul(&x[0], &x[1]),
        );
        agree(
            "attention",
            &[&[2, 5, 3, 4], &[2, 21, 3, 4], &[2, 21, 3, 4]],
            exact,
            |x| crate::attention(&x[0], &x[1], &x[2]),
            |x| attention(&x[0], &x[1], &x[2]),
        );
        let classes = Tensor::new(&[0u32, 3, 4, 2, 1, 1, 0], &Device::Cpu).unwrap();
        agree(
            "cross entropy",
            &[&[7, 5]],
            exact,
            |x| crate::loss::cross_entropy(&x[0], &classes),
            |x| cross_entropy(&x[0], &classes),
        );
    }
}
