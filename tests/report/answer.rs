//! What a study says of a paper, end to end: exit codes, backbones without authors' code, and that resamples are a matter of print.

use crate::place::Place;
use crate::synthetic::{self, Size};
use medft::results::{Predictions, Store, Truth};
use medft::study::{Freeze, HeadKind, Known, RunSpec, Study};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The authors' images, labels and code, so that verdicts are given; what the runs scored is written down below.
const STUDY: &str = r#"
title = "A study with an answer"
expected = "Nothing: it tests the program."
preset = "faithful"
datasets = ["ddsm"]
backbones = ["dinov2-b", "dinov2-l", "mae-b", "vmamba-s", "clip-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [0, 1, 2]
[report]
published = ["mine"]
"#;
const BACKBONES: [&str; 5] = ["dinov2-b", "dinov2-l", "mae-b", "vmamba-s", "clip-b"];

/// Scores by plan: 0.95, 0.90, 0.85 and 0.80 in the four regimes, 0.01 lower for every further backbone, five pairs of images more
/// or less from seed to seed.
fn predictions(run: &RunSpec) -> Predictions {
    const EACH: usize = 50;
    let regime = match (run.freeze, run.head) {
        (Freeze::Frozen, HeadKind::Linear) => 0.95,
        (Freeze::Frozen, HeadKind::Mha) => 0.90,
        (Freeze::Unfrozen, HeadKind::Linear) => 0.85,
        (Freeze::Unfrozen, HeadKind::Mha) => 0.80,
    };
    let at = BACKBONES.iter().position(|b| *b == run.backbone).unwrap();
    // So many of the 2,500 pairs stand the wrong way round.
    let pairs = (EACH * EACH) as f64;
    let mut wrong = ((1.0 - regime + 0.01 * at as f64) * pairs).round() as usize + 5 * run.seed as usize;
    let logits: Vec<f32> = (0..2 * EACH)
        .flat_map(|i| {
            let score = match i < EACH {
                true => i as f32 + 0.5,
                false => {
                    let here = wrong.min(EACH);
                    wrong -= here;
                    (EACH - here) as f32
                }
            };
            [0.0, score / 10.0]
        })
        .collect();
    Predictions {
        groups: None,
        ids: (0..2 * EACH).map(|i| format!("{i:03}.png")).collect(),
        truth: Truth::Classes((0..2 * EACH).map(|i| u32::from(i >= EACH)).collect()),
        outputs: 2,
        best: logits.clone(),
        last: logits,
        others: BTreeMap::new(),
    }
}

struct Answer {
    place: Place,
}

impl Answer {
    /// All runs of the study.
    fn new() -> Self {
        let a = Self { place: Place::new() };
        a.publish(",", |_| 0.5);
        fs::write(a.place.path("study.toml"), STUDY).unwrap();
        let (datasets, backbones) = (medft::data::registry::names(), medft::model::registry::names());
        let known = Known {
            datasets: &datasets,
            backbones: &backbones,
            published: &["mine"],
        };
        let study = Study::load(&a.place.path("study.toml"), &known).unwrap();
        let store = Store::new(&a.place.path("results"), &study.name);
        for run in study.runs() {
            let spec = synthetic::spec(&run);
            let _claim = store.begin(&spec).unwrap();
            let output = synthetic::output_of(&spec, "roc_auc", predictions(&run), 3);
            store.finish(&spec.id, &output).unwrap();
        }
        a
    }

    /// What a verb ends with.
    fn code(&self, verb: &str) -> i32 {
        let dir = self.place.path("");
        let mut command = synthetic::verb(&dir, verb, &dir.join("study.toml"), "0", &dir.join("experiments"));
        let out = command.output().unwrap();
        let code = out.status.code().unwrap();
        println!("{verb}: {code}\n{}", String::from_utf8_lossy(&out.stderr));
        code
    }

    fn results(&self) -> Value {
        serde_json::from_slice(&fs::read(self.place.path("reports/study/results.json")).unwrap()).unwrap()
    }

    /// A reader's own table: a value a backbone.
    fn publish(&self, regime: &str, value: impl Fn(&str) -> f64) {
        let mut text = "dataset,backbone,freeze,head,metric,value\n".to_owned();
        for b in BACKBONES {
            writeln!(text, "ddsm,{b},{regime},roc_auc,{:.3}", value(b)).unwrap();
        }
        let file = self.place.path("experiments/published/mine.csv");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

/// Mean of a cell.
fn mean(results: &Value, backbone: &str, freeze: &str, head: &str) -> f64 {
    let cells = results["cells"].as_array().unwrap();
    let is = |c: &&Value| c["backbone"] == backbone && c["freeze"] == freeze && c["head"] == head;
    cells.iter().find(is).unwrap()["mean"].as_f64().unwrap()
}

/// Verdict names of the comparisons, with whether they count; `Shown` where there is none.
fn verdicts(results: &Value, backbone: &str) -> Vec<(String, bool)> {
    let cells = results["cells"].as_array().unwrap().iter();
    let own = cells.filter(|c| c["backbone"] == backbone);
    let all = own.flat_map(|c| c["comparisons"].as_array().unwrap());
    let verdict = |c: &Value| c["verdict"]["verdict"].as_str().unwrap_or("Shown").to_owned();
    all.map(|c| (verdict(c), c["counted"].as_bool().unwrap())).collect()
}

#[test]
fn a_study_ends_with_code_1_only_where_the_paper_differs_under_the_hypothesis_that_fits_best() {
    // The published values lie far below every regime.
    let a = Answer::new();
    assert_eq!(a.code("reproduce"), 1);
    assert_eq!(a.code("compare"), 1);
    let first = a.results();
    assert_eq!((&first["done"], &first["planned"]), (&60.into(), &60.into()));
    let differs = |r: &Value| {
        let sets = r["paper"]["sets"].as_array().unwrap().iter();
        let best: Vec<&Value> = sets.filter(|s| s["best"] == true).collect();
        assert_eq!(best.len(), 1);
        best[0]["verdict"]["verdict"] == "Differs"
    };
    assert!(differs(&first));

    // Those of frozen MHA, but for the two whose code the authors do not have: the paper does not differ, though values
    // of the other regimes do.
    a.publish(",", |b| match b {
        "vmamba-s" | "clip-b" => 0.3,
        b => mean(&first, b, "frozen", "mha"),
    });
    assert_eq!(a.code("compare"), 0);
    assert_eq!(a.code("reproduce"), 0);
    let found = a.results();
    assert!(!differs(&found));
    for b in ["dinov2-b", "dinov2-l", "mae-b"] {
        let all = verdicts(&found, b);
        let counted: Vec<&str> = all.iter().filter(|v| v.1).map(|v| v.0.as_str()).collect();
        assert!(matches!(counted[..], ["Reproduced" | "Consistent"]), "{all:?}");
        assert!(all.iter().any(|v| v.0 == "Differs" && !v.1), "{all:?}");
    }
    // A reader's own table knows of the authors' code what the figure's does: shown in every regime, without a verdict.
    for b in ["vmamba-s", "clip-b"] {
        let all = verdicts(&found, b);
        assert!(all.len() == 4 && all.iter().all(|v| v.0 == "Shown"), "{b}: {all:?}");
    }
    assert_eq!(found["verdicts"]["shown"], 2, "{}", found["verdicts"]);
    let sets = found["paper"]["sets"].as_array().unwrap();
    let rows = sets.iter().flat_map(|s| s["rows"].as_array().unwrap());
    let mut judged: Vec<&str> = rows.map(|r| r["backbone"].as_str().unwrap()).collect();
    judged.sort_unstable();
    judged.dedup();
    assert_eq!(judged, ["dinov2-b", "dinov2-l", "mae-b"]);
    let page = fs::read_to_string(a.place.path("reports/study/compare.md")).unwrap();
    assert!(
        page.contains("the authors' repository has no code for this backbone"),
        "{page}"
    );
    assert!(
        page.contains("0.300") && page.contains("the authors' code for this backbone does not run"),
        "{page}"
    );

    // A source that states a regime is held against that one, however well another would fit.
    a.publish("frozen,linear", |b| mean(&first, b, "frozen", "mha"));
    assert_eq!(a.code("compare"), 1);
    assert_eq!(a.code("reproduce"), 1);
    // In a demo nothing counts.
    fs::write(
        a.place.path("study.toml"),
        STUDY.replace("[report]", "[report]\ndemo = true"),
    )
    .unwrap();
    assert_eq!(a.code("compare"), 0);
}

/// Takes out of a document what is made of the resamples that are printed.
fn without_intervals(v: &mut Value) {
    match v {
        Value::Object(m) => {
            // Of a cell's details, over test images.
            if m.contains_key("missing") && m.contains_key("rerun") {
                m.remove("interval");
            }
            m.values_mut().for_each(without_intervals);
        }
        Value::Array(a) => a.iter_mut().for_each(without_intervals),
        _ => {}
    }
}

/// `--replicates` is a matter of print: 0, 10 and 2,000 give the same verdicts, claims and marks.
#[test]
fn replicates_change_no_verdict_and_no_mark() {
    let place = tempfile::tempdir().unwrap();
    let size = Size {
        seeds: 2,
        images: 60,
        epochs: 2,
        demo: false,
    };
    let (file, _) = synthetic::write(place.path(), size);
    let read = |replicates: &str| -> (Value, Vec<Vec<String>>) {
        let out = synthetic::report(place.path(), &file, replicates).output().unwrap();
        assert!(out.status.code() != Some(2), "{}", String::from_utf8_lossy(&out.stderr));
        let dir = place.path().join("reports/scale");
        let mut json: Value = serde_json::from_slice(&fs::read(dir.join("results.json")).unwrap()).unwrap();
        let cells = json["cells"].as_array().unwrap().iter();
        let intervals = cells.filter(|c| c["interval"].is_object()).count();
        assert_eq!(
            intervals > 0,
            replicates != "0",
            "{intervals} intervals of {replicates} resamples"
        );
        without_intervals(&mut json);
        (json, marks(&dir))
    };
    let none = read("0");
    let decided = |v: &Value, verdict: &str| {
        v["claims"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|c| c["verdict"]["verdict"] == verdict)
            .count()
    };
    assert!(
        decided(&none.0, "Supported") + decided(&none.0, "Refuted") > 0,
        "{}",
        none.0["claims"]
    );
    // A claim's row opens to its cells and their seeds, and to the interval of every source of variance alone and without it.
    let html = fs::read_to_string(place.path().join("reports/scale/index.html")).unwrap();
    let section = html.split_once("<h2 id=\"claims\">").unwrap().1;
    let section = section.split_once("</section>").unwrap().0;
    for text in [
        "seeds</dt><dd>standard error",
        "test images</dt><dd>standard error",
        "interval with it alone",
        "without it",
        "2 of 2 seeds (0: ",
    ] {
        assert!(section.contains(text), "no `{text}` in {section}");
    }
    assert!(
        none.1.iter().any(|row| row.iter().any(|w| w == "true")),
        "some cell is tied with the best"
    );
    for replicates in ["10", "2000"] {
        let some = read(replicates);
        for part in ["verdicts", "paper", "claims", "cells"] {
            assert!(some.0[part] == none.0[part], "{part} with {replicates} resamples");
        }
        assert_eq!(some.1, none.1, "marks with {replicates} resamples");
    }
}

/// Every table's columns that do not hold an interval.
fn marks(dir: &Path) -> Vec<Vec<String>> {
    let mut files: Vec<_> = medft::fsio::below(&dir.join("tables"));
    files.retain(|f| f.extension().is_some_and(|e| e == "csv"));
    assert!(!files.is_empty());
    let mut out = Vec::new();
    for f in files {
        let mut csv = csv::Reader::from_path(&f).unwrap();
        let kept: Vec<usize> = csv
            .headers()
            .unwrap()
            .iter()
            .enumerate()
            .filter(|(_, h)| !["low", "high", "se_images", "images", "replicates"].contains(h))
            .map(|c| c.0)
            .collect();
        out.extend(csv.records().map(|r| {
            let r = r.unwrap();
            kept.iter().map(|&i| r[i].to_owned()).collect::<Vec<_>>()
        }));
    }
    out
}

/// The claims asked of published values alone prefer those that say their regime, and need no run: a figure without regimes beside
/// a reader's complete table.
#[test]
fn a_complete_table_answers_the_claims_without_any_run() {
    let p = Place::new();
    let experiments = p.path("experiments/published");
    fs::create_dir_all(&experiments).unwrap();
    let template = p.medft(&["published", "template", "paper"]);
    assert_eq!(template.code, 0, "{}", template.all());
    let mut lines = template.out.lines().filter(|l| !l.starts_with('#'));
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = |name: &str| header.iter().position(|h| *h == name).unwrap();
    let mut filled = format!("{}\n", header.join(","));
    for line in lines {
        let mut row: Vec<String> = line.split(',').map(str::to_owned).collect();
        let (frozen, mha) = (row[at("freeze")] == "frozen", row[at("head")] == "mha");
        // MHA gains 0.03 on frozen and 0.01 on unfrozen backbones; fine-tuning gains 0.05 with linear heads and so 0.03 with MHA.
        let value = 0.7 + if frozen { 0.0 } else { 0.05 } + if mha { if frozen { 0.03 } else { 0.01 } } else { 0.0 };
        row[at("value")] = format!("{value:.3}");
        filled += &row.join(",");
        filled.push('\n');
    }
    fs::write(experiments.join("mine.csv"), filled).unwrap();
    let study = |published: &str| {
        let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/papers/paper2025/study-paper.toml");
        let all = fs::read_to_string(paper)
            .unwrap()
            .replace("published = [\"paper2025\"]", published);
        assert!(all.contains(published));
        fs::write(p.path("study.toml"), all).unwrap();
        let a = p.medft(&["report", "./study.toml", "--replicates", "0"]);
        assert_eq!(a.code, 1, "nothing was run: {}", a.all());
        let text = fs::read(p.path("reports/study/results.json")).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        let claims = json["claims"].as_array().unwrap().clone();
        move |id: &str| -> Value {
            let c = claims.iter().find(|c| c["claim"]["id"] == id).unwrap();
            assert_eq!(c["verdict"]["verdict"], "Undetermined", "{c}");
            c["variants"]
                .as_array()
                .unwrap()
                .iter()
                .find(|v| v["title"] == "the published values alone")
                .unwrap()
                .clone()
        }
    };
    let alone = study("published = [\"paper2025\"]");
    assert!(
        alone("mha-frozen")["answer"]
            .as_str()
            .unwrap()
            .contains("do not say which regime"),
        "{}",
        alone("mha-frozen")
    );
    let both = study("published = [\"paper2025\", \"mine\"]");
    for (id, effect) in [
        ("mha-frozen", 0.03),
        ("mha-frozen-more", 0.02),
        ("fine-tuning-every", 0.04),
    ] {
        let v = both(id);
        assert!(
            (v["effect"].as_f64().unwrap() - effect).abs() < 1e-9 && v["says"] == "for",
            "{id}: {v}"
        );
    }
    // All families are alike in the table, whatever the figure says of them.
    let v = both("families-mean");
    assert!(v["effect"].as_f64().unwrap().abs() < 1e-9, "{v}");
}
