//! `medft report`: renders what is there.

use super::rendered::{Rendered, closing};
use super::stations::put;
use crate::cli::ReportArgs;
use crate::cli::exit::{INCOMPLETE, OK};
use crate::print;
use crate::runner::plan::Plan;
use crate::runner::{Context, report};
use anyhow::Result;
use std::time::Instant;

/// Renders the report and says where it is; exit code 1 where a planned run has no result.
pub(super) fn run(c: &Context, a: &ReportArgs) -> Result<u8> {
    let start = Instant::now();
    let (study, runs) = c.study(&a.study)?;
    let plan = Plan::make(c, study, runs)?;
    let out = report::write(c, &plan, a)?;
    if c.global.json {
        print::json(&Rendered::new(&plan, &out, start.elapsed()))?;
    } else {
        put(&format!("done     report of {} of {} runs", out.done, out.planned))?;
        closing(&plan, &out, start.elapsed())?;
    }
    Ok(if out.done < out.planned { INCOMPLETE } else { OK })
}
