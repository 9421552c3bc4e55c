//! What several verbs print.

use crate::outln;
use crate::print::columns;
use crate::runner::plan::Plan;
use crate::text::{count, folded, wrapped};
use anyhow::Result;

/// A line on stdout, as wide as the terminal.
pub(super) fn put(line: &str) -> Result<()> {
    outln!("{}", folded(line, columns(std::io::stdout()), 9))
}

/// What is missing, why, and how to get it: a paragraph each, as wide as the terminal; nothing where nothing is.
pub(super) fn say_missing(plan: &Plan) -> Result<()> {
    let width = columns(std::io::stdout());
    for m in plan.missing() {
        put(&format!(
            "missing  {} {} ({}): {}",
            m.what,
            m.name,
            count(m.runs, "run"),
            m.found
        ))?;
        outln!("{}", wrapped(&m.remedy, width, 9))?;
    }
    Ok(())
}
