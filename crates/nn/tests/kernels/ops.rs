//! Every op as kernels against the crate's CPU form, forward and backward, and against finite differences.

use crate::compute::kernels;
use candle_core::{DType, Device, Result, Tensor, Var};
use medft_nn::precision::{Compute, scope};
use medft_nn::*;

#[path = "../../src/testing.rs"]
mod testing;
use testing::Normal;

pub(crate) fn random(dims: &[usize], key: u32) -> Tensor {
    let mut s = Normal::new(11, key);
    let v: Vec<f64> = (0..dims.iter().product()).map(|_| s.draw()).collect();
    Tensor::from_vec(v, dims, &Device::Cpu).unwrap()
}

pub(crate) fn values(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub(crate) fn moved(xs: &[Tensor], device: &Device) -> Vec<Tensor> {
    xs.iter().map(|x| x.to_device(device).unwrap()).collect()
}

/// The result and the gradients of Σ f·w by every input.
pub(crate) fn both(inputs: &[Tensor], w: &Tensor, f: &impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
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
        let Some(got) = kernels(|d| both(&moved(&typed, d), &w.to_device(d).unwrap(), &f)) else {
            return;
        };
        for (i, (k, c)) in got.iter().zip(&cpu).enumerate() {
            assert_eq!(k.dtype(), c.dtype(), "{name}: type of result {i}");
            let e = error(k, c);
            assert!(
                e < bound,
                "{name}: result {i} in {dtype:?} is off by {e:.2e}, allowed {bound:.0e}"
            );
        }
        if dtype == DType::F64 {
            kernels(|d| differences(name, d, &typed, &w, &got[1..], &f));
        }
    }
}

fn differences(
    name: &str,
    device: &Device,
    inputs: &[Tensor],
    w: &Tensor,
    grads: &[Tensor],
    f: &impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let w = w.to_device(device).unwrap();
    let value =
        |xs: &[Tensor]| -> f64 { values(&(f(&moved(xs, device)).unwrap() * &w).unwrap().sum_all().unwrap())[0] };
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
        let Some(got) = kernels(|d| scope(compute, || both(&moved(&narrow, d), &w.to_device(d).unwrap(), &f))) else {
            return;
        };
        for (i, (k, c)) in got.iter().zip(&cpu).enumerate() {
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

/// (rows, width): one row, one column, odd widths, more rows than a block has warps; widths of whole packs: several rows a warp,
/// rows that fit in a warp's registers, rows that do not, more blocks of rows than a warp has lanes.
const ROWS: &[(usize, usize)] = &[
    (1, 1),
    (1, 1027),
    (5, 1),
    (3, 7),
    (2100, 3),
    (9, 96),
    (3, 1000),
    (130, 33),
    (1100, 8),
    (2, 1536),
];

/// The same for operands of 16 bits, whose packs are larger.
const HALF_ROWS: &[(usize, usize)] = &[(9, 96), (9, 33), (1100, 8), (3, 1000), (2, 2056)];

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
        for &(n, d) in HALF_ROWS {
            check_half(&format!("layer_norm {n}×{d}"), &[&[n, d], &[d], &[d]], float, |x| {
                LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6).forward(&x[0])
            });
            check_half(&format!("rms_norm {n}×{d}"), &[&[n, d], &[d]], float, |x| {
                RmsNorm::new(x[1].clone(), 1e-6).forward(&x[0])
            });
        }
    }
}

#[test]
fn activations() {
    for &(n, d) in ROWS {
        check("gelu", &[&[n, d]], |x| gelu(&x[0]));
        check("quick_gelu", &[&[n, d]], |x| quick_gelu(&x[0]));
        check("silu_mul", &[&[n, d], &[n, d]], |x| silu_mul(&x[0], &x[1]));
    }
    for &(n, d) in HALF_ROWS {
        check_half("gelu", &[&[n, d]], &[], |x| gelu(&x[0]));
        check_half("quick_gelu", &[&[n, d]], &[], |x| quick_gelu(&x[0]));
        check_half("silu_mul", &[&[n, d], &[n, d]], &[], |x| silu_mul(&x[0], &x[1]));
    }
}

