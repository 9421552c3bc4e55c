//! Every op as kernels against the crate's CPU form, forward and backward, and against finite differences.

use super::emulated;
use candle_core::{DType, Device, Result, Tensor, Var};
use medft::model::layers::precision::{Compute, scope};
use medft::model::layers::*;
use medft::rng::{Purpose, Stream};

fn random(dims: &[usize], key: u32) -> Tensor {
    let mut s = Stream::new(11, Purpose::Test, key, 0);
    let v: Vec<f64> = (0..dims.iter().product()).map(|_| s.normal()).collect();
    Tensor::from_vec(v, dims, &Device::Cpu).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The result and the gradients of Σ f·w by every input.
fn both(inputs: &[Tensor], w: &Tensor, f: &impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
    let xs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&xs).unwrap();
    let loss = (&y * w.to_dtype(y.dtype()).unwrap()).unwrap().sum_all().unwrap();
    let g = backward(&loss).unwrap();
    let mut out = vec![y.detach()];
    for v in &vars {
        let g = g.get(v.as_tensor()).unwrap().expect("every input has a gradient");
        assert_eq!(g.dtype(), v.dtype(), "a gradient has its input's type");
        out.push(g);
    }
    out
}

/// Largest difference over the largest value.
fn error(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let max = b.iter().fold(1e-300, |m: f64, v| m.max(v.abs()));
    a.iter().zip(&b).fold(0.0, |m: f64, (x, y)| {
        assert!(x.is_finite(), "{x}");
        m.max((x - y).abs())
    }) / max
}

/// Kernels against the CPU form in float64 (1e-12 of the largest value) and float32, and their gradients in float64 against
/// central differences of their own values.
fn check(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs: Vec<Tensor> = shapes.iter().zip(0..).map(|(s, i)| random(s, i)).collect();
    let y = f(&inputs).unwrap();
    let w = random(y.dims(), 99);
    for (dtype, bound) in [(DType::F64, 1e-12), (DType::F32, 4e-6)] {
        let typed: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(dtype).unwrap()).collect();
        let cpu = both(&typed, &w, &f);
        let Some(kernels) = emulated(|| both(&typed, &w, &f)) else {
            return;
        };
        for (i, (k, c)) in kernels.iter().zip(&cpu).enumerate() {
            assert_eq!(k.dtype(), c.dtype(), "{name}: type of result {i}");
            let e = error(k, c);
            assert!(
                e < bound,
                "{name}: result {i} in {dtype:?} is off by {e:.2e}, allowed {bound:.0e}"
            );
        }
        if dtype == DType::F64 {
            emulated(|| differences(name, &typed, &w, &kernels[1..], &f));
        }
    }
}

fn differences(name: &str, inputs: &[Tensor], w: &Tensor, grads: &[Tensor], f: &impl Fn(&[Tensor]) -> Result<Tensor>) {
    let value = |xs: &[Tensor]| -> f64 { values(&(f(xs).unwrap() * w).unwrap().sum_all().unwrap())[0] };
    for (i, g) in grads.iter().enumerate() {
        let (g, x) = (values(g), values(&inputs[i]));
        let scale = g.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(scale > 1e-9, "{name}: zero gradient for input {i}");
        for k in 0..x.len().min(6) {
            let k = k * x.len() / x.len().min(6);
            let at = |d: f64| {
                let mut x = x.clone();
                x[k] += d;
                let mut xs = inputs.to_vec();
                xs[i] = Tensor::from_vec(x, inputs[i].dims(), &Device::Cpu).unwrap();
                value(&xs)
            };
            let fd = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!(
                (fd - g[k]).abs() < 1e-6 * scale.max(1.0),
                "{name}: input {i}[{k}] {} against {fd}",
                g[k]
            );
        }
    }
}

/// One step of a 16-bit type at `x`.
fn ulp(t: DType, x: f64) -> f64 {
    let (digits, least) = match t {
        DType::BF16 => (7, -126),
        _ => (10, -14),
    };
    2f64.powi((x.abs().max(f64::MIN_POSITIVE).log2().floor() as i32).max(least) - digits)
}

