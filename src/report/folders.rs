//! Two result folders side by side: the same study on two machines, or two protocols.
//!
//! Runs are paired by their id, so that a pair differs in nothing but the machine and the build: such pairs are compared seed by
//! seed; both are measured on the same test images, so images are not drawn anew. Where a cell has no id in common, its two sides were
//! made from something else (protocol, data or weights, which is named), and are compared as independent samples.

use super::text::{fixed, thousands};
use super::verdict::Verdict;
use crate::eval::{PublishedRun, Sample, holm, reproduction};
use crate::results::RunRecord;
use crate::study::{Freeze, HeadKind, Tolerances};
use serde::Serialize;
use std::collections::BTreeMap;

/// One side of the comparison.
pub struct Folder<'a> {
    pub runs: &'a [RunRecord],
}

/// How two predictions of one run agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Share of images (or of labels, where an image has several) with the same prediction.
    pub same: f64,
    /// Largest difference of a logit.
    pub largest: f64,
}

/// One cell of both folders.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedCell {
    pub dataset: String,
    pub backbone: String,
    pub freeze: Freeze,
    pub head: HeadKind,
    pub metric: String,
    pub margin: Option<f64>,
    /// Runs on either side.
    pub n: (usize, usize),
    /// Runs paired by their id; 0 where the sides are compared as independent samples.
    pub paired: usize,
    /// Pairs whose predictions are the same to the bit.
    pub identical: usize,
    /// The least agreement of a pair; `None` where predictions were not compared.
    pub agreement: Option<Agreement>,
    pub means: (Option<f64>, Option<f64>),
    /// First − second.
    pub difference: Option<f64>,
    /// Of level 1 − 2α.
    pub interval: Option<(f64, f64)>,
    /// Of "the difference is at least the margin", corrected over all cells that are not identical (Holm).
    pub p_same: Option<f64>,
    /// Of "the difference is at most the margin, or chance", corrected likewise.
    pub p_differs: Option<f64>,
    /// What the two sides were made from where that is not the same.
    pub made_from: Option<String>,
    pub verdict: Verdict,
}

type Key = (String, String, Freeze, HeadKind);

/// Compares two folders cell by cell, sorted by data set, backbone and regime. `agree` compares the stored predictions of one
/// run id in both folders; it is asked only where their hashes differ.
pub fn compare(
    a: &Folder,
    b: &Folder,
    tolerances: &Tolerances,
    mut agree: impl FnMut(&str) -> Option<Agreement>,
) -> Vec<PairedCell> {
    let mut cells = BTreeMap::<Key, [Vec<&RunRecord>; 2]>::new();
    for (side, folder) in [a, b].into_iter().enumerate() {
        for r in folder.runs {
            let s = &r.spec.run;
            let key = (s.dataset.clone(), s.backbone.clone(), s.freeze, s.head);
            cells.entry(key).or_default()[side].push(r);
        }
    }
    let mut out = Vec::new();
    for (key, [left, right]) in cells {
        let pairs: Vec<(&RunRecord, &RunRecord)> = left
            .iter()
            .filter_map(|l| Some((*l, *right.iter().find(|r| r.id() == l.id())?)))
            .collect();
        let mut cell = Cell::new(key, &left, &right, tolerances);
        if left.is_empty() || right.is_empty() {
            let where_ = if left.is_empty() { "first" } else { "second" };
            cell.out.verdict = Verdict::NotRun(format!("not in the {where_} folder"));
        } else if pairs.is_empty() {
            cell.independent(&left, &right, tolerances.alpha);
        } else {
            cell.paired(&pairs, tolerances.alpha, &mut agree);
        }
        out.push(cell.out);
    }
    decide(&mut out, tolerances.alpha);
    out
}

