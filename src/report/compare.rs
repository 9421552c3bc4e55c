//! Could a published value be one more run of this code? Every published value beside ours in each regime, with a verdict.
//!
//! Both numbers are of the same test images, so images are not drawn anew, and `--replicates` has no part in it. What is
//! uncertain is the noise of runs, ours and the published one's, and how exactly the published number is known: by reading,
//! offset and rounding, which widen the interval. The verdict is that of an equivalence test within a stated margin, never of "no
//! significant difference". See `docs/STATISTICS.md`.

use super::cells::{Cells, Score};
use super::input::{PublishedPoint, ReportInput, regime_title};
use super::paper_level::{Found, Hypothesis, PaperLevel, Shows, find};
use super::text::fixed;
use super::verdict::Verdict;
use crate::eval::{Interval, Reproduction, reproduction};
use crate::study::{Freeze, HeadKind};
use serde::{Deserialize, Serialize};

/// One published value beside one of ours, with the numbers behind the verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub dataset: String,
    pub backbone: String,
    /// `None` where the study plans no regime of this backbone on this data set.
    pub regime: Option<(Freeze, HeadKind)>,
    /// What our values are, where they are not the scores of that regime that count: its best or last weights, or the best of all
    /// regimes, of which the regime is then the highest.
    pub read_as: Option<Hypothesis>,
    pub published: f64,
    /// Runs the published value is the mean of; 1 where the source does not say.
    pub published_runs: u32,
    pub published_sd: Option<f64>,
    /// Half-width within which the published value is known: reading, offset and rounding together.
    pub uncertainty: f64,
    pub margin: Option<f64>,
    pub planned: usize,
    pub n: usize,
    pub seeds: Vec<u64>,
    pub values: Vec<f64>,
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    /// Ours − published.
    pub difference: Option<f64>,
    /// Of the difference, by the noise of our runs and the published ones.
    pub standard_error: Option<f64>,
    pub df: Option<f64>,
    /// Interval of level 1 − 2α for the difference, every source of uncertainty included.
    pub interval: Option<(f64, f64)>,
    /// The same without the uncertainty of the reading.
    pub interval_runs: Option<(f64, f64)>,
    /// The same without that and without the noise of the published run.
    pub interval_ours: Option<(f64, f64)>,
    /// Interval of level 1 − α for published − ours, moved to ours − published: holds 0 when the published value may be one more
    /// run of this code.
    pub prediction: Option<(f64, f64)>,
    /// Of "the difference is at least the margin".
    pub p: Option<f64>,
    /// Of "the difference is at most the margin, or one more run of this code would give it".
    pub p_differs: Option<f64>,
    /// Whether this is the one row of the published value that is counted: that of the regime which the source states, or else
    /// of the hypothesis that fits best. Other rows are shown.
    pub counted: bool,
    /// `None` where the value is shown for context only.
    pub verdict: Option<Verdict>,
    /// Why there is no verdict.
    pub no_verdict: Option<String>,
}

impl Comparison {
    /// What our values are, in words.
    pub fn reading(&self) -> String {
        let regime = self.regime.map(|(f, h)| regime_title(f, h));
        match (self.read_as, regime) {
            (Some(h), Some(regime)) if h.shows == Shows::BestOfAll => format!("{} (here {regime})", h.title()),
            (Some(h), _) => h.title(),
            (None, regime) => regime.unwrap_or_else(|| "any".to_owned()),
        }
    }

    /// The verdict's name, `Shown` where there is none.
    pub fn name(&self) -> &'static str {
        self.verdict.as_ref().map_or("Shown", Verdict::name)
    }

    /// The reason of the verdict, or of its absence; may be empty.
    pub fn why(&self) -> &str {
        match (&self.verdict, &self.no_verdict) {
            (Some(v), _) => v.why(),
            (None, Some(why)) => why,
            (None, None) => "",
        }
    }
}

