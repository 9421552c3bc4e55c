//! Five optimiser steps against torch.optim.AdamW with the authors' groups and clipping; the warm-up curve.

use super::mha::{backbone, body};
use super::model::*;
use candle_core::{DType, Tensor};
use medft::data::{Labels, Task};
use medft::model::backbone::{Backbone, BackboneOptions};
use medft::model::head::MhaHead;
use medft::model::vit::default_linear;
use medft::spec::protocol::Warmup;
use medft::study::Protocol;
use medft::train::loss::Target;
use medft::train::optim::{AdamW, AdamWConfig};
use medft::train::schedule::Schedule;
use medft_nn::{Linear, backward};
use serde_json::Value;

enum Net {
    Linear(Box<dyn Backbone>, Linear),
    Mha(Box<dyn Backbone>, MhaHead),
}

impl Net {
    fn forward(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Linear(b, fc) => fc.forward(&b.forward(x).unwrap().pooled).unwrap(),
            Self::Mha(b, h) => h.forward(&b.forward(x).unwrap().tokens).unwrap(),
        }
    }
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

#[test]
fn train_five_steps() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("train/train.json");
    let mut worst = Worst::default();
    for (case, d) in j["cases"].as_object().unwrap() {
        let c = &d["config"];
        let init = format!("train/{}", d["init"].as_str().unwrap());
        let batches = tensors(&format!("train/{}", d["batches"].as_str().unwrap()));
        for (run, r) in d["runs"].as_object().unwrap() {
            let frozen = r["frozen_foundation"].as_bool().unwrap();
            let b = builder(&init, &[]);
            let (kind, classes) = (c["kind"].as_str().unwrap(), int(c, "/n_classes"));
            let options = BackboneOptions::new(&Protocol::faithful(), 3);
            let net = if c.get("deit").is_some() {
                let all = tensors(&init);
                let f = backbone(
                    kind,
                    &c["foundation"],
                    int(c, "/size"),
                    options,
                    &b.pp("foundation_model.backbone").trainable(!frozen),
                );
                let body = body(&c["deit"], &all["main_model.backbone.pos_embed"]);
                let (p, m, fc) = (
                    b.pp("linear_projector"),
                    b.pp("main_model.backbone"),
                    b.pp("main_model.fc"),
                );
                let h = MhaHead::new_at(f.token_dim(), classes, body, &p, &m, &fc).unwrap();
                Net::Mha(f, h)
            } else {
                let f = backbone(
                    kind,
                    &c["foundation"],
                    int(c, "/size"),
                    options,
                    &b.pp("backbone").trainable(!frozen),
                );
                let fc = default_linear(f.feature_dim(), classes, &b.pp("fc")).unwrap();
                Net::Linear(f, fc)
            };
            b.finish_source().unwrap();
            let params = b.params();
            let mut opt = AdamW::new(
                &params,
                AdamWConfig {
                    weight_decay: number(r, "/weight_decay"),
                    layer_decay: 1.0,
                    clip: 1.0,
                },
            )
            .unwrap();
            if !frozen {
                assert_eq!(
                    opt.groups(),
                    (int(d, "/n_params_with_decay"), int(d, "/n_params_without_decay")),
                    "{case}: groups"
                );
            }
            let lr = number(r, "/lr");
            let expected = tensors(&format!("train/{}", r["final"].as_str().unwrap()));
            let (losses, norms) = (numbers(&r["loss"]), numbers(&r["grad_norm"]));
            for step in 0..losses.len() {
                let x = batches["images_x32"].get(step).unwrap().to_dtype(DType::F32).unwrap();
                let x = (x / 32.0).unwrap();
                let y: Vec<i64> = batches["labels"]
                    .get(step)
                    .unwrap()
                    .to_dtype(DType::I64)
                    .unwrap()
                    .to_vec1()
                    .unwrap();
                let y = Labels::Classes(y.iter().map(|&c| c as u32).collect());
                let target = Target::new(Task::MultiClass(classes), &y, &crate::compute::device()).unwrap();
                let logits = net.forward(&x);
                if let Some(want) = expected.get("logits") {
                    let at = format!("{case}/{run} logits {step}");
                    close(&at, &logits, &want.get(step).unwrap(), GRADIENT, &mut worst.output);
                }
                let loss = target.loss(&logits).unwrap();
                let got = f64::from(loss.to_scalar::<f32>().unwrap());
                assert!(
                    (got / losses[step] - 1.0).abs() < 1e-5,
                    "{case}/{run}: loss {step} {got} against {}",
                    losses[step]
                );
                let report = opt.step(&backward(&loss).unwrap(), lr).unwrap();
                assert!(
                    (report.grad_norm / norms[step] - 1.0).abs() < 1e-5,
                    "{case}/{run}: gradient norm {step} {} against {}",
                    report.grad_norm,
                    norms[step]
                );
            }
            final_weights(
                &format!("{case}/{run}"),
                &params,
                &expected,
                &r["float64"],
                lr,
                &mut worst,
            );
        }
    }
    worst.print("train");
}

/// Compares the weights after the last step; parameters whose gradient is rounding noise may be off by a few steps of lr.
fn final_weights(
    at: &str,
    params: &medft::model::params::Params,
    expected: &std::collections::BTreeMap<String, Tensor>,
    float64: &Value,
    lr: f64,
    worst: &mut Worst,
) {
    let unstable = float64["unstable_params"].as_object().unwrap();
    let stable_noise = number(float64, "/max_abs_diff_of_stable_params");
    let mut compared = 0;
    for (name, want) in expected.iter().filter(|(n, _)| *n != "logits") {
        let p = params.get(name).unwrap_or_else(|| panic!("{at}: no parameter {name}"));
        let diff = (&p.tensor - want).unwrap().abs().unwrap().max_all().unwrap();
        let diff = f64::from(diff.to_scalar::<f32>().unwrap());
        let bound = if unstable.contains_key(name) {
            10.0 * lr
        } else {
            // torch's own float32 noise against float64, or 1e-4 of the tensor's maximum.
            let max = want.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            worst.gradient = worst.gradient.max(diff / f64::from(max));
            (4.0 * stable_noise).max(1e-5 * f64::from(max))
        };
        assert!(diff <= bound, "{at}: {name} is off by {diff:.2e}, allowed {bound:.2e}");
        compared += 1;
    }
    assert!(compared > 10, "{at}: only {compared} weights compared");
}

#[test]
fn train_warmup_curve() {
    if !crate::compute::ready() {
        return;
    }
    let j = family("train/train.json");
    for (key, want) in j["linear_warmup"].as_object().unwrap() {
        let Some(rest) = key.strip_prefix("warmup") else {
            continue;
        };
        let (w, rest) = rest.split_once('_').unwrap();
        let rest = rest.strip_prefix("max").unwrap();
        let (max, what) = rest.split_once('_').unwrap_or((rest, ""));
        let mut p = Protocol::faithful();
        p.lr = max.parse().unwrap();
        p.warmup = Warmup::Iterations(w.parse().unwrap());
        let s = Schedule::new(&p, Warmup::None, 1);
        let near = |n: u64, want: f64| {
            let got = s.lr(n);
            assert!((got / want - 1.0).abs() < 1e-12, "{key}: step {n} {got} against {want}");
        };
        match (want.as_array(), what.strip_prefix("step")) {
            (Some(list), _) => {
                for (i, v) in list.iter().enumerate() {
                    near(i as u64 + 1, v.as_f64().unwrap());
                }
            }
            (None, Some(n)) => near(n.parse().unwrap(), want.as_f64().unwrap()),
            _ => panic!("{key} is not understood"),
        }
    }
}
