//! `paper.tex` with the answer, tables, vector figures and claims, and `numbers.tex` with every number by name, so that no number in a text is typed.
//!
//! `\medft{<name>}` prints a number; a name that is not there stops LaTeX. The names of a cell's numbers are
//! `<cell>/mean`, `/sd`, `/n`, …; a number that does not exist (a cell without a result) prints a dash.

use super::cell_details::CellDetails;
use super::claims::Judged;
use super::claims_page;
use super::compare::{Comparison, VerdictCounts};
use super::figure::{Painted, Span};
use super::input::{ReportInput, head_title};
use super::page::{Answer, Beside};
use super::table::Table;
use super::text::{PLACES, fixed, safe};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::BTreeSet;

/// What `numbers.tex.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Numbers {
    warning: Option<&'static str>,
    groups: Vec<Group>,
}

/// Numbers of one thing, with a comment above them.
#[derive(Debug, Serialize)]
struct Group {
    about: String,
    /// (name, as printed).
    numbers: Vec<(String, String)>,
}

/// What `paper.tex.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Paper<'a> {
    warning: Option<&'static str>,
    partial: Option<String>,
    study: &'a str,
    title: &'a str,
    description: &'a str,
    expected: &'a str,
    protocol: String,
    answer: &'a Answer,
    beside: &'a [Beside],
    level: String,
    claims: Option<claims_page::Page>,
    sources: &'a [String],
    caveats: &'a [String],
    /// Whether there is anything for the bibliography.
    cited: bool,
    datasets: Vec<Dataset<'a>>,
    tables: Vec<&'a str>,
    figures: Vec<Figure<'a>>,
}

#[derive(Debug, Serialize)]
struct Dataset<'a> {
    name: String,
    title: &'a str,
    metric: &'a str,
    table: String,
    has_best: bool,
    best: Option<String>,
    best_key: String,
}

#[derive(Debug, Serialize)]
struct Figure<'a> {
    stem: &'a str,
    caption: &'a str,
    page: bool,
    label: String,
}

const DASH: &str = "–";

/// Every number, each under one name.
///
/// # Errors
/// When two numbers would have the same name.
pub(super) fn numbers(input: &ReportInput, details: &[CellDetails], comparisons: &[Comparison]) -> Result<Numbers> {
    let counts = VerdictCounts::of(comparisons);
    let done: usize = details.iter().map(|d| d.n).sum();
    let complete = details.iter().filter(|d| d.n == d.planned).count();
    let number = |name: &str, n: usize| (name.to_owned(), n.to_string());
    let mut groups = vec![Group {
        about: format!("The study {}", input.study),
        numbers: vec![
            number("planned", input.planned.len()),
            number("done", done),
            number("missing", input.planned.len().saturating_sub(done)),
            number("cells", details.len()),
            number("cells/complete", complete),
            number("backbones", input.backbones.len()),
            number("datasets", input.datasets.len()),
            number("published", input.published.len()),
            number("comparisons", comparisons.len()),
            number("reproduced", counts.reproduced),
            number("consistent", counts.consistent),
            number("differs", counts.differs),
            number("inconclusive", counts.inconclusive),
            number("not-run", counts.not_run),
            number("shown", counts.shown),
            ("alpha".to_owned(), input.alpha.to_string()),
        ],
    }];
    for d in &input.datasets {
        let own = || details.iter().filter(|c| c.dataset == d.name);
        let verdicts = VerdictCounts::of(comparisons.iter().filter(|c| c.dataset == d.name));
        let name = tex_name(&d.name);
        groups.push(Group {
            about: format!("{}, {}", d.title, d.metric_title),
            numbers: vec![
                number(&format!("{name}/planned"), own().map(|c| c.planned).sum()),
                number(&format!("{name}/done"), own().map(|c| c.n).sum()),
                (
                    format!("{name}/margin"),
                    d.margin.map_or_else(|| DASH.to_owned(), |m| m.to_string()),
                ),
                number(&format!("{name}/reproduced"), verdicts.reproduced),
                number(&format!("{name}/consistent"), verdicts.consistent),
                number(&format!("{name}/differs"), verdicts.differs),
                number(&format!("{name}/inconclusive"), verdicts.inconclusive),
                number(&format!("{name}/not-run"), verdicts.not_run),
            ],
        });
    }
    for b in &input.backbones {
        let millions = b.params.map(|p| p as f64 / 1e6);
        let places = if millions.is_some_and(|m| m < 1.0) { 3 } else { 1 };
        groups.push(Group {
            about: b.title.clone(),
            numbers: vec![(
                format!("{}/parameters-millions", tex_name(&b.name)),
                millions.map_or_else(|| DASH.to_owned(), |m| fixed(m, places)),
            )],
        });
    }
    groups.extend(details.iter().map(cell));
    let mut names = BTreeSet::new();
    for (name, _) in groups.iter().flat_map(|g| &g.numbers) {
        ensure!(names.insert(name), "two numbers have the name {name}");
    }
    Ok(Numbers {
        warning: input.warning(),
        groups,
    })
}

