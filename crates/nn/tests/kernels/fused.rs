//! What is done beside a product, and copies of parameters: the same results without them.

use super::harness::emulator;
use super::ops::{both, random, values};
use candle_core::{DType, Device, Result, Tensor, Var, bail};
use medft_nn::emulation::{self, Executor, Launch, LibraryProduct};
use medft_nn::optimiser::{Moments, Update, adamw, parameter_changed};
use medft_nn::precision::{Compute, scope};
use medft_nn::{Act, LayerNorm, Linear, Stack, TransformerBlock, linear};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// The emulator, and what was launched; cuBLASLt that computes plain products only, where it `refuses`.
struct Noting {
    refuses: bool,
    seen: Mutex<BTreeSet<String>>,
}

impl Executor for Noting {
    unsafe fn run(&self, l: &Launch<'_>) -> Result<()> {
        self.seen.lock().unwrap().insert(l.kernel.to_owned());
        let Some(e) = emulator::get() else { bail!("no emulator") };
        // SAFETY: passed on to the caller.
        unsafe { e.run(l) }
    }

    fn product(&self, p: &LibraryProduct) -> Result<bool> {
        if self.refuses && (p.bias || p.onto || p.sums) {
            bail!("cuBLASLt has no algorithm for {p:?}");
        }
        Ok(true)
    }
}

/// Calls `f` with such an executor; also what was launched.
fn noting<R>(refuses: bool, f: impl FnOnce() -> R) -> (R, BTreeSet<String>) {
    #[allow(clippy::arc_with_non_send_sync)] // As `emulate` takes it.
    let executor = Arc::new(Noting {
        refuses,
        seen: Mutex::default(),
    });
    let r = emulation::emulate(executor.clone(), f);
    let seen = executor.seen.lock().unwrap().clone();
    (r, seen)
}

fn float(t: &Tensor) -> Tensor {
    t.to_dtype(DType::F32).unwrap()
}

/// Two blocks without LayerScale, whose branches end in a product onto the residual stream.
fn blocks(x: &[Tensor]) -> Result<Tensor> {
    let linear = |i: usize| Linear::new(x[i].clone(), Some(x[i + 1].clone()));
    let block = TransformerBlock {
        norm1: LayerNorm::new(x[1].clone(), x[2].clone(), 1e-6),
        qkv: linear(3),
        proj: linear(5),
        norm2: LayerNorm::new(x[7].clone(), x[8].clone(), 1e-6),
        fc1: linear(9),
        fc2: linear(11),
        ls1: None,
        ls2: None,
        heads: 2,
        act: Act::GeluErf,
    };
    Stack::new([block.clone(), block], false).forward(&x[0], |_, _| Ok(()))
}

const SHAPES: &[&[usize]] = &[
    &[2, 7, 16],
    &[16],
    &[16],
    &[48, 16],
    &[48],
    &[16, 16],
    &[16],
    &[16],
    &[16],
    &[24, 16],
    &[24],
    &[16, 24],
    &[16],
];

#[test]
fn what_cublaslt_refuses_is_done_by_kernels() {
    if emulator::get().is_none() {
        return;
    }
    let scale = |s: &[usize]| if s.len() == 2 { 1.0 / (s[1] as f64).sqrt() } else { 1.0 };
    let inputs: Vec<Tensor> = SHAPES
        .iter()
        .zip(0..)
        .map(|(s, i)| float(&(random(s, i) * scale(s)).unwrap()))
        .collect();
    let w = float(&random(SHAPES[0], 99));
    let exact = both(&inputs, &w, &blocks);
    for (compute, bound) in [(Compute::Float32, 4e-6), (Compute::Bfloat16, 6e-2)] {
        let run = |refuses| noting(refuses, || scope(compute, || both(&inputs, &w, &blocks)));
        let ((with, fused), (without, apart)) = (run(false), run(true));
        for kernel in ["add_bias", "column_sums", "add_f32"] {
            let launched = |seen: &BTreeSet<String>| seen.iter().any(|k| k.starts_with(kernel));
            assert!(!launched(&fused) && launched(&apart), "{kernel}: {fused:?}, {apart:?}");
        }
        for got in [with, without] {
            for (i, (a, b)) in got.iter().zip(&exact).enumerate() {
                let (a, b) = (values(a), values(b));
                let max = b.iter().fold(1e-300, |m: f64, v| m.max(v.abs()));
                let off = a.iter().zip(&b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs())) / max;
                assert!(off < bound, "{compute:?}: result {i} is off by {off:.1e}");
            }
        }
    }
}

/// A layer whose parameters have copies gives the bits of one that casts them, after every change.
#[test]
fn copies_follow_their_parameters() {
    if emulator::get().is_none() {
        return;
    }
    let d = Device::Cpu;
    // More than a chunk of the optimiser's, and no whole pack.
    let x = float(&random(&[3, 67], 1));
    for compute in [Compute::Bfloat16, Compute::Float16] {
        let [w, b] = [&[71, 67][..], &[71]].map(|dims| Var::from_tensor(&float(&random(dims, 2))).unwrap());
        let layer =
            |w: &Tensor, b: &Tensor| values(&noting(false, || scope(compute, || linear(&x, w, Some(b)).unwrap())).0);
        // Other tensors of the same values, of which no copy is kept.
        let same = |what: &str| {
            let fresh = |v: &Var| v.as_tensor().copy().unwrap().detach();
            assert_eq!(layer(&w, &b), layer(&fresh(&w), &fresh(&b)), "{compute:?}: {what}");
        };
        let mut moments = noting(false, || [&w, &b].map(|p| Moments::zeros(p.as_tensor()).unwrap())).0;
        same("at first");
        let mut step = |key| {
            let gradients = [float(&random(&[71, 67], key)), float(&random(&[71], key + 1))];
            let all = [&w, &b].into_iter().zip(&gradients).zip(&mut moments);
            let updates = all.map(|((parameter, gradient), moments)| Update {
                parameter: parameter.as_tensor(),
                gradient,
                moments,
                shrink: 0.9,
                step: 0.1,
                bias2: 0.5,
            });
            noting(false, || adamw(updates.collect(), 1.0).unwrap());
        };
        for key in [4, 6] {
            let before = layer(&w, &b);
            step(key);
            same("after a step");
            assert_ne!(before, layer(&w, &b));
        }
        w.set(&Tensor::ones((71, 67), DType::F32, &d).unwrap()).unwrap();
        parameter_changed(w.as_tensor());
        same("after other values were set");
    }
}
