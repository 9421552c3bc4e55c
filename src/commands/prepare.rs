//! `medft prepare`: verifies the inputs of a study and prepares its images.

use super::stations::{put, say_missing};
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, OK};
use crate::runner::plan::Plan;
use crate::runner::{Context, inventory, schedule};
use crate::study::Scale;
use crate::{print, tell};
use anyhow::Result;
use serde_json::json;

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
    let (ready, all) = (prepared.ready, prepared.ready + prepared.failed.len());
    let blocked = !plan.missing().is_empty();
    match c.global.json {
        true => {
            let failed: Vec<_> = prepared
                .failed
                .iter()
                .map(|(what, why)| json!({"what": what, "why": why}))
                .collect();
            print::json(&json!({"ready": ready, "of": all, "failed": failed}))?;
        }
        false => {
            put(&format!("{ready} of {all} sets of images are ready"))?;
            say_missing(&plan)?;
        }
    }
    Ok(if blocked || ready < all { INCOMPLETE } else { OK })
}