#[test]
fn residuals() {
    for &(n, d) in ROWS {
        check("add_scaled", &[&[n, d], &[n, d], &[d]], |x| {
            add_scaled(&x[0], &x[1], &x[2])
        });
        check("add", &[&[n, d], &[n, d]], |x| add(&x[0], &x[1]));
    }
    for &(n, d) in HALF_ROWS {
        check_half("add_scaled", &[&[n, d], &[n, d], &[d]], &[0, 2], |x| {
            add_scaled(&x[0], &x[1], &x[2])
        });
        check_half("add", &[&[n, d], &[n, d]], &[0], |x| add(&x[0], &x[1]));
    }
}

/// All but the first element of a vector, as rows of which no address is a multiple of 16 bytes.
fn shifted(x: &Tensor, dims: &[usize]) -> Result<Tensor> {
    x.narrow(0, 1, x.elem_count() - 1)?.reshape(dims)
}

/// Widths of whole packs at addresses where none can be accessed at once.
#[test]
fn operands_that_begin_anywhere() {
    let (rows, row): (&[usize], &[usize]) = (&[9 * 96 + 1], &[97]);
    let norm = |x: &[Tensor]| {
        LayerNorm::new(shifted(&x[1], &[96])?, shifted(&x[2], &[96])?, 1e-6).forward(&shifted(&x[0], &[9, 96])?)
    };
    let rms = |x: &[Tensor]| RmsNorm::new(shifted(&x[1], &[96])?, 1e-1).forward(&shifted(&x[0], &[9, 96])?);
    let silu_mul = |x: &[Tensor]| silu_mul(&shifted(&x[0], &[9, 96])?, &shifted(&x[1], &[9, 96])?);
    let add_scaled = |x: &[Tensor]| {
        let (y, gamma) = (shifted(&x[1], &[9, 96])?, shifted(&x[2], &[96])?);
        add_scaled(&shifted(&x[0], &[9, 96])?, &y, &gamma)
    };
    check("layer_norm", &[rows, row, row], norm);
    check("rms_norm", &[rows, row], rms);
    check("gelu", &[rows], |x| gelu(&shifted(&x[0], &[9, 96])?));
    check("silu_mul", &[rows, rows], silu_mul);
    check("add_scaled", &[rows, rows, row], add_scaled);
    check_half("layer_norm", &[rows, row, row], &[1, 2], norm);
    check_half("rms_norm", &[rows, row], &[1], rms);
    check_half("gelu", &[rows], &[], |x| gelu(&shifted(&x[0], &[9, 96])?));
    check_half("silu_mul", &[rows, rows], &[], silu_mul);
    check_half("add_scaled", &[rows, rows, row], &[0, 2], add_scaled);
    let map: &[usize] = &[2 * 5 * 6 * 8 + 1];
    let depthwise = |x: &[Tensor]| {
        let (weight, bias) = (shifted(&x[1], &[8, 1, 3, 3])?, shifted(&x[2], &[8])?);
        depthwise_conv2d(&shifted(&x[0], &[2, 5, 6, 8])?, &weight, Some(&bias), false)
    };
    check("depthwise", &[map, &[73], &[9]], depthwise);
    check_half("depthwise", &[map, &[73], &[9]], &[1, 2], depthwise);
    check("max_pool", &[map], |x| {
        max_pool(&shifted(&x[0], &[2, 5, 6, 8])?, (2, 2))
    });
    check("conv2d_map", &[map, &[3 * 8 * 9 + 1]], |x| {
        conv2d_map(
            &shifted(&x[0], &[2, 5, 6, 8])?,
            &shifted(&x[1], &[3, 8, 3, 3])?,
            None,
            2,
            1,
        )
    });
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

/// The sum and its bias are rounded once, also of float32 results, and gradients of parameters are float32.
#[test]
fn linear_layers_in_16_bits() {
    for (rows, inp, out) in [(1, 7, 1), (5, 3, 9), (130, 64, 48), (3, 1, 33)] {
        let shapes: &[&[usize]] = &[&[rows, inp], &[out, inp], &[out]];
        let bias = |x: &[Tensor]| linear(&x[0], &x[1], Some(&x[2]));
        check_half("linear", shapes, &[1, 2], bias);
        check_half("linear without bias", &shapes[..2], &[1], |x| {
            linear(&x[0], &x[1], None)
        });
        check_half("linear in float32", shapes, &[1, 2], |x| {
            linear_float(&x[0], &x[1], Some(&x[2]))
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
            let block = TransformerBlock {
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
            };
            Stack::new([block], act == Act::QuickGelu).forward(&x[0], |_, _| Ok(()))
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
            // As many bits of fraction as float16.
            (Compute::Tf32, 8e-3),
            (Compute::Bfloat16, 6e-2),
            (Compute::Float16, 8e-3),
        ] {
            let Some(got) = kernels(|d| scope(compute, || both(&moved(&inputs, d), &w.to_device(d).unwrap(), &f)))
            else {
                return;
            };
            for (i, (a, b)) in got.iter().zip(&exact).enumerate() {
                assert_eq!(a.dtype(), DType::F32);
                let e = error(a, b);
                assert!(e < bound, "{compute:?}: result {i} is off by {e:.2e}");
            }
        }
    }
}

/// A tape goes through candle's own ops too: on what it holds (also twice), on parameters, at its end and at its input.
#[test]
fn stacks_of_mixed_ops() {
    for checkpointing in [false, true] {
        check("stack", &[&[4, 6], &[36], &[6]], |x| {
            let (w, b) = (x[1].clone(), x[2].clone());
            let mixed = move |x: &Tensor| {
                let h = linear(&x.affine(0.5, 0.0)?, &w.reshape((6, 6))?, Some(&b))?;
                let (left, right) = (h.narrow(1, 0, 3)?.contiguous()?, h.narrow(1, 3, 3)?.contiguous()?);
                let y = add(&silu_mul(&left, &right)?, &gelu(&left)?)?;
                Tensor::cat(&[&y, &left], 1)
            };
            let b = x[2].clone();
            let ours = move |x: &Tensor| add(x, &linear(x, &b.reshape((6, 1))?.broadcast_mul(&b)?, None)?);
            type Op = Box<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;
            let parts: [Op; 2] = [Box::new(mixed), Box::new(ours)];
            Stack::new(parts, checkpointing).forward(&x[0], |_, _| Ok(()))
        });
    }
}

#[test]
fn maps() {
    for (b, h, w, c, k) in [
        (2, 5, 4, 19, 3),
        (1, 3, 7, 6, 5),
        (1, 1, 1, 3, 3),
        (3, 30, 2, 4, 3),
        (2, 70, 9, 8, 3),
    ] {
        for silu in [false, true] {
            check("depthwise", &[&[b, h, w, c], &[c, 1, k, k]], |x| {
                depthwise_conv2d(&x[0], &x[1], None, silu)
            });
            check("depthwise", &[&[b, h, w, c], &[c, 1, k, k], &[c]], |x| {
                depthwise_conv2d(&x[0], &x[1], Some(&x[2]), silu)
            });
        }
    }
    check("conv2d_map", &[&[2, 8, 5, 3], &[4, 3, 3, 3], &[4]], |x| {
        conv2d_map(&x[0], &x[1], Some(&x[2]), 2, 1)
    });
    check_half("depthwise", &[&[2, 7, 9, 8], &[8, 1, 3, 3], &[8]], &[1, 2], |x| {
        depthwise_conv2d(&x[0], &x[1], Some(&x[2]), false)
    });
    check("conv2d_map", &[&[2, 7, 5, 8], &[4, 8, 3, 3]], |x| {
        conv2d_map(&x[0], &x[1], None, 2, 1)
    });
    check("conv2d_map", &[&[1, 4, 5, 3], &[2, 3, 3, 3]], |x| {
        conv2d_map(&x[0], &x[1], None, 1, 1)
    });
    check("conv2d_tokens", &[&[1, 2, 16, 12], &[4, 2, 7, 7]], |x| {
        conv2d_tokens(&x[0], &x[1], None, 4, 3)
    });
    check("patch_embed", &[&[2, 3, 6, 9], &[5, 3, 3, 3], &[5]], |x| {
        patch_embed(&x[0], &x[1], Some(&x[2]))
    });
    check("max_pool", &[&[2, 4, 6, 5]], |x| max_pool(&x[0], (2, 2)));
    check("max_pool", &[&[1, 5, 7, 3]], |x| max_pool(&x[0], (2, 3)));
    check("max_pool", &[&[2, 5, 7, 8]], |x| max_pool(&x[0], (2, 3)));
    check_half("max_pool", &[&[2, 4, 6, 16]], &[], |x| max_pool(&x[0], (2, 2)));
}

#[test]
fn the_first_of_equal_values_gets_the_gradient() {
    kernels(|d| {
        let x = Var::ones((1, 2, 2, 1), DType::F64, d).unwrap();
        let y = max_pool(x.as_tensor(), (2, 2)).unwrap();
        let g = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(values(g.get(x.as_tensor()).unwrap()), [1.0, 0.0, 0.0, 0.0]);
    });
}

#[test]
fn window_attentions() {
    for ((h, w), side, pool) in [
        ((4, 6), 2, (1, 1)),
        ((5, 7), 3, (1, 1)),
        ((4, 8), 6, (2, 2)),
        ((6, 4), 0, (2, 2)),
    ] {
        let windows = Windows { heads: 2, side, pool };
        if side == 3 || side == 6 {
            check("padded window attention", &[&[2, h, w, 18], &[18]], |x| {
                window_attention(&x[0], &x[1], windows)
            });
            continue;
        }
        // Without padding the bias plays no part.
        let bias = random(&[18], 5);
        check("window attention", &[&[2, h, w, 18]], |x| {
            let bias = bias.to_device(x[0].device())?.to_dtype(x[0].dtype())?;
            window_attention(&x[0], &bias, windows)
        });
    }
}

/// Across the borders of chunks (32 steps here, 64 on the CPU), of warps (32 channels) and of blocks (64 channels on the CPU).
#[test]
fn selective_scans() {
    for (h, w, d, n, r) in [
        (3, 4, 5, 1, 2),
        (2, 35, 3, 3, 1),
        (2, 2, 70, 2, 3),
        (1, 65, 33, 1, 1),
        (1, 2, 2, 16, 1),
    ] {
        let s = [
            vec![2, h, w, d],
            vec![2, h, w, 4 * (r + 2 * n)],
            vec![4, d, r],
            vec![4, d],
            vec![4 * d, n],
            vec![4 * d],
        ];
        let s: Vec<&[usize]> = s.iter().map(Vec::as_slice).collect();
        check(&format!("scan of {h}×{w}, {d} channels"), &s, |x| {
            SelectiveScan {
                u: &x[0],
                projected: &x[1],
                dt_weight: &x[2],
                dt_bias: &x[3],
                a_log: &x[4],
                skip: &x[5],
            }
            .run(&Orders::cross(h, w))
        });
    }
}

#[test]
fn crossed_maps() {
    check("cross_scan", &[&[2, 12, 5]], |x| {
        cross_scan(&x[0], &Orders::cross(3, 4))
    });
    check("cross_merge", &[&[2, 4, 12, 5]], |x| {
        cross_merge(&x[0], &Orders::cross(3, 4))
    });
}

#[test]
fn losses() {
    use medft_nn::loss::{bce_with_logits, cross_entropy};
    for (n, classes) in [(1, 2), (7, 5), (64, 14), (300, 3)] {
        let own: Vec<u32> = (0..n).map(|i| (i * 7 % classes) as u32).collect();
        check("cross entropy", &[&[n, classes]], |x| {
            cross_entropy(&(&x[0] * 9.0)?, &Tensor::from_slice(&own, n, x[0].device())?)
        });
        let labels: Vec<f64> = (0..n * classes)
            .map(|i| f64::from(u8::from((i / classes * 3 + i % classes * 5).is_multiple_of(4))))
            .collect();
        check("binary cross entropy", &[&[n, classes]], |x| {
            let y = Tensor::from_slice(&labels, (n, classes), x[0].device())?.to_dtype(x[0].dtype())?;
            bce_with_logits(&(&x[0] * 9.0)?, &y)
        });
    }
}

/// A step of AdamW by hand, of parameters and gradients at every address that a float can have.
#[test]
fn optimiser_steps_of_tensors_that_begin_anywhere() {
    use medft_nn::optimiser::{Moments, Update, adamw, square_sum};
    let n = 5001;
    let values32 = |key| random(&[n], key).abs().unwrap().to_dtype(DType::F32).unwrap();
    let given: Vec<Vec<f32>> = (0..4).map(|key| values32(key).to_vec1().unwrap()).collect();
    let (shrink, step, bias2, scale) = (0.99, 1e-2, 0.5, 0.25);
    let want: Vec<([f64; 3], [f64; 3])> = (0..n)
        .map(|i| {
            let [p, g, m, v] = [0, 1, 2, 3].map(|k| f64::from(given[k][i]));
            let g = g * scale;
            let (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
            let (kept, taken) = (p * shrink, step * m / (v.sqrt() / bias2 + 1e-8));
            // What float32 rounds: the two terms of the parameter, which may cancel; the moments themselves.
            ([kept - taken, m, v], [kept.abs() + taken.abs(), m.abs(), v.abs()])
        })
        .collect();
    let squares: f64 = given[1].iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    for shift in 0..4 {
        kernels(|d| {
            let place = |t: &[f32]| {
                let all: Vec<f32> = vec![0.0; shift].into_iter().chain(t.iter().copied()).collect();
                let t = Tensor::from_vec(all, shift + n, d).unwrap();
                t.narrow(0, shift, n).unwrap()
            };
            let (parameter, gradient) = (place(&given[0]), place(&given[1]));
            let mut moments = Moments::zeros(&parameter).unwrap();
            moments.set(given[2].clone(), given[3].clone()).unwrap();
            let sum = square_sum(&[&gradient]).unwrap();
            assert!((sum / squares - 1.0).abs() < SQUARES, "{sum} {squares}");
            let update = Update {
                parameter: &parameter,
                gradient: &gradient,
                moments: &mut moments,
                shrink: shrink as f32,
                step: step as f32,
                bias2: bias2 as f32,
            };
            adamw(vec![update], scale as f32).unwrap();
            let [m, v] = moments.to_host().unwrap();
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            for (j, got) in [values(&parameter), wide(&m), wide(&v)].iter().enumerate() {
                for (a, (w, rounded)) in got.iter().zip(&want) {
                    assert!((a - w[j]).abs() <= 1e-6 * rounded[j].max(1e-3), "{a} {}", w[j]);
                }
            }
        });
    }
}

/// How far a sum of squares in float64 may be off: each of at most 2¹³ additions to a partial sum, each product and each of the
/// sums of blocks rounds by 2⁻⁵³ of what is positive throughout, with or without fused multiply-adds.
const SQUARES: f64 = 1e-12;
