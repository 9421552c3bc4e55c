//! A synthetic result set of the paper's size, written through the real store: 14 backbones × 4 data sets × 4 regimes.
//!
//! The scores are drawn (a shared difficulty of every image, a skill of every cell, noise of every run): they look like
//! results and mean nothing. The bench `scale` times the report on them, `tests/page.rs` looks at it.
#![allow(dead_code)] // Each user uses its part of it.

use medft::fsio;
use medft::results::{
    Epoch, ModelFacts, Predictions, Prepared, Provenance, RunOutput, RunState, Selected, Spec, Store, Truth,
    WhichWeights,
};
use medft::rng::{Purpose, Stream};
use medft::study::{Inputs, Known, PROTOCOL_REVISION, RunId, RunSpec, Study};
use medft::threads::in_threads;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub seeds: u64,
    /// Test images of a set at most; the real sets have up to 22,349.
    pub images: usize,
    pub epochs: u32,
    /// Whether the study calls itself a demo.
    pub demo: bool,
}

impl Size {
    /// The paper's test sets, five seeds.
    pub(crate) const FULL: Self = Self {
        seeds: 5,
        images: usize::MAX,
        epochs: 100,
        demo: true,
    };
    /// Three seeds on few images: written in seconds.
    pub(crate) const SMALL: Self = Self {
        seeds: 3,
        images: 60,
        epochs: 6,
        demo: false,
    };

    fn study(self) -> String {
        let seeds: Vec<String> = (0..self.seeds).map(|s| s.to_string()).collect();
        STUDY
            .replace("SEEDS", &seeds.join(", "))
            .replace("DEMO", &self.demo.to_string())
    }
}

const STUDY: &str = r#"
title = "A synthetic result set of the paper's size"
expected = "Nothing: the scores are drawn."
preset = "faithful"
datasets = ["ddsm", "aptos2019", "isic2019", "chexpert"]
backbones = [
  "aimv2-l", "aimv2-h", "dinov2-b", "dinov2-l", "sam2-b", "sam2-l", "mae-b", "mae-l", "mae-h", "vmamba-s", "vmamba-b",
  "coca-b", "coca-l", "clip-b",
]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [SEEDS]
[report]
demo = DEMO
published = ["paper2025"]
"#;

/// A test set: its size, and the share of every class or the prevalence of every label.
struct TestSet {
    images: usize,
    metric: &'static str,
    labels: bool,
    shares: &'static [f64],
}

fn test_set(dataset: &str) -> TestSet {
    match dataset {
        "ddsm" => TestSet {
            images: 1044,
            metric: "roc_auc",
            labels: false,
            shares: &[0.264, 0.736],
        },
        "aptos2019" => TestSet {
            images: 440,
            metric: "quadratic_kappa",
            labels: false,
            shares: &[0.49, 0.10, 0.27, 0.05, 0.09],
        },
        "isic2019" => TestSet {
            images: 2533,
            metric: "recall",
            labels: false,
            shares: &[0.178, 0.508, 0.131, 0.034, 0.104, 0.010, 0.010, 0.025],
        },
        _ => TestSet {
            images: 22_349,
            metric: "roc_auc",
            labels: true,
            shares: &[
                0.10, 0.05, 0.12, 0.47, 0.04, 0.23, 0.07, 0.03, 0.15, 0.09, 0.39, 0.02, 0.04, 0.52,
            ],
        },
    }
}

/// Writes what is not there yet below `dir`: the study's file and its results. Returns the file and how many runs were written.
pub(crate) fn write(dir: &Path, size: Size) -> (PathBuf, usize) {
    let file = dir.join("scale.toml");
    fsio::write_atomic(&file, size.study().as_bytes()).unwrap();
    let (datasets, backbones) = (medft::data::registry::names(), medft::model::registry::names());
    let known = Known {
        datasets: &datasets,
        backbones: &backbones,
        published: &["paper2025", "medmnist2023", "medmnistplus2025"],
    };
    let study = Study::load(&file, &known).unwrap();
    let store = Store::new(&dir.join("results"), &study.name);
    let written = in_threads(4, &study.runs(), |r| {
        let spec = spec(r);
        if store.state(&spec.id) == RunState::Done {
            return 0;
        }
        let _claim = store.begin(&spec).unwrap();
        store.finish(&spec.id, &output(&spec, size)).unwrap();
        1
    });
    (file, written.into_iter().sum())
}

/// `medft report` on what [`write`] wrote.
pub(crate) fn report(dir: &Path, file: &Path, replicates: &str) -> Command {
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    verb(dir, "report", file, replicates, &experiments)
}

