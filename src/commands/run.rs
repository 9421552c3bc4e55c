//! `medft run`: fits what is missing of a study.

use super::{code, missing};
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, INTERRUPTED, OK};
use crate::runner::disk::Disk;
use crate::runner::plan::Plan;
use crate::runner::schedule::{Tally, fit_all};
use crate::runner::{Context, inventory, tensorboard};
use crate::study::Scale;
use crate::{outln, tell};
use anyhow::Result;

/// Runs what is missing; exit code 1 where a run failed or is blocked, 130 after a signal.
pub(super) fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
    }
    let plan = Plan::make(c, study, runs)?;
    tell!("{}", plan.summary());
    before(c, &plan)?;
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

/// What runs leave besides their records: said, and made sure of, before the first begins.
pub(super) fn before(c: &Context, plan: &Plan) -> Result<()> {
    if let Some(dir) = &c.fit.tensorboard {
        tensorboard::check(dir)?;
    }
    if let Some(text) = Disk::weights_to_come(c, plan)? {
        tell!("{text}");
    }
    Ok(())
}

/// What did not get a result and why; after a signal, how to go on.
pub(super) fn say(tally: &Tally) {
    for paragraph in tally.summary() {
        tell!("{paragraph}");
    }
    if tally.interrupted {
        let command: Vec<String> = std::env::args().map(|a| quoted(&a)).collect();
        let ended = tally.done + tally.finished + tally.failed.len();
        tell!(
            "stopped at {ended} of {}; go on with `{}`",
            tally.wanted,
            command.join(" ")
        );
    }
}

/// An argument as a shell reads it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    match !arg.is_empty() && arg.chars().all(plain) {
        true => arg.to_owned(),
        false => format!("'{}'", arg.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quoted("backbone=mae-b,seed=0"), "backbone=mae-b,seed=0");
        assert_eq!(quoted("backbone=dinov2-*"), "'backbone=dinov2-*'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
