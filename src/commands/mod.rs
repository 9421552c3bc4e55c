//! One file a verb: read the flags, call what does it, print what came of it. How anything is done is in the modules below.

mod bench;
mod bundle;
mod compare;
mod data;
mod data_audit;
mod data_card;
mod data_fetch;
mod data_list;
mod data_lock;
mod data_synth;
mod data_verify;
mod doctor;
mod plan;
mod prepare;
mod published;
mod report;
mod reproduce;
mod run;
mod submit;
mod verify_results;
mod weights;
mod weights_fetch;

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::cli::{Cli, Verb};
use crate::data::registry::SETS;
use crate::error::BadInput;
use crate::machine;
use crate::manifest::Catalogue;
use crate::progress::Progress;
use crate::runner::plan::Plan;
use crate::runner::{Context, budget, power};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
use crate::{print, text};
use anyhow::Result;
use std::borrow::Cow;

/// Runs a verb and returns the exit code.
///
/// # Errors
/// For wrong use and broken input (exit code 2).
pub fn run(cli: Cli) -> Result<u8> {
    crate::device::instructions()?;
    run_with(cli, &CandleTrainer)
}

/// As [`run()`], with another trainer: tests of scheduling and crashes use the scripted one.
///
/// # Errors
/// As [`run()`].
pub fn run_with(cli: Cli, trainer: &'static dyn Trainer) -> Result<u8> {
    machine::check_threads(std::env::var("RAYON_NUM_THREADS").ok().as_deref())?;
    let c = Context {
        global: cli.global,
        catalogue: catalogue()?,
        progress: Progress::default(),
        trainer,
    };
    match cli.verb {
        Verb::Data(v) => data::run(&c, v),
        Verb::Weights(v) => weights::run(&c, v),
        Verb::Published(v) => published::run(&c, v),
        Verb::Plan(a) => match &a.budget {
            Some(word) => budget::run(
                &c,
                &a,
                word.parse()
                    .map_err(|e: String| BadInput::new("--budget", e, format!("`{word}`"), "Write it so."))?,
            ),
            None => plan::run(&c, &a),
        },
        Verb::Power(a) => power::run(&c, &a),
        Verb::Run(a) => run::run(&c, &a),
        Verb::Submit(a) => submit::run(&c, &a),
        Verb::Prepare(a) => prepare::run(&c, &a),
        Verb::Report(a) => report::run(&c, &a),
        Verb::Compare(a) => compare::run(&c, &a),
        Verb::VerifyResults { studies } => verify_results::run(&c, &studies),
        Verb::Reproduce(a) => reproduce::run(&c, &a),
        Verb::Bundle(a) => bundle::run(&c, &a),
        Verb::Bench(a) => bench::run(&c, &a),
        Verb::Doctor => doctor::run(&c),
        Verb::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<u8> {
    let mut command = <Cli as clap::CommandFactory>::command();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "medft", &mut script);
    print::write(format_args!("{}", String::from_utf8(script)?))?;
    Ok(OK)
}

/// The exit code of a study where nothing else decides: 2 for broken inputs, 1 for missing ones or runs.
fn code(plan: &Plan, complete: bool) -> u8 {
    match (plan.broken_inputs(), complete) {
        (true, _) => BROKEN,
        (false, false) => INCOMPLETE,
        (false, true) => OK,
    }
}

/// The table of what is missing, why, and how to get it; `None` where nothing is.
fn missing(plan: &Plan) -> Option<String> {
    let row = |m: crate::runner::plan::Missing| vec![m.what.into(), m.name, m.runs.to_string(), m.found, m.remedy];
    let rows: Vec<Vec<String>> = plan.missing().into_iter().map(row).collect();
    (!rows.is_empty()).then(|| text::table(&["what", "name", "runs", "found", "how to get it"], &rows))
}

/// The manifests compiled in, or those of the folder that `MEDFT_MANIFESTS` names (another mirror, another pin, a test), with those
/// that registered data sets bring.
fn catalogue() -> Result<&'static Catalogue> {
    let all = match std::env::var_os("MEDFT_MANIFESTS").filter(|v| !v.is_empty()) {
        None => Cow::Borrowed(Catalogue::embedded()),
        Some(dir) => Cow::Owned(Catalogue::from_dir(dir.as_ref())?),
    };
    let own: Vec<_> = SETS
        .all()
        .into_iter()
        .filter_map(|s| Some((s.name(), s.manifest()?)))
        .collect();
    Ok(match all {
        Cow::Borrowed(built_in) if own.is_empty() => built_in,
        all => Box::leak(Box::new(all.with(own.into_iter())?)),
    })
}
