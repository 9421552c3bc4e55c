//! The comparison as a page and as CSV.

use super::claims_page::signed;
use super::compare::{Comparison, VerdictCounts};
use super::input::{ContextValue, ReportInput, regime_title};
use super::regimes::Fit;
use super::table::PLACES;
use super::table_csv::number;
use super::text::fixed;
use anyhow::Result;
use serde::Serialize;

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
    fits: Vec<FitLine>,
    /// Whether test images were resampled for any comparison.
    images: bool,
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
    seeds: String,
    verdict: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct FitLine {
    dataset: String,
    regime: String,
    backbones: usize,
    rmse: String,
    bias: String,
    tau: String,
    share: String,
    nearest: bool,
}

pub(super) fn page<'a>(input: &'a ReportInput, all: &[Comparison], fits: &[Fit]) -> Page<'a> {
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
        fits: fits.iter().map(|f| fit_line(input, f)).collect(),
        images: all.iter().any(|c| c.images.is_some()),
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

fn fit_line(input: &ReportInput, f: &Fit) -> FitLine {
    let title = |d: &String| input.dataset(d).map_or_else(|| d.clone(), |d| d.title.clone());
    FitLine {
        dataset: f.dataset.as_ref().map_or_else(|| "all".to_owned(), title),
        regime: regime_title(f.regime.0, f.regime.1),
        backbones: f.values,
        rmse: fixed(f.rmse, PLACES + 1),
        bias: signed(f.bias),
        tau: f.tau.map_or_else(|| "–".to_owned(), |t| fixed(t, 2)),
        share: f
            .share
            .map_or_else(|| "–".to_owned(), |s| format!("{} %", fixed(100.0 * s, 0))),
        nearest: f.nearest,
    }
}

fn line(input: &ReportInput, c: &Comparison) -> Line {
    let none = || "–".to_owned();
    let both = |(l, h): (f64, f64)| format!("{} to {}", signed(l), signed(h));
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
        difference: c.difference.map_or_else(none, signed),
        interval: c.interval.map_or_else(none, both),
        seeds: c.interval_seeds.map_or_else(none, both),
        verdict: c.verdict.word(),
        why: c.verdict.why().to_owned(),
    }
}

/// One line a comparison, numbers at full precision.
pub(super) fn to_csv(all: &[Comparison]) -> Result<Vec<u8>> {
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
        "low_seeds",
        "high_seeds",
        "images",
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
            number(c.interval_seeds.map(|i| i.0)),
            number(c.interval_seeds.map(|i| i.1)),
            c.images.map_or_else(String::new, |n| n.to_string()),
            c.verdict.word().to_owned(),
            c.verdict.why().to_owned(),
        ])?;
    }
    Ok(csv.into_inner()?)
}

/// One line a fit, numbers at full precision.
pub(super) fn fits_csv(all: &[Fit]) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "dataset",
        "freeze",
        "head",
        "values",
        "rmse",
        "bias",
        "kendall_tau_b",
        "share_nearest",
        "nearest",
    ])?;
    for f in all {
        csv.write_record([
            f.dataset.clone().unwrap_or_default(),
            f.regime.0.to_string(),
            f.regime.1.to_string(),
            f.values.to_string(),
            f.rmse.to_string(),
            f.bias.to_string(),
            number(f.tau),
            number(f.share),
            f.nearest.to_string(),
        ])?;
    }
    Ok(csv.into_inner()?)
}
