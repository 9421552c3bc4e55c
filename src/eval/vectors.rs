//! Inference against numbers this project did not compute: `tests/vectors/*.json`, made by scikit-learn, scipy,
//! statsmodels and numpy (recipes and versions in the files, scripts in `tests/vectors/make`). Every test prints its
//! largest error.

use serde_json::Value;

use super::*;

fn vectors(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/vectors")
        .join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn num(v: &Value) -> f64 {
    match v.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => v.as_f64().unwrap_or_else(|| panic!("not a number: {v}")),
    }
}

fn list(v: &Value) -> &[Value] {
    v.as_array().unwrap_or_else(|| panic!("not a list: {v}"))
}

fn nums(v: &Value) -> Vec<f64> {
    list(v).iter().map(num).collect()
}

fn flat(v: &Value) -> Vec<f64> {
    list(v).iter().flat_map(nums).collect()
}

fn ints(v: &Value) -> Vec<u32> {
    list(v).iter().map(|x| x.as_u64().unwrap() as u32).collect()
}

fn bools(v: &Value) -> Vec<bool> {
    ints(v).iter().map(|&x| x == 1).collect()
}

/// The largest error so far, relative above 1 in size and absolute below, or purely relative.
struct Worst {
    bound: f64,
    floor: f64,
    error: f64,
    at: String,
    compared: usize,
}

impl Worst {
    fn absolute(bound: f64) -> Self {
        Self::new(bound, 1.0)
    }

    fn relative(bound: f64) -> Self {
        Self::new(bound, f64::MIN_POSITIVE)
    }

    fn new(bound: f64, floor: f64) -> Self {
        Self {
            bound,
            floor,
            error: 0.0,
            at: String::new(),
            compared: 0,
        }
    }

    fn check(&mut self, at: impl std::fmt::Display, got: f64, want: f64) {
        self.compared += 1;
        if got == want || (got.is_nan() && want.is_nan()) {
            return;
        }
        let error = (got - want).abs() / want.abs().max(self.floor);
        assert!(error <= self.bound, "{at}: {got} instead of {want} (error {error:e})");
        if error > self.error {
            (self.error, self.at) = (error, at.to_string());
        }
    }

    fn report(&self, name: &str) {
        let Self {
            error, at, compared, ..
        } = self;
        println!("{name}: largest error {error:e} of {compared} numbers, at {at}");
    }
}

fn interval(w: &mut Worst, at: &str, got: &Interval, want: &Value) {
    w.check(format!("{at} low"), got.low, num(&want[0]));
    w.check(format!("{at} high"), got.high, num(&want[1]));
}

#[test]
fn distributions_equal_scipy() {
    let v = vectors("stats.json");
    let mut w = Worst::relative(1e-10);
    for r in list(&v["t_quantile"]).iter().map(nums) {
        // The median is 0 here and the sign of scipy's rounding there.
        let got = t_quantile(r[1], r[0]).unwrap();
        if r[1] == 0.5 {
            assert!(got.abs() < 1e-12 && r[2].abs() < 1e-12);
        } else {
            w.check(format!("t quantile {r:?}"), got, r[2]);
        }
    }
    for r in list(&v["t_upper_tail"]).iter().map(nums) {
        w.check(format!("t tail {r:?}"), t_upper_tail(r[1], r[0]).unwrap(), r[2]);
    }
    for r in list(&v["normal_quantile"]).iter().map(nums) {
        w.check(format!("normal quantile {r:?}"), normal_quantile(r[0]).unwrap(), r[1]);
    }
    for r in list(&v["normal_two_sided"]).iter().map(nums) {
        w.check(format!("normal tails {r:?}"), normal_two_sided(r[0]), r[1]);
    }
    w.report("distributions (relative)");
}

#[test]
fn samples_and_tost_equal_scipy_and_statsmodels() {
    let v = vectors("stats.json");
    let mut w = Worst::absolute(1e-9);
    for c in list(&v["one_sample"]) {
        let values = nums(&c["values"]);
        let s = Sample::of(&values).unwrap();
        w.check("mean", s.mean, num(&c["mean"]));
        w.check("sd", s.sd, num(&c["sd"]));
        interval(&mut w, "ci95", &s.interval(0.95).unwrap(), &c["ci95"]);
        let alpha = 0.05;
        let t = tost(
            &values,
            num(&c["published"]),
            num(&c["reading"]),
            num(&c["margin"]),
            alpha,
        )
        .unwrap();
        interval(&mut w, "ci90", &t.interval, &c["ci90"]);
        let got = [t.df, t.t_lower, t.p_lower, t.t_upper, t.p_upper, t.p];
        for (got, key) in got
            .into_iter()
            .zip(["df", "t_lower", "p_lower", "t_upper", "p_upper", "p"])
        {
            w.check(key, got, num(&c[key]));
        }
        assert_eq!(t.answer == Equivalence::Equivalent, num(&c["p"]) < alpha);
    }
    w.report("one sample, TOST");
}