fn cell(d: &CellDetails) -> Group {
    let value = |v: Option<f64>, places: usize| v.map_or_else(|| DASH.to_owned(), |v| fixed(v, places));
    let mut numbers = vec![
        (format!("{}/mean", d.key), value(d.mean, PLACES)),
        (format!("{}/sd", d.key), value(d.sd, PLACES)),
        (format!("{}/ci-low", d.key), value(d.interval.map(|i| i.low), PLACES)),
        (format!("{}/ci-high", d.key), value(d.interval.map(|i| i.high), PLACES)),
        (format!("{}/n", d.key), d.n.to_string()),
        (format!("{}/planned", d.key), d.planned.to_string()),
    ];
    for (i, c) in d.comparisons.iter().enumerate() {
        // The first published value has the plain names.
        let key = if i == 0 {
            d.key.clone()
        } else {
            format!("{}/{}", d.key, i + 1)
        };
        numbers.push((format!("{key}/published"), fixed(c.published, PLACES)));
        numbers.push((format!("{key}/difference"), value(c.difference, PLACES + 1)));
        numbers.push((format!("{key}/low"), value(c.interval.map(|i| i.0), PLACES + 1)));
        numbers.push((format!("{key}/high"), value(c.interval.map(|i| i.1), PLACES + 1)));
    }
    for r in &d.runs {
        numbers.push((format!("{}/seed{}", d.key, r.seed), fixed(r.value, PLACES)));
    }
    Group {
        about: d.title.clone(),
        numbers,
    }
}

/// A name of a registry as part of a TeX name.
fn tex_name(name: &str) -> String {
    safe(name)
}

/// Whether a figure has a place in the paper: the scores, and where ours differs from the published values.
pub(super) fn shows(f: &Painted) -> bool {
    f.stem == "scores" || f.stem.starts_with("difference-")
}

/// The document.
pub(super) fn paper<'a>(
    input: &'a ReportInput,
    details: &'a [CellDetails],
    (answer, beside): (&'a Answer, &'a [Beside]),
    claims: &[Judged],
    tables: &'a [Table],
    figures: &'a [Painted],
) -> Paper<'a> {
    Paper {
        warning: input.warning(),
        partial: input.partial(details.iter().map(|d| d.n).sum()),
        study: &input.study,
        title: &input.title,
        description: &input.description,
        expected: &input.expected,
        protocol: input.protocol.sentence(),
        answer,
        beside,
        level: fixed(100.0 * (1.0 - 2.0 * input.alpha), 0),
        claims: (!claims.is_empty()).then(|| claims_page::page(input, claims)),
        sources: &input.sources,
        caveats: &input.caveats,
        cited: !input.sources.is_empty(),
        datasets: input
            .datasets
            .iter()
            .map(|d| {
                let own = details.iter().filter(|c| c.dataset == d.name && c.mean.is_some());
                let best = own.max_by(|a, b| a.mean.unwrap_or(f64::NAN).total_cmp(&b.mean.unwrap_or(f64::NAN)));
                Dataset {
                    name: tex_name(&d.name),
                    title: &d.title,
                    metric: &d.metric_title,
                    table: tables
                        .iter()
                        .find(|t| t.name == d.name)
                        .map_or_else(String::new, |t| t.label.clone()),
                    has_best: best.is_some(),
                    best: best.map(|c| {
                        format!(
                            "{} ({}, {} head)",
                            input.backbone_title(c.backbone),
                            c.freeze,
                            head_title(c.head)
                        )
                    }),
                    best_key: best.map_or_else(String::new, |c| c.key.clone()),
                }
            })
            .collect(),
        tables: tables.iter().map(|t| t.name.as_str()).collect(),
        figures: figures
            .iter()
            .filter(|f| shows(f))
            .map(|f| Figure {
                stem: &f.stem,
                caption: &f.caption,
                page: f.span == Span::Page,
                label: f
                    .stem
                    .chars()
                    .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
                    .collect(),
            })
            .collect(),
    }
}
