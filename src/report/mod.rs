//! Tables, figure and verdicts: a frame of runs in, files out. Knows nothing of how a number was made.
//!
//! [`render`] writes `reports/<study>/`: a page (`README.md`), per data set one table in LaTeX, Markdown and CSV from one
//! model ([`table::Table`]), the parameters-against-score figure, and the comparison with the published values. The same input
//! gives the same bytes: no clock, no machine, no folder name enters.

mod archive;
mod cards;
mod cell_details;
pub mod cells;
mod claim_decision;
mod claim_effect;
mod claim_sums;
pub mod claims;
mod claims_page;
pub mod compare;
mod compare_page;
pub mod data;
pub mod figure;
mod findings;
pub mod folders;
pub mod input;
mod page;
mod paper;
pub mod paper_level;
mod rendered;
mod results_json;
pub mod sampled;
pub mod seal;
mod splits;
mod summary;
pub mod sweep;
mod sweep_table;
pub mod table;
mod table_csv;
mod templates;
mod text;
mod verdict;

pub use archive::{AUDIT_SEAL, Archive, Audit, AuditSeal};
pub use cells::{Cells, Score};
pub use claim_effect::{CellUse, Effect, EffectSource, Variant};
pub use claims::Judged;
pub use compare::{Comparison, VerdictCounts};
pub use input::{
    BackboneFacts, ContextValue, DEMO_WARNING, DatasetFacts, PlannedRun, PlannedState, ProtocolNote, PublishedPoint,
    ReportInput,
};
pub use paper_level::PaperLevel;
pub use rendered::{RENDERED, Rendered};
pub use seal::{SEAL, Sealed};
pub use sweep::{Point, Sweep};
pub use templates::{notes as template_notes, replaced as replaced_templates};
pub use verdict::{ClaimVerdict, Verdict};

use crate::fsio;
use anyhow::Result;
use findings::Findings;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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
    /// The paper as a whole: every data set under every hypothesis about what the published values are of.
    pub paper: PaperLevel,
    /// Empty where no claims are written down.
    pub claims: Vec<Judged>,
}

impl ReportOutput {
    /// The same with files named by their place below `folder`.
    pub fn below(&self, folder: &Path) -> Self {
        let mut all = self.clone();
        for f in &mut all.files {
            if let Ok(inside) = f.strip_prefix(folder) {
                *f = inside.to_owned();
            }
        }
        all
    }

    /// Where a file of the report lies, by its name within it; the name itself where there is none.
    pub fn path(&self, name: &str) -> PathBuf {
        let own = self.files.iter().filter(|f| f.ends_with(name));
        // The shortest is the one in the folder itself.
        own.min_by_key(|f| f.as_os_str().len())
            .cloned()
            .unwrap_or_else(|| PathBuf::from(name))
    }
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
        .chain(splits::tables(input, &cells))
        .chain(sweep_table::tables(input, &cells))
        .collect::<Vec<_>>();
    let paper = paper_level::judge(input, &cells);
    let comparisons = compare::compare(input, &cells, &paper);
    let claims = input
        .claims
        .as_ref()
        .map_or_else(Vec::new, |c| claims::judge(c, input, &cells));

    let mut sink = Sink::new(input, templates.replaced.clone(), out);
    let mut pages = Vec::new();
    for t in &tables {
        let page = templates.render("table.md.tera", t)?;
        sink.put(
            &format!("tables/{}.tex", t.name),
            templates.render("table.tex.tera", t)?.as_bytes(),
        )?;
        sink.put(&format!("tables/{}.md", t.name), page.as_bytes())?;
        sink.put(
            &format!("tables/{}.html", t.name),
            templates.render("table.html.tera", t)?.as_bytes(),
        )?;
        sink.put(&format!("tables/{}.csv", t.name), &t.to_csv()?)?;
        pages.push(page);
    }
    sink.put(
        "tables.tex",
        templates
            .render("standalone.tex.tera", &serde_json::json!({ "tables": tables }))?
            .as_bytes(),
    )?;
    everything(
        input,
        &templates,
        &cells,
        &tables,
        (&comparisons, &paper, &claims),
        &mut sink,
    )?;
    let page = compare_page::page(input, &comparisons, &paper);
    sink.put("compare.md", templates.render("compare.md.tera", &page)?.as_bytes())?;
    sink.put("compare.csv", &compare_page::to_csv(&comparisons)?)?;
    sink.put("paper.csv", &compare_page::sets_csv(&paper)?)?;
    let page = claims_page::page(input, &claims);
    sink.put("claims.md", templates.render("claims.md.tera", &page)?.as_bytes())?;
    sink.put("claims.csv", &claims_page::to_csv(&claims)?)?;
    let page = summary::page(input, &cells, (&comparisons, &paper, &claims), &pages)?;
    sink.put("README.md", templates.render("summary.md.tera", &page)?.as_bytes())?;
    sink.close()?;