#[test]
fn two_samples_equal_scipy_and_statsmodels() {
    let v = vectors("stats.json");
    let mut w = Worst::absolute(1e-9);
    for (kind, test) in [("welch", welch as fn(&[f64], &[f64], f64) -> _), ("paired_t", paired_t)] {
        for c in list(&v[kind]) {
            let r = test(&nums(&c["a"]), &nums(&c["b"]), 0.95).unwrap();
            for (got, key) in [(r.t, "t"), (r.df, "df"), (r.p, "p")] {
                w.check(format!("{kind} {key}"), got, num(&c[key]));
            }
            interval(&mut w, kind, &r.interval, &c["ci95"]);
            if kind == "welch" {
                w.check("difference", r.difference, num(&c["difference"]));
                w.check("tost", r.tost_p(num(&c["margin"])).unwrap(), num(&c["tost_p"]));
            }
        }
    }
    w.report("Welch, paired t");
}

#[test]
fn percentiles_holm_kendall_rmse_equal_numpy_statsmodels_scipy() {
    let v = vectors("stats.json");
    let mut w = Worst::absolute(1e-12);
    for c in list(&v["percentile"]) {
        let p = percentile(&nums(&c["values"]), num(&c["level"])).unwrap();
        interval(&mut w, "percentile", &p.interval, &c["interval"]);
    }
    for c in list(&v["holm"]) {
        for (got, want) in holm(&nums(&c["p"])).unwrap().into_iter().zip(nums(&c["adjusted"])) {
            w.check("holm", got, want);
        }
    }
    for c in list(&v["kendall"]) {
        let (a, b) = (nums(&c["a"]), nums(&c["b"]));
        w.check("tau-b", kendall_tau_b(&a, &b).unwrap(), num(&c["tau"]));
        w.check("rmse", rmse(&a, &b).unwrap(), num(&c["rmse"]));
    }
    w.report("percentiles, Holm, Kendall, RMSE");
}

#[test]
fn round3_equals_python() {
    let v = vectors("stats.json");
    let cases = list(&v["round3"]);
    for c in cases {
        let (x, want) = (num(&c[0]), num(&c[1]));
        assert_eq!(round3(x).to_bits(), want.to_bits(), "round({x}, 3) is {want}");
    }
    println!("round3: {} numbers equal to the bit, largest error 0", cases.len());
}

#[test]
fn ranking_and_calibration_equal_scikit_learn() {
    let v = vectors("ranking.json");
    let mut w = Worst::absolute(1e-12);
    for c in list(&v["cases"]) {
        let name = c["name"].as_str().unwrap();
        let (scores, truth) = (nums(&c["scores"]), bools(&c["truth"]));
        w.check(name, roc_auc(&scores, &truth).unwrap(), num(&c["roc_auc"]));
        let ap = average_precision(&scores, &truth).unwrap();
        w.check(name, ap, num(&c["average_precision"]));
        for (key, corners) in [("roc", true), ("roc_all", false)] {
            let curve = roc_curve(&scores, &truth, corners).unwrap();
            let want = [nums(&c[key]["fpr"]), nums(&c[key]["tpr"]), nums(&c[key]["threshold"])];
            assert_eq!(curve.len(), want[0].len(), "{name} {key}");
            for (k, p) in curve.iter().enumerate() {
                for (got, want) in [p.fpr, p.tpr, p.threshold].into_iter().zip(&want) {
                    w.check(format!("{name} {key} {k}"), got, want[k]);
                }
            }
        }
        let want = &c["calibration"];
        let cal = calibration(&scores, &truth, want["bins"].as_u64().unwrap() as usize).unwrap();
        w.check(format!("{name} ece"), cal.ece, num(&want["ece"]));
        let filled: Vec<_> = cal.bins.iter().filter(|b| b.count > 0).collect();
        assert_eq!(filled.len(), list(&want["accuracy"]).len(), "{name} bins");
        for (k, b) in filled.into_iter().enumerate() {
            w.check(format!("{name} bin {k}"), b.accuracy, num(&want["accuracy"][k]));
            w.check(format!("{name} bin {k}"), b.confidence, num(&want["confidence"][k]));
            let share = b.count as f64 / scores.len() as f64;
            w.check(format!("{name} bin {k}"), share, num(&want["weight"][k]));
        }
    }
    w.report("AUC, average precision, ROC, calibration");
}

