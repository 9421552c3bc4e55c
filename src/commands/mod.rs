//! One file a verb: read the flags, call what does it, print what came of it. How anything is done is in the modules below.

mod bench;
mod bundle;
mod compare;
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
mod new;
mod papers;
mod plan;
mod predict;
mod prepare;
mod published;
mod report;
mod reproduce;
mod run;
mod stations;
mod submit;
mod verify_results;
mod weights;
mod weights_add;
mod weights_fetch;

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::cli::{Cli, DataVerb, FitArgs, Verb, WeightsVerb};
use crate::device::Devices;
use crate::error::BadInput;
use crate::progress::Progress;
use crate::runner::plan::Plan;
use crate::runner::{Context, budget, catalogue, power};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
use crate::{lease, machine, outln, print, tell, text};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The variable by which a shell's script asks for completions.
pub const COMPLETE: &str = "COMPLETE";

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
            Some(word) => budget::run(
                c,
                &a,
                word.parse()
                    .map_err(|e: String| BadInput::new("--budget", e, format!("`{word}`"), "Write it so."))?,
            ),
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
        Verb::Completions { shell } => completions(c, shell),
        Verb::Man { dir } => man(c, &dir),
    }
}

/// Prints the script that asks this binary for completions.
fn completions(c: &Context, shell: clap_complete::Shell) -> Result<u8> {
    let name = shell.to_string();
    let shells = clap_complete::env::Shells::builtins();
    let completer = shells
        .completer(&name)
        .context("clap_complete has no completions of this shell")?;
    let mut script = Vec::new();
    completer.write_registration(COMPLETE, "medft", "medft", "medft", &mut script)?;
    if shell == clap_complete::Shell::Bash {
        script.extend_from_slice(include_bytes!("completions.bash"));
    }
    let script = String::from_utf8(script)?;
    match c.global.json {
        true => print::json(&serde_json::json!({ "shell": name, "script": script }))?,
        false => print::write(format_args!("{script}"))?,
    }
    Ok(OK)
}

/// Writes the man pages.
fn man(c: &Context, dir: &Path) -> Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut files = Vec::new();
    let mut command = crate::cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, dir, &mut files)?;
    if c.global.json {
        print::json(&files)?;
    } else {
        files.iter().try_for_each(|f| outln!("{}", f.display()))?;
    }
    Ok(OK)
}

/// The page of a verb, then those of its own verbs.
fn pages(command: &clap::Command, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    let file = dir.join(man.get_filename());
    crate::fsio::write_atomic(&file, &page)?;
    files.push(file);
    command.get_subcommands().try_for_each(|verb| pages(verb, dir, files))
}

/// The exit code of a study where nothing else decides: 2 for broken inputs, 1 for missing ones or runs.
fn code(plan: &Plan, complete: bool) -> u8 {
    match (plan.broken_inputs(), complete) {
        (true, _) => BROKEN,
        (false, false) => INCOMPLETE,
        (false, true) => OK,
    }
}