/// A kernel in 16 bits against the float32 form on the same (representable) inputs: one step of the type. `float` names the
/// inputs that stay float32; the result is float32 where `out` says so.
fn check_half(name: &str, shapes: &[&[usize]], float: &[usize], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    for (compute, dtype) in [(Compute::Bfloat16, DType::BF16), (Compute::Float16, DType::F16)] {
        let inputs: Vec<Tensor> = shapes
            .iter()
            .zip(0..)
            .map(|(s, i)| random(s, i).to_dtype(DType::F32).unwrap().to_dtype(dtype).unwrap())
            .collect();
        let wide: Vec<Tensor> = inputs.iter().map(|t| t.to_dtype(DType::F32).unwrap()).collect();
        let narrow: Vec<Tensor> = (0..inputs.len())
            .map(|i| {
                if float.contains(&i) {
                    wide[i].clone()
                } else {
                    inputs[i].clone()
                }
            })
            .collect();
        let y = f(&wide).unwrap();
        let w = random(y.dims(), 99)
            .to_dtype(DType::F32)
            .unwrap()
            .to_dtype(dtype)
            .unwrap();
        let w = w.to_dtype(DType::F32).unwrap();
        let cpu = both(&wide, &w, &f);
        let Some(kernels) = emulated(|| scope(compute, || both(&narrow, &w, &f))) else {
            return;
        };
        for (i, (k, c)) in kernels.iter().zip(&cpu).enumerate() {
            let wide = values(c);
            // Sums over rows lose relative accuracy where they cancel: float32's share of the largest value is allowed on top.
            let max = wide.iter().fold(0f64, |m, v| m.max(v.abs()));
            for (a, b) in values(k).iter().zip(&wide) {
                assert!(
                    (a - b).abs() <= ulp(dtype, *b) + 4e-6 * max,
                    "{name}: result {i} in {dtype:?}: {a} against {b}"
                );
            }
        }
    }
}

/// (rows, width): one row, one column, odd widths, more rows than a block has warps.
const ROWS: &[(usize, usize)] = &[
    (1, 1),
    (1, 1027),
    (5, 1),
    (3, 7),
    (2100, 3),
    (9, 96),
    (3, 1000),
    (130, 33),
];

#[test]
fn norms() {
    for &(n, d) in ROWS {
        // A row of one value has no variance: its normalised value is 0, and so is every gradient but that of the bias.
        if d == 1 {
            continue;
        }
        check(&format!("layer_norm {n}×{d}"), &[&[n, d], &[d], &[d]], |x| {
            LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6).forward(&x[0])
        });
    }
    for &(n, d) in ROWS {
        check(&format!("rms_norm {n}×{d}"), &[&[n, d], &[d]], |x| {
            RmsNorm::new(x[1].clone(), 1e-1).forward(&x[0])
        });
    }
}

#[test]
fn norms_in_16_bits() {
    for float in [&[0, 1, 2][..], &[1, 2]] {
        check_half("layer_norm", &[&[9, 96], &[96], &[96]], float, |x| {
            LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6).forward(&x[0])
        });
        check_half("rms_norm", &[&[9, 96], &[96]], float, |x| {
            RmsNorm::new(x[1].clone(), 1e-6).forward(&x[0])
        });
    }
}

#[test]
fn activations() {
    for &(n, d) in ROWS {
        check("gelu", &[&[n, d]], |x| gelu(&x[0]));
        check("quick_gelu", &[&[n, d]], |x| quick_gelu(&x[0]));
        check("silu_mul", &[&[n, d], &[n, d]], |x| silu_mul(&x[0], &x[1]));
    }
    check_half("gelu", &[&[9, 96]], &[], |x| gelu(&x[0]));
    check_half("quick_gelu", &[&[9, 96]], &[], |x| quick_gelu(&x[0]));
    check_half("silu_mul", &[&[9, 96], &[9, 96]], &[], |x| silu_mul(&x[0], &x[1]));
}

#[test]
fn residuals() {
    for &(n, d) in ROWS {
        check("add_scaled", &[&[n, d], &[n, d], &[d]], |x| {
            add_scaled(&x[0], &x[1], &x[2])
        });
        check("add", &[&[n, d], &[n, d]], |x| add(&x[0], &x[1]));
    }
    check_half("add_scaled", &[&[9, 96], &[9, 96], &[96]], &[0, 2], |x| {
        add_scaled(&x[0], &x[1], &x[2])
    });
    check_half("add", &[&[9, 96], &[9, 96]], &[0], |x| add(&x[0], &x[1]));
}

