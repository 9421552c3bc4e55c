//! Runs that diverge, under both values of the switch `divergence`: what ends, what is recorded, what a reader of the report sees.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One step of this learning rate takes every weight to ±1e30: activations of an unfrozen backbone overflow, the linear head of
/// a frozen one gives logits of about 1e30, whose loss is finite.
const STUDY: &str = r#"
title = "Runs that diverge"
expected = "Nothing."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019"]
backbones = ["dinov2-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 2
batch = 16
lr = 1e30
warmup = "none"
"#;

fn medft(place: &Path, verb: &[&str]) -> i32 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medft"));
    command.current_dir(place).args(verb);
    let out = command.output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&out.stderr));
    out.status.code().unwrap()
}

fn runs(place: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(place.join("results/study"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    all.retain(|p| !p.file_name().unwrap().to_str().unwrap().starts_with('.'));
    all.sort();
    all
}

fn content(file: &Path) -> Value {
    serde_json::from_slice::<Value>(&fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))).unwrap()["content"]
        .clone()
}

#[test]
fn the_authors_loop_skips_and_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let study = place.path().join("study.toml");
    fs::write(&study, STUDY).unwrap();
    let study = study.to_str().unwrap();
    assert_eq!(medft(place.path(), &["run", study]), 0);
    let runs = runs(place.path());
    assert_eq!(runs.len(), 2);
    for run in &runs {
        let unfrozen = content(&run.join("spec.json"))["run"]["freeze"] == "unfrozen";
        let (metrics, epochs) = (content(&run.join("metrics.json")), content(&run.join("epochs.json")));
        // Two epochs and the extra validation were made.
        assert_eq!(epochs.as_array().unwrap().len(), 3);
        let d = &metrics["divergence"];
        let mut ranges: Vec<[u64; 2]> = Vec::new();
        for list in ["skipped", "exploded"] {
            let own: Vec<[u64; 2]> = serde_json::from_value(d[list]["ranges"].clone()).unwrap();
            let count: u64 = own.iter().map(|r| r[1] - r[0] + 1).sum();
            assert_eq!(d[list]["count"].as_u64().unwrap(), count, "{d}");
            ranges.extend(own);
        }
        ranges.sort_unstable();
        // The first step is made on finite numbers; from the second on none is what it was, to the last one.
        assert_eq!((ranges[0][0], ranges.last().unwrap()[1] % 2), (2, 0), "{d}");
        assert!(ranges.windows(2).all(|w| w[0][1] + 1 == w[1][0]), "{d}");
        assert!(d["skipped"]["count"].as_u64().unwrap() > 0, "{d}");
        assert_eq!(d["exploded"]["count"].as_u64().unwrap() > 0, !unfrozen, "{d}");
        if unfrozen {
            assert_eq!(epochs[1]["train_loss"], Value::Null);
            // No epoch's kappa is above 0, so the untrained weights are the best ones (Q16); the last ones predict one class for all.
            assert_eq!(metrics["selected"]["faithful"], Value::Null);
            assert_eq!(metrics["last"]["roc_auc"], 0.5);
        }
    }
    assert_eq!(medft(place.path(), &["report", study]), 0);
    let out = place.path().join("reports");
    let table = find(&out, "aptos2019.md");
    assert!(
        table.contains("seed 0 diverged: ") && table.contains("since a gradient was not finite"),
        "{table}"
    );
    assert!(table.contains("on an exploded loss"), "{table}");
    assert_eq!(medft(place.path(), &["verify-results", "study"]), 0);
}

fn find(folder: &Path, name: &str) -> String {
    for e in fs::read_dir(folder).unwrap() {
        let path = e.unwrap().path();
        if path.is_dir() {
            let inner = find(&path, name);
            if !inner.is_empty() {
                return inner;
            }
        } else if path.file_name().unwrap() == name {
            return fs::read_to_string(path).unwrap();
        }
    }
    String::new()
}

#[test]
fn a_run_that_stops_ends_without_a_result_and_the_next_goes_on() {
    let place = tempfile::tempdir().unwrap();
    let study = place.path().join("study.toml");
    fs::write(&study, format!("{STUDY}divergence = \"stop\"\n")).unwrap();
    assert_eq!(medft(place.path(), &["run", study.to_str().unwrap()]), 1);
    let runs = runs(place.path());
    assert_eq!(runs.len(), 2);
    for run in runs {
        let failed = content(&run.join("failed.json"));
        assert!(failed["reason"].as_str().unwrap().contains("at step 2"), "{failed}");
    }
}

/// What was failed before the switch came (its spec has no `divergence`) is fitted again under the same id.
#[test]
fn a_failure_from_before_the_switch_is_fitted_again() {
    let place = tempfile::tempdir().unwrap();
    let study = place.path().join("study.toml");
    fs::write(&study, STUDY).unwrap();
    let study = study.to_str().unwrap();
    assert_eq!(medft(place.path(), &["run", study]), 0);
    let done = runs(place.path());
    fs::write(
        study,
        STUDY.replace("[protocol]", "[protocol]\ndivergence = \"authors\""),
    )
    .unwrap();
    assert_eq!(medft(place.path(), &["run", study]), 0);
    assert_eq!(runs(place.path()), done, "the preset's own value is no other run");
}
