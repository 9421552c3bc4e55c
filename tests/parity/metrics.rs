//! Metrics against scikit-learn and the authors' own metric code: the fixture folder, and the protocol's vectors.

use std::path::Path;

use medft::eval::{
    AucRule, Confusion, EvalError, Metrics, argmax, average_precision, label_aucs, multiclass, multilabel, roc_auc,
    roc_auc_ovo, round3, sigmoid, softmax,
};
use serde_json::Value;

use crate::common;

/// Bound on every metric, absolute.
const BOUND: f64 = 1e-9;
/// Bound on probabilities: the fixtures' are float32.
const SCORES: f64 = 1e-6;

/// The largest error so far and where it was found.
#[derive(Default)]
struct Worst {
    error: f64,
    at: String,
    compared: usize,
}

impl Worst {
    fn check(&mut self, at: &str, got: f64, want: f64, bound: f64) {
        self.compared += 1;
        if got == want || (got.is_nan() && want.is_nan()) {
            return;
        }
        let error = (got - want).abs();
        assert!(error <= bound, "{at}: {got} instead of {want} (error {error:e})");
        if error > self.error {
            (self.error, self.at) = (error, at.to_owned());
        }
    }

    /// A value the authors printed: our value rounded the same way. Where our value lies on the border between two
    /// decimals up to the last bits of a sum, either decimal is right.
    fn rounded(&mut self, at: &str, got: f64, want: f64) {
        let on_border = ((got * 1e3).fract().abs() - 0.5).abs() < 1e-9;
        let bound = if on_border { 1e-3 + 1e-9 } else { 0.0 };
        let before = self.error;
        self.check(at, round3(got), want, bound);
        if on_border {
            self.error = before;
        }
    }

    fn report(&self, name: &str) {
        let Self { error, at, compared } = self;
        println!("{name}: largest error {error:e} of {compared} numbers (bound {BOUND:e}), at {at:?}");
    }
}

fn rows(v: &Value) -> Vec<f64> {
    let flat = |x: &Value| -> Vec<f64> {
        match x.as_array() {
            Some(row) => row.iter().map(|v| v.as_f64().expect("a number")).collect(),
            None => vec![x.as_f64().expect("a number")],
        }
    };
    v.as_array().expect("rows").iter().flat_map(flat).collect()
}

fn labels(v: &Value) -> Vec<u32> {
    rows(v).into_iter().map(|x| x as u32).collect()
}

/// A fixture's number; "nan" and what scikit-learn raised are NaN.
fn value(v: &Value) -> f64 {
    match v.as_str() {
        Some(s) => {
            assert!(s == "nan" || s.starts_with("error:"), "unknown value {s}");
            f64::NAN
        }
        None => v.as_f64().unwrap_or_else(|| panic!("not a number: {v}")),
    }
}

fn case(m: &Metrics, key: &str) -> f64 {
    *m.get(key).unwrap_or_else(|| panic!("metric {key} is missing"))
}

#[test]
fn metrics_fixtures() {
    let doc = common::json("metrics/metrics.json");
    let (mut metrics, mut scores) = (Worst::default(), Worst::default());
    let mut skipped = Vec::new();
    let cases = doc["cases"].as_object().expect("cases");
    assert!(!cases.is_empty());
    for (name, c) in cases {
        let before = metrics.compared;
        match c["kind"].as_str() {
            Some("multiclass") => multiclass_case(name, c, &mut metrics, &mut scores, &mut skipped),
            Some("multilabel") => multilabel_case(name, c, &mut metrics, &mut scores, &mut skipped),
            other => panic!("{name}: unknown kind {other:?}"),
        }
        assert!(metrics.compared >= before + 10, "{name}: too little was compared");
    }
    for key in skipped {
        println!("metrics: nothing here is called {key}");
    }
    println!(
        "metrics: probabilities from logits differ from float32 ones by at most {:e} (bound {SCORES:e})",
        scores.error
    );
    metrics.report("metrics (fixtures)");
}