    Ok(ReportOutput {
        files: sink.files,
        planned: input.planned.len(),
        done: cells.iter().map(|(_, s)| s.n()).sum(),
        verdicts: VerdictCounts::of(&comparisons),
        comparisons,
        paper,
        claims,
    })
}

/// Figures, and the files that show or hold everything: page, paper, `results.json`, model cards.
fn everything(
    input: &ReportInput,
    templates: &templates::Templates,
    cells: &Cells,
    tables: &[table::Table],
    (comparisons, paper_level, claims): Findings,
    sink: &mut Sink,
) -> Result<()> {
    let figures = figure::paint(input, cells, comparisons)?;
    for f in &figures {
        sink.put(&format!("figures/{}.svg", f.stem), f.svg.as_bytes())?;
        sink.put(&format!("figures/{}.png", f.stem), &f.png)?;
        if paper::shows(f) {
            sink.put(&format!("figures/{}.tikz", f.stem), f.tikz.as_bytes())?;
        }
    }
    let details = cell_details::all(input, cells, comparisons);
    sink.put(
        "results.json",
        &results_json::bytes(input, cells, &details, (comparisons, paper_level, claims))?,
    )?;
    let numbers = paper::numbers(input, &details, comparisons)?;
    sink.put(
        "numbers.tex",
        templates.render("numbers.tex.tera", &numbers)?.as_bytes(),
    )?;
    let findings = (comparisons, paper_level, claims);
    let answer = page::answer(input, cells, &details, findings);
    let beside = page::beside(input, &details, findings);
    let views = (&answer, &beside[..]);
    let paper = paper::paper(input, &details, views, claims, tables, &figures);
    sink.put("paper.tex", templates.render("paper.tex.tera", &paper)?.as_bytes())?;
    let front = figure::front(input, cells)?;
    // The first is the page's own, in panels.
    let secondary = figures.get(1..).unwrap_or_default();
    for (name, html) in page::pages(input, templates, &details, views, findings, tables, (&front, secondary))? {
        sink.put(name, html.as_bytes())?;
    }
    let card = |card: cards::Card<'_>| {
        let text = templates.render("card.md.tera", &card)?;
        Ok((format!("cards/{}.md", card.name), text))
    };
    let cards = cards::all(input, &details).into_par_iter().map(card);
    sink.put_all(cards.collect::<Result<Vec<_>>>()?)
}

/// Writes files below a folder and remembers them.
struct Sink<'a> {
    out: &'a Path,
    files: Vec<PathBuf>,
    rendered: Rendered,
}

impl<'a> Sink<'a> {
    fn new(input: &ReportInput, templates: BTreeMap<String, String>, out: &'a Path) -> Self {
        Self {
            out,
            files: Vec::new(),
            rendered: Rendered::new(input, templates),
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let safe = match name.ends_with(".csv") {
            true => Some(text::for_spreadsheets(bytes)?),
            false => None,
        };
        let bytes = safe.as_deref().unwrap_or(bytes);
        self.rendered.add(name, bytes);
        self.write(name, bytes)
    }

    /// Many files of text, in their order; on all threads, since each waits for the disk.
    fn put_all(&mut self, files: Vec<(String, String)>) -> Result<()> {
        for (name, text) in &files {
            self.rendered.add(name, text.as_bytes());
        }
        let write = |(name, text): &(String, String)| write(&self.out.join(name), text.as_bytes());
        files.par_iter().try_for_each(write)?;
        self.files.extend(files.iter().map(|(name, _)| self.out.join(name)));
        Ok(())
    }

    /// Writes what was rendered, and with what.
    fn close(&mut self) -> Result<()> {
        let bytes = self.rendered.bytes()?;
        self.write(RENDERED, &bytes)
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.out.join(name);
        write(&path, bytes)?;
        self.files.push(path);
        Ok(())
    }
}

/// Hundreds of small files are mostly the same as before, and a write waits for the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    match fsio::read(path).is_ok_and(|old| old == bytes) {
        true => Ok(()),
        false => fsio::write_atomic(path, bytes),
    }
}
