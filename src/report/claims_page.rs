//! The decided claims as a page and as CSV.

use super::claims::{Effect, Judged};
use super::input::ReportInput;
use super::sampled::COVERAGE;
use super::table::PLACES;
use super::table_csv::number;
use super::text::{fixed, thousands};
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
    claims: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    id: String,
    text: String,
    reading: String,
    effect: String,
    interval: String,
    p: String,
    verdict: &'static str,
    why: String,
    parts: Vec<Part>,
}

#[derive(Debug, Serialize)]
struct Part {
    name: String,
    value: String,
    interval: String,
}

/// A p value as printed.
pub(super) fn p_text(p: f64) -> String {
    if p < 0.001 { "< 0.001".to_owned() } else { fixed(p, 3) }
}

/// A difference with its sign, one decimal finer than a score.
pub(super) fn signed(v: f64) -> String {
    format!("{}{}", if v >= 0.0 { "+" } else { "" }, fixed(v, PLACES + 1))
}

fn interval(e: &Effect) -> String {
    format!("{} to {}", signed(e.low), signed(e.high))
}

pub(super) fn page(input: &ReportInput, all: &[Judged]) -> Page {
    let none = || "–".to_owned();
    Page {
        warning: input.warning(),
        title: input.title.clone(),
        alpha: input.claims.as_ref().map_or(0.0, |c| c.alpha),
        level: fixed(100.0 * COVERAGE, 0),
        replicates: thousands(input.evidence.replicates),
        claims: all
            .iter()
            .map(|j| Line {
                id: j.claim.id.clone(),
                text: j.claim.text.clone(),
                reading: j.claim.reading.clone(),
                effect: j.effect.map_or_else(none, |e| signed(e.value)),
                interval: j.effect.as_ref().map_or_else(none, interval),
                p: j.p.map_or_else(none, p_text),
                verdict: j.verdict.word(),
                why: j.verdict.why().to_owned(),
                parts: j
                    .parts
                    .iter()
                    .map(|(name, e)| Part {
                        name: name.clone(),
                        value: signed(e.value),
                        interval: interval(e),
                    })
                    .collect(),
            })
            .collect(),
    }
}

/// One line a claim and one a part of it, numbers at full precision.
pub(super) fn to_csv(all: &[Judged]) -> Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "claim", "part", "effect", "low", "high", "p", "p_holm", "verdict", "why", "text", "reading",
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
            j.verdict.word().to_owned(),
            j.verdict.why().to_owned(),
            j.claim.text.clone(),
            j.claim.reading.clone(),
        ])?;
        for (name, e) in &j.parts {
            let numbers = [e.value, e.low, e.high, e.p].map(|v| number(Some(v)));
            let mut line = vec![j.claim.id.clone(), name.clone()];
            line.extend(numbers);
            line.resize(11, String::new());
            csv.write_record(&line)?;
        }
    }
    Ok(csv.into_inner()?)
}