/// The verdicts of the cells that were tested, corrected over all of them: of 224 cells of one study on two machines a dozen
/// would differ by chance.
fn decide(cells: &mut [PairedCell], alpha: f64) {
    let tested: Vec<usize> = (0..cells.len()).filter(|&i| cells[i].p_same.is_some()).collect();
    let corrected = |of: fn(&PairedCell) -> Option<f64>| {
        let p: Vec<f64> = tested.iter().filter_map(|&i| of(&cells[i])).collect();
        holm(&p).unwrap_or_else(|_| vec![1.0; p.len()])
    };
    let (same, differs) = (corrected(|c| c.p_same), corrected(|c| c.p_differs));
    for ((i, same), differs) in tested.into_iter().zip(same).zip(differs) {
        let c = &mut cells[i];
        (c.p_same, c.p_differs) = (Some(same), Some(differs));
        c.verdict = match (same < alpha, differs < alpha) {
            (true, _) => Verdict::Reproduced,
            (_, true) => Verdict::Differs,
            _ => Verdict::Inconclusive("neither a difference beyond the margin nor its absence is shown".to_owned()),
        };
    }
}

struct Cell {
    out: PairedCell,
}

impl Cell {
    fn new(key: Key, left: &[&RunRecord], right: &[&RunRecord], tolerances: &Tolerances) -> Self {
        let metric = left.iter().chain(right).next().map_or("", |r| &r.metrics.target);
        let (dataset, backbone, freeze, head) = key;
        Self {
            out: PairedCell {
                dataset,
                backbone,
                freeze,
                head,
                metric: metric.to_owned(),
                margin: tolerances.get(metric).map(|t| t.margin),
                n: (left.len(), right.len()),
                paired: 0,
                identical: 0,
                agreement: None,
                means: (mean(&values(left)), mean(&values(right))),
                difference: None,
                interval: None,
                p_same: None,
                p_differs: None,
                made_from: None,
                verdict: Verdict::Inconclusive("the metrics are not the same".to_owned()),
            },
        }
    }

    /// Runs of the same id: differences seed by seed.
    fn paired(
        &mut self,
        pairs: &[(&RunRecord, &RunRecord)],
        alpha: f64,
        agree: &mut impl FnMut(&str) -> Option<Agreement>,
    ) {
        let (left, right): (Vec<&RunRecord>, Vec<&RunRecord>) = pairs.iter().copied().unzip();
        let (a, b) = (values(&left), values(&right));
        let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        let out = &mut self.out;
        out.paired = pairs.len();
        out.means = (mean(&a), mean(&b));
        out.difference = mean(&d);
        for (l, r) in pairs {
            if l.metrics.predictions.sha256 == r.metrics.predictions.sha256 && l.metrics.value == r.metrics.value {
                out.identical += 1;
            } else if let Some(x) = agree(l.id()) {
                let worst = out.agreement.get_or_insert(x);
                worst.same = worst.same.min(x.same);
                worst.largest = worst.largest.max(x.largest);
            }
        }
        if out.identical == pairs.len() {
            out.interval = Some((0.0, 0.0));
            out.verdict = Verdict::Reproduced;
            return;
        }
        let Some(margin) = out.margin else {
            out.verdict = Verdict::Inconclusive("no margin is stated for this metric".to_owned());
            return;
        };
        // Differences seed by seed against exactly 0.
        let none = PublishedRun {
            value: 0.0,
            reading: 0.0,
            runs: 2,
            sd: Some(0.0),
        };
        self.test(&d, &none, margin, alpha, "one pair of runs: no spread to test with");
    }

    /// Runs that were made from something else: both sides' noise over seeds.
    fn independent(&mut self, left: &[&RunRecord], right: &[&RunRecord], alpha: f64) {
        let out = &mut self.out;
        out.made_from = Some(difference_of_specs(left[0], right[0]));
        let (a, b) = (values(left), values(right));
        out.difference = out.means.0.zip(out.means.1).map(|(a, b)| a - b);
        if left[0].metrics.target != right[0].metrics.target {
            return;
        }
        let Some(margin) = out.margin else {
            out.verdict = Verdict::Inconclusive("no margin is stated for this metric".to_owned());
            return;
        };
        let second = Sample::of(&b).ok().filter(|s| s.n > 1).map(|s| PublishedRun {
            value: s.mean,
            reading: 0.0,
            runs: s.n as u32,
            sd: Some(s.sd),
        });
        match second {
            Some(second) => self.test(&a, &second, margin, alpha, "one seed on a side: no spread to test with"),
            None => {
                out.verdict = Verdict::Inconclusive("one seed on a side: no spread to test with".to_owned());
            }
        }
    }

