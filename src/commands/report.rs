//! `medft report`: renders what is there.

use crate::cli::ReportArgs;
use crate::cli::exit::{INCOMPLETE, OK};
use crate::outln;
use crate::runner::plan::Plan;
use crate::runner::{Context, report};
use anyhow::Result;

/// Renders the report and says where it is; exit code 1 where a planned run has no result.
pub(super) fn run(c: &Context, a: &ReportArgs) -> Result<u8> {
    let (study, runs) = c.study(&a.study)?;
    let plan = Plan::make(c, study, runs)?;
    let out = report::write(c, &plan, a)?;
    outln!("{}", out.path("README.md").display())?;
    Ok(if out.done < out.planned { INCOMPLETE } else { OK })
}
