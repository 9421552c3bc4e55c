//! Which run goes where: groups that share a frozen backbone, one queue for all devices, images prepared once a data set.

use super::Context;
use super::fit::{Ended, fit};
use super::inventory::RunInputs;
use super::plan::{Entry, Plan, State};
use crate::cli::exit::INTERRUPTED;
use crate::data::loader::{Images, Options};
use crate::data::transform::Transform;
use crate::data::{Dataset, registry};
use crate::fsio;
use crate::model;
use crate::study::protocol::Normalisation;
use crate::study::{Freeze, RunId, RunSpec};
use crate::text::{Unit, bar, terminal};
use crate::train;
use anyhow::{Context as _, Result, anyhow};
use candle_core::Device;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What became of the runs that were started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub done: usize,
    pub failed: usize,
    /// Left to another process.
    pub elsewhere: usize,
    pub interrupted: bool,
}

/// A data set with its images prepared; kept while the runs that follow need the same.
pub(super) struct Loaded {
    key: String,
    pub data: Dataset,
    pub images: Images,
}

/// Fits every run of the plan that is neither done nor blocked.
pub fn fit_all(c: &Context, plan: &Plan) -> Result<Tally> {
    for note in plan.inventory.notes() {
        eprintln!("note: {note}");
    }
    for e in plan.entries.iter().filter(|e| e.state == State::Done) {
        if let Some(id) = &e.id {
            plan.store.tidy(id.full())?;
        }
    }
    // What writers that were killed left in caches and beside the data; a run's own folder is swept when it begins.
    fsio::sweep_below(&c.global.results_dir.join(".cache"));
    let _ = fsio::sweep(&plan.inventory.data_dir);
    let groups = groups(&plan.entries);
    if groups.is_empty() {
        return Ok(Tally::default());
    }
    // A second SIGINT ends the process at once.
    ctrlc::set_handler(|| {
        if train::stop_requested() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        train::request_stop();
        eprintln!("stopping after this step; again to stop at once");
    })
    .context("cannot listen for SIGINT")?;
    fit_on(c, plan, &c.global.device.open()?, groups)
}

/// Fits the groups on the devices, which take one after the other from one queue.
fn fit_on(c: &Context, plan: &Plan, devices: &[Device], groups: Vec<Vec<Todo<'_>>>) -> Result<Tally> {
    let all = bar(groups.iter().map(Vec::len).sum::<usize>() as u64, Unit::Items);
    all.set_prefix(plan.study.name.clone());
    let floor = Floor {
        c,
        plan,
        all,
        alone: devices.len() == 1,
        queue: Mutex::new(groups.into()),
        loading: Mutex::new(Weak::new()),
        tally: Mutex::new(Tally::default()),
    };
    std::thread::scope(|s| {
        let others: Vec<_> = devices[1..].iter().map(|d| s.spawn(|| floor.work(d))).collect();
        let first = floor.work(&devices[0]);
        others
            .into_iter()
            .map(|h| {
                h.join()
                    .unwrap_or_else(|_| Err(anyhow!("a device's thread has panicked")))
            })
            .fold(first, Result::and)
    })?;
    floor.all.finish_and_clear();
    Ok(*lock(&floor.tally))
}

/// What the devices share while they fit.
pub(super) struct Floor<'a> {
    pub c: &'a Context,
    pub plan: &'a Plan,
    all: indicatif::ProgressBar,
    /// One device: its steps have a bar of their own.
    pub alone: bool,
    queue: Mutex<VecDeque<Vec<Todo<'a>>>>,
    /// The data set that was prepared last; the lock is held while one is prepared, so that no other device prepares it too.
    loading: Mutex<Weak<Loaded>>,
    tally: Mutex<Tally>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Floor<'a> {
    /// Fits group after group on one device, until none is left or a stop is asked for. An error ends all devices.
    fn work(&self, device: &Device) -> Result<()> {
        let mut loaded: Option<Arc<Loaded>> = None;
        while let Some(group) = self.next() {
            let done = self.group(&group, device, &mut loaded);
            if done.is_err() {
                lock(&self.queue).clear();
            }
            done?;
        }
        Ok(())
    }

    fn next(&self) -> Option<Vec<Todo<'a>>> {
        if lock(&self.tally).interrupted {
            return None;
        }
        lock(&self.queue).pop_front()
    }

    fn group(&self, group: &[Todo<'_>], device: &Device, loaded: &mut Option<Arc<Loaded>>) -> Result<()> {
        let first = &group[0];
        let key = first.entry.spec.image_key(&first.inputs.data_root);
        if loaded.as_ref().is_none_or(|l| l.key != key) {
            drop(loaded.take());
            *loaded = Some(self.load(&first.entry.spec, key)?);
        }
        let Some(l) = loaded else { return Ok(()) };
        self.all.set_message(format!("{}", first.entry.spec));
        for ended in fit(self, group, l, device)? {
            let mut tally = lock(&self.tally);
            match ended {
                Ended::Done(text) => {
                    tally.done += 1;
                    say(self.c, &self.all, &text);
                }
                Ended::Failed(text) => {
                    tally.failed += 1;
                    self.all.suspend(|| eprintln!("{text}"));
                }
                Ended::Elsewhere(text) => {
                    tally.elsewhere += 1;
                    self.all.suspend(|| eprintln!("{text}"));
                }
                Ended::Interrupted => tally.interrupted = true,
            }
            self.all.inc(1);
        }
        Ok(())
    }

    /// The data set with its images, also where another device has it already.
    fn load(&self, spec: &RunSpec, key: String) -> Result<Arc<Loaded>> {
        let mut last = lock(&self.loading);
        if let Some(l) = last.upgrade().filter(|l| l.key == key) {
            return Ok(l);
        }
        let l = Arc::new(load(self.c, self.plan, spec, key)?);
        *last = Arc::downgrade(&l);
        Ok(l)
    }
}

