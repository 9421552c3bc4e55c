//! What a study could decide, before it is run: the noise to be expected, and the probability that a claim is decided.
//!
//! Stated assumptions stand in for what no run has measured yet. They are constants of this file and are printed with every
//! number that rests on them.

use super::Context;
use super::estimate::Estimator;
use super::sources::Sources;
use crate::data::registry;
use crate::eval::{Outlook, Prospect, detects, outlook};
use crate::model;
use crate::results::RunRecord;
use crate::study::{ClaimTest, Claims, Freeze, HeadKind, PublishedValue, RunSpec, Study, Tolerances};
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Standard deviation of a run's score over seeds where no two seeds of a cell are there: the middle of the range (0.002 to 0.008)
/// over which the verdicts are simulated. Two such runs differ by less than 0.011 in 19 of 20 cases.
pub const ASSUMED_SD: f64 = 0.004;
/// A score's standard error over test images times the root of their number: 0.2 for areas (Hanley and McNeil at 0.95 on DDSM's
/// 768 and 276 images: 0.0062) and kappa, 0.7 for the macro recall of ISIC2019, which rests on its rare classes.
const IMAGE_NOISE: [(&str, f64); 2] = [("recall", 0.7), ("", 0.2)];
/// Correlation of two models' errors over the same test images.
const SHARED_IMAGES: f64 = 0.5;
/// A verdict or claim counts as within reach from this probability on.
pub const ENOUGH: f64 = 0.8;
/// The most seeds that are looked at.
pub const MOST_SEEDS: usize = 100;

/// A data set of a study and how noisy a run on it is.
#[derive(Debug, Clone, Serialize)]
pub struct SetNoise {
    pub dataset: String,
    pub metric: String,
    /// `None` where no margin is stated for the metric.
    pub margin: Option<f64>,
    /// Standard deviation over seeds, pooled over the cells that have several.
    pub sd: f64,
    /// Where it is from.
    pub sd_from: String,
    /// Of one score over other test images, assumed.
    pub image_sd: f64,
    /// By how much a published value may be misread, on average; 0 where there is none.
    pub reading: f64,
    /// Backbones of the study with a published value there that can have a verdict.
    pub backbones: Vec<String>,
    /// Data sets and hypotheses over which the verdicts on data sets are corrected, at the most.
    pub family: (usize, usize),
}

/// The data sets of `study` in its order; `sd` is an assumption of the user's.
pub fn noises(
    c: &Context,
    study: &Study,
    done: &[RunRecord],
    estimator: &mut Estimator,
    sd: Option<f64>,
) -> Result<Vec<SetNoise>> {
    let tolerances = Tolerances::of(&study.report.published, &c.global.experiments_dir)?;
    let sources = Sources::load(c, study)?;
    let comparable = || sources.sets.iter().filter(|s| s.comparable).flat_map(|s| &s.values);
    let judged: Vec<Vec<String>> = study
        .datasets
        .iter()
        .map(|d| sources.judged(study, d).into_iter().map(str::to_owned).collect())
        .collect();
    let sets = judged.iter().filter(|j| !j.is_empty()).count();
    let runs = study.runs();
    study
        .datasets
        .iter()
        .zip(judged)
        .map(|(dataset, backbones)| {
            let source = registry::find(dataset)?;
            let metric = source.info(&study.protocol).target;
            let spec = runs.iter().find(|r| r.dataset == *dataset);
            let images = spec.and_then(|s| estimator.test_images(s)).unwrap_or(1000.0);
            let noise = IMAGE_NOISE
                .iter()
                .find(|n| metric.starts_with(n.0))
                .map_or(0.2, |n| n.1);
            let (sd, sd_from) = match (sd, measured(done, dataset)) {
                (Some(sd), _) => (sd, "assumed by --sd".to_owned()),
                (None, Some((sd, runs, cells))) => (sd, format!("measured on {runs} runs of {cells} cells")),
                (None, None) => (ASSUMED_SD, format!("assumed: no cell has two seeds, {ASSUMED_SD}")),
            };
            let here = |v: &PublishedValue| v.backbone.as_ref().is_some_and(|b| backbones.contains(b));
            let readings: Vec<f64> = comparable()
                .filter(|v| v.dataset == *dataset && here(v))
                .map(|v| v.uncertainty + v.shared_offset + v.rounding)
                .collect();
            Ok(SetNoise {
                dataset: dataset.clone(),
                metric: metric.to_owned(),
                margin: tolerances.get(metric).map(|t| t.margin),
                sd,
                sd_from,
                image_sd: noise / images.sqrt(),
                // As the verdict on the data set takes it.
                reading: readings.iter().sum::<f64>() / readings.len().max(1) as f64,
                backbones,
                family: (sets, hypotheses(study, &sources)),
            })
        })
        .collect()
}