/// A verb on a study and results below `dir`, whose inputs are nowhere.
pub(crate) fn verb(dir: &Path, verb: &str, file: &Path, replicates: &str, experiments: &Path) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_medft"));
    c.current_dir(dir)
        .arg(verb)
        .arg(file)
        .args(["--replicates", replicates, "--experiments-dir"])
        .arg(experiments)
        .arg("--results-dir")
        .arg(dir.join("results"))
        .arg("--reports-dir")
        .arg(dir.join("reports"))
        .arg("--data-dir")
        .arg(dir.join("no-data"))
        .arg("--weights-dir")
        .arg(dir.join("no-weights"));
    c
}

/// A run's record of inputs that are nowhere.
pub(crate) fn spec(run: &RunSpec) -> Spec {
    let data = fsio::sha256_hex(b"synthetic data");
    let weights = BTreeMap::from([("backbone".to_owned(), fsio::sha256_hex(b"synthetic weights"))]);
    let pairs: Vec<(&str, &str)> = weights.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let id = RunId::new(run, &Inputs::new(&data, &pairs).unwrap());
    Spec {
        id: id.full().to_owned(),
        run: run.clone(),
        data_sha256: data,
        weights,
        protocol_revision: PROTOCOL_REVISION,
    }
}

fn output(spec: &Spec, size: Size) -> RunOutput {
    let mut set = test_set(&spec.run.dataset);
    set.images = set.images.min(size.images);
    output_of(spec, set.metric, predictions(spec, &set), size.epochs)
}

/// What a run leaves that gave these predictions.
pub(crate) fn output_of(spec: &Spec, metric: &str, predictions: Predictions, epochs: u32) -> RunOutput {
    let metrics = Prepared::new(&spec.run, &predictions, WhichWeights::Best)
        .and_then(|p| p.metrics())
        .unwrap();
    let all: Vec<Epoch> = (1..=epochs)
        .map(|e| Epoch {
            epoch: e,
            lr: 1e-4,
            train_loss: 1.0 / f64::from(e),
            val_loss: 1.0 / f64::from(e),
            val: BTreeMap::from([(metric.to_owned(), 1.0 - 0.5 / f64::from(e))]),
        })
        .collect();
    let mut provenance = Provenance::start(spec, "cpu", 2);
    provenance.phases = BTreeMap::from([("train".to_owned(), 3600.0)]);
    RunOutput {
        epochs: all,
        target: metric.to_owned(),
        headline: WhichWeights::Best,
        best: metrics.clone(),
        last: metrics,
        selected: Selected {
            // The first epoch that rounds to 0.995, the largest value at three decimals.
            faithful: Some(epochs.min(91)),
            corrected: Some(epochs),
        },
        rules: BTreeMap::new(),
        weights_sha256: BTreeMap::new(),
        model: ModelFacts {
            family: "synthetic".to_owned(),
            backbone_params: 86_000_000,
            trainable_params: 86_000_000,
            total_params: 86_000_000,
        },
        divergence: None,
        predictions,
        kept: BTreeMap::new(),
        provenance,
    }
}

fn predictions(spec: &Spec, set: &TestSet) -> Predictions {
    let k = set.shares.len();
    let hash = |text: &str| u64::from_str_radix(&fsio::sha256_hex(text.as_bytes())[..16], 16).unwrap();
    let s = &spec.run;
    // Of the images: the same for every run.
    let mut images = Stream::new(hash(&s.dataset), Purpose::Test, 0, 0);
    let skill = 1.2
        + Stream::new(
            hash(&format!("{} {} {}", s.backbone, s.freeze, s.head)),
            Purpose::Test,
            1,
            0,
        )
        .uniform();
    let mut noise = Stream::new(hash(&spec.id), Purpose::Test, 2, 0);
    let (mut truth, mut logits) = (Vec::new(), Vec::with_capacity(set.images * k));
    for _ in 0..set.images {
        let difficulty = images.normal();
        let positive: Vec<bool> = if set.labels {
            set.shares.iter().map(|p| images.uniform() < *p).collect()
        } else {
            let mut left = images.uniform();
            let drawn = set.shares.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            let class = drawn.unwrap_or(0);
            truth.push(class as u32);
            (0..k).map(|c| c == class).collect()
        };
        if set.labels {
            truth.extend(positive.iter().map(|&p| u32::from(p)));
        }
        for p in positive {
            let signal = if p { skill } else { 0.0 };
            logits.push((signal + 0.6 * difficulty + noise.normal() - 1.0) as f32);
        }
    }
    Predictions {
        groups: None,
        ids: (0..set.images)
            .map(|i| format!("{}/image{i:05}.png", s.dataset))
            .collect(),
        truth: if set.labels {
            Truth::Labels {
                labels: k,
                values: truth,
            }
        } else {
            Truth::Classes(truth)
        },
        outputs: k,
        best: logits.clone(),
        last: logits,
        others: BTreeMap::new(),
    }
}