#[test]
fn linear_layers() {
    for (rows, inp, out) in [(1, 7, 1), (5, 3, 9), (140, 6, 5), (3, 1, 33)] {
        check("linear", &[&[rows, inp], &[out, inp], &[out]], |x| {
            linear(&x[0], &x[1], Some(&x[2]))
        });
        check("linear without bias", &[&[rows, inp], &[out, inp]], |x| {
            linear(&x[0], &x[1], None)
        });
        check("linear and GELU", &[&[rows, inp], &[out, inp], &[out]], |x| {
            Linear::new(x[1].clone(), Some(x[2].clone())).forward_gelu(&x[0])
        });
    }
}

#[test]
fn attentions() {
    check("attention_packed", &[&[2, 19, 36]], |x| attention_packed(&x[0], 3));
    check("attention_packed", &[&[1, 1, 3]], |x| {
        // One key: the values pass through, so q and k have no gradient but v has.
        attention_packed(&x[0], 1)
    });
    check("attention", &[&[2, 5, 3, 4], &[2, 21, 3, 4], &[2, 21, 3, 4]], |x| {
        attention(&x[0], &x[1], &x[2])
    });
}

/// A parameter is float32 in any scope, and so are its gradient and the residual stream; 16 bits cost their rounding only.
#[test]
fn transformer_blocks_in_every_precision() {
    let shapes: &[&[usize]] = &[
        &[2, 7, 12],
        &[12],
        &[12],
        &[36, 12],
        &[36],
        &[12, 12],
        &[12],
        &[12],
        &[12],
        &[20, 12],
        &[20],
        &[12, 20],
        &[12],
        &[12],
        &[12],
    ];
    for act in [Act::GeluErf, Act::QuickGelu] {
        let f = |x: &[Tensor]| {
            let linear = |i: usize| Linear::new(x[i].clone(), Some(x[i + 1].clone()));
            TransformerBlock {
                norm1: LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6),
                qkv: linear(3),
                proj: linear(5),
                norm2: LayerNorm::new(x[7].clone(), x[8].clone(), 1e-6),
                fc1: linear(9),
                fc2: linear(11),
                ls1: Some(x[13].clone()),
                ls2: Some(x[14].clone()),
                heads: 3,
                act,
            }
            .forward(&x[0], act == Act::QuickGelu)
        };
        check("block", shapes, f);
        // Weights as trained networks have them, about 1/√width: with larger ones the softmax saturates.
        let scale = |s: &[usize]| if s.len() == 2 { 1.0 / (s[1] as f64).sqrt() } else { 1.0 };
        let inputs: Vec<Tensor> = shapes
            .iter()
            .zip(0..)
            .map(|(s, i)| (random(s, i) * scale(s)).unwrap().to_dtype(DType::F32).unwrap())
            .collect();
        let w = random(shapes[0], 99).to_dtype(DType::F32).unwrap();
        let exact = both(&inputs, &w, &f);
        for (compute, bound) in [
            (Compute::Float32, 4e-6),
            (Compute::Tf32, 4e-6),
            (Compute::Bfloat16, 6e-2),
            (Compute::Float16, 8e-3),
        ] {
            let Some(got) = emulated(|| scope(compute, || both(&inputs, &w, &f))) else {
                return;
            };
            for (i, (a, b)) in got.iter().zip(&exact).enumerate() {
                assert_eq!(a.dtype(), DType::F32);
                let e = error(a, b);
                println!("{compute:?} {i} {e:.1e}");
                assert!(e < bound, "{compute:?}: result {i} is off by {e:.2e}");
            }
        }
    }
}

/// No launch is left that the tests do not reach, and the element types are complete.
#[test]
fn kernels_are_listed() {
    let Some(e) = super::emulator::get() else {
        println!("skipped: no C++ compiler");
        return;
    };
    for family in ["layer_norm", "rms_norm", "layer_norm_dx", "rms_norm_dparams"] {
        for types in ["f32_f32", "f64_f64", "f32_bf16", "f32_f16", "bf16_bf16", "f16_f16"] {
            assert!(e.kernels.contains_key(&format!("{family}_{types}")), "{family}_{types}");
        }
    }
}
