//! Every published value beside ours in each regime, with a verdict.
//!
//! The verdict comes from an equivalence test within a stated margin, never from "no significant difference": few seeds make
//! it inconclusive, not reproduced. The published value is only known up to the reading of a figure; the test is
//! made against the worst value within that reading.

use super::cells::{Cells, Score};
use super::input::{ContextValue, PublishedPoint, ReportInput, regime_title};
use super::table::{PLACES, fixed};
use crate::eval::{Equivalence, tost};
use crate::study::{Freeze, HeadKind};
use anyhow::Result;
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
    /// Interval of level 1 − 2α for the difference.
    pub interval: Option<(f64, f64)>,
    /// Of the equivalence test.
    pub p: Option<f64>,
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
    let mean = score.and_then(Score::mean);
    let uncertainty = p.uncertainty + p.shared_offset;
    let same_metric = facts.is_some_and(|d| d.metric == p.metric);
    let test = margin
        .filter(|_| same_metric)
        .and_then(|m| tost(values, p.value, uncertainty, m, input.alpha).ok());
    let verdict = if mean.is_none() {
        let gap = score.and_then(Score::gap);
        Verdict::NotRun(gap.unwrap_or_else(|| "not planned in this study".to_owned()))
    } else if !same_metric {
        Verdict::Inconclusive(format!("the published value is another metric ({})", p.metric))
    } else if values.len() < 2 {
        Verdict::Inconclusive("one seed: no spread to test against".to_owned())
    } else {
        match (margin, test.as_ref().map(|t| t.answer)) {
            (_, Some(Equivalence::Equivalent)) => Verdict::Reproduced,
            (_, Some(Equivalence::Different)) => Verdict::Differs,
            (None, _) => Verdict::Inconclusive("no margin is stated for this metric".to_owned()),
            (Some(m), _) if m <= uncertainty => {
                Verdict::Inconclusive("the margin is not larger than the uncertainty of the reading".to_owned())
            }
            _ => Verdict::Inconclusive(format!("the interval over {} seeds crosses the margin", values.len())),
        }
    };
    Comparison {
        dataset: p.dataset.clone(),
        backbone: p.backbone.clone(),
        regime,
        published: p.value,
        uncertainty,
        margin,
        n: values.len(),
        mean,
        sd: score.and_then(Score::sd),
        difference: mean.map(|m| m - p.value),
        interval: test
            .as_ref()
            .map(|t| (t.interval.low - p.value, t.interval.high - p.value)),
        p: test.as_ref().map(|t| t.p),
        verdict,
    }
}

/// What `compare.md.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    warning: Option<&'static str>,
    title: String,
    protocol: String,
    sources: &'a [String],
    caveats: &'a [String],
    level: String,
    alpha: f64,
    values: usize,
    /// Whether some source does not say which regime its values are.
    regime_unknown: bool,
    counts: VerdictCounts,
    sections: Vec<Section>,
    notes: Vec<String>,
    context: Vec<ContextLine>,
}