/// How often each verdict was given to a published value, each value counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    pub reproduced: usize,
    pub consistent: usize,
    pub differs: usize,
    pub inconclusive: usize,
    pub not_run: usize,
    /// Values without a verdict: no authors' code, or another split.
    pub shown: usize,
}

impl VerdictCounts {
    /// Counts the verdicts of the counted rows of `all`.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Comparison>) -> Self {
        all.into_iter().filter(|c| c.counted).fold(Self::default(), |mut n, c| {
            match c.verdict {
                Some(Verdict::Reproduced) => n.reproduced += 1,
                Some(Verdict::Consistent) => n.consistent += 1,
                Some(Verdict::Differs) => n.differs += 1,
                Some(Verdict::Inconclusive(_)) => n.inconclusive += 1,
                Some(Verdict::NotRun(_)) => n.not_run += 1,
                None => n.shown += 1,
            }
            n
        })
    }
}

/// Compares every published value with ours in each planned regime that it can be of, in the order of the data sets and
/// backbones of the study. `paper` says which regime is counted where the source states none.
pub fn compare(input: &ReportInput, cells: &Cells, paper: &PaperLevel) -> Vec<Comparison> {
    let place = |p: &PublishedPoint| {
        let dataset = input.datasets.iter().position(|d| d.name == p.dataset);
        let backbone = input.backbones.iter().position(|b| b.name == p.backbone);
        (dataset.unwrap_or(usize::MAX), backbone.unwrap_or(usize::MAX))
    };
    let mut published: Vec<&PublishedPoint> = input.published.iter().collect();
    published.sort_by_key(|p| place(p));
    let mut all = Vec::new();
    for p in published {
        let regimes = match cells.plans(&p.dataset, &p.backbone) {
            true => cells.regimes_of(p),
            false => Vec::new(),
        };
        if regimes.is_empty() {
            all.push(Comparison {
                counted: true,
                ..judge(input, p, None, None)
            });
            continue;
        }
        let mut rows: Vec<Comparison> = regimes
            .iter()
            .map(|&(f, h)| judge(input, p, Some((f, h)), cells.get(&p.dataset, &p.backbone, f, h)))
            .collect();
        match paper.best_for(p).and_then(|h| read_as(input, cells, p, h, &rows)) {
            Some(row) => rows.push(row),
            None => {
                let stated = paper.best_for(p).map(|h| h.shows);
                let counts = |r: &Comparison| r.regime.is_some_and(|(f, h)| stated == Some(Shows::Regime(f, h)));
                let at = rows.iter().position(counts).or_else(|| highest(&rows)).unwrap_or(0);
                rows[at].counted = true;
            }
        }
        all.extend(rows);
    }
    all
}

/// The row with the highest mean.
fn highest(rows: &[Comparison]) -> Option<usize> {
    (0..rows.len())
        .filter(|&i| rows[i].mean.is_some())
        .reduce(|a, b| if rows[b].mean > rows[a].mean { b } else { a })
}

/// The row of a value under the best hypothesis, where that is not one of `rows`: a value is judged on the very numbers that its data set
/// is judged on, and where that cannot be, neither can it.
fn read_as(
    input: &ReportInput,
    cells: &Cells,
    p: &PublishedPoint,
    h: Hypothesis,
    rows: &[Comparison],
) -> Option<Comparison> {
    let regime = match h.shows {
        Shows::Regime(f, head) => Some((f, head)),
        Shows::BestOfAll => highest(rows).or(Some(0)).and_then(|i| rows[i].regime),
    };
    let plain = rows.iter().find(|r| r.regime == regime)?;
    let row = |planned, values, seeds| Comparison {
        read_as: Some(h),
        counted: true,
        ..judge(input, p, regime, Some(&Score::derived(planned, values, seeds)))
    };
    match find(cells, p, h) {
        Found::Values(v) if v == plain.values => None,
        Found::Values(v) => Some(row(v.len(), v, plain.seeds.clone())),
        // The regime's own row says the same.
        Found::Incomplete(_) if matches!(h.shows, Shows::Regime(..)) && plain.n < plain.planned.max(2) => None,
        Found::Incomplete(why) => {
            let none = rows.iter().all(|r| r.n == 0);
            let verdict = if none {
                Verdict::NotRun(why)
            } else {
                Verdict::Inconclusive(why)
            };
            let row = row(plain.planned, Vec::new(), Vec::new());
            Some(Comparison {
                verdict: row.verdict.is_some().then_some(verdict),
                ..row
            })
        }
        Found::NotPlanned => None,
    }
}

