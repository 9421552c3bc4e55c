//! A backbone, a data set, a metric and a switch that medft does not have: one file and one line each, and they run through to a
//! table.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

#[path = "extend/backbone.rs"]
mod backbone;
#[path = "extend/dataset.rs"]
mod dataset;
#[path = "extend/metric.rs"]
mod metric;
#[path = "extend/switch.rs"]
mod switch;

use clap::Parser;
use medft::cli::Cli;
use medft::data::registry::SETS;
use medft::eval::METRICS;
use medft::model::registry::BACKBONES;
use medft::study::{Inputs, Known, Protocol, RunId, Study};
use std::fs;
use std::path::Path;

const STUDY: &str = r#"
title = "A study of toys"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["squares"]
backbones = ["toynet"]
freeze = ["frozen", "unfrozen"]
heads = ["linear"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 3
batch = 8
lr = 5e-2
toy_negative = true
"#;

/// All text below a folder.
fn text(dir: &Path) -> String {
    let mut out = String::new();
    for e in fs::read_dir(dir).unwrap() {
        let path = e.unwrap().path();
        if path.is_dir() {
            out.push_str(&text(&path));
        } else if path.extension().is_some_and(|x| x == "md" || x == "csv") {
            out.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
    out
}

#[test]
fn a_toy_of_each_kind_runs_through_to_a_table() {
    let ids = |toys: &str| {
        let (datasets, backbones) = (SETS.names(), BACKBONES.names());
        let known = Known {
            datasets: &datasets,
            backbones: &backbones,
            published: &[],
        };
        let demo = Study::parse(
            "x",
            "x.toml",
            &toys.replace("squares", "ddsm").replace("toynet", "mae-b"),
            &known,
        );
        let inputs = Inputs::new(&"a".repeat(64), &[]).unwrap();
        let runs = demo.unwrap().runs();
        runs.iter()
            .map(|r| RunId::new(r, &inputs).to_string())
            .collect::<Vec<_>>()
    };
    let plain = STUDY.replace("toy_negative = true\n", "");
    let before = ids(&plain);

    // One line each.
    BACKBONES.register(&backbone::TOYNET).unwrap();
    SETS.register(&dataset::Squares).unwrap();
    METRICS.register(&metric::WORST_RECALL).unwrap();
    Protocol::register(&switch::NEGATIVE).unwrap();

    assert_eq!(ids(&plain), before, "registering changes no id");
    assert_ne!(ids(STUDY), before, "another value of the switch is another run");
    assert_eq!(ids(&plain.replace("lr =", "toy_negative = false\nlr =")), before);

    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("toys.toml"), STUDY).unwrap();
    let medft = |args: &[&str], data: &str| {
        let (data, results, reports) = (at(data), at("results"), at("reports"));
        let dirs = [
            "--data-dir",
            &data,
            "--results-dir",
            &results,
            "--reports-dir",
            &reports,
        ];
        let all = ["medft"].iter().chain(args).chain(&dirs);
        medft::commands::run(Cli::parse_from(all)).unwrap()
    };
    let study = at("toys.toml");
    assert_eq!(medft(&["data", "synth", "squares"], "data"), 0);
    // The list of a phantom that is in no release is the user's own.
    assert_eq!(medft(&["data", "lock", "squares"], "data/phantom"), 0);
    assert_eq!(medft(&["plan", &study], "data"), 0, "nothing blocks its runs");
    assert_eq!(medft(&["run", &study], "data"), 0);
    assert_eq!(medft(&["plan", &study], "data"), 0, "they are done");
    assert_eq!(medft(&["report", &study], "data"), 0);
    let report = text(&place.path().join("reports/toys"));
    for name in ["ToyNet", "Toy squares", "worst recall", "toy negative"] {
        assert!(report.contains(name), "{name} is in no table");
    }
    // A light square is told from a dark one: the toy is trained, not only carried along.
    let metrics = walk(&place.path().join("results/toys"), "metrics.json");
    assert_eq!(metrics.len(), 2);
    for m in metrics {
        let m: serde_json::Value = serde_json::from_str(&m).unwrap();
        assert_eq!(m["content"]["target"], "worst_recall");
        assert!(m["content"]["value"].as_f64().unwrap() > 0.9, "{m}");
    }
}

/// The files of this name in the folders of a folder.
fn walk(dir: &Path, name: &str) -> Vec<String> {
    let folders = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path().join(name));
    folders
        .filter(|p| p.is_file())
        .map(|p| fs::read_to_string(p).unwrap())
        .collect()
}
