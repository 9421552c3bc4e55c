//! Every published value beside ours in each regime, with a verdict.
//!
//! The verdict comes from an equivalence test within a stated margin, never from "no significant difference": few seeds make
//! it inconclusive, not reproduced. The mean over seeds is uncertain in two ways: other seeds, and other test images. The
//! test takes both, where the predictions were resampled; the interval over seeds alone stands beside it, since it says what
//! holds for these very images. The published value is only known up to the reading of a figure; the test is made against the
//! worst value within that reading.

use super::cells::{Cells, Score};
use super::input::{PublishedPoint, ReportInput};
use super::text::{fixed, thousands};
use crate::eval::{Equivalence, Tost, tost, tost_over_images};
use crate::study::{Freeze, HeadKind};
use serde::{Deserialize, Serialize};

/// What the comparison of one published value with ours gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why")]
pub enum Verdict {
    /// The difference is smaller than the margin (both one-sided tests reject).
    Reproduced,
    /// The difference is larger than the margin (the opposite test rejects).
    Differs,
    /// Neither can be said.
    Inconclusive(String),
    /// There is no value of ours.
    NotRun(String),
}

impl Verdict {
    /// Its one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Reproduced => "Reproduced",
            Self::Differs => "Differs",
            Self::Inconclusive(_) => "Inconclusive",
            Self::NotRun(_) => "NotRun",
        }
    }

    /// Its reason, where it has one.
    pub fn why(&self) -> &str {
        match self {
            Self::Inconclusive(why) | Self::NotRun(why) => why,
            Self::Reproduced | Self::Differs => "",
        }
    }
}

/// One published value beside one of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub dataset: String,
    pub backbone: String,
    /// `None` where the study plans no regime of this backbone on this data set.
    pub regime: Option<(Freeze, HeadKind)>,
    pub published: f64,
    /// Of the reading, offsets included.
    pub uncertainty: f64,
    pub margin: Option<f64>,
    pub n: usize,
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    /// Ours − published.
    pub difference: Option<f64>,
    /// Interval of level 1 − 2α for the difference: over seeds and test images where `images` is there, else over seeds.
    pub interval: Option<(f64, f64)>,
    /// Of the equivalence test that goes with it.
    pub p: Option<f64>,
    /// The same interval over seeds alone: on these very test images.
    pub interval_seeds: Option<(f64, f64)>,
    /// Test images that were resampled.
    pub images: Option<usize>,
    pub verdict: Verdict,
}

/// How often each verdict was given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictCounts {
    pub reproduced: usize,
    pub differs: usize,
    pub inconclusive: usize,
    pub not_run: usize,
}

impl VerdictCounts {
    /// Counts the verdicts of `all`.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Comparison>) -> Self {
        all.into_iter().fold(Self::default(), |mut n, c| {
            match c.verdict {
                Verdict::Reproduced => n.reproduced += 1,
                Verdict::Differs => n.differs += 1,
                Verdict::Inconclusive(_) => n.inconclusive += 1,
                Verdict::NotRun(_) => n.not_run += 1,
            }
            n
        })
    }
}

/// Compares every published value with ours in each planned regime that it can be of, in the order of the data sets and
/// backbones of the study.
pub fn compare(input: &ReportInput, cells: &Cells) -> Vec<Comparison> {
    let place = |p: &PublishedPoint| {
        let dataset = input.datasets.iter().position(|d| d.name == p.dataset);
        let backbone = input.backbones.iter().position(|b| b.name == p.backbone);
        (dataset.unwrap_or(usize::MAX), backbone.unwrap_or(usize::MAX))
    };
    let mut published: Vec<&PublishedPoint> = input.published.iter().collect();
    published.sort_by_key(|p| place(p));
    let mut all = Vec::new();
    for p in published {
        let mut regimes = cells.regimes(&p.dataset);
        regimes.retain(|(f, h)| p.freeze.is_none_or(|x| x == *f) && p.head.is_none_or(|x| x == *h));
        if regimes.is_empty() || !cells.plans(&p.dataset, &p.backbone) {
            all.push(judge(input, p, None, None));
            continue;
        }
        for (freeze, head) in regimes {
            all.push(judge(
                input,
                p,
                Some((freeze, head)),
                cells.get(&p.dataset, &p.backbone, freeze, head),
            ));
        }
    }
    all
}

