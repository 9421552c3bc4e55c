//! Tables, figure and verdicts: a frame of runs in, files out. Knows nothing of how a number was made.
//!
//! [`render`] writes `reports/<study>/`: a page (`README.md`), per data set one table in LaTeX, Markdown and CSV from one
//! model ([`table::Table`]), the parameters-against-score figure, and the comparison with the published values. The same input
//! gives the same bytes: no clock, no machine, no folder name enters.

pub mod cells;
pub mod compare;
pub mod data;
pub mod figure;
pub mod input;
mod summary;
pub mod table;
mod templates;

pub use cells::{Cells, Score};
pub use compare::{Comparison, Verdict, VerdictCounts};
pub use input::{
    BackboneFacts, ContextValue, DatasetFacts, PlannedRun, PlannedState, ProtocolNote, PublishedPoint, ReportInput,
};

use crate::fsio;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The first line of everything a demo study writes.
pub const DEMO_WARNING: &str =
    "Demo numbers mean nothing: small random models on synthetic images, run only to show that every part works.";

/// What [`render`] wrote and found.
#[derive(Debug, Clone)]
pub struct ReportOutput {
    /// Every file, in the order written.
    pub files: Vec<PathBuf>,
    /// Planned runs, and how many of them have a finite result.
    pub planned: usize,
    pub done: usize,
    /// Empty for a study without published values.
    pub comparisons: Vec<Comparison>,
    pub verdicts: VerdictCounts,
}

/// Writes the whole report of a study below `out`.
///
/// # Errors
/// [`crate::error::BadInput`] when a file cannot be written or a template in [`ReportInput::templates`] does not work; any other error when
/// the frame and the plan contradict each other.
pub fn render(input: &ReportInput, out: &Path) -> Result<ReportOutput> {
    let cells = Cells::aggregate(input)?;
    let templates = templates::Templates::new(input.templates.as_deref())?;
    let tables = input
        .datasets
        .iter()
        .map(|d| table::Table::of_dataset(input, &cells, d))
        .collect::<Vec<_>>();
    let comparisons = compare::compare(input, &cells);

    let mut files = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = out.join(name);
        fsio::write_atomic(&path, bytes)?;
        files.push(path);
        Ok(())
    };
    let mut pages = Vec::new();
    for t in &tables {
        let page = templates.render("table.md.tera", t)?;
        write(
            &format!("tables/{}.tex", t.name),
            templates.render("table.tex.tera", t)?.as_bytes(),
        )?;
        write(&format!("tables/{}.md", t.name), page.as_bytes())?;
        write(&format!("tables/{}.csv", t.name), &t.to_csv()?)?;
        pages.push(page);
    }
    write(
        "tables.tex",
        templates
            .render("standalone.tex.tera", &serde_json::json!({ "tables": tables }))?
            .as_bytes(),
    )?;
    let scene = figure::scene(input, &cells);
    write(
        "figure.svg",
        scene.to_svg().context("cannot draw the figure as SVG")?.as_bytes(),
    )?;
    write("figure.png", &scene.to_png().context("cannot draw the figure as PNG")?)?;
    let page = compare::page(input, &comparisons);
    write("compare.md", templates.render("compare.md.tera", &page)?.as_bytes())?;
    write("compare.csv", &compare::to_csv(&comparisons)?)?;
    let page = summary::page(input, &cells, &comparisons, &pages)?;
    write("README.md", templates.render("summary.md.tera", &page)?.as_bytes())?;

    Ok(ReportOutput {
        files,
        planned: input.planned.len(),
        done: cells.iter().map(|(_, s)| s.n()).sum(),
        verdicts: VerdictCounts::of(&comparisons),
        comparisons,
    })
}
