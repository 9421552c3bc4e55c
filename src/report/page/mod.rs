//! `index.html`: the whole report as one page that loads nothing. See `templates/index.html.tera` for its form.
//!
//! Every score and every verdict opens the dossier of its cell: the runs, where they were made and with what, what is missing,
//! how to make them again. That is done with the browser's own popovers, so no script runs.

mod markdown;

use super::cards::facts;
use super::claims_page::{self, signed};
use super::compare::{Comparison, Verdict, VerdictCounts};
use super::dossier::{Dossier, Run};
use super::figure::{Painted, Span};
use super::input::ReportInput;
use super::paper_level::SetVerdict;
use super::table::{PLACES, Table};
use super::templates::Templates;
use super::text::{fixed, thousands};
use crate::study::{Freeze, HeadKind};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

/// What `index.html.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    warning: Option<&'static str>,
    study: &'a str,
    title: &'a str,
    description: &'a str,
    expected: &'a str,
    protocol: String,
    planned: usize,
    done: usize,
    counts: VerdictCounts,
    compared: usize,
    published: usize,
    regime_unknown: bool,
    sources: &'a [String],
    caveats: &'a [String],
    datasets: Vec<Dataset<'a>>,
    matrix: Option<Matrix<'a>>,
    sentences: &'a [String],
    sets: Vec<SetLine<'a>>,
    claims: Option<claims_page::Page>,
    /// Tables as HTML.
    tables: Vec<String>,
    figures: Vec<Figure<'a>>,
    audit: Option<String>,
    cells: Vec<Cell<'a>>,
    runs: Vec<RunLine<'a>>,
    gaps: Vec<Gap>,
}

#[derive(Debug, Serialize)]
struct Dataset<'a> {
    title: &'a str,
    metric: &'a str,
    planned: usize,
    done: usize,
    margin: Option<f64>,
    margin_reason: &'a str,
}

/// Backbones × (data set, regime), a verdict each.
#[derive(Debug, Serialize)]
struct Matrix<'a> {
    datasets: Vec<MatrixGroup<'a>>,
    rows: Vec<MatrixRow<'a>>,
}

#[derive(Debug, Serialize)]
struct MatrixGroup<'a> {
    title: &'a str,
    regimes: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct MatrixRow<'a> {
    title: &'a str,
    /// `None` where nothing is published.
    verdicts: Vec<Option<MatrixCell>>,
}

#[derive(Debug, Serialize)]
struct MatrixCell {
    key: String,
    word: &'static str,
    letter: &'static str,
    /// What a reader hears: cell, verdict, reason.
    label: String,
}

/// The published values of a data set under one hypothesis.
#[derive(Debug, Serialize)]
struct SetLine<'a> {
    dataset: &'a str,
    #[serde(flatten)]
    line: super::compare_page::SetLine,
}

#[derive(Debug, Serialize)]
struct Figure<'a> {
    stem: &'a str,
    caption: &'a str,
    page: bool,
    svg: String,
}

/// The dossier of a cell as the page prints it.
#[derive(Debug, Serialize)]
struct Cell<'a> {
    key: &'a str,
    title: &'a str,
    score: Option<String>,
    /// Over test images.
    interval: Option<String>,
    n: usize,
    planned: usize,
    runs: Vec<CellRun<'a>>,
    facts: Vec<Fact>,
    missing: Vec<Gap>,
    comparisons: Vec<Published>,
    rerun: &'a str,
}

#[derive(Debug, Serialize)]
struct CellRun<'a> {
    seed: u64,
    value: String,
    folder: &'a str,
    id: &'a str,
}

/// A fact of provenance: once for all runs, or seed by seed where they differ.
#[derive(Debug, Serialize)]
struct Fact {
    name: String,
    /// (seeds, value); the seeds are empty where all runs agree.
    values: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct Published {
    published: String,
    difference: String,
    interval: String,
    word: &'static str,
    why: String,
    /// The numbers behind the verdict, (name, value).
    behind: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
struct RunLine<'a> {
    folder: &'a str,
    key: &'a str,
    title: &'a str,
    seed: u64,
    value: String,
    device: &'a str,
    hours: String,
    commit: String,
    data: &'a str,
    weights: String,
}

#[derive(Debug, Clone, Serialize)]
struct Gap {
    reason: String,
    runs: usize,
}

/// Everything the page shows.
pub(super) fn page<'a>(
    input: &'a ReportInput,
    dossiers: &'a [Dossier<'a>],
    (comparisons, paper, claims): super::Findings<'a>,
    tables: Vec<String>,
    figures: &'a [Painted],
) -> Page<'a> {
    let datasets: Vec<Dataset> = input
        .datasets
        .iter()
        .map(|d| {
            let own = || dossiers.iter().filter(|c| c.dataset == d.name);
            Dataset {
                title: &d.title,
                metric: &d.metric_title,
                planned: own().map(|c| c.planned).sum(),
                done: own().map(|c| c.n).sum(),
                margin: d.margin,
                margin_reason: &d.margin_reason,
            }
        })
        .collect();
    Page {
        warning: input.warning(),
        study: &input.study,
        title: &input.title,
        description: &input.description,
        expected: &input.expected,
        protocol: input.protocol.sentence(),
        planned: input.planned.len(),
        done: datasets.iter().map(|d| d.done).sum(),
        counts: VerdictCounts::of(comparisons),
        compared: comparisons.len(),
        published: input.published.len(),
        regime_unknown: input.published.iter().any(|p| p.freeze.is_none() || p.head.is_none()),
        sources: &input.sources,
        caveats: &input.caveats,
        datasets,
        matrix: matrix(input, dossiers),
        sentences: &paper.sentences,
        sets: paper.sets.iter().map(|s| set_line(input, s)).collect(),
        claims: (!claims.is_empty()).then(|| claims_page::page(input, claims)),
        tables,
        figures: figures.iter().map(figure).collect(),
        audit: input
            .archive
            .audit
            .as_ref()
            .map(|a| markdown::to_html(&a.text, &a.pictures)),
        cells: dossiers.iter().map(cell).collect(),
        runs: dossiers
            .iter()
            .flat_map(|d| d.runs.iter().map(move |r| run_line(d, r)))
            .collect(),
        gaps: gaps(dossiers.iter()),
    }
}

