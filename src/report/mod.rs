//! Tables, figure and verdicts: a frame of runs in, files out. Knows nothing of how a number was made.
//!
//! [`render`] writes `reports/<study>/`: a page (`README.md`), per data set one table in LaTeX, Markdown and CSV from one
//! model ([`table::Table`]), the parameters-against-score figure, and the comparison with the published values. The same input
//! gives the same bytes: no clock, no machine, no folder name enters.

mod archive;
mod cards;
pub mod cells;
pub mod compare;
mod dossier;
pub mod figure;
pub mod input;
mod page;
mod paper;
mod results_json;
pub mod sampled;
pub mod seal;
mod summary;
pub mod table;
mod table_csv;
mod templates;

pub use archive::{Archive, Audit};
pub use cells::{Cells, Score};
pub use compare::{Comparison, Verdict, VerdictCounts};
pub use input::{
    BackboneFacts, ContextValue, DatasetFacts, PlannedRun, PlannedState, ProtocolNote, PublishedPoint, ReportInput,
};

use crate::fsio;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The first line of everything a demo study writes.
pub const DEMO_WARNING: &str =
    "Demo numbers mean nothing: small random models on synthetic images, run only to show that every part works.";

/// What [`render`] wrote and found.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
        write(
            &format!("tables/{}.html", t.name),
            templates.render("table.html.tera", t)?.as_bytes(),
        )?;
        write(&format!("tables/{}.csv", t.name), &t.to_csv()?)?;
        pages.push(page);
    }
    write(
        "tables.tex",
        templates
            .render("standalone.tex.tera", &serde_json::json!({ "tables": tables }))?
            .as_bytes(),
    )?;
    let figures = figure::paint(input, &cells, &comparisons)?;
    for f in &figures {
        write(&format!("figures/{}.svg", f.stem), f.svg.as_bytes())?;
        write(&format!("figures/{}.png", f.stem), &f.png)?;
    }
    let dossiers = dossier::all(input, &cells, &comparisons);
    write("results.json", &results_json::bytes(input, &cells, &dossiers, &comparisons)?)?;
    let numbers = paper::numbers(input, &dossiers, &comparisons)?;
    write("numbers.tex", templates.render("numbers.tex.tera", &numbers)?.as_bytes())?;
    let paper = paper::paper(input, &dossiers, &comparisons, &tables, &figures);
    write("paper.tex", templates.render("paper.tex.tera", &paper)?.as_bytes())?;
    let fragments = tables.iter().map(|t| page::table(&templates, t)).collect::<Result<_>>()?;
    let page = page::page(input, &dossiers, &comparisons, fragments, &figures);
    write("index.html", templates.render("index.html.tera", &page)?.as_bytes())?;
    for card in cards::all(input, &dossiers) {
        let text = templates.render("card.md.tera", &card)?;
        write(&format!("cards/{}.md", card.name), text.as_bytes())?;
    }
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