/// How many hypotheses a report of this study tests at the most: the regimes and the best of all, under the best and the last weights;
/// a source that states the regime leaves one.
fn hypotheses(study: &Study, sources: &Sources) -> usize {
    let values = sources.sets.iter().filter(|s| s.comparable).flat_map(|s| &s.values);
    let stated = values.clone().all(|v| v.freeze.is_some() && v.head.is_some());
    let regimes = study.freeze.len() * study.heads.len();
    match (stated, regimes) {
        (true, _) => 1,
        (false, 1) => 2,
        (false, n) => 2 * (n + 1),
    }
}

/// Pooled standard deviation over seeds on a data set, with the runs and cells behind it.
fn measured(done: &[RunRecord], dataset: &str) -> Option<(f64, usize, usize)> {
    let mut cells: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for r in done
        .iter()
        .filter(|r| r.spec.run.dataset == dataset && r.metrics.value.is_finite())
    {
        let cell = RunSpec {
            seed: 0,
            ..r.spec.run.clone()
        };
        let key = serde_json::to_string(&cell).ok()?;
        cells.entry(key).or_default().push(r.metrics.value);
    }
    cells.retain(|_, v| v.len() > 1);
    let squares = |v: &Vec<f64>| {
        let mean = v.iter().sum::<f64>() / v.len() as f64;
        v.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>()
    };
    let sum: f64 = cells.values().map(squares).sum();
    let runs: usize = cells.values().map(Vec::len).sum();
    let sd = (sum / (runs - cells.len().min(runs)).max(1) as f64).sqrt();
    (sd > 0.0).then_some((sd, runs, cells.len()))
}

impl SetNoise {
    /// What becomes of one value with `seeds` seeds when ours and the published run differ by `bias` in truth.
    pub fn value(&self, seeds: usize, bias: f64, alpha: f64) -> Option<Outlook> {
        self.prospect(self.sd * (1.0 + 1.0 / seeds as f64).sqrt(), seeds - 1, bias, alpha)
    }

    /// What becomes of the mean difference over all backbones, each of which has one published run; at the hardest of the levels
    /// that Holm's correction over data sets and hypotheses gives, so that no other verdict has to come first.
    pub fn all_values(&self, seeds: usize, bias: f64, alpha: f64) -> Option<Outlook> {
        let n = self.backbones.len();
        let se = self.sd * (1.0 + 1.0 / seeds as f64).sqrt() / (n as f64).sqrt();
        let (sets, hypotheses) = (self.family.0.max(1) as f64, self.family.1.max(1) as f64);
        let at = |level: f64| self.prospect(se, n.checked_sub(1)?, bias, level);
        // Of two ways to differ the smaller p is doubled; data sets are reproduced under the hypotheses that are left, one at least.
        let (differs, same) = (at(alpha / (2.0 * sets * hypotheses))?, at(alpha / sets)?);
        Some(Outlook {
            reproduced: same.reproduced,
            differs: differs.differs,
            consistent: 1.0 - differs.differs - same.reproduced,
            inconclusive: 0.0,
        })
    }

    fn prospect(&self, se: f64, df: usize, bias: f64, alpha: f64) -> Option<Outlook> {
        let p = Prospect {
            se,
            df: df as f64,
            prediction: 1.0,
            bias,
            margin: self.margin?,
            reading: self.reading,
            alpha,
        };
        outlook(&p).ok()
    }
}

/// The claims that a report of this study decides: those of the paper that it is compared with.
///
/// # Errors
/// Where the file of claims cannot be read.
pub fn asked(c: &Context, study: &Study) -> Result<Claims> {
    let mut all = Claims::of(&study.report.published, &c.global.experiments_dir)?;
    // A question that the study does not ask has no part in the correction of the others.
    let shares = study.sweep.iter().filter(|s| s.field == "train_fraction");
    let several = shares.map(|s| s.values.len()).any(|n| n >= 3);
    all.claims
        .retain(|c| several || !matches!(c.test, ClaimTest::SizeFraction { .. }));
    Ok(all)
}

