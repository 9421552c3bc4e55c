//! The comparison as a page and as CSV.

use super::compare::{Comparison, VerdictCounts};
use super::input::{ContextValue, ReportInput};
use super::paper_level::{PaperLevel, SetVerdict};
use super::table_csv::number;
use super::text::{PLACES, fixed, p_text, signed};
use super::verdict::Verdict;
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
    /// Which hypothesis fits best and how clearly.
    sentences: &'a [String],
    differs: bool,
    /// Whether any data set has a verdict under the best hypothesis.
    judged: bool,
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
    sets: Vec<SetLine>,
    lines: Vec<ValueLine>,
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
struct ValueLine {
    backbone: String,
    published: String,
    regime: String,
    ours: String,
    difference: String,
    interval: String,
    counted: bool,
    verdict: &'static str,
    why: String,
    behind: Vec<(&'static str, String)>,
}

/// One hypothesis on one data set, as printed.
#[derive(Debug, Serialize)]
pub(super) struct SetLine {
    hypothesis: String,
    best: bool,
    /// Complete ones, of those that may have a verdict.
    values: String,
    /// The backbones that the verdict is made of.
    behind: Vec<String>,
    mean: String,
    interval: String,
    rmse: String,
    ratio: String,
    tau: String,
    inside: String,
    verdict: &'static str,
    why: String,
}

pub(super) fn page<'a>(input: &'a ReportInput, all: &[Comparison], paper: &'a PaperLevel) -> Page<'a> {
    let mut sections = Vec::new();
    for chunk in all.chunk_by(|a, b| a.dataset == b.dataset) {
        let facts = input.dataset(&chunk[0].dataset);
        sections.push(Section {
            title: facts.map_or_else(|| chunk[0].dataset.clone(), |d| d.title.clone()),
            metric: facts.map_or_else(String::new, |d| d.metric_title.clone()),
            margin: chunk[0].margin.map_or_else(|| "none".to_owned(), |m| m.to_string()),
            reason: facts.map_or_else(String::new, |d| d.margin_reason.clone()),
            counts: VerdictCounts::of(chunk),
            sets: paper
                .sets
                .iter()
                .filter(|s| s.dataset == chunk[0].dataset)
                .map(|s| set_line(input, s))
                .collect(),
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
        sentences: &paper.sentences,
        differs: paper.differs(),
        judged: paper.best().any(|s| !matches!(s.verdict, Verdict::NotRun(_))),
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

/// A hypothesis on a data set, as printed.
pub(super) fn set_line(input: &ReportInput, s: &SetVerdict) -> SetLine {
    let backbone = |name: &str| input.backbone_title(name).to_owned();
    let none = || "–".to_owned();
    SetLine {
        hypothesis: match s.stated {
            (Some(_), Some(_)) => format!("{}, as stated", s.hypothesis.title()),
            _ => s.hypothesis.title(),
        },
        best: s.best,
        values: match (s.rows.len(), s.rows.len() + s.incomplete.len() + s.not_planned) {
            (n, all) if n == all => n.to_string(),
            (n, all) => format!("{n} of {all}"),
        },
        behind: s
            .rows
            .iter()
            .map(|r| {
                let seeds: Vec<String> = r.values.iter().map(|v| fixed(*v, PLACES + 2)).collect();
                format!(
                    "{}: published {}, ours {} (difference {}, standard error {}{})",
                    backbone(&r.backbone),
                    fixed(r.published, PLACES + 1),
                    seeds.join(", "),
                    signed(r.difference),
                    fixed(r.standard_error, PLACES + 2),
                    if r.inside {
                        ""
                    } else {
                        ", outside its prediction interval"
                    }
                )
            })
            .collect(),
        mean: s.mean.map_or_else(none, signed),
        interval: s.interval.map_or_else(none, span),
        rmse: s.rmse.map_or_else(none, |v| fixed(v, PLACES + 1)),
        ratio: match (s.ratio, s.ratio_interval) {
            (Some(r), Some((low, high))) => format!("{} ({} to {})", fixed(r, 2), fixed(low, 2), fixed(high, 2)),
            _ => none(),
        },
        tau: match (s.tau, s.tau_p) {
            (Some(t), Some(p)) => format!("{} (p {})", fixed(t, 2), p_text(p)),
            _ => none(),
        },
        inside: format!("{} of {}", s.inside, s.rows.len()),
        verdict: s.verdict.name(),
        why: s.verdict.why().to_owned(),
    }
}

fn span((l, h): (f64, f64)) -> String {
    format!("{} to {}", signed(l), signed(h))
}

/// The numbers behind a value's verdict, each with its name.
pub(super) fn behind(c: &Comparison) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if c.values.is_empty() {
        return out;
    }
    let seeds = c.seeds.iter().zip(&c.values);
    let seeds: Vec<String> = seeds.map(|(s, v)| format!("{s}: {}", fixed(*v, PLACES + 2))).collect();
    if c.read_as.is_some() {
        out.push(("ours are", c.reading()));
    }
    out.push((
        "our seeds",
        format!("{} of {} planned ({})", c.n, c.planned, seeds.join(", ")),
    ));
    if let Some(sd) = c.sd {
        out.push(("our standard deviation s", fixed(sd, PLACES + 2)));
    }
    let theirs = c.published_sd.map_or_else(
        || "no standard deviation given, so ours stands in".to_owned(),
        |sd| format!("standard deviation {}", fixed(sd, PLACES + 2)),
    );
    out.push(("published runs", format!("{}; {theirs}", c.published_runs)));
    out.push((
        "published value known to",
        format!("± {}", fixed(c.uncertainty, PLACES + 2)),
    ));
    if let (Some(se), Some(df)) = (c.standard_error, c.df) {
        let text = format!("{}, {} degrees of freedom", fixed(se, PLACES + 2), fixed(df, 1));
        out.push(("standard error of the difference", text));
    }
    let read = |(low, high): (f64, f64)| (low - c.uncertainty, high + c.uncertainty);
    for (name, interval) in [
        ("interval of the difference", c.interval),
        ("… without the uncertainty of the published value", c.interval_runs),
        ("… without the published run's noise", c.interval_ours.map(read)),
        ("… without either, by our seeds alone", c.interval_ours),
        ("prediction interval of one more run, less ours", c.prediction),
    ] {
        if let Some(i) = interval {
            out.push((name, span(i)));
        }
    }
    out
}

fn line(input: &ReportInput, c: &Comparison) -> ValueLine {
    let none = || "–".to_owned();
    let ours = match (c.mean, c.sd) {
        (Some(m), Some(sd)) => format!("{} ± {} ({})", fixed(m, PLACES), fixed(sd, PLACES), c.n),
        (Some(m), None) => format!("{} ({})", fixed(m, PLACES), c.n),
        _ => "–".to_owned(),
    };
    ValueLine {
        backbone: input.backbone_title(&c.backbone).to_owned(),
        published: format!("{} ± {}", fixed(c.published, PLACES), fixed(c.uncertainty, 5)),
        regime: c.reading(),
        ours,
        difference: c.difference.map_or_else(none, signed),
        interval: c.interval.map_or_else(none, span),
        counted: c.counted,
        verdict: c.name(),
        why: c.why().to_owned(),
        behind: behind(c),
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
        "read_as",
        "published",
        "uncertainty",
        "margin",
        "n",
        "mean",
        "sd",
        "difference",
        "standard_error",
        "df",
        "low",
        "high",
        "p",
        "p_differs",
        "low_runs",
        "high_runs",
        "low_ours",
        "high_ours",
        "prediction_low",
        "prediction_high",
        "published_runs",
        "published_sd",
        "counted",
        "verdict",
        "why",
    ])?;
    let end = |i: Option<(f64, f64)>, pick: fn((f64, f64)) -> f64| number(i.map(pick));
    for c in all {
        csv.write_record([
            c.dataset.clone(),
            c.backbone.clone(),
            c.regime.map_or_else(String::new, |(f, _)| f.to_string()),
            c.regime.map_or_else(String::new, |(_, h)| h.to_string()),
            c.read_as.map_or_else(String::new, |h| h.title()),
            c.published.to_string(),
            c.uncertainty.to_string(),
            number(c.margin),
            c.n.to_string(),
            number(c.mean),
            number(c.sd),
            number(c.difference),
            number(c.standard_error),
            number(c.df),
            end(c.interval, |i| i.0),
            end(c.interval, |i| i.1),
            number(c.p),
            number(c.p_differs),
            end(c.interval_runs, |i| i.0),
            end(c.interval_runs, |i| i.1),
            end(c.interval_ours, |i| i.0),
            end(c.interval_ours, |i| i.1),
            end(c.prediction, |i| i.0),
            end(c.prediction, |i| i.1),
            c.published_runs.to_string(),
            number(c.published_sd),
            c.counted.to_string(),
            c.name().to_owned(),
            c.why().to_owned(),
        ])?;
    }
    Ok(csv.into_inner()?)
}

/// One line a data set and hypothesis, numbers at full precision.
pub(super) fn sets_csv(paper: &PaperLevel) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "dataset",
        "hypothesis",
        "best",
        "values",
        "margin",
        "mean_difference",
        "low",
        "high",
        "sd_between",
        "rmse",
        "rmse_of_noise",
        "kendall_tau_b",
        "p_tau",
        "inside_prediction",
        "p_same",
        "p_differs",
        "p_same_holm",
        "p_differs_holm",
        "verdict",
        "why",
    ])?;
    for s in &paper.sets {
        csv.write_record([
            s.dataset.clone(),
            s.hypothesis.title(),
            s.best.to_string(),
            s.rows.len().to_string(),
            s.margin.to_string(),
            number(s.mean),
            number(s.interval.map(|i| i.0)),
            number(s.interval.map(|i| i.1)),
            number(s.sd),
            number(s.rmse),
            number(s.noise),
            number(s.tau),
            number(s.tau_p),
            s.inside.to_string(),
            number(s.p_same),
            number(s.p_differs),
            number(s.p_same_holm),
            number(s.p_differs_holm),
            s.verdict.name().to_owned(),
            s.verdict.why().to_owned(),
        ])?;
    }
    Ok(csv.into_inner()?)
}
