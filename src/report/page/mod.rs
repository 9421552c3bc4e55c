//! The report as pages that load nothing: `index.html` answers, `figures.html`, `runs.html` and `data.html` hold the rest.
//!
//! Every score and every verdict of `index.html` opens what is behind it ([`cell`]). That is done with the browser's own popovers, so
//! no script runs there; the pages beside it have a few lines that sort, filter and choose, and are whole without them.

mod answer;
mod beside;
mod cell;
mod markdown;
mod runs;

pub(super) use answer::{Answer, answer};
pub(super) use beside::{Beside, tables as beside};

use super::cell_details::{CellDetails, Gap, gaps};
use super::claims_page;
use super::figure::{Front, Painted, Span};
use super::findings::Findings;
use super::input::ReportInput;
use super::paper_level::SetVerdict;
use super::summary::{Makers, makers};
use super::table::Table;
use super::templates::Templates;
use super::text::{PLACES, fixed};
use anyhow::Result;
use serde::Serialize;

/// What every page says of itself.
#[derive(Debug, Serialize)]
struct Head<'a> {
    warning: Option<&'static str>,
    partial: Option<String>,
    study: &'a str,
    title: &'a str,
    /// Whether `data.html` and `figures.html` are there.
    has_data: bool,
    has_figures: bool,
}

/// What `index.html.tera` prints.
#[derive(Debug, Serialize)]
struct Index<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    description: &'a str,
    expected: &'a str,
    protocol: String,
    answer: &'a Answer,
    front: FrontView<'a>,
    beside: &'a [Beside],
    /// Of the intervals beside differences, in per cent.
    level: String,
    claims: Option<claims_page::Page>,
    hypotheses: Vec<SetLine<'a>>,
    sources: &'a [String],
    caveats: &'a [String],
    datasets: Vec<Dataset<'a>>,
    context: Vec<Context<'a>>,
    /// Tables as HTML.
    tables: Vec<TableView>,
    cells: Vec<cell::Cell<'a>>,
    gaps: Vec<Gap>,
    makers: Makers,
}

#[derive(Debug, Serialize)]
struct FrontView<'a> {
    caption: &'a str,
    /// (drawing, caption).
    keys: Vec<(&'a str, &'a str)>,
    /// Panels as SVG.
    panels: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TableView {
    title: String,
    html: String,
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

/// A published value of another model or experiment.
#[derive(Debug, Serialize)]
struct Context<'a> {
    dataset: &'a str,
    label: &'a str,
    metric: &'a str,
    value: String,
    source: &'a str,
}

/// The published values of a data set under one hypothesis.
#[derive(Debug, Serialize)]
struct SetLine<'a> {
    dataset: &'a str,
    #[serde(flatten)]
    line: super::compare_page::SetLine,
}

/// All pages, by their names.
///
/// # Errors
/// When a template does not work or the frame of runs is not one.
pub(super) fn pages(
    input: &ReportInput,
    templates: &Templates,
    details: &[CellDetails],
    (answer, beside): (&Answer, &[Beside]),
    findings: Findings,
    tables: &[Table],
    (front, figures): (&Front, &[Painted]),
) -> Result<Vec<(&'static str, String)>> {
    let done = details.iter().map(|d| d.n).sum();
    let head = || Head {
        warning: input.warning(),
        partial: input.partial(done),
        study: &input.study,
        title: &input.title,
        has_data: input.archive.audit.is_some(),
        has_figures: !figures.is_empty(),
    };
    let index = Index {
        tables: tables.iter().map(|t| table(templates, t)).collect::<Result<_>>()?,
        makers: makers(input)?,
        ..index(input, head(), details, (answer, beside), findings, front)
    };
    let mut pages = vec![("index.html", templates.render("index.html.tera", &index)?)];
    #[derive(Serialize)]
    struct Runs<'a> {
        #[serde(flatten)]
        head: Head<'a>,
        runs: Vec<runs::RunLine<'a>>,
    }
    let runs = Runs {
        head: head(),
        runs: runs::lines(input, details),
    };
    pages.push(("runs.html", templates.render("runs.html.tera", &runs)?));
    if !figures.is_empty() {
        pages.push((
            "figures.html",
            templates.render("figures.html.tera", &gallery(input, head(), figures))?,
        ));
    }
    if let Some(a) = &input.archive.audit {
        #[derive(Serialize)]
        struct Data<'a> {
            #[serde(flatten)]
            head: Head<'a>,
            audit: String,
        }
        let data = Data {
            head: head(),
            audit: markdown::to_html(&a.text, &a.pictures),
        };
        pages.push(("data.html", templates.render("data.html.tera", &data)?));
    }
    Ok(pages)
}