fn judge(
    input: &ReportInput,
    p: &PublishedPoint,
    regime: Option<(Freeze, HeadKind)>,
    score: Option<&Score>,
) -> Comparison {
    let facts = input.dataset(&p.dataset);
    let margin = facts.and_then(|d| d.margin);
    let values = score.map_or(&[][..], |s| &s.values);
    let uncertainty = p.uncertainty + p.shared_offset;
    let same_metric = facts.is_some_and(|d| d.metric == p.metric);
    let testable = margin.filter(|_| same_metric && values.len() > 1);
    let sampled = score.and_then(|s| s.sampled.as_ref()).filter(|_| testable.is_some());
    let over_seeds = testable.and_then(|m| tost(values, p.value, uncertainty, m, input.alpha).ok());
    let over_both = testable.zip(sampled).and_then(|(m, s)| {
        let answer = tost_over_images(values, s.spread(), p.value, uncertainty, m, input.alpha);
        answer.ok()
    });
    let verdict = match score.and_then(Score::mean) {
        None => {
            let gap = score.and_then(Score::gap);
            Verdict::NotRun(gap.unwrap_or_else(|| "not planned in this study".to_owned()))
        }
        Some(_) if !same_metric => {
            Verdict::Inconclusive(format!("the published value is another metric ({})", p.metric))
        }
        Some(_) if values.len() < 2 => Verdict::Inconclusive("one seed: no spread to test against".to_owned()),
        Some(_) => verdict(
            margin,
            uncertainty,
            over_seeds.as_ref(),
            over_both.as_ref(),
            sampled.map(|s| s.count),
        ),
    };
    let test = over_both.as_ref().or(over_seeds.as_ref());
    let difference = |t: &Tost| (t.interval.low - p.value, t.interval.high - p.value);
    Comparison {
        dataset: p.dataset.clone(),
        backbone: p.backbone.clone(),
        regime,
        published: p.value,
        uncertainty,
        margin,
        n: values.len(),
        mean: score.and_then(Score::mean),
        sd: score.and_then(Score::sd),
        difference: score.and_then(Score::mean).map(|m| m - p.value),
        interval: test.map(difference),
        p: test.map(|t| t.p),
        interval_seeds: over_seeds.as_ref().map(difference),
        images: over_both.as_ref().and(sampled).map(|s| s.count),
        verdict,
    }
}

/// The verdict on several seeds of the same metric.
fn verdict(
    margin: Option<f64>,
    uncertainty: f64,
    over_seeds: Option<&Tost>,
    over_both: Option<&Tost>,
    images: Option<usize>,
) -> Verdict {
    let Some((margin, seeds)) = margin.zip(over_seeds) else {
        return Verdict::Inconclusive("no margin is stated for this metric".to_owned());
    };
    let n = seeds.sample.n;
    match over_both.unwrap_or(seeds).answer {
        Equivalence::Equivalent => return Verdict::Reproduced,
        Equivalence::Different => return Verdict::Differs,
        Equivalence::Undetermined => {}
    }
    let why = if margin <= uncertainty {
        "the margin is not larger than the uncertainty of the reading".to_owned()
    } else if let Some((both, images)) = over_both.zip(images) {
        let half = fixed((both.interval.high - both.interval.low) / 2.0, 4);
        let with = format!("with {} test images it is known to ± {half} only", thousands(images));
        match seeds.answer {
            Equivalence::Equivalent => format!("on these images the {n} seeds reproduce it, but {with}"),
            Equivalence::Different => format!("on these images the {n} seeds differ, but {with}"),
            Equivalence::Undetermined => format!("the interval over {n} seeds crosses the margin, and {with}"),
        }
    } else {
        format!("the interval over {n} seeds crosses the margin")
    };
    Verdict::Inconclusive(why)
}