fn multiclass_case(name: &str, c: &Value, m: &mut Worst, s: &mut Worst, skipped: &mut Vec<String>) {
    let classes = c["n_classes"].as_u64().expect("n_classes") as usize;
    let (truth, probs) = (labels(&c["labels"]), rows(&c["scores"]));
    let logits: Vec<f32> = rows(&c["logits"]).iter().map(|&x| x as f32).collect();
    for (got, want) in softmax(&logits, classes).expect("softmax").iter().zip(&probs) {
        s.check(name, *got, *want, SCORES);
    }
    let predicted = argmax(&probs, classes);
    assert_eq!(predicted, labels(&c["predictions"]), "{name}: predictions");
    let confusion: Vec<u64> = rows(&c["confusion_matrix"]).iter().map(|&x| x as u64).collect();
    let ours = Confusion::new(classes, &truth, &predicted);
    assert!(ours.rows().flatten().eq(&confusion), "{name}: confusion matrix");

    let present = multiclass(&probs, classes, &truth, false).expect("metrics");
    let all = multiclass(&probs, classes, &truth, true).expect("metrics");
    for (key, want) in c["authors"].as_object().expect("authors") {
        let at = format!("{name}, authors' {key}");
        m.rounded(&at, case(&present, key), value(want));
    }
    for (key, want) in c["sklearn"].as_object().expect("sklearn") {
        let at = format!("{name}, {key}");
        if key == "roc_auc_per_class_ovr" {
            for (k, want) in want.as_array().expect("a list").iter().enumerate() {
                let column: Vec<f64> = probs.iter().skip(k).step_by(classes).copied().collect();
                let is_k: Vec<bool> = truth.iter().map(|&t| t as usize == k).collect();
                m.check(&at, roc_auc(&column, &is_k).expect("area"), value(want), BOUND);
            }
            continue;
        }
        let got = match key.as_str() {
            "accuracy" | "balanced_accuracy" | "cohen_kappa" | "quadratic_kappa" | "average_precision" => {
                case(&present, key)
            }
            "precision_macro" => present["precision"],
            "recall_macro" => present["recall"],
            "f1_macro" => present["f1"],
            "precision_macro_all_labels" => all["precision"],
            "recall_macro_all_labels" => all["recall"],
            "f1_macro_all_labels" => all["f1"],
            "roc_auc_ovo_macro" => present["roc_auc_strict"],
            "roc_auc_ovr_macro" => present["roc_auc_ovr"],
            other => {
                skipped.push(format!("{name}: {other}"));
                continue;
            }
        };
        m.check(&at, got, value(want), BOUND);
    }
}

fn multilabel_case(name: &str, c: &Value, m: &mut Worst, s: &mut Worst, skipped: &mut Vec<String>) {
    let width = c["n_classes"].as_u64().expect("n_classes") as usize;
    let truth: Vec<u8> = labels(&c["labels"]).iter().map(|&t| t as u8).collect();
    let probs = rows(&c["scores"]);
    let logits: Vec<f32> = rows(&c["logits"]).iter().map(|&x| x as f32).collect();
    for (got, want) in sigmoid(&logits).iter().zip(&probs) {
        s.check(name, *got, *want, SCORES);
    }
    let ours = multilabel(&probs, width, &truth).expect("metrics");
    for (key, want) in c["authors"].as_object().expect("authors") {
        let at = format!("{name}, authors' {key}");
        m.rounded(&at, case(&ours, key), value(want));
    }
    let unrounded = value(&c["authors_mean_roc_auc_unrounded"]);
    m.check(&format!("{name}, authors' mean AUC"), ours["roc_auc"], unrounded, BOUND);
    let areas = label_aucs(&probs, width, &truth).expect("areas");
    for (key, want) in c["sklearn"].as_object().expect("sklearn") {
        let at = format!("{name}, {key}");
        let per_label = |got: &dyn Fn(usize) -> f64, m: &mut Worst| {
            for (k, want) in want.as_array().expect("a list").iter().enumerate() {
                m.check(&format!("{at} {k}"), got(k), value(want), BOUND);
            }
        };
        let got = match key.as_str() {
            "accuracy_subset" => ours["accuracy"],
            "average_precision_macro" => ours["mAP"],
            "precision_macro" => ours["precision"],
            "recall_macro" => ours["recall"],
            "f1_macro" => ours["f1"],
            // scikit-learn leaves the mean undefined when one column is.
            "roc_auc_macro" => areas.iter().sum::<f64>() / width as f64,
            "roc_auc_macro_defined_columns" => ours["roc_auc_defined"],
            "roc_auc_per_class" => {
                per_label(&|k| areas[k], m);
                continue;
            }
            "average_precision_per_class" => {
                per_label(&|k| label_precision(&probs, &truth, width, k), m);
                continue;
            }
            other => {
                skipped.push(format!("{name}: {other}"));
                continue;
            }
        };
        m.check(&at, got, value(want), BOUND);
    }
}

