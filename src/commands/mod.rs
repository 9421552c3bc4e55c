//! One file a verb. Each tells the story of its verb; how anything is done is in the rooms.

mod acquire;
mod audit;
mod bench;
mod bench_files;
mod card;
mod data;
mod doctor;
mod estimate;
mod fetch;
mod folders;
mod inputs;
mod meter;
mod notes;
mod plan;
mod report;
mod report_place;
mod reproduce;
mod run;
mod schedule;
mod study_audit;
mod ui;
mod usage;
mod verify_results;
mod weights;

use crate::cli::{Cli, Global, StudyArgs, Verb};
use crate::error::BadInput;
use crate::manifest::Catalogue;
use crate::study::{Filter, Known, RunSpec, Study};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
use anyhow::Result;
use candle_core::Device;

/// Done, and everything as expected.
pub const OK: u8 = 0;
/// Done, but something differs or is missing.
pub const INCOMPLETE: u8 = 1;
/// Wrong use, or an input that is broken (a file that is not the one it should be).
pub const BROKEN: u8 = 2;
/// Stopped by SIGINT after a checkpoint.
pub const INTERRUPTED: u8 = 130;

/// What every verb needs.
pub struct Context {
    pub global: Global,
    pub catalogue: &'static Catalogue,
    pub trainer: &'static dyn Trainer,
}

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
    let c = Context {
        global: cli.global,
        catalogue: catalogue()?,
        trainer,
    };
    match cli.verb {
        Verb::Data(v) => data::run(&c, v),
        Verb::Weights(v) => weights::run(&c, v),
        Verb::Plan(a) => plan::run(&c, &a),
        Verb::Run(a) => run::run(&c, &a),
        Verb::Report(a) => report::run(&c, &a),
        Verb::Compare(a) => report::compare(&c, &a),
        Verb::VerifyResults { studies } => verify_results::run(&c, &studies),
        Verb::Reproduce(a) => reproduce::run(&c, &a),
        Verb::Bench(a) => bench::run(&c, &a),
        Verb::Doctor => doctor::run(&c),
        Verb::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "medft", &mut std::io::stdout());
            Ok(OK)
        }
    }
}

/// The manifests compiled in, or those of the folder that `MEDFT_MANIFESTS` names: another mirror, another pin, a test.
fn catalogue() -> Result<&'static Catalogue> {
    match std::env::var_os("MEDFT_MANIFESTS").filter(|v| !v.is_empty()) {
        None => Ok(Catalogue::embedded()),
        Some(dir) => Ok(Box::leak(Box::new(Catalogue::from_dir(dir.as_ref())?))),
    }
}

impl Context {
    /// The study that is meant, and the runs of it that `--only` keeps, data set by data set.
    pub fn study(&self, a: &StudyArgs) -> Result<(Study, Vec<RunSpec>)> {
        let datasets = crate::data::registry::names();
        let backbones = crate::model::registry::names();
        let known = Known {
            datasets: &datasets,
            backbones: &backbones,
        };
        let study = Study::resolve(&a.study, &self.global.experiments_dir, &known)?;
        let filter = Filter::parse(&a.only, &study)?;
        let mut runs: Vec<RunSpec> = study.runs().into_iter().filter(|r| filter.matches(r)).collect();
        // Images are prepared once a data set and features once a backbone: keep what shares them together.
        let place = |list: &[String], x: &str| list.iter().position(|y| y == x);
        runs.sort_by_key(|r| {
            (
                place(&study.datasets, &r.dataset),
                study.splits.iter().position(|s| s.as_str() == r.split()),
                place(&study.backbones, &r.backbone),
                r.freeze,
                r.head,
                r.seed,
            )
        });
        Ok((study, runs))
    }

    /// The device to compute on, for commands that use one.
    ///
    /// # Errors
    /// [`BadInput`] where a GPU was asked for and there is none, or several were.
    pub fn device(&self) -> Result<Device> {
        let mut all = self.global.device.open()?;
        if all.len() > 1 {
            return Err(BadInput::new(
                format!("--device {}", self.global.device),
                "one device",
                format!("{} devices", all.len()),
                "Name one; `run` and `reproduce` alone use several.",
            )
            .into());
        }
        Ok(all.remove(0))
    }

    /// Threads that decode and augment.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.global.workers.unwrap_or_else(cores).max(1)
    }
}
