//! The report at the paper's full size: 224 cells × 5 seeds with the predictions of the real test sets.
//!
//! `cargo bench --bench scale` writes a synthetic result set through the real store (once; 1 GB, kept in the folder that
//! `MEDFT_BENCH_DIR` names or else in the target folder) and times `medft report` on it: without resamples, with 1,000
//! and an empty cache, and again with that cache. Nothing is asserted: the numbers belong to the machine.
//!
//! The scores are drawn (a shared difficulty of every image, a skill of every cell, noise of every run): they look like
//! results and mean nothing.

use medft::fsio;
use medft::results::{
    Epoch, ModelFacts, Predictions, Prepared, Provenance, RunOutput, RunState, Selected, Spec, Store, Truth,
    WhichWeights, in_threads,
};
use medft::rng::{Purpose, Stream};
use medft::study::{Inputs, Known, PROTOCOL_REVISION, RunId, RunSpec, Study};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
seeds = [0, 1, 2, 3, 4]
[report]
demo = true
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

fn main() {
    let dir = std::env::var_os("MEDFT_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-scale"),
        PathBuf::from,
    );
    let file = dir.join("scale.toml");
    fsio::write_atomic(&file, STUDY.as_bytes()).unwrap();
    write_all(&dir, &file);
    let cache = dir.join("results/.cache");
    for (what, replicates, empty) in [
        ("without resamples", "0", false),
        ("1,000 resamples", "1000", true),
        ("1,000 resamples, cached", "1000", false),
    ] {
        if empty && cache.exists() {
            std::fs::remove_dir_all(&cache).unwrap();
        }
        measure(what, &dir, &file, replicates);
    }
}

/// Times `medft report` in a process of its own; its CPU time and largest memory are read while it runs.
fn measure(what: &str, dir: &Path, file: &Path, replicates: &str) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_medft"))
        .arg("report")
        .arg(file)
        .args(["--replicates", replicates, "--experiments-dir"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments"))
        .arg("--results-dir")
        .arg(dir.join("results"))
        .arg("--reports-dir")
        .arg(dir.join("reports"))
        .arg("--data-dir")
        .arg(dir.join("no-data"))
        .arg("--weights-dir")
        .arg(dir.join("no-weights"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut memory, mut ticks) = (0, 0_i64);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let read = |f: &str| std::fs::read_to_string(proc.join(f)).unwrap_or_default();
        let field = |text: &str, key: &str| -> Option<u64> {
            let line = text.lines().find(|l| l.starts_with(key))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        memory = memory.max(field(&read("status"), "VmHWM:").unwrap_or(0));
        // Fields 14 and 15 of stat, counted after the name in brackets: user and system time in hundredths of a second.
        let stat = read("stat");
        let fields: Vec<i64> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        if fields.len() > 11 {
            ticks = ticks.max(fields[10] + fields[11]);
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0), "medft report failed");
    println!(
        "report of 1,120 runs, {what}: {:.1} s wall, {:.1} s CPU, {} MiB",
        start.elapsed().as_secs_f64(),
        ticks as f64 / 100.0,
        memory / 1024
    );
}

/// Writes what is not there yet.
fn write_all(dir: &Path, file: &Path) {
    let (datasets, backbones) = (medft::data::registry::names(), medft::model::registry::names());
    let known = Known {
        datasets: &datasets,
        backbones: &backbones,
        published: &["paper2025", "medmnist2023", "medmnistplus2025"],
    };
    let study = Study::load(file, &known).unwrap();
    let store = Store::new(&dir.join("results"), &study.name);
    let start = Instant::now();
    let written = in_threads(&study.runs(), |r| {
        let spec = spec(r);
        if store.state(&spec.id) == RunState::Done {
            return 0;
        }
        let _claim = store.begin(&spec).unwrap();
        store.finish(&spec.id, &output(&spec)).unwrap();
        1
    });
    let written: usize = written.into_iter().sum();
    println!("{written} runs written in {:.0} s", start.elapsed().as_secs_f64());
}

fn spec(run: &RunSpec) -> Spec {
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

fn output(spec: &Spec) -> RunOutput {
    let set = test_set(&spec.run.dataset);
    let predictions = predictions(spec, &set);
    let metrics = Prepared::new(&spec.run, &predictions, WhichWeights::Best)
        .and_then(|p| p.metrics())
        .unwrap();
    let epochs: Vec<Epoch> = (1..=100)
        .map(|e| Epoch {
            epoch: e,
            lr: 1e-4,
            train_loss: 1.0 / f64::from(e),
            val_loss: 1.0 / f64::from(e),
            val: BTreeMap::from([(set.metric.to_owned(), 1.0 - 0.5 / f64::from(e))]),
        })
        .collect();
    let mut provenance = Provenance::start(spec, "cpu", 2);
    provenance.phases = BTreeMap::from([("train".to_owned(), 3600.0)]);
    RunOutput {
        epochs,
        target: set.metric.to_owned(),
        headline: WhichWeights::Best,
        best: metrics.clone(),
        last: metrics,
        selected: Selected {
            // The first epoch that rounds to 0.995, the largest value at three decimals.
            faithful: Some(91),
            corrected: Some(100),
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