/// A cell of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub dataset: String,
    pub backbone: String,
    pub family: &'static str,
    pub freeze: Freeze,
    pub head: HeadKind,
}

/// The cells of some runs, each once.
pub fn cells(runs: &[RunSpec]) -> Vec<Cell> {
    let mut all = Vec::new();
    for r in runs {
        let cell = Cell {
            dataset: r.dataset.clone(),
            backbone: r.backbone.clone(),
            family: model::registry::find(&r.backbone).map_or("", |e| e.family),
            freeze: r.freeze,
            head: r.head,
        };
        if !all.contains(&cell) {
            all.push(cell);
        }
    }
    all
}

/// Cells with weights that sum to 0.
type Contrast = Vec<(usize, f64)>;

/// Which of its contrasts decide a claim.
enum Needs {
    All(Vec<Contrast>),
    /// Two of them, in opposite directions.
    Two(Vec<Contrast>),
}

/// The probability that a claim is decided.
#[derive(Debug, Clone, Serialize)]
pub struct ClaimOutlook {
    pub claim: String,
    /// Of `Supported` where the effect is twice the smallest that matters (and about that of `Refuted` where there is none); `None`
    /// where it cannot be foreseen.
    pub probability: Option<f64>,
    pub why: String,
}

/// What the claims need of some cells: all but the number of seeds.
pub struct Outline {
    alpha: f64,
    claims: Vec<(String, f64, Result<Told, String>)>,
}

/// The errors of the contrasts that decide a claim.
struct Told {
    errors: Vec<ErrorParts>,
    /// Whether two of them do, in opposite directions.
    two: bool,
}

/// Variances of a contrast: of one seed a cell, and of the test images, which the cells of a data set share.
#[derive(Debug, Clone, Copy)]
struct ErrorParts {
    seed: f64,
    images: f64,
}

impl ErrorParts {
    fn of(contrast: &Contrast, cells: &[Cell], noises: &[SetNoise]) -> Self {
        let mut all = Self { seed: 0.0, images: 0.0 };
        for n in noises {
            let (mut squares, mut sum) = (0.0, 0.0);
            for (_, w) in contrast.iter().filter(|(i, _)| cells[*i].dataset == n.dataset) {
                squares += w * w;
                sum += w;
            }
            all.seed += squares * n.sd * n.sd;
            all.images += n.image_sd * n.image_sd * ((1.0 - SHARED_IMAGES) * squares + SHARED_IMAGES * sum * sum);
        }
        all
    }

    fn standard_error(self, seeds: usize) -> f64 {
        (self.seed / seeds as f64 + self.images).sqrt()
    }
}

impl Outline {
    pub fn of(all: &Claims, cells: &[Cell], noises: &[SetNoise]) -> Self {
        let told = |test: &ClaimTest| {
            let (list, two) = match contrasts(test, cells)? {
                Needs::All(list) => (list, false),
                Needs::Two(list) => (list, true),
            };
            let errors = list.iter().map(|c| ErrorParts::of(c, cells, noises)).collect();
            Ok(Told { errors, two })
        };
        let claims = all.claims.iter().map(|c| (c.id.clone(), c.smallest, told(&c.test)));
        Self {
            // The hardest of Holm's levels, so that no other claim has to be decided first.
            alpha: all.alpha / all.claims.len().max(1) as f64,
            claims: claims.collect(),
        }
    }

    /// What becomes of every claim with `seeds` seeds a cell.
    pub fn with(&self, seeds: usize) -> Vec<ClaimOutlook> {
        let outlook = |smallest: f64, told: &Told| {
            // Each of two data sets is told by the surest of all: Bonferroni over them.
            let alpha = self.alpha / if told.two { told.errors.len() as f64 } else { 1.0 };
            let one = |e: &ErrorParts| detects(smallest, e.standard_error(seeds), alpha).unwrap_or(0.0);
            let mut p: Vec<f64> = told.errors.iter().map(one).collect();
            if told.two {
                p.sort_by(|a, b| b.total_cmp(a));
                let why = "two data sets must be told, in opposite directions";
                return (p[0] * p[1], why.to_owned());
            }
            let why = match p.len() {
                1 => String::new(),
                n => format!("{n} contrasts must all be told"),
            };
            (p.iter().product(), why)
        };
        let one = |(id, smallest, told): &(String, f64, Result<Told, String>)| {
            let (probability, why) = match told {
                Ok(t) => {
                    let (p, why) = outlook(*smallest, t);
                    (Some(p), why)
                }
                Err(why) => (None, why.clone()),
            };
            ClaimOutlook {
                claim: id.clone(),
                probability,
                why,
            }
        };
        self.claims.iter().map(one).collect()
    }
}