#[derive(Debug, Serialize)]
struct Section {
    title: String,
    metric: String,
    margin: String,
    reason: String,
    counts: VerdictCounts,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct ContextLine {
    dataset: String,
    label: String,
    metric: String,
    value: String,
    source: String,
}

#[derive(Debug, Serialize)]
struct Line {
    backbone: String,
    published: String,
    regime: String,
    ours: String,
    difference: String,
    interval: String,
    verdict: &'static str,
    why: String,
}

pub(super) fn page<'a>(input: &'a ReportInput, all: &[Comparison]) -> Page<'a> {
    let mut sections = Vec::new();
    for chunk in all.chunk_by(|a, b| a.dataset == b.dataset) {
        let facts = input.dataset(&chunk[0].dataset);
        sections.push(Section {
            title: facts.map_or_else(|| chunk[0].dataset.clone(), |d| d.title.clone()),
            metric: facts.map_or_else(String::new, |d| d.metric_title.clone()),
            margin: chunk[0].margin.map_or_else(|| "none".to_owned(), |m| m.to_string()),
            reason: facts.map_or_else(String::new, |d| d.margin_reason.clone()),
            counts: VerdictCounts::of(chunk),
            lines: chunk.iter().map(|c| line(input, c)).collect(),
        });
    }
    let mut notes = Vec::<String>::new();
    for p in &input.published {
        if let Some(n) = &p.note {
            let text = format!("{}: {n}", input.backbone_title(&p.backbone));
            if !notes.contains(&text) {
                notes.push(text);
            }
        }
    }
    Page {
        warning: input.warning(),
        title: input.title.clone(),
        protocol: input.protocol.sentence(),
        sources: &input.sources,
        caveats: &input.caveats,
        level: fixed(100.0 * (1.0 - 2.0 * input.alpha), 0),
        alpha: input.alpha,
        values: input.published.len(),
        regime_unknown: input.published.iter().any(|p| p.freeze.is_none() || p.head.is_none()),
        counts: VerdictCounts::of(all),
        sections,
        notes,
        context: input.context.iter().map(|c| context_line(input, c)).collect(),
    }
}

fn context_line(input: &ReportInput, c: &ContextValue) -> ContextLine {
    ContextLine {
        dataset: input
            .dataset(&c.dataset)
            .map_or_else(|| c.dataset.clone(), |d| d.title.clone()),
        label: c.label.clone(),
        metric: c.metric.clone(),
        value: match c.sd {
            Some(sd) => format!("{} ± {}", fixed(c.value, PLACES), fixed(sd, PLACES)),
            None => fixed(c.value, PLACES),
        },
        source: c.source.clone(),
    }
}

fn line(input: &ReportInput, c: &Comparison) -> Line {
    let signed = |v: f64| format!("{}{}", if v >= 0.0 { "+" } else { "" }, fixed(v, PLACES + 1));
    let ours = match (c.mean, c.sd) {
        (Some(m), Some(sd)) => format!("{} ± {} ({})", fixed(m, PLACES), fixed(sd, PLACES), c.n),
        (Some(m), None) => format!("{} ({})", fixed(m, PLACES), c.n),
        _ => "–".to_owned(),
    };
    Line {
        backbone: input.backbone_title(&c.backbone).to_owned(),
        published: format!("{} ± {}", fixed(c.published, PLACES), fixed(c.uncertainty, 5)),
        regime: c.regime.map_or_else(|| "any".to_owned(), |(f, h)| regime_title(f, h)),
        ours,
        difference: c.difference.map_or_else(|| "–".to_owned(), signed),
        interval: c
            .interval
            .map_or_else(|| "–".to_owned(), |(l, h)| format!("{} to {}", signed(l), signed(h))),
        verdict: c.verdict.word(),
        why: c.verdict.why().to_owned(),
    }
}

/// One line a comparison, numbers at full precision.
pub(super) fn to_csv(all: &[Comparison]) -> Result<Vec<u8>> {
    let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "dataset",
        "backbone",
        "freeze",
        "head",
        "published",
        "uncertainty",
        "margin",
        "n",
        "mean",
        "sd",
        "difference",
        "low",
        "high",
        "p",
        "verdict",
        "why",
    ])?;
    for c in all {
        csv.write_record([
            c.dataset.clone(),
            c.backbone.clone(),
            c.regime.map_or_else(String::new, |(f, _)| f.to_string()),
            c.regime.map_or_else(String::new, |(_, h)| h.to_string()),
            c.published.to_string(),
            c.uncertainty.to_string(),
            number(c.margin),
            c.n.to_string(),
            number(c.mean),
            number(c.sd),
            number(c.difference),
            number(c.interval.map(|i| i.0)),
            number(c.interval.map(|i| i.1)),
            number(c.p),
            c.verdict.word().to_owned(),
            c.verdict.why().to_owned(),
        ])?;
    }
    Ok(csv.into_inner()?)
}