    /// As a published value is held against ours; the verdict comes when all cells are tested.
    fn test(&mut self, ours: &[f64], second: &PublishedRun, margin: f64, alpha: f64, too_few: &str) {
        match reproduction(ours, second, margin, alpha) {
            Ok(r) => {
                self.out.interval = Some((r.interval.low, r.interval.high));
                (self.out.p_same, self.out.p_differs) = (Some(r.p_same), Some(r.p_differs));
            }
            Err(_) => self.out.verdict = Verdict::Inconclusive(too_few.to_owned()),
        }
    }
}

fn values(runs: &[&RunRecord]) -> Vec<f64> {
    runs.iter().map(|r| r.metrics.value).collect()
}

/// Mean of finite values; `None` where there is none or one is not a number.
fn mean(values: &[f64]) -> Option<f64> {
    let m = values.iter().sum::<f64>() / values.len() as f64;
    m.is_finite().then_some(m)
}

/// In words, what two runs of a cell do not share.
fn difference_of_specs(a: &RunRecord, b: &RunRecord) -> String {
    let mut differences = Vec::new();
    let switches = |r: &RunRecord| serde_json::to_value(&r.spec.run.protocol).unwrap_or_default();
    let (p, q) = (switches(a), switches(b));
    let (Some(p), Some(q)) = (p.as_object(), q.as_object()) else {
        return "the protocol".to_owned();
    };
    let text = |v: &serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    for (k, v) in p {
        if let Some(w) = q.get(k).filter(|w| *w != v) {
            differences.push(format!("{} {} / {}", k.replace('_', " "), text(v), text(w)));
        }
    }
    if a.spec.run.scale != b.spec.run.scale {
        differences.push("the scale".to_owned());
    }
    if a.spec.data_sha256 != b.spec.data_sha256 {
        differences.push("the data".to_owned());
    }
    if a.spec.weights != b.spec.weights {
        differences.push("the weights".to_owned());
    }
    if a.spec.protocol_revision != b.spec.protocol_revision {
        differences.push("the meaning of the protocol".to_owned());
    }
    if differences.is_empty() {
        differences.push("the seeds".to_owned());
    }
    differences.join(", ")
}

/// The rows of a plain text table, with their heading.
pub fn rows(cells: &[PairedCell]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let head = vec![
        "data set",
        "backbone",
        "regime",
        "first",
        "second",
        "difference",
        "interval",
        "runs",
        "predictions",
        "verdict",
    ];
    let score = |m: Option<f64>| m.map_or_else(|| "–".to_owned(), |m| fixed(m, 4));
    let signed = |v: f64| format!("{}{}", if v >= 0.0 { "+" } else { "" }, fixed(v, 5));
    let rows = cells
        .iter()
        .map(|c| {
            let predictions = match c.agreement {
                _ if c.paired > 0 && c.identical == c.paired => "identical".to_owned(),
                Some(a) => format!("{} % alike, logits to {:.1e}", fixed(100.0 * a.same, 2), a.largest),
                None => "–".to_owned(),
            };
            let runs = match (c.paired, c.n) {
                (0, (a, b)) => format!("{a} and {b}, not paired"),
                (p, _) => format!("{} pairs", thousands(p)),
            };
            let why = c.verdict.why();
            let mut verdict = c.verdict.name().to_owned();
            for more in [Some(why).filter(|w| !w.is_empty()), c.made_from.as_deref()]
                .into_iter()
                .flatten()
            {
                verdict = format!("{verdict}: {more}");
            }
            vec![
                c.dataset.clone(),
                c.backbone.clone(),
                super::input::regime_title(c.freeze, c.head),
                score(c.means.0),
                score(c.means.1),
                c.difference.map_or_else(|| "–".to_owned(), signed),
                c.interval
                    .map_or_else(|| "–".to_owned(), |(l, h)| format!("{} to {}", signed(l), signed(h))),
                runs,
                predictions,
                verdict,
            ]
        })
        .collect();
    (head, rows)
}
