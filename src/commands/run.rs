//! `medft run`: fits what is missing of a study.

use super::{code, missing};
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, INTERRUPTED, OK};
use crate::runner::plan::Plan;
use crate::runner::schedule::{Tally, fit_all, in_a_job};
use crate::runner::{Context, inventory};
use crate::study::Scale;
use crate::text::command;
use crate::{outln, tell};
use anyhow::Result;

/// Runs what is missing; exit code 1 where a run failed or is blocked, 130 after a signal.
pub(super) fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
    }
    let plan = match in_a_job() {
        true => Plan::of_task(c, study, runs)?,
        false => Plan::make(c, study, runs)?,
    };
    tell!("{}", plan.summary());
    let tally = fit_all(c, &plan)?;
    say(&tally);
    if tally.interrupted {
        return Ok(INTERRUPTED);
    }
    if let Some(t) = missing(&plan) {
        outln!("{t}")?;
        return Ok(code(&plan, false));
    }
    Ok(if tally.complete() { OK } else { INCOMPLETE })
}

/// What did not get a result and why; after a signal, how to go on.
pub(super) fn say(tally: &Tally) {
    for paragraph in tally.summary() {
        tell!("{paragraph}");
    }
    if tally.interrupted {
        let words: Vec<String> = std::env::args().collect();
        let ended = tally.done + tally.finished + tally.failed.len();
        tell!(
            "stopped at {ended} of {}; go on with `{}`",
            tally.wanted,
            command(&words)
        );
    }
}
