//! `medft run`: fits what is missing of a study.

use super::code::code;
use super::ran::{Ran, done, say};
use super::stations::{put, say_missing};
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, INTERRUPTED, OK};
use crate::print;
use crate::runner::plan::PlanState;
use crate::runner::schedule::{fit_all, in_a_job};
use crate::runner::stations::{before_runs, head, inputs};
use crate::runner::{Context, reproduce};
use crate::text::{clock, quoted};
use anyhow::Result;
use std::time::Instant;

/// Runs what is missing; exit code 1 where a run failed or is blocked, 130 after a signal.
pub(super) fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let start = Instant::now();
    let (study, runs) = c.study(a)?;
    head(c, &study, &runs);
    let plan = reproduce::verify(c, study, runs, in_a_job())?;
    inputs(c, &plan, start.elapsed());
    before_runs(c, &plan)?;
    let tally = fit_all(c, &plan)?;
    say(&tally);
    let time = start.elapsed();
    if c.global.json {
        print::json(&Ran::new(&plan, plan.counts(), &tally, time))?;
    }
    if tally.interrupted {
        return Ok(INTERRUPTED);
    }
    let blocked = plan.entries.iter().any(|e| matches!(e.state, PlanState::Blocked(_)));
    if !c.global.json {
        say_missing(&plan)?;
        put(&done(&tally, plan.entries.len(), time))?;
        let only = match a.only.is_empty() {
            true => String::new(),
            false => format!(" --only {}", quoted(&a.only.join(","))),
        };
        put(&format!(
            "next     medft report {}{only}   after {}",
            quoted(&a.study),
            clock(time)
        ))?;
    }
    Ok(match (blocked, tally.complete()) {
        (true, _) => code(&plan, false),
        (false, true) => OK,
        (false, false) => INCOMPLETE,
    })
}
