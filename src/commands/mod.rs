//! One file a verb. Each tells the story of its verb; how anything is done is in the rooms.

mod bundle;
mod card;
mod data;
mod doctor;
mod published;
mod weights;

use crate::cli::exit::OK;
use crate::cli::{Cli, Verb};
use crate::data::registry::SETS;
use crate::error::BadInput;
use crate::machine;
use crate::manifest::Catalogue;
use crate::runner::{Context, bench, budget, fit, plan, power, report, reproduce, verify_results};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
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

/// As [`run`], with another trainer: tests of scheduling and crashes use the scripted one.
///
/// # Errors
/// As [`run`].
pub fn run_with(cli: Cli, trainer: &'static dyn Trainer) -> Result<u8> {
    machine::check_threads(std::env::var("RAYON_NUM_THREADS").ok().as_deref())?;
    let c = Context {
        global: cli.global,
        catalogue: catalogue()?,
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
            None => plan::run(&c, &a.study),
        },
        Verb::Power(a) => power::run(&c, &a),
        Verb::Run(a) => fit::run(&c, &a),
        Verb::Report(a) => report::run(&c, &a),
        Verb::Compare(a) => report::compare(&c, &a),
        Verb::VerifyResults { studies } => verify_results::run(&c, &studies),
        Verb::Reproduce(a) => reproduce::run(&c, &a),
        Verb::Bundle(a) => bundle::run(&c, &a),
        Verb::Bench(a) => bench::run(&c, &a),
        Verb::Doctor => doctor::run(&c),
        Verb::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "medft", &mut std::io::stdout());
            Ok(OK)
        }
    }
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
