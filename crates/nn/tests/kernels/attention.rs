//! Attention in 16 bits against the crate's CPU form in float64, within what rounding to 16 bits allows.

use super::ops::{both, moved, random, values};
use crate::compute::kernels;
use candle_core::{DType, Device, Result, Tensor, Var};
use medft_nn::precision::{Compute, scope};
use medft_nn::*;

const TYPES: [(Compute, DType); 2] = [(Compute::Bfloat16, DType::BF16), (Compute::Float16, DType::F16)];

/// Sizes of a call.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    b: usize,
    n: usize,
    m: usize,
    h: usize,
    d: usize,
}

impl Sizes {
    /// Where a head's row begins in an operand of so many rows.
    fn at(self, rows: usize, image: usize, row: usize, head: usize) -> usize {
        ((image * rows + row) * self.h + head) * self.d
    }

    /// q, k, v and the output's gradient, of values that `t` has; float32.
    fn operands(self, t: DType) -> [Tensor; 4] {
        let shape = |rows| [self.b, rows, self.h, self.d];
        let operand = |rows, key| representable(&random(&shape(rows), key), t);
        [
            operand(self.n, 0),
            operand(self.m, 1),
            operand(self.m, 2),
            operand(self.n, 3),
        ]
    }
}

fn representable(x: &Tensor, t: DType) -> Tensor {
    let x = x.to_dtype(DType::F32).unwrap().to_dtype(t).unwrap();
    x.to_dtype(DType::F32).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// How far output and gradients (o, dq, dk, dv) may be from the exact ones: six standard deviations of what roundings cost.
///
/// Rounding x to 16 bits costs at most u |x| (u is 2⁻⁸ in bfloat16, 2⁻¹¹ in float16), evenly spread: a variance of (u x)² / 3 at
/// most; below the normal numbers half a step (float16) or all of it (bfloat16, whose exponentials that are not normal are 0).
/// The kernels round p before p·v and pᵀ·do, ds before ds·k and dsᵀ·q, and every result; each rounding is independent of the
/// others. So, with D = <do, o> of the rounded o, dp = do·v and ds = p (dp - D), in units of u² / 3:
///
///     var o  = Σⱼ (p v)² + o²
///     var dv = Σᵢ (p do)² + dv²
///     var D  = Σⱼ (p dp)² + Σₓ (do o)²                        o's error by p is one for all columns
///     var dq = (var D (Σⱼ p k)² + Σⱼ (ds k)²) / d + dq²       D's error is one for all keys
///     var dk = Σᵢ (var D p² + ds²) q² / d + dk²
///
/// Float32's part is a relative error of p and one of dp - D: a few units of 2⁻²⁴ of what they are sums of.
fn bounds(z: Sizes, t: DType, operands: &[Tensor; 4], exact: &[Vec<f64>]) -> [Vec<f64>; 4] {
    let [q, k, v, dy] = [0, 1, 2, 3].map(|i| values(&operands[i]));
    let (scale, d) = (1.0 / (z.d as f64).sqrt(), z.d);
    let (unit, tiny) = match t {
        DType::BF16 => (2f64.powi(-8), 2f64.powi(-126)),
        _ => (2f64.powi(-11), 2f64.powi(-25)),
    };
    let least = tiny * tiny;
    let mut var = [0, 1, 2, 3].map(|i| vec![least; exact[i].len()]);
    for (image, head) in (0..z.b).flat_map(|b| (0..z.h).map(move |h| (b, h))) {
        let key = |j| z.at(z.m, image, j, head)..z.at(z.m, image, j, head) + d;
        for i in 0..z.n {
            let row = z.at(z.n, image, i, head)..z.at(z.n, image, i, head) + d;
            let (q, dy, o) = (&q[row.clone()], &dy[row.clone()], &exact[0][row.clone()]);
            let s: Vec<f64> = (0..z.m).map(|j| scale * dot(q, &k[key(j)])).collect();
            let sizes = |j| q.iter().zip(&k[key(j)]).map(|(x, y)| scale * (x * y).abs()).sum();
            let float = 8.0 * 2f64.powi(-24) * (0..z.m).map(sizes).fold(1.0, f64::max);
            let u2 = (unit * unit + float * float) / 3.0;
            let max = s.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = s.iter().map(|x| (x - max).exp()).sum();
            let p: Vec<f64> = s.iter().map(|x| (x - max).exp() / sum).collect();
            let dp: Vec<f64> = (0..z.m).map(|j| dot(dy, &v[key(j)])).collect();
            let big_d = dot(dy, o);
            let p_var = |j: usize| u2 * p[j] * p[j] + least;
            let d_var = (0..z.m).map(|j| p_var(j) * dp[j] * dp[j]).sum::<f64>()
                + (0..d).map(|x| u2 * (dy[x] * o[x]).powi(2)).sum::<f64>();
            let ds_var = |j: usize| {
                let lost = float * p[j] * (dp[j].abs() + big_d.abs());
                u2 * (p[j] * (dp[j] - big_d)).powi(2) + lost * lost + least
            };
            for x in 0..d {
                let mean: f64 = (0..z.m).map(|j| p[j] * k[key(j)][x]).sum();
                var[1][row.start + x] += scale * scale * d_var * mean * mean;
                for (j, &p) in p.iter().enumerate() {
                    let at = key(j).start + x;
                    var[0][row.start + x] += p_var(j) * v[at] * v[at];
                    var[1][row.start + x] += scale * scale * ds_var(j) * k[at] * k[at];
                    var[2][at] += scale * scale * (d_var * p * p + ds_var(j)) * q[x] * q[x];
                    var[3][at] += p_var(j) * dy[x] * dy[x];
                }
            }
        }
    }
    for (var, exact) in var.iter_mut().zip(exact) {
        for (v, x) in var.iter_mut().zip(exact) {
            *v = 6.0 * (*v + (unit * x).powi(2) / 3.0).sqrt();
        }
    }
    var
}

fn run(x: &[Tensor]) -> Result<Tensor> {
    attention(&x[0], &x[1], &x[2])
}

fn check(z: Sizes, t: (Compute, DType), operands: &[Tensor; 4]) {
    let wide: Vec<Tensor> = operands.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
    let flat = |x: &Tensor| x.reshape((z.b, z.n, z.h * z.d)).unwrap();
    let exact = both(&wide[..3], &flat(&wide[3]), &run);
    let narrow: Vec<Tensor> = operands.iter().map(|x| x.to_dtype(t.1).unwrap()).collect();
    let Some(got) = kernels(|device| {
        let x = moved(&narrow, device);
        scope(t.0, || both(&x[..3], &flat(&x[3]), &run))
    }) else {
        return;
    };
    let exact: Vec<Vec<f64>> = exact.iter().map(values).collect();
    let bounds = bounds(z, t.1, operands, &exact);
    for (((got, exact), bounds), name) in got.iter().zip(&exact).zip(&bounds).zip(["o", "dq", "dk", "dv"]) {
        assert_eq!(got.dtype(), t.1);
        for (i, ((a, b), bound)) in values(got).iter().zip(exact).zip(bounds).enumerate() {
            assert!(
                (a - b).abs() <= *bound,
                "{z:?} in {:?}: {name}[{i}] is {a}, exactly {b}, allowed ±{bound:.2e}",
                t.1
            );
        }
    }
}

/// Tiles are 64 rows of the own side and 32 or 16 of the other; a warp owns 16.
#[test]
fn in_16_bits() {
    for (b, n, m, h, d) in [
        (1, 1, 1, 1, 16),
        (2, 19, 19, 3, 12),
        (1, 17, 33, 2, 16),
        (2, 65, 65, 1, 64),
        (1, 33, 70, 2, 56),
        (1, 70, 35, 1, 72),
        (1, 50, 50, 2, 80),
        (1, 1, 130, 2, 96),
        (2, 20, 37, 1, 128),
        (1, 66, 66, 1, 128),
        // Rows that do not begin at multiples of 16 bytes.
        (1, 18, 34, 2, 7),
        (1, 34, 18, 1, 61),
    ] {
        let z = Sizes { b, n, m, h, d };
        for t in TYPES {
            check(z, t, &z.operands(t.1));
        }
    }
}

/// All scores are about -700: the masked keys of the last step, which are zeros, would have probabilities beyond float32.
#[test]
fn masked_keys_have_no_part_where_all_scores_are_low() {
    let z = Sizes {
        b: 1,
        n: 5,
        m: 9,
        h: 1,
        d: 64,
    };
    for t in TYPES {
        let [q, k, v, dy] = z.operands(t.1);
        let q = representable(&((q * 0.1).unwrap() + 9.0).unwrap(), t.1);
        let k = representable(&((k * 0.1).unwrap() - 10.0).unwrap(), t.1);
        check(z, t, &[q, k, v, dy]);
    }
}

/// Where operands lie makes no difference: the same bits from a packed projection and from its parts, gradients included.
#[test]
fn packed_and_separate_are_the_same() {
    for (b, n, h, d) in [(2, 37, 2, 16), (1, 65, 2, 64), (1, 20, 2, 72), (1, 9, 3, 5)] {
        for (compute, t) in TYPES {
            let qkv = random(&[b, n, 3, h, d], 7)
                .to_dtype(DType::F32)
                .unwrap()
                .to_dtype(t)
                .unwrap();
            let w = random(&[b, n, h * d], 8).to_dtype(DType::F32).unwrap();
            let part = |x: &Tensor, i: usize| x.narrow(2, i, 1)?.squeeze(2)?.contiguous();
            let separate = |x: &[Tensor]| attention(&part(&x[0], 0)?, &part(&x[0], 1)?, &part(&x[0], 2)?);
            let packed = |x: &[Tensor]| attention_packed(&x[0].flatten_from(2)?, h);
            let Some((a, b)) = kernels(|device| {
                let (x, w) = ([qkv.to_device(device).unwrap()], w.to_device(device).unwrap());
                scope(compute, || (both(&x, &w, &packed), both(&x, &w, &separate)))
            }) else {
                return;
            };
            for (a, b) in a.iter().zip(&b) {
                assert_eq!(values(a), values(b), "{t:?}, heads of {d}");
            }
        }
    }
}

/// Loss scaling counts on it: an infinite gradient of the output reaches every operand's gradient.
#[test]
fn an_overflow_is_seen() {
    let z = Sizes {
        b: 1,
        n: 20,
        m: 20,
        h: 1,
        d: 16,
    };
    for (compute, t) in TYPES {
        let [q, k, v, _] = z.operands(t).map(|x| x.to_dtype(t).unwrap());
        let mut dy = vec![1f32; z.n * z.d];
        dy[3 * z.d + 5] = f32::INFINITY;
        let dy = Tensor::from_vec(dy, (1, z.n, z.d), &Device::Cpu).unwrap();
        let Some(got) = kernels(|device| {
            let x = moved(&[q, k, v, dy], device);
            scope(compute, || both(&x[..3], &x[3], &run))
        }) else {
            return;
        };
        for (i, g) in got.iter().enumerate() {
            assert_eq!(values(g).iter().all(|x| x.is_finite()), i == 0, "result {i} in {t:?}");
        }
    }
}

#[test]
fn a_head_that_is_too_wide_is_named() {
    for (compute, t) in TYPES {
        let Some(error) = kernels(|device| {
            let x = Var::zeros((1, 2, 3 * 136), t, device).unwrap();
            scope(compute, || attention_packed(x.as_tensor(), 1))
                .unwrap_err()
                .to_string()
        }) else {
            return;
        };
        assert!(error.contains("136") && error.contains("128"), "{error}");
    }
}
