//! `medft compare`: a study against the published values, or two folders of results against each other.

use crate::cli::CompareArgs;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::report::Verdict;
use crate::report::folders::rows;
use crate::runner::folders::compare_folders;
use crate::runner::plan::Plan;
use crate::runner::{Context, report};
use crate::{fsio, outln, print, text};
use anyhow::Result;
use std::path::Path;

/// Renders the report and prints the comparison; exit code 1 where the paper differs: a data set under the hypothesis that fits
/// best.
pub(super) fn run(c: &Context, a: &CompareArgs) -> Result<u8> {
    if let Some(other) = &a.other {
        return folders(c, Path::new(&a.report.study.study), other, a.report.replicates);
    }
    let (study, runs) = c.study(&a.report.study)?;
    let plan = Plan::make(c, study, runs)?;
    let out = report::write(c, &plan, &a.report)?;
    if c.global.json {
        print::json(&serde_json::json!({ "paper": out.paper, "values": out.comparisons }))?;
    } else {
        print::write(format_args!("{}", fsio::read_to_string(&out.path("compare.md"))?))?;
    }
    // A demo's numbers mean nothing, whichever way they lie.
    let differs = out.paper.differs() && !plan.study.report.demo;
    Ok(if differs { INCOMPLETE } else { OK })
}

/// Prints every cell of both folders; exit code 1 where one differs, 2 where a record is not usable.
fn folders(c: &Context, a: &Path, b: &Path, replicates: usize) -> Result<u8> {
    let found = compare_folders(c, a, b, replicates)?;
    let cells = &found.cells;
    let count = |f: fn(&Verdict) -> bool| cells.iter().filter(|c| f(&c.verdict)).count();
    let differ = count(|v| *v == Verdict::Differs);
    if c.global.json {
        print::json(cells)?;
    } else {
        let (head, lines) = rows(cells);
        outln!("{}", text::table(&head, &lines))?;
        outln!(
            "\n{} cells: {} reproduced, {differ} differ, {} inconclusive, {} in one folder only",
            cells.len(),
            count(|v| *v == Verdict::Reproduced),
            count(|v| matches!(v, Verdict::Inconclusive(_))),
            count(|v| matches!(v, Verdict::NotRun(_))),
        )?;
    }
    Ok(match (found.broken, differ) {
        (true, _) => BROKEN,
        (false, 0) => OK,
        (false, _) => INCOMPLETE,
    })
}