#[test]
fn delong_equals_its_definition() {
    let v = vectors("delong.json");
    let mut w = Worst::absolute(1e-12);
    for c in list(&v["cases"]) {
        let name = c["name"].as_str().unwrap();
        let columns: Vec<Vec<f64>> = list(&c["scores"]).iter().map(nums).collect();
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let d = delong(&columns, &bools(&c["truth"])).unwrap();
        for (got, want) in d.auc.iter().zip(nums(&c["auc"])) {
            w.check(format!("{name} auc"), *got, want);
        }
        for (got, want) in d.covariance.iter().zip(flat(&c["covariance"])) {
            w.check(format!("{name} covariance"), *got, want);
        }
        let t = d.compare(0, 1, 0.95).unwrap();
        for (got, key) in [(t.difference, "difference"), (t.z, "z"), (t.p, "p")] {
            w.check(format!("{name} {key}"), got, num(&c[key]));
        }
        let first = d.interval(0, 0.95).unwrap();
        interval(&mut w, name, &first, &c["interval95_first"]);
    }
    w.report("DeLong");
}

/// A constructor of a prepared metric over the tables of `resample.json`.
type Prepare = Box<dyn Fn(&str) -> Box<dyn Statistic>>;

#[test]
fn delong_of_means_over_seeds_equals_its_definition() {
    let v = vectors("combined.json");
    let mut w = Worst::absolute(1e-12);
    for (i, c) in list(&v["delong"]).iter().enumerate() {
        let truth = bools(&c["truth"]);
        let cells: Vec<Components> = list(&c["cells"])
            .iter()
            .map(|seeds| {
                let all: Vec<Components> = list(seeds)
                    .iter()
                    .map(|s| Components::new(&nums(s), &truth).unwrap())
                    .collect();
                Components::mean(&all.iter().collect::<Vec<_>>()).unwrap()
            })
            .collect();
        let d = Delong::of(&cells.iter().collect::<Vec<_>>()).unwrap();
        let test = d.compare(0, 1, 0.95).unwrap();
        for k in 0..2 {
            w.check(format!("{i} auc {k}"), d.auc[k], num(&c["auc"][k]));
        }
        for (k, want) in flat(&c["covariance"]).into_iter().enumerate() {
            w.check(format!("{i} covariance {k}"), d.covariance[k], want);
        }
        w.check(format!("{i} z"), test.z, num(&c["z"]));
        w.check(format!("{i} p"), test.p, num(&c["p"]));
    }
    w.report("DeLong of means");
}

#[test]
fn bootstrap_replicates_equal_scikit_learn_on_the_same_rows() {
    let v = vectors("resample.json");
    let (classes, labels) = (num(&v["classes"]) as usize, num(&v["labels"]) as usize);
    let (probs, truth) = (flat(&v["probs"]), ints(&v["truth"]));
    let label_probs = flat(&v["label_probs"]);
    let label_truth: Vec<u8> = list(&v["label_truth"]).iter().flat_map(ints).map(|x| x as u8).collect();
    let r = Resamples::draw(truth.len(), num(&v["replicates"]) as usize, resample::splitmix).unwrap();

    let mut w = Worst::absolute(1e-12);
    let single: Prepare = {
        let (p, t) = (probs.clone(), truth.clone());
        Box::new(move |name| multiclass_statistic(name, &p, classes, &t, false).unwrap())
    };
    let many: Prepare = {
        let (p, t) = (label_probs.clone(), label_truth.clone());
        Box::new(move |name| multilabel_statistic(name, &p, labels, &t).unwrap())
    };
    for (prepare, name, key) in [
        (&single, "accuracy", "accuracy"),
        (&single, "recall", "recall"),
        (&single, "f1", "f1"),
        (&single, "quadratic_kappa", "quadratic_kappa"),
        (&single, "roc_auc", "roc_auc_ovo"),
        (&many, "mAP", "mAP"),
    ] {
        let got = r.evaluate(&*prepare(name)).unwrap();
        assert_eq!(got.len(), r.replicates());
        for (k, (&got, want)) in got.iter().zip(nums(&v[key])).enumerate() {
            w.check(format!("{key} of replicate {k}"), got, want);
        }
    }
    let undefined = list(&v["roc_auc_ovo"]).iter().filter(|x| num(x).is_nan()).count();
    assert!(undefined > 0, "the vectors must hold a resample without a class");

    let means = r.evaluate(&*many("roc_auc")).unwrap();
    for (k, (&got, want)) in means.iter().zip(list(&v["label_auc"])).enumerate() {
        let want = nums(want).iter().sum::<f64>() / labels as f64;
        w.check(format!("label AUC of replicate {k}"), got, want);
    }
    let accuracy = percentile(&r.evaluate(&*single("accuracy")).unwrap(), 0.95).unwrap();
    interval(&mut w, "accuracy", &accuracy.interval, &v["interval95_accuracy"]);

    // The general closure sees the same resamples.
    let predicted = ints(&v["predicted"]);
    let by_closure = r.map(|counts| {
        let hits = (0..truth.len()).filter(|&i| truth[i] == predicted[i]);
        f64::from(hits.map(|i| counts[i]).sum::<u32>()) / truth.len() as f64
    });
    assert_eq!(by_closure, r.evaluate(&*single("accuracy")).unwrap());
    w.report("bootstrap replicates");
}