/// A run that is to be fitted.
pub(super) struct Todo<'a> {
    pub entry: &'a Entry,
    pub id: &'a RunId,
    pub inputs: &'a RunInputs,
}

/// What is to be fitted, in the plan's order: runs that differ in nothing but the head of a frozen backbone come together,
/// so that the backbone runs once for both.
fn groups(entries: &[Entry]) -> Vec<Vec<Todo<'_>>> {
    let mut groups: Vec<Vec<Todo<'_>>> = Vec::new();
    for e in entries {
        let (Some(id), Some(inputs)) = (&e.id, &e.inputs) else {
            continue;
        };
        if matches!(e.state, State::Done | State::Blocked(_)) {
            continue;
        }
        let todo = Todo { entry: e, id, inputs };
        let fits = |g: &&mut Vec<Todo<'_>>| {
            let first = &g[0];
            let same_head = RunSpec {
                head: first.entry.spec.head,
                ..e.spec.clone()
            };
            e.spec.freeze == Freeze::Frozen
                && same_head == first.entry.spec
                && inputs.pretrained.backbone == first.inputs.pretrained.backbone
        };
        match groups.iter_mut().find(fits) {
            Some(g) => g.push(todo),
            None => groups.push(vec![todo]),
        }
    }
    groups
}

fn say(c: &Context, bar: &indicatif::ProgressBar, text: &str) {
    if c.global.verbose > 0 || !terminal() {
        bar.suspend(|| eprintln!("{text}"));
    }
}

fn load(c: &Context, plan: &Plan, spec: &RunSpec, key: String) -> Result<Loaded> {
    let source = registry::find(&spec.dataset)?;
    let data = source.read(&plan.inventory.folder(spec)?, &spec.protocol)?;
    let bar = bar(0, Unit::Items);
    bar.set_prefix(format!("{} images", spec.dataset));
    let options = Options::cached(c.workers(), c.cache());
    let progress = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let images = match spec.protocol.normalisation {
        Normalisation::Dataset => Images::prepare(&data, &spec.protocol, &options, &progress)?,
        Normalisation::Backbone => {
            let (mean, std) =
                model::facts::input_statistics(&spec.backbone, data.info.channels, spec.protocol.grey_stem)
                    .with_context(|| format!("no statistics of {}", spec.backbone))?;
            let transform = Transform::new(&spec.protocol, &mean, &std)?;
            Images::with_transform(&data, transform, &options, &progress)?
        }
    };
    bar.finish_and_clear();
    Ok(Loaded { key, data, images })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use crate::manifest::Catalogue;
    use crate::runner::inventory;
    use crate::train::scripted::Scripted;
    use clap::Parser;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    static TRAINER: Scripted = Scripted {
        epoch: Duration::from_millis(1),
    };

    /// Runs a small study on `devices` and returns the records' metrics by file.
    fn records(data: &Path, devices: usize) -> BTreeMap<String, Vec<u8>> {
        let place = tempfile::tempdir().unwrap();
        let results = place.path().join("results");
        let words = [
            "medft".as_ref(),
            "run".as_ref(),
            "demo".as_ref(),
            "--only".as_ref(),
            "dataset=aptos2019,dataset=ddsm,backbone=dinov2-b,backbone=mae-b".as_ref(),
            "--data-dir".as_ref(),
            data.as_os_str(),
            "--results-dir".as_ref(),
            results.as_os_str(),
        ];
        let cli = Cli::parse_from(words);
        let Verb::Run(args) = &cli.verb else { unreachable!() };
        let c = Context {
            global: cli.global,
            catalogue: Catalogue::embedded(),
            trainer: &TRAINER,
        };
        let (study, runs) = c.study(args).unwrap();
        inventory::synthesise_missing(&c, &runs).unwrap();
        let plan = Plan::make(&c, study, runs).unwrap();
        let all = groups(&plan.entries);
        let runs: usize = all.iter().map(Vec::len).sum();
        // Frozen heads go together.
        assert!(all.len() < runs && runs >= 16, "{} groups of {runs} runs", all.len());
        let tally = fit_on(&c, &plan, &vec![Device::Cpu; devices], all).unwrap();
        assert_eq!((tally.done, tally.failed, tally.interrupted), (runs, 0, false));
        let mut out = BTreeMap::new();
        for e in &plan.entries {
            let id = e.id.as_ref().unwrap();
            let dir = plan.store.run_dir(id.full());
            out.insert(id.short().to_owned(), std::fs::read(dir.join("metrics.json")).unwrap());
        }
        out
    }

    #[test]
    fn several_devices_give_the_records_of_one() {
        let data = tempfile::tempdir().unwrap();
        let one = records(data.path(), 1);
        assert_eq!(one, records(data.path(), 3));
    }
}
