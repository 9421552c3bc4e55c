//! What a user asks before the money is spent: `power`, `plan --budget`, and the table of published values of one's own.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn medft(place: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_medft"));
    command.current_dir(place).args(args).args(["--device", "cpu"]);
    command.output().unwrap()
}

fn json(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&out.stderr)))
}

fn text(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

#[test]
fn power_says_what_it_assumes_and_more_noise_never_takes_fewer_seeds() {
    let place = tempfile::tempdir().unwrap();
    let at = |sd: &str| {
        let out = medft(place.path(), &["power", "paper", "--sd", sd, "--json"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        json(&out)
    };
    let all = [at("0.001"), at("0.002"), at("0.008")];
    let seeds = |v: &Value, i: usize| v["verdicts"][i]["seeds"].as_u64().unwrap_or(u64::MAX);
    let verdicts = all[0]["verdicts"].as_array().unwrap();
    // Four data sets; a value and a data set three ways each.
    assert_eq!((verdicts.len(), all[0]["claims"].as_array().unwrap().len()), (24, 8));
    for (i, verdict) in verdicts.iter().enumerate() {
        assert!(
            seeds(&all[0], i) <= seeds(&all[1], i) && seeds(&all[1], i) <= seeds(&all[2], i),
            "{}",
            verdict
        );
    }
    // Against one published run with that noise no number of seeds reproduces a single value within 0.005.
    let value = |v: &Value| {
        let found = v["verdicts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["dataset"] == "ddsm" && l["level"] == "value" && l["verdict"] == "Reproduced");
        found.unwrap()["seeds"].as_u64()
    };
    assert!(value(&all[0]).is_some() && value(&all[2]).is_none());
    assert_eq!(all[0]["data_sets"][0]["sd_from"], "assumed by --sd");
    let out = medft(place.path(), &["power", "paper"]);
    let said = text(&out);
    for part in [
        "assumed: no cell has two seeds, 0.004",
        "Reproduced",
        "mha-frozen",
        "one published run a value",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert_eq!(
        medft(place.path(), &["power", "paper", "--sd", "0"]).status.code(),
        Some(2)
    );
}

#[test]
fn power_takes_the_scatter_that_was_measured() {
    let place = tempfile::tempdir().unwrap();
    let only = "dataset=aptos2019,backbone=dinov2-b,freeze=frozen,head=linear";
    let out = medft(place.path(), &["run", "demo", "--only", only]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let all = json(&medft(place.path(), &["power", "demo", "--json"]));
    let sets = all["data_sets"].as_array().unwrap();
    let from = |name: &str| {
        sets.iter().find(|s| s["dataset"] == name).unwrap()["sd_from"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(from("aptos2019"), "measured on 2 runs of 1 cells");
    assert!(from("ddsm").starts_with("assumed"));
}

/// The speed of this machine in whatever it is: a benchmark makes it known, and no more hours are spent than there are.
#[test]
fn a_budget_becomes_a_study_that_fits_it() {
    let place = tempfile::tempdir().unwrap();
    let unknown = medft(place.path(), &["plan", "paper", "--budget", "48h"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown).contains("a device whose speed is known"),
        "{}",
        text(&unknown)
    );
    for what in ["forward", "train"] {
        let args = [
            "bench",
            what,
            "--backbone",
            "dinov2-s",
            "--size",
            "56",
            "--batch",
            "2",
            "--steps",
            "1",
        ];
        let out = medft(place.path(), &args);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    }
    let little = medft(place.path(), &["plan", "paper", "--budget", "1m"]);
    assert_eq!(little.status.code(), Some(2), "{}", text(&little));
    assert!(
        text(&little).contains("the cheapest cell with two seeds"),
        "{}",
        text(&little)
    );
    let mut decided = 0;
    for (budget, hours) in [("1000d", 24e3), ("1000000d", 24e6)] {
        let out = medft(place.path(), &["plan", "paper", "--budget", budget, "--json"]);
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
        let all = json(&out);
        assert!(
            all["hours"].as_f64().unwrap() <= hours && all["guessed"] == true,
            "{all}"
        );
        let file = format!("experiments/paper-{budget}.toml");
        assert_eq!(all["file"], file);
        let plan = json(&medft(place.path(), &["plan", &file, "--json"]));
        assert_eq!(plan.as_array().unwrap().len() as u64, all["runs"].as_u64().unwrap());
        let claims = all["claims"].as_array().unwrap().iter();
        let now = claims
            .filter(|c| c["probability"].as_f64().is_some_and(|p| p >= 0.8))
            .count();
        assert!(now >= decided);
        decided = now;
    }
    assert!(decided > 0);
    // Nothing is written over.
    let again = medft(place.path(), &["plan", "paper", "--budget", "1000d"]);
    assert_eq!(again.status.code(), Some(2), "{}", text(&again));
    let out = medft(
        place.path(),
        &["plan", "paper", "--budget", "1000d", "--out", "mine.toml"],
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    assert!(text(&out).contains("can be decided") && place.path().join("mine.toml").exists());
    assert_eq!(
        medft(place.path(), &["plan", "paper", "--budget", "soon"])
            .status
            .code(),
        Some(2)
    );
}

/// What a study may be budgeted for: its heads in any order, a part of it, and a device that is elsewhere.
#[test]
fn a_budget_holds_for_any_order_a_part_and_another_device() {
    let place = tempfile::tempdir().unwrap();
    for what in ["forward", "train"] {
        let size = ["--size", "56", "--batch", "2", "--steps", "1"];
        let out = medft(
            place.path(),
            &[&["bench", what, "--backbone", "dinov2-s"][..], &size].concat(),
        );
        assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    }
    let paper =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/papers/paper2025/study-paper.toml"))
            .unwrap();
    let (freeze, heads) = ("freeze = [\"frozen\", \"unfrozen\"]", "heads = [\"linear\", \"mha\"]");
    assert!(paper.contains(freeze) && paper.contains(heads));
    let turned = paper
        .replace(freeze, "freeze = [\"unfrozen\", \"frozen\"]")
        .replace(heads, "heads = [\"mha\", \"linear\"]");
    fs::write(place.path().join("turned.toml"), turned).unwrap();
    let offer = |study: &str, more: &[&str], out: &str| -> Value {
        let args = [&["plan", study, "--budget", "100000d", "--out", out, "--json"], more].concat();
        let said = medft(place.path(), &args);
        assert_eq!(said.status.code(), Some(0), "{}", text(&said));
        json(&said)
    };
    let (plain, turned) = (offer("paper", &[], "a.toml"), offer("./turned.toml", &[], "b.toml"));
    for field in ["hours", "runs", "cells", "seeds", "claims", "values"] {
        assert_eq!(plain[field], turned[field], "{field}");
    }
    // A part of the study: nothing else is priced, and nothing else is written.
    let only = offer("paper", &["--only", "dataset=aptos2019,head=linear"], "c.toml");
    let runs = json(&medft(place.path(), &["plan", "./c.toml", "--json"]));
    let runs = runs.as_array().unwrap();
    assert_eq!(runs.len() as u64, only["runs"].as_u64().unwrap());
    for r in runs {
        assert!(r["dataset"] == "aptos2019" && r["head"] == "linear", "{r}");
    }
    let mha = only["claims"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["claim"] == "mha-frozen")
        .unwrap();
    assert!(
        mha["probability"].as_f64().is_none_or(|p| p < 0.8),
        "it speaks of heads that are not there: {mha}"
    );

    // A device that nothing was measured on and no data sheet is known of: no hours are made up for it.
    let args = [
        "plan",
        "paper",
        "--budget",
        "48h",
        "--as-device",
        "A card that nobody sells",
        "--out",
        "d.toml",
    ];
    let unknown = medft(place.path(), &args);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown));
    assert!(
        text(&unknown).contains("a device whose speed is known"),
        "{}",
        text(&unknown)
    );
    // Measured there, and the store brought here: the hours are its own.
    let rates = place.path().join("results/.cache/rates-2");
    for file in fs::read_dir(&rates)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect::<Vec<_>>()
    {
        let mut m: medft::runner::estimate::Measurement = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        m.machine.device = "A card that nobody sells".to_owned();
        m.images_per_s *= 1000.0;
        let name = medft::runner::estimate::file_name(&m).unwrap();
        fs::write(rates.join(name), serde_json::to_vec(&m).unwrap()).unwrap();
    }
    let there = offer("paper", &["--as-device", "A card that nobody sells"], "e.toml");
    assert_eq!(there["device"], "A card that nobody sells");
    assert!(
        there["runs"].as_u64().unwrap() >= plain["runs"].as_u64().unwrap(),
        "a thousand times as fast: {there}"
    );
}

#[test]
fn a_reader_with_the_pdf_brings_its_tables() {
    let place = tempfile::tempdir().unwrap();
    let out = medft(place.path(), &["published", "template", "paper"]);
    assert_eq!(out.status.code(), Some(0));
    let empty = String::from_utf8(out.stdout).unwrap();
    assert_eq!(empty.lines().filter(|l| !l.starts_with('#')).count(), 225);
    let folder = place.path().join("experiments/published");
    fs::create_dir_all(&folder).unwrap();
    let row = "ddsm,dinov2-b,frozen,mha,roc_auc,,,,";
    assert!(empty.contains(row));
    fs::write(
        folder.join("mine.csv"),
        empty.replace(row, "ddsm,dinov2_b,frozen,mha,roc_auc,96.1,,,"),
    )
    .unwrap();
    let wrong = medft(place.path(), &["published", "check", "experiments/published/mine.csv"]);
    assert_eq!(wrong.status.code(), Some(2));
    let said = text(&wrong);
    assert!(
        said.contains("Did you mean `dinov2-b`?") && said.contains("0.961") && said.contains("2 mistakes"),
        "{said}"
    );
    fs::write(
        folder.join("mine.csv"),
        empty.replace(row, "ddsm,dinov2-b,frozen,mha,roc_auc,0.961,,,"),
    )
    .unwrap();
    let right = medft(
        place.path(),
        &["published", "check", "experiments/published/mine.csv", "--json"],
    );
    assert_eq!(
        (right.status.code(), &json(&right)["values"]),
        (Some(0), &Value::from(1))
    );
    let list = text(&medft(place.path(), &["published", "list"]));
    assert!(list.contains("mine") && list.contains("paper2025"), "{list}");
    // One cell of the study, against a value whose regime is stated: that regime alone is compared.
    fs::write(
        place.path().join("one.toml"),
        "title = \"One\"\nexpected = \"e\"\npreset = \"faithful\"\nscale = \"tiny\"\ndatasets = [\"ddsm\"]\nbackbones = [\"dinov2-b\"]\n\
         freeze = [\"frozen\", \"unfrozen\"]\nheads = [\"linear\", \"mha\"]\nseeds = [0]\n[protocol]\nresize = 72\ncrop = 64\nepochs = 1\nbatch = 16\n\
         [report]\npublished = [\"mine\"]\n",
    )
    .unwrap();
    let out = medft(place.path(), &["compare", "one.toml"]);
    assert!(out.status.code() != Some(2), "{}", text(&out));
    let page = fs::read_to_string(place.path().join("reports/one/compare.md")).unwrap();
    assert!(page.contains("0.961") && page.contains("frozen, MHA"), "{page}");
    let of_value = page.lines().filter(|l| l.contains("0.961")).count();
    assert_eq!(of_value, 1, "{page}");
    let bad = medft(place.path(), &["plan", "one.toml"]);
    assert!(bad.status.code() != Some(2), "{}", text(&bad));
    fs::write(
        place.path().join("two.toml"),
        fs::read_to_string(place.path().join("one.toml"))
            .unwrap()
            .replace("mine", "mien"),
    )
    .unwrap();
    let bad = text(&medft(place.path(), &["plan", "two.toml"]));
    assert!(
        bad.contains("two.toml:") && bad.contains("Did you mean `mine`?"),
        "{bad}"
    );
}