/// Every metric of the dictionaries can be prepared, and says on the test set itself what the dictionary says.
#[test]
fn every_prepared_metric_equals_the_plain_one() {
    let v = vectors("resample.json");
    let (classes, labels) = (num(&v["classes"]) as usize, num(&v["labels"]) as usize);
    let (probs, truth) = (flat(&v["probs"]), ints(&v["truth"]));
    let label_probs = flat(&v["label_probs"]);
    let mut label_truth: Vec<u8> = list(&v["label_truth"]).iter().flat_map(ints).map(|x| x as u8).collect();
    let mut w = Worst::absolute(1e-12);
    let two: Vec<f64> = probs.chunks(classes).flat_map(|p| [1.0 - p[0], p[0]]).collect();
    let is_zero: Vec<u32> = truth.iter().map(|&t| u32::from(t == 0)).collect();
    let merged: Vec<u32> = truth.iter().map(|&t| t.min(2)).collect();
    for (p, c, t) in [
        (&probs, classes, &truth),
        (&two, 2, &is_zero),
        (&probs, classes, &merged),
    ] {
        for all in [false, true] {
            for (name, want) in multiclass(p, c, t, all).unwrap() {
                let s = multiclass_statistic(&name, p, c, t, all).unwrap();
                w.check(format!("{name} of {c}"), s.observed(), want);
            }
        }
    }
    for constant in [None, Some(0), Some(1)] {
        if let Some(value) = constant {
            label_truth.iter_mut().skip(2).step_by(labels).for_each(|t| *t = value);
        }
        for (name, want) in multilabel(&label_probs, labels, &label_truth).unwrap() {
            let s = multilabel_statistic(&name, &label_probs, labels, &label_truth).unwrap();
            w.check(format!("{name} with {constant:?}"), s.observed(), want);
        }
    }
    for bad in ["average_precision", "mAP", "specificity"] {
        let e = multiclass_statistic(bad, &probs, classes, &truth, false).err();
        assert!(matches!(e, Some(EvalError::Metric { .. })), "{bad}");
    }
    assert!(multilabel_statistic("cohen_kappa", &label_probs, labels, &label_truth).is_err());
    w.report("prepared metrics");
}

/// The largest table of the study: 14 labels of 22,349 images, 1,000 replicates.
#[test]
fn the_chexpert_bootstrap_is_quick() {
    let (images, labels) = (22_349, 14);
    let mut next = resample::splitmix(7);
    let truth: Vec<u8> = (0..images * labels)
        .map(|_| u8::from(next().is_multiple_of(5)))
        .collect();
    let probs: Vec<f64> = truth
        .iter()
        .map(|&t| f64::from(((next() >> 40) as f32 / 16_777_216.0 + 0.3 * f32::from(t)) / 1.3))
        .collect();
    let clock = std::time::Instant::now();
    let resamples = Resamples::draw(images, 1000, resample::splitmix).unwrap();
    let drawn = clock.elapsed();
    let statistic = multilabel_statistic("roc_auc", &probs, labels, &truth).unwrap();
    let prepared = clock.elapsed();
    let values = resamples.evaluate(&*statistic).unwrap();
    let measured = clock.elapsed();
    let p = percentile(&values, 0.95).unwrap();
    assert!(p.interval.low < statistic.observed() && statistic.observed() < p.interval.high);
    assert!(p.standard_error > 1e-4 && p.undefined == 0, "{p:?}");
    println!(
        "1,000 replicates of 14 areas on 22,349 images: draw {drawn:?}, sort {:?}, measure {:?}",
        prepared - drawn,
        measured - prepared
    );
    assert!(measured.as_secs() < 60, "{measured:?}");
}

