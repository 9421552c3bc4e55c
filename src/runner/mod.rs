//! Which run goes where and when, who holds it and what became of it; how a number is computed is in the modules below.

pub mod acquire;
pub mod add_data;
pub mod audit;
pub mod bench;
pub mod bench_files;
mod bench_head;
pub mod bench_peak;
pub mod best;
pub mod budget;
mod card;
pub mod catalogue;
pub mod cluster;
pub mod disk;
pub mod doctor;
pub mod estimate;
pub mod export;
pub mod fetch_weights;
pub mod fit;
pub mod folders;
pub mod foresight;
pub mod inventory;
pub mod memory;
pub mod needs;
mod notes;
pub mod own_weights;
pub mod plan;
pub mod plan_table;
pub mod power;
pub mod power_text;
pub mod predict;
mod products;
pub mod report;
pub mod report_place;
pub mod reproduce;
pub mod schedule;
pub mod selfcheck;
mod signals;
mod sources;
pub mod stations;
pub mod study_audit;
pub mod tensorboard;
pub mod trained;
mod usage;
pub mod verify_results;

use crate::cache::Cache;
use crate::cli::{FitArgs, Global, StudyArgs};
use crate::device::{Chosen, Devices};
use crate::error::BadInput;
use crate::manifest::{Catalogue, DataPlaces};
use crate::progress::Progress;
use crate::study::{Filter, Known, Published, RunSpec, Study};
use crate::train::Trainer;
use anyhow::Result;
use candle_core::Device;
use medft_nn::memory::keep_memory;
use std::path::Path;

/// What every verb needs.
pub struct Context {
    pub global: Global,
    pub devices: Devices,
    /// What runs leave behind besides their records.
    pub fit: FitArgs,
    pub catalogue: &'static Catalogue,
    pub progress: Progress,
    pub trainer: &'static dyn Trainer,
}

impl Context {
    /// The study that is meant, and the runs of it that `--only` keeps, data set by data set.
    ///
    /// # Errors
    /// [`BadInput`] for a study or `--only` that cannot be read.
    pub fn study(&self, a: &StudyArgs) -> Result<(Study, Vec<RunSpec>)> {
        let mut study = self.read_study(&a.study)?;
        study.keep_weights = self.fit.keep_weights.unwrap_or(study.keep_weights);
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

    /// With the names that a study and a set of published values may use.
    pub fn known<T>(&self, f: impl FnOnce(&Known) -> T) -> T {
        let published = Published::names(&self.global.experiments_dir);
        f(&Known {
            datasets: &crate::data::registry::names(),
            backbones: &crate::model::registry::names(),
            published: &published.iter().map(String::as_str).collect::<Vec<_>>(),
        })
    }

    /// The study of this name or path.
    ///
    /// # Errors
    /// As [`Study::resolve`].
    pub fn read_study(&self, name_or_path: &str) -> Result<Study> {
        Ok(self.known(|known| Study::resolve(name_or_path, &self.global.experiments_dir, known))?)
    }

    /// The devices that `--device` means; see [`Devices::open`].
    ///
    /// # Errors
    /// As there.
    pub fn opened(&self) -> Result<&Chosen> {
        // What computes asks for the same large buffers again and again; what does not (a report) should give them back.
        keep_memory();
        self.devices.open(&self.global.device)
    }

    /// The device to compute on, for commands that use one; which it is, and why, is said.
    ///
    /// # Errors
    /// [`BadInput`] where a GPU was asked for, or is there, and cannot be used, and where several were asked for.
    pub fn device(&self) -> Result<Device> {
        let Chosen { all, why } = self.opened()?;
        if all.len() > 1 {
            return Err(BadInput::new(
                format!("--device {}", self.global.device),
                "one device",
                format!("{} devices", all.len()),
                "Name one; `run` and `reproduce` alone use several.",
            )
            .into());
        }
        let why = why.as_ref().map_or_else(String::new, |w| format!(" ({w})"));
        self.progress.say(&format!("device   {}{why}", all[0].name));
        // Kernels that an earlier self-check found wrong are not used here either.
        selfcheck::kept(self, &all[0]);
        products::take_up(self, &all[0]);
        Ok(all[0].device.clone())
    }

    /// The caches of the results folder.
    pub fn cache(&self) -> Cache {
        Cache::below(&self.global.results_dir, self.global.cache_bytes)
    }

    /// Where data sets below `data_dir` and their lists lie.
    pub fn places(&self, data_dir: &Path) -> DataPlaces {
        let spare = self.global.results_dir.join("lists");
        DataPlaces::new(data_dir, self.global.lists_dir.as_deref(), &spare)
    }

    /// Threads that decode and augment.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.global.workers.unwrap_or_else(cores).max(1)
    }
}