fn judge(
    input: &ReportInput,
    p: &PublishedPoint,
    regime: Option<(Freeze, HeadKind)>,
    score: Option<&Score>,
) -> Comparison {
    let facts = input.dataset(&p.dataset);
    let margin = facts.and_then(|d| d.margin);
    let same_metric = facts.is_some_and(|d| d.metric == p.metric);
    let values = score.map_or(&[][..], |s| &s.values);
    let run = p.run();
    let test = margin
        .filter(|_| same_metric)
        .and_then(|m| reproduction(values, &run, m, input.alpha).ok());
    let verdict = match score.filter(|s| s.n() > 0) {
        None => Verdict::NotRun(
            score
                .and_then(Score::gap)
                .unwrap_or_else(|| "not planned in this study".to_owned()),
        ),
        Some(_) if !same_metric => {
            Verdict::Inconclusive(format!("the published value is another metric ({})", p.metric))
        }
        Some(s) => match (s.incomplete(), margin, &test) {
            (Some(why), ..) => Verdict::Inconclusive(why),
            (None, Some(margin), Some(t)) => verdict(t, margin, input.alpha),
            _ => Verdict::Inconclusive("no margin is stated for this metric".to_owned()),
        },
    };
    let ends = |i: Interval| (i.low, i.high);
    let mean = score.and_then(Score::mean);
    Comparison {
        dataset: p.dataset.clone(),
        backbone: p.backbone.clone(),
        regime,
        read_as: None,
        published: p.value,
        published_runs: run.runs,
        published_sd: p.sd,
        uncertainty: run.reading,
        margin,
        planned: score.map_or(0, |s| s.planned),
        n: values.len(),
        seeds: score.map_or_else(Vec::new, |s| s.seeds.clone()),
        values: values.to_vec(),
        mean,
        sd: score.and_then(Score::sd),
        difference: mean.map(|m| m - p.value),
        standard_error: test.as_ref().map(|t| t.standard_error),
        df: test.as_ref().map(|t| t.df),
        interval: test.as_ref().map(|t| ends(t.interval)),
        interval_runs: test.as_ref().map(|t| ends(t.interval_runs)),
        interval_ours: test.as_ref().map(|t| ends(t.interval_ours)),
        prediction: test.as_ref().map(|t| ends(t.prediction)),
        p: test.as_ref().map(|t| t.p_same),
        p_differs: test.as_ref().map(|t| t.p_differs),
        counted: false,
        verdict: p.no_verdict.is_none().then_some(verdict),
        no_verdict: p.no_verdict.clone(),
    }
}

/// The verdict on a complete cell of the same metric.
fn verdict(t: &Reproduction, margin: f64, alpha: f64) -> Verdict {
    if t.p_same < alpha {
        return Verdict::Reproduced;
    }
    if t.p_differs < alpha {
        return Verdict::Differs;
    }
    if t.predicted() {
        return Verdict::Consistent;
    }
    let n = t.sample.n;
    Verdict::Inconclusive(if margin <= t.reading {
        "the margin is not larger than the uncertainty of the published value".to_owned()
    } else {
        let half = fixed((t.interval.high - t.interval.low) / 2.0, 4);
        format!(
            "one more run would not give it, but {n} seeds tell the difference to ± {half} only, which crosses the margin"
        )
    })
}
