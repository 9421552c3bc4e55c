//! One file a verb: read the flags, call what does it, print what came of it. How anything is done is in the modules below.

mod bench;
mod budget;
mod bundle;
mod code;
mod compare;
mod completions;
mod data;
mod data_add;
mod data_audit;
mod data_card;
mod data_fetch;
mod data_list;
mod data_lock;
mod data_synth;
mod data_verify;
mod doctor;
mod export;
#[cfg(test)]
mod faults;
mod man;
mod new;
mod papers;
mod plan;
mod power;
mod predict;
mod prepare;
mod published;
mod ran;
mod rendered;
mod report;
mod reproduce;
mod run;
mod stations;
mod submit;
mod verify_results;
mod weights;
mod weights_add;
mod weights_fetch;

use crate::cli::exit::OK;
use crate::cli::{Cli, DataVerb, FitArgs, Verb, WeightsVerb};
use crate::device::Devices;
use crate::progress::Progress;
use crate::runner::{Context, catalogue};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
use crate::{lease, machine, tell, text};
use anyhow::Result;
use std::time::Instant;

pub use completions::COMPLETE;

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
    run_on(cli, trainer, Devices::default())
}

/// As [`run_with`], on scripted devices.
///
/// # Errors
/// As [`run()`].
pub fn run_on(cli: Cli, trainer: &'static dyn Trainer, devices: Devices) -> Result<u8> {
    let env = |name: &str| std::env::var(name).ok();
    machine::check_threads(&env)?;
    lease::check_time_out(&env)?;
    let global = cli.global;
    let c = Context {
        catalogue: catalogue::of(&global, cli.verb.writes_manifests())?,
        global,
        devices,
        fit: match &cli.verb {
            Verb::Run(a) => a.fit.clone(),
            Verb::Reproduce(a) => a.fit.clone(),
            _ => FitArgs::default(),
        },
        progress: Progress::default(),
        trainer,
    };
    let (start, ends) = (Instant::now(), ends(&cli.verb));
    let code = run_verb(&c, cli.verb)?;
    if let Some((what, next)) = ends {
        let time = text::clock(start.elapsed());
        let next = next.map_or_else(String::new, |n| format!("; next `medft {n}`"));
        match code {
            OK => tell!("done     {what} in {time}{next}"),
            other => tell!("ended    {what} in {time} with code {other}"),
        }
    }
    Ok(code)
}

/// How the end of a verb that does something is told, and what usually comes after it. Those that only print are at their end
/// where their print is; `run`, `report`, `reproduce` and `plan` have more to say than this.
fn ends(verb: &Verb) -> Option<(&'static str, Option<&'static str>)> {
    Some(match verb {
        Verb::Data(DataVerb::Fetch { .. }) => ("data fetch", Some("data verify")),
        Verb::Data(DataVerb::Import { .. }) => ("data import", Some("data verify")),
        Verb::Data(DataVerb::Add(_)) => ("data add", None),
        Verb::Data(DataVerb::Lock { .. }) => ("data lock", Some("data verify")),
        Verb::Data(DataVerb::Verify { .. }) => ("data verify", None),
        Verb::Data(DataVerb::Audit(_)) => ("data audit", None),
        Verb::Data(DataVerb::Synth { .. }) => ("data synth", Some("data verify --phantom")),
        Verb::Weights(WeightsVerb::Fetch { .. }) => ("weights fetch", Some("weights verify")),
        Verb::Weights(WeightsVerb::Verify { .. }) => ("weights verify", None),
        Verb::Weights(WeightsVerb::Add(_)) => ("weights add", None),
        Verb::Compare(_) => ("compare", None),
        Verb::VerifyResults { .. } => ("verify-results", None),
        Verb::Bundle(a) if a.verify.is_some() => ("bundle --verify", None),
        Verb::Bundle(_) => ("bundle", Some("bundle --verify FILE")),
        Verb::Bench(_) => ("bench", Some("plan paper")),
        _ => return None,
    })
}

fn run_verb(c: &Context, verb: Verb) -> Result<u8> {
    match verb {
        Verb::Data(v) => data::run(c, v),
        Verb::Weights(v) => weights::run(c, v),
        Verb::Papers => papers::run(c),
        Verb::Published(v) => published::run(c, v),
        Verb::New(a) => new::run(c, a),
        Verb::Plan(a) => match &a.budget {
            Some(text) => budget::run(c, &a, text),
            None => plan::run(c, &a),
        },
        Verb::Power(a) => power::run(c, &a),
        Verb::Run(a) => run::run(c, &a.study),
        Verb::Submit(a) => submit::run(c, &a),
        Verb::Prepare(a) => prepare::run(c, &a),
        Verb::Report(a) => report::run(c, &a),
        Verb::Compare(a) => compare::run(c, &a),
        Verb::VerifyResults { studies } => verify_results::run(c, &studies),
        Verb::Reproduce(a) => reproduce::run(c, &a.report),
        Verb::Predict(a) => predict::run(c, &a),
        Verb::Export(a) => export::run(c, &a),
        Verb::Bundle(a) => bundle::run(c, &a),
        Verb::Bench(a) => bench::run(c, &a),
        Verb::Doctor => doctor::run(c),
        Verb::Completions { shell } => completions::run(c, shell),
        Verb::Man { dir } => man::run(c, &dir),
    }
}
