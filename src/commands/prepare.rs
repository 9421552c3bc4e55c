//! `medft prepare`: verifies the inputs of a study and prepares its images.

use super::missing;
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, OK};
use crate::runner::plan::Plan;
use crate::runner::{Context, inventory, schedule};
use crate::study::Scale;
use crate::{outln, tell};
use anyhow::Result;

/// Exit code 1 where something is missing or cannot be prepared.
pub(super) fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
    }
    let plan = Plan::make(c, study, runs)?;
    let prepared = schedule::prepare(c, &plan);
    for (what, why) in &prepared.failed {
        tell!("{what}: {why}");
    }
    outln!(
        "{} of {} sets of images are ready",
        prepared.ready,
        prepared.ready + prepared.failed.len()
    )?;
    if let Some(t) = missing(&plan) {
        outln!("{t}")?;
        return Ok(INCOMPLETE);
    }
    Ok(if prepared.failed.is_empty() { OK } else { INCOMPLETE })
}
