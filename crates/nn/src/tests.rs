//! Central finite differences in f64 for every op, and agreement of f32 with f64.

use super::*;
use candle_core::{DType, Device, Result, Tensor, Var};

pub(super) fn random(dims: &[usize], key: u32) -> Tensor {
    let mut s = crate::testing::Normal::new(7, key);
    let n = dims.iter().product();
    let v: Vec<f64> = (0..n).map(|_| s.draw()).collect();
    Tensor::from_vec(v, dims, &Device::Cpu).unwrap()
}

/// Checks d(Σ f·w)/dx for every input against central differences, f64, relative to the largest gradient.
pub(super) fn check(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(i, s)| Var::from_tensor(&random(s, i as u32)).unwrap())
        .collect();
    let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = f(&inputs).unwrap();
    let w = random(y.dims(), 99);
    let grads = backward(&(y * &w).unwrap().sum_all().unwrap()).unwrap();
    let value = |xs: &[Tensor]| -> f64 {
        (f(xs).unwrap() * &w)
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f64>()
            .unwrap()
    };
    for (i, v) in vars.iter().enumerate() {
        let g = grads
            .get(v.as_tensor())
            .unwrap()
            .unwrap_or_else(|| panic!("{name}: no gradient for input {i}"));
        let g: Vec<f64> = g.flatten_all().unwrap().to_vec1().unwrap();
        let x: Vec<f64> = v.flatten_all().unwrap().to_vec1().unwrap();
        let scale = g.iter().fold(0f64, |m, v| m.max(v.abs()));
        assert!(scale > 1e-9, "{name}: zero gradient for input {i}");
        for k in 0..x.len().min(40) {
            let k = k * x.len() / x.len().min(40);
            let h = 1e-5;
            let at = |d: f64| {
                let mut x = x.clone();
                x[k] += d;
                let mut xs: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
                xs[i] = Tensor::from_vec(x, v.dims(), &Device::Cpu).unwrap();
                value(&xs)
            };
            let fd = (at(h) - at(-h)) / (2.0 * h);
            assert!(
                (fd - g[k]).abs() < 1e-6 * scale,
                "{name}: input {i}[{k}] {} against {fd}",
                g[k]
            );
        }
    }
    let f32s: Vec<Tensor> = inputs
        .iter()
        .map(|t| t.detach().to_dtype(DType::F32).unwrap())
        .collect();
    let a: Vec<f64> = f(&f32s)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap();
    let b: Vec<f64> = f(&inputs).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let m = b.iter().fold(0f64, |m, v| m.max(v.abs()));
    for (p, q) in a.iter().zip(&b) {
        assert!((p - q).abs() < 4e-6 * m, "{name}: f32 {p} against f64 {q}");
    }
}

#[test]
fn linear_with_and_without_bias() {
    check("linear", &[&[2, 5, 7], &[6, 7], &[6]], |x| {
        linear(&x[0], &x[1], Some(&x[2]))
    });
    check("linear", &[&[3, 7], &[6, 7]], |x| linear(&x[0], &x[1], None));
    check("linear+gelu", &[&[2, 5, 7], &[6, 7], &[6]], |x| {
        Linear::new(x[1].clone(), Some(x[2].clone())).forward_gelu(&x[0])
    });
}

/// A result has all the elements of its shape, whatever has no elements: candle's ops read as many without asking.
#[test]
fn empty_operands() {
    let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
    for (rows, inp, out) in [(5, 0, 3), (0, 4, 3), (5, 4, 0)] {
        let vars = [[rows, inp], [out, inp]].map(|d| Var::from_tensor(&zeros(&d)).unwrap());
        let bias = Var::from_tensor(&(zeros(&[out]) + 2.0).unwrap()).unwrap();
        let y = linear(&vars[0], &vars[1], Some(&bias)).unwrap();
        assert_eq!(y.to_vec2::<f32>().unwrap(), vec![vec![2.0; out]; rows]);
        let g = backward(&y.sum_all().unwrap()).unwrap();
        for v in &vars {
            let g = g.get(v).unwrap().unwrap();
            assert_eq!(
                g.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                vec![0.0; v.elem_count()]
            );
        }
    }
    assert!(attention_packed(&zeros(&[1, 2, 0]), 0).is_err());
    assert!(
        LayerNorm::new(zeros(&[0]), zeros(&[0]), 1e-6)
            .forward(&zeros(&[2, 0]))
            .is_err()
    );
    assert!(RmsNorm::new(zeros(&[0]), 1e-6).forward(&zeros(&[2, 0])).is_err());
    assert!(add_scaled(&zeros(&[2, 0]), &zeros(&[2, 0]), &zeros(&[0])).is_err());
}