#[test]
fn f_tails_and_quantiles_equal_scipy() {
    let v = vectors("verdicts.json");
    let mut w = Worst::relative(1e-9);
    for r in list(&v["f_upper_tail"]).iter().map(nums) {
        w.check(format!("F tail {r:?}"), f_upper_tail(r[2], r[0], r[1]).unwrap(), r[3]);
    }
    for r in list(&v["f_quantile"]).iter().map(nums) {
        w.check(format!("F quantile {r:?}"), f_quantile(r[2], r[0], r[1]).unwrap(), r[3]);
    }
    w.report("F (relative)");
}

#[test]
fn reproductions_equal_scipy() {
    let v = vectors("verdicts.json");
    let mut w = Worst::absolute(1e-9);
    for c in list(&v["reproduction"]) {
        let published = PublishedRun {
            value: num(&c["published"]),
            reading: num(&c["reading"]),
            runs: num(&c["runs"]) as u32,
            sd: c["sd0"].as_f64(),
        };
        let r = reproduction(&nums(&c["values"]), &published, num(&c["margin"]), 0.05).unwrap();
        w.check("se", r.standard_error, num(&c["se"]));
        w.check("df", r.df, num(&c["df"]));
        interval(&mut w, "interval", &r.interval, &c["interval"]);
        interval(&mut w, "ours", &r.interval_ours, &c["interval_ours"]);
        interval(&mut w, "prediction", &r.prediction, &c["prediction"]);
        w.check("p_same", r.p_same, num(&c["p_same"]));
        w.check("p_differs", r.p_differs, num(&c["p_differs"]));
    }
    for c in list(&v["together"]) {
        let points: Vec<Point> = list(&c["points"])
            .iter()
            .map(nums)
            .map(|p| Point {
                difference: p[0],
                variance: p[1],
                df: p[2],
                reading: p[3],
            })
            .collect();
        let t = together(&points, num(&c["margin"]), 0.05).unwrap();
        interval(&mut w, "mean", &t.interval, &c["interval"]);
        interval(&mut w, "ratio", &t.ratio_interval, &c["ratio_interval"]);
        for (name, got) in [
            ("rmse", t.rmse),
            ("noise", t.noise),
            ("p_same", t.p_same),
            ("p_differs", t.p_differs),
        ] {
            w.check(name, got, num(&c[name]));
        }
    }
    w.report("reproductions");
}

#[test]
fn permutations_of_kendall_equal_scipy() {
    let v = vectors("verdicts.json");
    let mut w = Worst::absolute(1e-12);
    for c in list(&v["kendall"]) {
        let o = kendall_permutation(&nums(&c["a"]), &nums(&c["b"])).unwrap();
        assert!(o.exact);
        w.check("tau", o.tau, num(&c["tau"]));
        w.check("greater", o.p_greater, num(&c["greater"]));
        w.check("less", o.p_less, num(&c["less"]));
    }
    w.report("permutations of Kendall's tau");
}

#[test]
fn obuchowski_equals_its_definition() {
    let v = vectors("verdicts.json");
    let mut w = Worst::absolute(1e-12);
    for c in list(&v["obuchowski"]) {
        let (truth, groups) = (bools(&c["truth"]), ints(&c["groups"]));
        let all: Vec<Components> = list(&c["scores"])
            .iter()
            .map(|s| Components::grouped(&nums(s), &truth, &groups).unwrap())
            .collect();
        let d = Delong::of(&all.iter().collect::<Vec<_>>()).unwrap();
        for (got, want) in d.auc.iter().zip(nums(&c["auc"])) {
            w.check("area", *got, want);
        }
        for (got, want) in d.covariance.iter().zip(flat(&c["covariance"])) {
            w.check("covariance", *got, want);
        }
    }
    w.report("Obuchowski");
}