/// The contrasts behind a claim on these cells, or why there are none.
fn contrasts(test: &ClaimTest, cells: &[Cell]) -> Result<Needs, String> {
    let which = |f: &dyn Fn(&Cell) -> bool| -> Vec<usize> { (0..cells.len()).filter(|&i| f(&cells[i])).collect() };
    let mean = |of: &[usize], factor: f64| -> Contrast { of.iter().map(|&i| (i, factor / of.len() as f64)).collect() };
    let minus = |plus: Vec<usize>, minus: Vec<usize>, what: &str| -> Result<Contrast, String> {
        if plus.is_empty() || minus.is_empty() {
            return Err(format!("the study has no cells for {what}"));
        }
        Ok([mean(&plus, 1.0), mean(&minus, -1.0)].concat())
    };
    let families: BTreeSet<&str> = cells.iter().map(|c| c.family).collect();
    let backbones: BTreeSet<&str> = cells.iter().map(|c| c.backbone.as_str()).collect();
    match test {
        ClaimTest::Group { families } => {
            let inside = |c: &Cell| families.iter().any(|f| f == c.family);
            let all_here = families.iter().all(|f| cells.iter().any(|c| c.family == f));
            if !all_here {
                return Err("a family that the claim names is not in the study".to_owned());
            }
            minus(which(&inside), which(&|c| !inside(c)), "the other families").map(|c| Needs::All(vec![c]))
        }
        ClaimTest::Top { families: top } => {
            let mut list = Vec::new();
            for t in top {
                for o in families.iter().filter(|f| !top.iter().any(|t| t == *f)) {
                    list.push(minus(
                        which(&|c| c.family == t),
                        which(&|c| c.family == *o),
                        "a family of the claim",
                    )?);
                }
            }
            if list.is_empty() {
                Err("the study has no other families".to_owned())
            } else {
                Ok(Needs::All(list))
            }
        }
        ClaimTest::Contrast {
            plus,
            minus: less_than,
            less,
        } => {
            let mut c = minus(
                which(&|c| plus.holds(c.freeze, c.head)),
                which(&|c| less_than.holds(c.freeze, c.head)),
                "one of the regimes",
            )?;
            if let Some((p, m)) = less {
                let other = minus(
                    which(&|c| m.holds(c.freeze, c.head)),
                    which(&|c| p.holds(c.freeze, c.head)),
                    "one of the regimes",
                )?;
                c.extend(other);
            }
            Ok(Needs::All(vec![c]))
        }
        ClaimTest::ContrastEveryBackbone { plus, minus: less_than } => {
            let one = |b: &&str| {
                minus(
                    which(&|c| c.backbone == *b && plus.holds(c.freeze, c.head)),
                    which(&|c| c.backbone == *b && less_than.holds(c.freeze, c.head)),
                    "one of the regimes",
                )
            };
            Ok(Needs::All(backbones.iter().map(one).collect::<Result<_, _>>()?))
        }
        ClaimTest::SizeTurns { pairs } => {
            let datasets: BTreeSet<&str> = cells.iter().map(|c| c.dataset.as_str()).collect();
            let here: Vec<_> = pairs
                .iter()
                .filter(|(s, l)| backbones.contains(s.as_str()) && backbones.contains(l.as_str()))
                .collect();
            let of = |d: &str, large: bool| {
                which(&|c| c.dataset == d && here.iter().any(|p| c.backbone == if large { &*p.1 } else { &*p.0 }))
            };
            let list: Vec<Contrast> = datasets
                .iter()
                .map(|d| minus(of(d, true), of(d, false), "two sizes of a family"))
                .collect::<Result<_, _>>()?;
            if list.len() < 2 {
                Err("one data set has nothing to turn on".to_owned())
            } else {
                Ok(Needs::Two(list))
            }
        }
        ClaimTest::Trend { .. } => {
            Err("it depends on how many families there are and not on seeds: an exact permutation test".to_owned())
        }
        _ => Err("the scatter about the line, between data sets or fractions, is not known beforehand".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Regimes;

    fn grid() -> Vec<Cell> {
        let mut all = Vec::new();
        for dataset in ["a", "b"] {
            for (backbone, family) in [("x-s", "X"), ("x-l", "X"), ("y-s", "Y")] {
                for freeze in [Freeze::Frozen, Freeze::Unfrozen] {
                    for head in [HeadKind::Linear, HeadKind::Mha] {
                        all.push(Cell {
                            dataset: dataset.into(),
                            backbone: backbone.into(),
                            family,
                            freeze,
                            head,
                        });
                    }
                }
            }
        }
        all
    }

    fn noise(dataset: &str) -> SetNoise {
        SetNoise {
            dataset: dataset.into(),
            metric: "roc_auc".into(),
            margin: Some(0.005),
            sd: 0.01,
            sd_from: String::new(),
            image_sd: 0.02,
            reading: 0.0,
            backbones: vec!["x-s".into(), "x-l".into(), "y-s".into()],
            family: (2, 5),
        }
    }

    /// By hand: MHA minus linear on frozen backbones are 6 cells against 6, so Σw² = 12/36 = 1/3, half of it in each data set;
    /// weights of a data set sum to 0. Seeds: 1e-4/3/4; images: 4e-4 · ½ · ⅓.
    #[test]
    fn an_error_by_hand() {
        let regime = |head| Regimes {
            freeze: Some(Freeze::Frozen),
            head: Some(head),
        };
        let test = ClaimTest::Contrast {
            plus: regime(HeadKind::Mha),
            minus: regime(HeadKind::Linear),
            less: None,
        };
        let cells = grid();
        let Ok(Needs::All(list)) = contrasts(&test, &cells) else {
            panic!()
        };
        assert_eq!((list.len(), list[0].len()), (1, 12));
        let found = ErrorParts::of(&list[0], &cells, &[noise("a"), noise("b")]).standard_error(4);
        let expected = (1e-4_f64 / 3.0 / 4.0 + 4e-4 * 0.5 / 3.0).sqrt();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
    }

    #[test]
    fn contrasts_sum_to_nothing_and_gaps_are_named() {
        let cells = grid();
        let pairs = vec![("x-s".to_owned(), "x-l".to_owned())];
        for (test, n) in [
            (
                ClaimTest::Group {
                    families: vec!["X".into()],
                },
                1,
            ),
            (
                ClaimTest::Top {
                    families: vec!["X".into()],
                },
                1,
            ),
            (ClaimTest::SizeTurns { pairs: pairs.clone() }, 2),
        ] {
            let (Ok(Needs::All(list)) | Ok(Needs::Two(list))) = contrasts(&test, &cells) else {
                panic!("{test:?}")
            };
            assert_eq!(list.len(), n, "{test:?}");
            for c in list {
                assert!(c.iter().map(|w| w.1).sum::<f64>().abs() < 1e-12);
                assert!((c.iter().map(|w| w.1.abs()).sum::<f64>() - 2.0).abs() < 1e-12);
            }
        }
        for test in [
            ClaimTest::Group {
                families: vec!["Z".into()],
            },
            ClaimTest::Group {
                families: vec!["X".into(), "Y".into()],
            },
            ClaimTest::Trend { dates: Vec::new() },
            ClaimTest::SizeSlope {
                pairs,
                images: Vec::new(),
            },
        ] {
            assert!(contrasts(&test, &cells).is_err(), "{test:?}");
        }
    }

    /// More seeds never make a claim harder, and the noise of the images stays.
    #[test]
    fn seeds_help_down_to_the_images() {
        let cells = grid();
        let test = ClaimTest::Group {
            families: vec!["X".into()],
        };
        let Ok(Needs::All(list)) = contrasts(&test, &cells) else {
            panic!()
        };
        let of = |n| ErrorParts::of(&list[0], &cells, &[noise("a"), noise("b")]).standard_error(n);
        assert!(of(2) > of(3) && of(3) > of(1000));
        assert!(of(1_000_000) > 0.9 * of(1000));
    }
}