/// What of the page needs neither a template nor the frame.
fn index<'a>(
    input: &'a ReportInput,
    head: Head<'a>,
    details: &'a [CellDetails<'a>],
    (answer, beside): (&'a Answer, &'a [Beside]),
    findings: Findings<'a>,
    front: &'a Front,
) -> Index<'a> {
    let (_, paper, claims) = findings;
    let dataset = |d: &'a super::DatasetFacts| {
        let own = || details.iter().filter(|c| c.dataset == d.name);
        Dataset {
            title: &d.title,
            metric: &d.metric_title,
            planned: own().map(|c| c.planned).sum(),
            done: own().map(|c| c.n).sum(),
            margin: d.margin,
            margin_reason: &d.margin_reason,
        }
    };
    Index {
        head,
        description: &input.description,
        expected: &input.expected,
        protocol: input.protocol.sentence(),
        answer,
        front: FrontView {
            caption: &front.caption,
            keys: front
                .keys
                .iter()
                .map(|(caption, svg)| (svg.as_str(), caption.as_str()))
                .collect(),
            panels: front.panels.iter().map(drawing).collect(),
        },
        beside,
        level: fixed(100.0 * (1.0 - 2.0 * input.alpha), 0),
        claims: (!claims.is_empty()).then(|| claims_page::page(input, claims)),
        hypotheses: paper.sets.iter().map(|s| set_line(input, s)).collect(),
        sources: &input.sources,
        caveats: &input.caveats,
        datasets: input.datasets.iter().map(dataset).collect(),
        context: context(input),
        tables: Vec::new(),
        cells: details.iter().map(cell::cell).collect(),
        gaps: gaps(details.iter()),
        makers: Makers::default(),
    }
}

fn context(input: &ReportInput) -> Vec<Context<'_>> {
    let line = |v: &super::ContextValue| v.sd.map_or_else(String::new, |sd| format!(" ± {}", fixed(sd, PLACES)));
    input
        .context
        .iter()
        .map(|v| Context {
            dataset: input.dataset(&v.dataset).map_or(&v.dataset, |d| &d.title),
            label: &v.label,
            metric: &v.metric,
            value: format!("{}{}", fixed(v.value, PLACES), line(v)),
            source: &v.source,
        })
        .collect()
}

/// What `figures.html.tera` prints.
#[derive(Debug, Serialize)]
struct Gallery<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    /// What a reader may choose from: (value, text).
    sets: Vec<(&'a str, &'a str)>,
    kinds: Vec<&'a str>,
    figures: Vec<Shown<'a>>,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    stem: &'a str,
    caption: &'a str,
    page: bool,
    svg: String,
    set: &'a str,
    kind: &'a str,
}

fn gallery<'a>(input: &'a ReportInput, head: Head<'a>, figures: &'a [Painted]) -> Gallery<'a> {
    let shown: Vec<Shown> = figures
        .iter()
        .map(|f| {
            // `slope-head-ddsm` is the kind `slope-head` of the set `ddsm`.
            let own = |d: &&super::DatasetFacts| f.stem.strip_suffix(&d.name).is_some_and(|s| s.ends_with('-'));
            // The longest: one name may end another.
            let set = input
                .datasets
                .iter()
                .filter(own)
                .max_by_key(|d| d.name.len())
                .map_or("", |d| &d.name);
            let kind = f.stem.strip_suffix(set).unwrap_or(&f.stem).trim_end_matches('-');
            Shown {
                stem: &f.stem,
                caption: &f.caption,
                page: f.span == Span::Page,
                svg: drawing(f),
                set,
                kind,
            }
        })
        .collect();
    let mut kinds: Vec<&str> = Vec::new();
    for f in &shown {
        if !kinds.contains(&f.kind) {
            kinds.push(f.kind);
        }
    }
    Gallery {
        head,
        sets: input
            .datasets
            .iter()
            .map(|d| (d.name.as_str(), d.title.as_str()))
            .collect(),
        kinds,
        figures: shown,
    }
}

/// A table whose scores open their cells.
fn table(templates: &Templates, table: &Table) -> Result<TableView> {
    #[derive(Serialize)]
    struct Opening<'a> {
        #[serde(flatten)]
        table: &'a Table,
        details: bool,
    }
    Ok(TableView {
        title: format!("{}, {}", table.title, table.metric),
        html: templates.render("table.html.tera", &Opening { table, details: true })?,
    })
}

/// A figure as SVG that readers who do not see are told of.
fn drawing(f: &Painted) -> String {
    let label = escape(&format!("{}. {}", f.title, f.caption));
    f.svg
        .replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1)
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
        line: super::compare_page::set_line(input, s),
    }
}