#[test]
fn norms() {
    check("layer_norm", &[&[3, 4, 37], &[37], &[37]], |x| {
        LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6).forward(&x[0])
    });
    check("rms_norm", &[&[3, 4, 37], &[37]], |x| {
        RmsNorm::new(x[1].clone(), 1e-5).forward(&x[0])
    });
}

#[test]
fn activations() {
    check("gelu", &[&[5, 33]], |x| gelu(&x[0]));
    check("quick_gelu", &[&[5, 33]], |x| quick_gelu(&x[0]));
    check("silu_mul", &[&[5, 33], &[5, 33]], |x| silu_mul(&x[0], &x[1]));
}

#[test]
fn attentions() {
    check("attention_packed", &[&[2, 19, 36]], |x| attention_packed(&x[0], 3));
    check("attention", &[&[2, 5, 3, 4], &[2, 21, 3, 4], &[2, 21, 3, 4]], |x| {
        attention(&x[0], &x[1], &x[2])
    });
}

#[test]
fn residual_with_layer_scale() {
    check("add_scaled", &[&[2, 3, 9], &[2, 3, 9], &[9]], |x| {
        add_scaled(&x[0], &x[1], &x[2])
    });
}

#[test]
fn convolutions_also_on_rectangles() {
    check("patch_embed", &[&[2, 3, 6, 9], &[5, 3, 3, 3], &[5]], |x| {
        patch_embed(&x[0], &x[1], Some(&x[2]))
    });
    check("conv2d", &[&[2, 3, 8, 13], &[4, 3, 3, 3], &[4]], |x| {
        conv2d_tokens(&x[0], &x[1], Some(&x[2]), 2, 1)
    });
    check("conv2d", &[&[1, 2, 16, 12], &[4, 2, 7, 7]], |x| {
        conv2d_tokens(&x[0], &x[1], None, 4, 3)
    });
}

#[test]
fn conv2d_agrees_with_candle() {
    let (x, w) = (random(&[2, 3, 12, 12], 1), random(&[5, 3, 3, 3], 2));
    let a = conv2d_tokens(&x, &w, None, 2, 1)
        .unwrap()
        .permute((0, 3, 1, 2))
        .unwrap();
    let b = x.conv2d(&w, 1, 2, 1, 1).unwrap();
    let d = (a - b)
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap()
        .to_scalar::<f64>()
        .unwrap();
    assert!(d < 1e-12, "{d:e}");
}

#[test]
fn position_tables() {
    check("resize_table", &[&[1, 25, 4]], |x| {
        resize_table(&x[0], (5, 5), (4, 6), (5.0 / 4.1, 5.0 / 6.1))
    });
}

fn block(x: &[Tensor], act: Act, scaled: bool) -> TransformerBlock {
    let linear = |i: usize| Linear::new(x[i].clone(), Some(x[i + 1].clone()));
    TransformerBlock {
        norm1: LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6),
        qkv: linear(3),
        proj: linear(5),
        norm2: LayerNorm::new(x[7].clone(), x[8].clone(), 1e-6),
        fc1: linear(9),
        fc2: linear(11),
        ls1: scaled.then(|| x[13].clone()),
        ls2: scaled.then(|| x[14].clone()),
        heads: 3,
        act,
    }
}

fn stack<L: Layer + 'static>(parts: impl IntoIterator<Item = L>, checkpointing: bool, x: &Tensor) -> Result<Tensor> {
    Stack::new(parts, checkpointing).forward(x, |_, _| Ok(()))
}