fn label_precision(probs: &[f64], truth: &[u8], width: usize, k: usize) -> f64 {
    let column: Vec<f64> = probs.iter().skip(k).step_by(width).copied().collect();
    let positive: Vec<bool> = truth.iter().skip(k).step_by(width).map(|&t| t == 1).collect();
    average_precision(&column, &positive).expect("average precision")
}

/// `tests/vectors/metrics.json`: 5 classes, 2 classes with many near-ties, 4 labels of which one has no positives.
#[test]
fn metrics_study_vectors() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/metrics.json");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let doc: Value = serde_json::from_slice(&bytes).expect("JSON");
    let mut w = Worst::default();
    for (name, c) in doc.as_object().expect("cases") {
        let y = &c["y"];
        let n = y.as_array().expect("labels").len();
        let logits = rows(&c["logits"]);
        let width = logits.len() / n;
        let is_multilabel = y[0].is_array();
        let mut keys: Vec<&str> = c.as_object().expect("a case").keys().map(String::as_str).collect();
        keys.retain(|k| !["y", "logits", "scores"].contains(k));
        let truth = labels(y);
        let bits: Vec<u8> = truth.iter().map(|&t| t as u8).collect();
        let probs = double_probabilities(&logits, width, is_multilabel);
        let ours = if is_multilabel {
            multilabel(&probs, width, &bits).expect("metrics")
        } else {
            multiclass(&probs, width, &truth, false).expect("metrics")
        };
        for key in keys {
            let at = format!("{name}, {key}");
            let got = match key {
                "accuracy" | "precision" | "recall" | "f1" | "mAP" => ours[key],
                "kappa" => ours["cohen_kappa"],
                "qkappa" => ours["quadratic_kappa"],
                "subset_accuracy" => ours["accuracy"],
                "mean_auc" => ours["roc_auc"],
                "auc_ovo" => roc_auc_ovo(&probs, width, &truth, AucRule::Strict).expect("area"),
                // Equal in exact arithmetic, told apart by the rounding of one exp(): only the stored scores can agree.
                "auc" if !is_multilabel => {
                    let positive: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
                    roc_auc(&rows(&c["scores"]), &positive).expect("area")
                }
                "auc" => {
                    for (k, a) in label_aucs(&probs, width, &bits).expect("areas").into_iter().enumerate() {
                        let a = if a.is_nan() { 0.5 } else { a };
                        w.check(&at, a, value(&c["auc"][k]), BOUND);
                    }
                    continue;
                }
                other => panic!("{name}: unknown key {other}"),
            };
            w.check(&at, got, value(&c[key]), BOUND);
        }
    }
    assert!(w.compared > 10);
    w.report("metrics (study vectors)");
}

/// These vectors were made in float64 from float64 logits; the binary's own helpers start from float32 logits.
fn double_probabilities(logits: &[f64], width: usize, is_multilabel: bool) -> Vec<f64> {
    if is_multilabel {
        return logits.iter().map(|l| 1.0 / (1.0 + libm::exp(-l))).collect();
    }
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks(width) {
        let sum: f64 = row.iter().map(|&l| libm::exp(l)).sum();
        out.extend(row.iter().map(|&l| libm::exp(l) / sum));
    }
    out
}

/// What a run that diverged or a wrong label file would hand over.
#[test]
fn metrics_refuse_what_they_cannot_measure() {
    let p = [0.25, 0.75, f64::NAN, 0.5];
    let e = multiclass(&p, 2, &[0, 1], false).expect_err("NaN is refused");
    assert!(matches!(e, EvalError::NotFinite { at: 2, .. }));
    assert!(e.to_string().contains("position 2"), "{e}");
    let e = multiclass(&[0.5; 4], 2, &[0, 7], false).expect_err("label 7 of 2 classes is refused");
    assert!(
        e.to_string().contains("image 1") && e.to_string().contains("found 7"),
        "{e}"
    );
    println!("metrics: bad input refused, largest error 0");
}
