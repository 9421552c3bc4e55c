//! Training by kernels twice, and with a checkpoint in between: the same bytes.

use crate::compute::{device, ready};
use candle_core::{DType, Tensor};
use medft::data::{Labels, Task};
use medft::model::Classifier;
use medft::rng::{Purpose, Stream};
use medft::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use medft::train::loss::Target;
use medft::train::optim::{AdamW, AdamWConfig};
use medft::train::state::{self, Position};
use medft_nn::backward;
use medft_nn::precision::{Compute, scope};
use std::collections::BTreeMap;
use std::path::Path;

fn model(backbone: &str, seed: u64) -> (Classifier, AdamW) {
    let mut protocol = Protocol::faithful();
    protocol.crop = 64;
    let spec = RunSpec {
        dataset: "test".into(),
        backbone: backbone.into(),
        scale: Scale::Tiny,
        freeze: Freeze::Unfrozen,
        head: HeadKind::Linear,
        seed,
        protocol,
    };
    let m = Classifier::random(&spec, 3, 5, &device()).unwrap();
    let config = AdamWConfig {
        weight_decay: 1e-2,
        layer_decay: 1.0,
        clip: 1.0,
    };
    let optim = AdamW::new(&m.params, config).unwrap();
    (m, optim)
}

fn step(m: &Classifier, optim: &mut AdamW, i: u32) {
    let mut r = Stream::new(5, Purpose::Test, i, 0);
    let x: Vec<f32> = (0..2 * 3 * 64 * 64).map(|_| r.uniform_in(-1.0, 1.0) as f32).collect();
    let x = Tensor::from_vec(x, (2, 3, 64, 64), &device()).unwrap();
    let labels = Labels::Classes(vec![i % 5, (i + 2) % 5]);
    let target = Target::new(Task::MultiClass(5), &labels, &device()).unwrap();
    let loss = target.loss(&m.forward(&x).unwrap()).unwrap();
    let report = optim.step(&backward(&loss).unwrap(), 1e-3).unwrap();
    assert!(report.grad_norm.is_finite() && report.grad_norm > 0.0);
}

fn weights(m: &Classifier) -> Vec<Vec<f32>> {
    m.params
        .trainable()
        .map(|(_, v)| v.flatten_all().unwrap().to_vec1().unwrap())
        .collect()
}

/// Three steps; with a folder, the third by a model that takes up a checkpoint made after the second.
fn train(backbone: &str, folder: Option<&Path>) -> Vec<Vec<f32>> {
    let (m, mut optim) = model(backbone, 0);
    for i in 0..2 {
        step(&m, &mut optim, i);
    }
    let Some(dir) = folder else {
        step(&m, &mut optim, 2);
        return weights(&m);
    };
    state::save(dir, "a", &Position::default(), &optim, weights(&m), &BTreeMap::new()).unwrap();
    let (m, mut optim) = model(backbone, 1);
    let restored = state::load(dir, "a", &mut optim, 0).unwrap().unwrap();
    for ((_, v), w) in m.params.trainable().zip(&restored.weights) {
        v.set(&Tensor::from_slice(w, v.dims(), v.device()).unwrap()).unwrap();
    }
    step(&m, &mut optim, 2);
    weights(&m)
}

#[test]
fn two_trainings_and_a_resumed_one_give_the_same_bytes() {
    if !ready() {
        return;
    }
    for compute in [Compute::Float32, Compute::Bfloat16, Compute::Float16] {
        for backbone in ["dinov2-b", "vmamba-s", "sam2-b", "aimv2-l"] {
            let dir = tempfile::tempdir().unwrap();
            let [a, b, c] = [None, None, Some(dir.path())].map(|f| scope(compute, || train(backbone, f)));
            assert!(a == b, "{backbone} in {compute:?}: two trainings differ");
            assert!(a == c, "{backbone} in {compute:?}: a resumed training differs");
            let (start, _) = model(backbone, 0);
            assert!(a != weights(&start), "{backbone}: nothing was trained");
        }
    }
    assert_eq!(Compute::Bfloat16.dtype(), DType::BF16);
}