/// Input and parameters of a block of width 12 with 3 heads.
const BLOCK: &[&[usize]] = &[
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

/// Forward, and every gradient by finite differences, with and without LayerScale and recomputation.
#[test]
fn transformer_blocks() {
    for (act, checkpointing) in [(Act::GeluErf, false), (Act::QuickGelu, true)] {
        check("block", BLOCK, |x| stack([block(x, act, true)], checkpointing, &x[0]));
        check("block without LayerScale", &BLOCK[..13], |x| {
            stack([block(x, act, false)], checkpointing, &x[0])
        });
    }
}

/// Checkpointing changes memory, not gradients: equal to the bit, for the input and every parameter of the fused block.
#[test]
fn checkpointed_blocks_give_the_same_bits() {
    let values: Vec<Tensor> = BLOCK
        .iter()
        .zip(0..)
        .map(|(s, i)| random(s, i).to_dtype(DType::F32).unwrap())
        .collect();
    for act in [Act::GeluErf, Act::QuickGelu] {
        let grads = |checkpointing: bool| -> Vec<Vec<u32>> {
            let vars: Vec<Var> = values.iter().map(|v| Var::from_tensor(v).unwrap()).collect();
            let x: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let y = stack([block(&x, act, true)], checkpointing, &x[0]).unwrap();
            let g = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
            x.iter().map(|t| bits(&g.get(t).unwrap().unwrap())).collect()
        };
        assert!(grads(false) == grads(true));
    }
}

fn bits(t: &Tensor) -> Vec<u32> {
    let v: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
    v.into_iter().map(f32::to_bits).collect()
}

/// The fused block against the same from single ops, each of which is checked by itself.
#[test]
fn a_block_is_its_parts() {
    let x: Vec<Tensor> = BLOCK.iter().zip(0..).map(|(s, i)| random(s, i)).collect();
    let b = block(&x, Act::GeluErf, true);
    let fused = b.forward(&x[0]).unwrap();
    assert!(!fused.track_op(), "a frozen block records a graph");
    let d = (fused - b.composed(&x[0]).unwrap()).unwrap().abs().unwrap();
    let d = d.max_all().unwrap().to_scalar::<f64>().unwrap();
    assert!(d < 1e-12, "{d:e}");
}

/// Parameters train below a frozen input, an input is trained through frozen parameters, and only what trains gets a gradient.
#[test]
fn half_frozen_blocks() {
    let values: Vec<Tensor> = BLOCK.iter().zip(0..).map(|(s, i)| random(s, i)).collect();
    for trains in [|i: usize| i > 0, |i: usize| i == 0, |i: usize| i == 9] {
        let vars: Vec<Var> = values.iter().map(|v| Var::from_tensor(v).unwrap()).collect();
        let pick = |i: usize| {
            if trains(i) {
                vars[i].as_tensor().clone()
            } else {
                values[i].clone()
            }
        };
        let x: Vec<Tensor> = (0..values.len()).map(pick).collect();
        let y = block(&x, Act::GeluErf, true).forward(&x[0]).unwrap();
        let g = backward(&y.sqr().unwrap().sum_all().unwrap()).unwrap();
        for (i, v) in vars.iter().enumerate() {
            let found = g.get(v.as_tensor()).unwrap();
            assert_eq!(found.is_some(), trains(i), "operand {i}");
            assert!(g.get(&values[i]).unwrap().is_none(), "operand {i}");
        }
    }
}

/// A frozen operand costs nothing: no gradient is formed for it.
#[test]
fn frozen_operands_get_no_gradient() {
    let x = Var::from_tensor(&random(&[4, 7], 1)).unwrap();
    let w = random(&[6, 7], 2);
    let g = linear(&x, &w, None).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(g.get(&w).is_none() && g.get(&x).is_some());
    let y = linear(&x.as_tensor().detach(), &w, None).unwrap();
    assert!(!y.track_op());
}

/// Recomputation changes memory, not gradients: equal to the bit, also for parameters of any block, and in a second pass.
#[test]
fn recomputed_stacks_give_the_same_bits() {
    let values: Vec<Tensor> = [[4, 7], [7, 7], [7, 7], [7, 7], [1, 7]]
        .iter()
        .zip(0..)
        .map(|(s, i)| random(s, i))
        .collect();
    let grads = |on: bool| -> Vec<Vec<f64>> {
        let vars: Vec<Var> = values.iter().map(|t| Var::from_tensor(t).unwrap()).collect();
        let x: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let bias = x[4].flatten_all().unwrap();
        let parts = (1..4).map(|i| {
            let (w, b) = (x[i].clone(), bias.clone());
            move |x: &Tensor| gelu(&linear(x, &w, Some(&b))?)
        });
        let mut outputs = Vec::new();
        let y = Stack::new(parts, on).forward(&x[0], |i, y| {
            assert_eq!(i, outputs.len());
            outputs.push(y.detach());
            Ok(())
        });
        let loss = y.unwrap().sqr().unwrap().sum_all().unwrap();
        let passes = [backward(&loss).unwrap(), backward(&loss).unwrap()];
        passes
            .iter()
            .flat_map(|g| x.iter().map(|t| g.get(t).unwrap().unwrap()))
            .chain(outputs)
            .map(|t| t.flatten_all().unwrap().to_vec1().unwrap())
            .collect()
    };
    let (plain, again) = (grads(false), grads(true));
    assert_eq!(plain.len(), 13);
    for (i, (p, q)) in plain.iter().zip(&again).enumerate() {
        if i % 5 == 4 && i < 10 {
            // A bias used in three blocks is summed in another order.
            assert!(
                p.iter().zip(q).all(|(p, q)| (p - q).abs() <= 1e-12 * p.abs().max(1.0)),
                "{i}"
            );
        } else {
            assert_eq!(p, q, "{i}");
        }
    }
}
