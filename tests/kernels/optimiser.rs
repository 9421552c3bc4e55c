//! medft's optimiser by kernels and on the CPU.

use crate::compute::{CONTRACTED, kernels};
use candle_core::{DType, Device, Tensor};
use medft::model::params::{Builder, Init};
use medft::rng::{Purpose, Stream};
use medft::train::optim::{AdamW, AdamWConfig};
use medft_nn::backward;

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

/// The same five steps by kernels and by the CPU's loop: float32's rounding apart, and a step that is not finite changes nothing.
#[test]
fn optimisers_agree() {
    let run = |device: &Device| {
        let b = Builder::seeded(3, device);
        let shapes: [&[usize]; 4] = [&[3], &[64, 65], &[1], &[4096, 2]];
        for (i, s) in shapes.iter().enumerate() {
            b.param(s.to_vec(), &format!("p{i}.weight"), Init::Normal { std: 1.0 })
                .unwrap();
        }
        let config = AdamWConfig {
            weight_decay: 0.1,
            layer_decay: 1.0,
            clip: 1.0,
        };
        let params = b.params();
        let mut optim = AdamW::new(&params, config).unwrap();
        let mut norms = Vec::new();
        for step in 0..6 {
            let mut loss = Tensor::zeros((), DType::F32, device).unwrap();
            for (i, p) in params.0.iter().enumerate().take(3 + step % 2) {
                let w = random(p.tensor.dims(), 10 * step as u32 + i as u32)
                    .to_dtype(DType::F32)
                    .unwrap()
                    .to_device(device)
                    .unwrap();
                let w = if step == 5 { (w * f64::INFINITY).unwrap() } else { w };
                let t = (p.tensor.sqr().unwrap() * w).unwrap().sum_all().unwrap();
                loss = (loss + t).unwrap();
            }
            let loss = (loss * 1024.0).unwrap();
            norms.push(
                optim
                    .step_scaled(&backward(&loss).unwrap(), 1e-2, 1024.0)
                    .unwrap()
                    .grad_norm,
            );
        }
        let mut out: Vec<f64> = params.0.iter().flat_map(|p| values(&p.tensor)).collect();
        for s in &optim.slots {
            let [m, v] = s.moments().unwrap();
            out.extend(m.iter().chain(v.iter()).map(|&x| f64::from(x)));
        }
        let updates: Vec<u64> = optim.slots.iter().map(|s| s.updates).collect();
        (norms, out, updates)
    };
    let (norms, cpu, updates) = run(&Device::Cpu);
    let Some((k_norms, k_values, k_updates)) = kernels(run) else {
        return;
    };
    assert_eq!(updates, [5, 5, 5, 2]);
    assert_eq!(updates, k_updates);
    assert!(!norms[5].is_finite() && !k_norms[5].is_finite());
    // The first gradients are the same. Where the compiler contracts an update's multiplications and additions, as on a device, the
    // later ones are those of parameters that agree to 1e-6.
    for (step, (a, b)) in norms.iter().zip(&k_norms).take(5).enumerate() {
        let bound = if step == 0 || !CONTRACTED { 1e-12 } else { 1e-6 };
        assert!((a / b - 1.0).abs() < bound, "step {step}: {a} {b}");
    }
    for (a, b) in cpu.iter().zip(&k_values) {
        assert!((a - b).abs() <= 1e-6 * a.abs().max(1e-3), "{a} {b}");
    }
}