/// A table whose scores open their dossiers.
pub(super) fn table(templates: &Templates, table: &Table) -> Result<String> {
    #[derive(Serialize)]
    struct Opening<'a> {
        #[serde(flatten)]
        table: &'a Table,
        dossiers: bool,
    }
    templates.render("table.html.tera", &Opening { table, dossiers: true })
}

/// Each reason with its number of runs, the most frequent first.
fn gaps<'a>(dossiers: impl Iterator<Item = &'a Dossier<'a>>) -> Vec<Gap> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for m in dossiers.flat_map(|d| &d.missing) {
        *counts.entry(m.reason).or_default() += m.seeds.len();
    }
    let mut all: Vec<Gap> = counts
        .into_iter()
        .map(|(reason, runs)| Gap {
            reason: reason.to_owned(),
            runs,
        })
        .collect();
    all.sort_by_key(|g| std::cmp::Reverse(g.runs));
    all
}

fn matrix<'a>(input: &'a ReportInput, dossiers: &[Dossier]) -> Option<Matrix<'a>> {
    let mut regimes: BTreeMap<&str, Vec<(Freeze, HeadKind)>> = BTreeMap::new();
    for d in dossiers.iter().filter(|d| !d.comparisons.is_empty()) {
        let own = regimes.entry(d.dataset).or_default();
        if !own.contains(&(d.freeze, d.head)) {
            own.push((d.freeze, d.head));
        }
    }
    regimes.values_mut().for_each(|r| r.sort_unstable());
    let datasets: Vec<_> = input
        .datasets
        .iter()
        .filter_map(|d| Some((d, regimes.get(d.name.as_str())?)))
        .collect();
    if datasets.is_empty() {
        return None;
    }
    let rows = input.backbones.iter().map(|b| MatrixRow {
        title: &b.title,
        verdicts: datasets
            .iter()
            .flat_map(|(d, regimes)| regimes.iter().map(move |r| (d, *r)))
            .map(|(d, r)| {
                let of = |x: &&Dossier| x.dataset == d.name && x.backbone == b.name && (x.freeze, x.head) == r;
                dossiers.iter().find(of).and_then(matrix_cell)
            })
            .collect(),
    });
    Some(Matrix {
        rows: rows.filter(|r| r.verdicts.iter().any(Option::is_some)).collect(),
        datasets: datasets
            .iter()
            .map(|(d, regimes)| MatrixGroup {
                title: &d.title,
                regimes: regimes.iter().map(|r| short(*r)).collect(),
            })
            .collect(),
    })
}

/// A regime in two letters.
fn short(regime: (Freeze, HeadKind)) -> &'static str {
    match regime {
        (Freeze::Frozen, HeadKind::Linear) => "F·L",
        (Freeze::Frozen, HeadKind::Mha) => "F·M",
        (Freeze::Unfrozen, HeadKind::Linear) => "U·L",
        (Freeze::Unfrozen, HeadKind::Mha) => "U·M",
    }
}

/// The verdict against the first published value; the dossier lists all of them. A regime that the value is not counted in
/// keeps its letter and loses its colour.
fn matrix_cell(d: &Dossier) -> Option<MatrixCell> {
    let c = d.comparisons.first()?;
    let why = match c.why() {
        "" => String::new(),
        why => format!(", {why}"),
    };
    let aside = match c.counted {
        true => "",
        false => ", not counted: another hypothesis fits the published values better",
    };
    Some(MatrixCell {
        key: d.key.clone(),
        word: if c.counted { c.word() } else { "Aside" },
        letter: match c.verdict {
            Some(Verdict::Reproduced) => "R",
            Some(Verdict::Consistent) => "C",
            Some(Verdict::Differs) => "D",
            Some(Verdict::Inconclusive(_)) => "I",
            Some(Verdict::NotRun(_)) => "–",
            None => "·",
        },
        label: format!("{}: {}{why}{aside}", d.title, c.word()),
    })
}

