//! Every published value beside ours in each regime, with a verdict.
//!
//! The verdict comes from an equivalence test within a stated margin, never from "no significant difference": few seeds make
//! it inconclusive, not reproduced. The published value is only known up to the reading of a figure; the test is
//! made against the worst value within that reading.

use super::cells::{Cells, Score};
use super::input::{PublishedPoint, ReportInput, regime_title};
use super::stats::equivalence;
use super::table::{PLACES, fixed};
use crate::study::{Freeze, HeadKind};
use anyhow::Result;
use serde::Serialize;

/// What the comparison of one published value with ours gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub dataset: String,
    pub backbone: String,
    /// `None` where the study plans no regime of this backbone on this data set.
    pub regime: Option<(Freeze, HeadKind)>,
    pub published: f64,
    pub uncertainty: f64,
    pub margin: f64,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
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

/// Compares every published value with ours in each planned regime, in the order of the data sets and backbones of the study.
pub fn compare(input: &ReportInput, cells: &Cells) -> Vec<Comparison> {
    let place = |p: &PublishedPoint| {
        let dataset = input
            .datasets
            .iter()
            .position(|d| d.name == p.dataset)
            .unwrap_or(usize::MAX);
        let backbone = input
            .backbones
            .iter()
            .position(|b| b.name == p.backbone)
            .unwrap_or(usize::MAX);
        (dataset, backbone)
    };
    let mut published: Vec<&PublishedPoint> = input.published.iter().collect();
    published.sort_by_key(|p| place(p));
    let mut all = Vec::new();
    for p in published {
        let regimes = cells.regimes(&p.dataset);
        if !cells.plans(&p.dataset, &p.backbone) {
            let why = p.note.clone().unwrap_or_else(|| "not planned in this study".to_owned());
            all.push(judge(input, p, None, None, why));
            continue;
        }
        for (freeze, head) in regimes {
            let score = cells.get(&p.dataset, &p.backbone, freeze, head);
            let why = score
                .and_then(Score::gap)
                .unwrap_or_else(|| "not planned in this study".to_owned());
            all.push(judge(input, p, Some((freeze, head)), score, why));
        }
    }
    all
}

fn judge(
    input: &ReportInput,
    p: &PublishedPoint,
    regime: Option<(Freeze, HeadKind)>,
    score: Option<&Score>,
    why_missing: String,
) -> Comparison {
    let facts = input.dataset(&p.dataset);
    let margin = facts.map_or(0.0, |d| d.margin);
    let values = score.map_or(&[][..], |s| &s.values);
    let mean = score.and_then(Score::mean);
    // The published value is somewhere within its reading; what holds within the narrower margin holds for all of it.
    let test = equivalence(values, p.value, margin - p.uncertainty, input.alpha);
    let beyond = equivalence(values, p.value, margin + p.uncertainty, input.alpha);
    let verdict = if mean.is_none() {
        Verdict::NotRun(why_missing)
    } else if facts.is_some_and(|d| d.metric != p.metric) {
        Verdict::Inconclusive(format!("the published value is another metric ({})", p.metric))
    } else if values.len() < 2 {
        Verdict::Inconclusive("one seed: no spread to test against".to_owned())
    } else if margin <= p.uncertainty {
        Verdict::Inconclusive("the margin is not larger than the uncertainty of the reading".to_owned())
    } else if test.is_some_and(|e| e.p_equivalent < input.alpha) {
        Verdict::Reproduced
    } else if beyond.is_some_and(|e| e.p_different < input.alpha) {
        Verdict::Differs
    } else {
        Verdict::Inconclusive(format!("{} seeds spread across the margin", values.len()))
    };
    Comparison {
        dataset: p.dataset.clone(),
        backbone: p.backbone.clone(),
        regime,
        published: p.value,
        uncertainty: p.uncertainty,
        margin,
        n: values.len(),
        mean,
        sd: score.and_then(Score::sd),
        difference: mean.map(|m| m - p.value),
        interval: test.map(|e| (e.low, e.high)),
        p: test.map(|e| e.p_equivalent),
        verdict,
    }
}

/// What `compare.md.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    warning: Option<&'static str>,
    title: String,
    protocol: String,
    source: String,
    margin_reason: String,
    level: String,
    alpha: f64,
    values: usize,
    counts: VerdictCounts,
    sections: Vec<Section>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Section {
    title: String,
    metric: String,
    margin: String,
    counts: VerdictCounts,
    lines: Vec<Line>,
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

pub(super) fn page(input: &ReportInput, all: &[Comparison]) -> Page {
    let mut sections = Vec::new();
    for chunk in all.chunk_by(|a, b| a.dataset == b.dataset) {
        let facts = input.dataset(&chunk[0].dataset);
        sections.push(Section {
            title: facts.map_or_else(|| chunk[0].dataset.clone(), |d| d.title.clone()),
            metric: facts.map_or_else(String::new, |d| d.metric_title.clone()),
            margin: format!("{}", chunk[0].margin),
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
        source: input.published_source.clone(),
        margin_reason: input.margin_reason.clone(),
        level: fixed(100.0 * (1.0 - 2.0 * input.alpha), 0),
        alpha: input.alpha,
        values: input.published.len(),
        counts: VerdictCounts::of(all),
        sections,
        notes,
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
            c.margin.to_string(),
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
