//! The decided claims as a page and as CSV.

use super::claim_effect::Effect;
use super::claims::Judged;
use super::input::{ReportInput, regime_title};
use super::sampled::COVERAGE;
use super::table_csv::number;
use super::text::{PLACES, fixed, p_text, signed, thousands};
use anyhow::Result;
use serde::Serialize;

/// What `claims.md.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    warning: Option<&'static str>,
    title: String,
    alpha: f64,
    level: String,
    replicates: String,
    claims: Vec<ClaimRow>,
}

#[derive(Debug, Serialize)]
struct ClaimRow {
    id: String,
    text: String,
    source: String,
    sentence: String,
    reading: String,
    smallest: f64,
    smallest_reason: String,
    effect: String,
    interval: String,
    p: String,
    verdict: &'static str,
    why: String,
    disagreement: Option<String>,
    parts: Vec<Part>,
    sources: Vec<SourceLine>,
    variants: Vec<VariantLine>,
    cells: Vec<CellLine>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    value: String,
    interval: String,
}

/// One source of variance: what the interval would be with it alone, and without it.
#[derive(Debug, Serialize)]
struct SourceLine {
    name: String,
    standard_error: String,
    df: String,
    alone: String,
    without: String,
}

#[derive(Debug, Serialize)]
struct VariantLine {
    title: String,
    effect: String,
    interval: String,
    p: String,
    says: String,
    answer: String,
}

#[derive(Debug, Serialize)]
struct CellLine {
    title: String,
    n: usize,
    planned: usize,
    seeds: String,
    mean: String,
    sd: String,
    images: String,
}

fn interval(e: &Effect) -> String {
    format!("{} to {}", signed(e.low), signed(e.high))
}

pub(super) fn page(input: &ReportInput, all: &[Judged]) -> Page {
    Page {
        warning: input.warning(),
        title: input.title.clone(),
        alpha: input.claims.as_ref().map_or(0.0, |c| c.alpha),
        level: fixed(100.0 * COVERAGE, 0),
        replicates: thousands(crate::results::DECISION),
        claims: all.iter().map(|j| line(input, j)).collect(),
    }
}

fn line(input: &ReportInput, j: &Judged) -> ClaimRow {
    let none = || "–".to_owned();
    ClaimRow {
        id: j.claim.id.clone(),
        text: j.claim.text.clone(),
        source: j.claim.source.to_string(),
        sentence: j.claim.sentence.clone(),
        reading: j.claim.reading.clone(),
        smallest: j.claim.smallest,
        smallest_reason: j.claim.smallest_reason.clone(),
        effect: j.effect.as_ref().map_or_else(none, |e| signed(e.value)),
        interval: j.effect.as_ref().map_or_else(none, interval),
        p: j.p.map_or_else(none, p_text),
        verdict: j.verdict.name(),
        why: j.verdict.why().to_owned(),
        disagreement: j.disagreement.clone(),
        parts: j
            .parts
            .iter()
            .map(|(name, e)| Part {
                name: name.clone(),
                value: signed(e.value),
                interval: interval(e),
            })
            .collect(),
        sources: j.effect.as_ref().map_or_else(Vec::new, sources),
        variants: j
            .variants
            .iter()
            .map(|v| VariantLine {
                title: v.title.clone(),
                effect: v.effect.map_or_else(none, signed),
                interval: v
                    .interval
                    .map_or_else(none, |(l, h)| format!("{} to {}", signed(l), signed(h))),
                p: v.p.map_or_else(none, p_text),
                says: if v.says.is_empty() { none() } else { v.says.clone() },
                answer: v.answer.clone(),
            })
            .collect(),
        cells: j
            .cells
            .iter()
            .map(|c| CellLine {
                title: format!(
                    "{}, {}, {}",
                    input.dataset(&c.dataset).map_or(c.dataset.as_str(), |d| &d.title),
                    input.backbone_title(&c.backbone),
                    regime_title(c.freeze, c.head)
                ),
                n: c.n,
                planned: c.planned,
                seeds: c
                    .seeds
                    .iter()
                    .zip(&c.values)
                    .map(|(s, v)| format!("{s}: {}", fixed(*v, PLACES + 2)))
                    .collect::<Vec<_>>()
                    .join(", "),
                mean: c.mean.map_or_else(none, |v| fixed(v, PLACES + 1)),
                sd: c.sd.map_or_else(none, |v| fixed(v, PLACES + 2)),
                images: c.images_standard_error.map_or_else(none, |v| fixed(v, PLACES + 2)),
            })
            .collect(),
    }
}

/// Every source with the interval of it alone and of all others.
fn sources(e: &Effect) -> Vec<SourceLine> {
    let around = |squares: f64| {
        let half = squares.max(0.0).sqrt();
        format!("{} to {}", signed(e.value - half), signed(e.value + half))
    };
    let total: f64 = e.sources.iter().map(|s| s.half_width * s.half_width).sum();
    e.sources
        .iter()
        .map(|s| SourceLine {
            name: s.name.clone(),
            standard_error: fixed(s.standard_error, PLACES + 2),
            df: s.df.map_or_else(|| "normal".to_owned(), |d| fixed(d, 1)),
            alone: around(s.half_width * s.half_width),
            without: around(total - s.half_width * s.half_width),
        })
        .collect()
}

/// One line a claim and one a part of it, numbers at full precision.
pub(super) fn to_csv(all: &[Judged]) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "claim", "part", "effect", "low", "high", "p", "p_holm", "verdict", "why", "text", "reading", "source",
        "smallest", "says",
    ])?;
    for j in all {
        let e = j.effect.as_ref();
        csv.write_record([
            j.claim.id.clone(),
            String::new(),
            number(e.map(|e| e.value)),
            number(e.map(|e| e.low)),
            number(e.map(|e| e.high)),
            number(e.map(|e| e.p)),
            number(j.p),
            j.verdict.name().to_owned(),
            j.verdict.why().to_owned(),
            j.claim.text.clone(),
            j.claim.reading.clone(),
            j.claim.source.to_string(),
            j.claim.smallest.to_string(),
            String::new(),
        ])?;
        for (name, e) in &j.parts {
            let numbers = [e.value, e.low, e.high, e.p].map(|v| number(Some(v)));
            let mut line = vec![j.claim.id.clone(), name.clone()];
            line.extend(numbers);
            line.resize(14, String::new());
            csv.write_record(&line)?;
        }
        for v in &j.variants {
            let mut line = vec![j.claim.id.clone(), v.title.clone()];
            line.extend([v.effect, v.interval.map(|i| i.0), v.interval.map(|i| i.1), v.p].map(number));
            line.extend([String::new(), String::new(), v.answer.clone()]);
            line.resize(13, String::new());
            line.push(v.says.clone());
            csv.write_record(&line)?;
        }
    }
    Ok(csv.into_inner()?)
}