fn figure(f: &Painted) -> Figure<'_> {
    // A name for readers that do not see, and no second title for those that do.
    let label = escape(&format!("{}. {}", f.title, f.caption));
    Figure {
        stem: &f.stem,
        caption: &f.caption,
        page: f.span == Span::Page,
        svg: f
            .svg
            .replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1),
    }
}

/// Text for an attribute in double quotes.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
        out
    })
}

fn set_line<'a>(input: &'a ReportInput, s: &'a SetVerdict) -> SetLine<'a> {
    SetLine {
        dataset: input.dataset(&s.dataset).map_or(&s.dataset, |x| &x.title),
        line: super::compare_page::set_line(s),
    }
}

fn cell<'a>(d: &'a Dossier<'a>) -> Cell<'a> {
    let score = d.mean.map(|m| {
        let sd = d.sd.map_or_else(String::new, |sd| format!(" ± {}", fixed(sd, PLACES)));
        format!("{}{sd}", fixed(m, PLACES))
    });
    let interval = d.interval.map(|i| {
        let (low, high) = (fixed(i.low, PLACES), fixed(i.high, PLACES));
        format!(
            "{low} to {high}, from {} resamples of {} test images",
            thousands(i.replicates),
            thousands(i.images)
        )
    });
    Cell {
        key: &d.key,
        title: &d.title,
        score,
        interval,
        n: d.n,
        planned: d.planned,
        runs: d
            .runs
            .iter()
            .map(|r| CellRun {
                seed: r.seed,
                value: fixed(r.value, PLACES + 2),
                folder: r.folder,
                id: r.id,
            })
            .collect(),
        facts: shared(&d.runs),
        missing: gaps(std::iter::once(d)),
        comparisons: d.comparisons.iter().map(|c| published(c)).collect(),
        rerun: &d.rerun,
    }
}

fn published(c: &Comparison) -> Published {
    Published {
        published: format!("{} ± {}", fixed(c.published, PLACES), fixed(c.uncertainty, 5)),
        difference: c.difference.map_or_else(|| "–".to_owned(), signed),
        interval: c
            .interval
            .map_or_else(String::new, |(l, h)| format!("{} to {}", signed(l), signed(h))),
        word: c.word(),
        why: c.why().to_owned(),
        behind: super::compare_page::behind(c),
    }
}

/// The facts of all runs, equal values said once.
fn shared(runs: &[Run]) -> Vec<Fact> {
    let mut names = Vec::<String>::new();
    let mut all = Vec::<(String, u64, String)>::new();
    for run in runs {
        let Some(record) = run.record else { continue };
        let mut own: Vec<(String, String)> = vec![("Data, SHA-256".to_owned(), record.spec.data_sha256.clone())];
        for (role, hash) in &record.spec.weights {
            own.push((format!("Weights ({role}), SHA-256"), hash.clone()));
        }
        own.push((
            "Predictions, SHA-256".to_owned(),
            record.metrics.predictions.sha256.clone(),
        ));
        own.extend(facts(record).into_iter().map(|(n, v)| (n.to_owned(), v)));
        for (name, value) in own {
            if !names.contains(&name) {
                names.push(name.clone());
            }
            all.push((name, run.seed, value));
        }
    }
    let fact = |name: String| {
        let mut values = Vec::<(String, Vec<u64>)>::new();
        for (_, seed, value) in all.iter().filter(|f| f.0 == name) {
            match values.iter_mut().find(|v| v.0 == *value) {
                Some((_, seeds)) => seeds.push(*seed),
                None => values.push((value.clone(), vec![*seed])),
            }
        }
        let one = values.len() == 1;
        let seeds = |s: Vec<u64>| {
            let list: Vec<String> = s.iter().map(u64::to_string).collect();
            if one {
                String::new()
            } else {
                format!("seed {}", list.join(", "))
            }
        };
        Fact {
            values: values.into_iter().map(|(v, s)| (seeds(s), v)).collect(),
            name,
        }
    };
    names.into_iter().map(fact).collect()
}

fn run_line<'a>(d: &'a Dossier, r: &'a Run) -> RunLine<'a> {
    let p = r.provenance;
    let short = |s: &str| s.get(..12).unwrap_or(s).to_owned();
    RunLine {
        folder: r.folder,
        key: &d.key,
        title: &d.title,
        seed: r.seed,
        value: fixed(r.value, PLACES + 2),
        device: p.map_or("unknown", |p| &p.device),
        hours: p.map_or_else(String::new, |p| fixed(p.seconds() / 3600.0, 3)),
        commit: p.map_or_else(String::new, |p| {
            p.commit.as_deref().map_or_else(|| "unknown".to_owned(), short)
        }),
        data: r
            .record
            .map_or("", |x| x.spec.data_sha256.get(..12).unwrap_or_default()),
        weights: r.record.map_or_else(String::new, |x| {
            let all: Vec<String> = x.spec.weights.values().map(|w| short(w)).collect();
            all.join(" ")
        }),
    }
}
