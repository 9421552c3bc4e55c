//! Which run goes where: groups that share a frozen backbone, one queue for all devices, images prepared once a data set.
//!
//! An error in a run, or in the images of a data set, ends the runs it concerns and no other. A device that does not answer any
//! more gives its group back to the queue; the study ends where none is left, or where records cannot be written.

use super::disk::Disk;
use super::fit::{self, DeviceLost, FitTask, PreparedDataset, RunOutcome};
use super::plan::{Plan, PlanState};
use super::{Context, products, selfcheck, signals};
use crate::device::Opened;
use crate::progress::Bar;
use crate::study::{Freeze, RunSpec, Scale};
use crate::{fsio, lease, stop};
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// What became of the runs that were to be made.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// How many were to be made.
    pub wanted: usize,
    pub done: usize,
    /// Run and reason.
    pub failed: Vec<(String, String)>,
    /// Runs that another process is at.
    pub claimed: Vec<String>,
    /// Runs that another process has finished meanwhile.
    pub finished: usize,
    /// Devices that were lost on the way.
    pub lost: Vec<String>,
    pub interrupted: bool,
}

impl Tally {
    /// Whether every run that was to be made has a result now.
    pub fn complete(&self) -> bool {
        self.done + self.finished == self.wanted
    }

    /// Whether the records are others than before.
    pub fn changed(&self) -> bool {
        self.wanted > 0
    }

    /// What is missing and why: a paragraph a reason.
    pub fn summary(&self) -> Vec<String> {
        let mut out = Vec::new();
        let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
        for (run, why) in &self.failed {
            match reasons.iter_mut().find(|r| r.0 == why) {
                Some(r) => r.1.push(run),
                None => reasons.push((why, vec![run])),
            }
        }
        for (why, runs) in reasons {
            out.push(format!("{} failed: {why}\n  {}", count(runs.len()), runs.join("\n  ")));
        }
        if !self.claimed.is_empty() {
            let runs = self.claimed.join("\n  ");
            out.push(format!(
                "{} left to another process:\n  {runs}",
                count(self.claimed.len())
            ));
        }
        out.extend(self.lost.iter().cloned());
        out
    }
}

fn count(runs: usize) -> String {
    if runs == 1 {
        "1 run".to_owned()
    } else {
        format!("{runs} runs")
    }
}

/// Fits every run of the plan that is neither done nor blocked.
///
/// # Errors
/// Where records cannot be written, or no device answers any more.
pub fn fit_all(c: &Context, plan: &Plan) -> Result<Tally> {
    for note in plan.inventory.notes() {
        c.progress.say(&format!("note: {note}"));
    }
    for e in plan.entries.iter().filter(|e| e.state == PlanState::Done) {
        if let Some(id) = &e.id {
            plan.store.tidy(id.full())?;
        }
    }
    // What writers that were killed left in caches and beside the data; a run's own folder is swept when it begins.
    fsio::sweep_below(&c.global.results_dir.join(".cache"));
    for beside in plan.inventory.sets.values().filter_map(|s| s.folder.parent()) {
        let _ = fsio::sweep(beside);
    }
    let groups = groups(plan);
    if groups.is_empty() {
        return Ok(Tally::default());
    }
    // Hours are worth a look; where it cannot be taken, a full disk will say so.
    if let Some(warning) = Disk::of(c, plan).ok().and_then(|d| d.shortage(c)) {
        c.progress.say(&warning);
    }
    let _listening = signals::listen()?;
    let devices = &c.opened()?.all;
    // Tiny models are for tests and the demo, which say nothing of a processor.
    let real = groups.iter().flatten().any(|t| t.entry.spec.scale == Scale::Full);
    for device in devices.iter().filter(|d| real || !d.device.is_cpu()) {
        // First, so that the check is of what will be used.
        products::take_up(c, device);
        selfcheck::require(c, device)?;
    }
    fit_on(c, plan, devices, groups)
}

/// Images that a plan's open runs read, made ready once.
#[derive(Debug, Default)]
pub struct Prepared {
    pub ready: usize,
    /// A run that reads them, and why they could not be.
    pub failed: Vec<(String, String)>,
}

/// Prepares the images of every run that is neither done nor blocked; what cannot be prepared stops nothing else.
pub fn prepare(c: &Context, plan: &Plan) -> Prepared {
    let mut out = Prepared::default();
    let mut seen = BTreeSet::new();
    for task in groups(plan).iter().flatten() {
        let spec = &task.entry.spec;
        let key = spec.image_key(&task.inputs.data_root);
        if !seen.insert(key.clone()) {
            continue;
        }
        match PreparedDataset::load(c, &plan.inventory, spec, key) {
            Ok(_) => out.ready += 1,
            Err(e) => out.failed.push((spec.to_string(), format!("{e:#}"))),
        }
    }
    out
}

/// Fits the groups on the devices, which take one after the other from one queue.
fn fit_on(c: &Context, plan: &Plan, devices: &[Opened], groups: Vec<Vec<FitTask<'_>>>) -> Result<Tally> {
    let wanted = groups.iter().map(Vec::len).sum();
    let scheduler = Scheduler {
        c,
        plan,
        bar: c.progress.items("runs", wanted),
        alone: devices.len() == 1,
        waits: in_a_job(),
        queue: Mutex::new(groups.into()),
        claimed: Mutex::default(),
        loading: Mutex::new(Weak::new()),
        unusable: Mutex::default(),
        tally: Mutex::new(Tally {
            wanted,
            ..Tally::default()
        }),
    };
    let ends: Vec<Result<()>> = std::thread::scope(|s| {
        let workers: Vec<_> = devices.iter().map(|d| s.spawn(|| scheduler.work(d))).collect();
        let join = |w: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            w.join()
                .unwrap_or_else(|_| Err(anyhow!("a device's thread has panicked")))
        };
        workers.into_iter().map(join).collect()
    });
    let all_lost = ends.iter().all(|e| e.as_ref().is_err_and(is_lost));
    for e in ends {
        match e {
            Err(e) if is_lost(&e) && !all_lost => lock(&scheduler.tally).lost.push(format!("{e:#}")),
            e => e?,
        }
    }
    let tally = lock(&scheduler.tally).clone();
    Ok(tally)
}

fn is_lost(e: &anyhow::Error) -> bool {
    e.is::<DeviceLost>()
}

/// Between two looks at runs that other processes have, where nothing else is left to do.
fn look_again() -> Duration {
    (lease::time_out() / 10).min(Duration::from_secs(5))
}

/// Whether a batch system has started this process: then a run that another process has is worth waiting for, since nobody
/// would come back for it.
pub fn in_a_job() -> bool {
    ["SLURM_JOB_ID", "HQ_JOB_ID", "PBS_JOBID", "LSB_JOBID"]
        .iter()
        .any(|v| std::env::var_os(v).is_some_and(|v| !v.is_empty()))
}

/// What the devices share while they fit.
struct Scheduler<'a> {
    c: &'a Context,
    plan: &'a Plan,
    bar: Bar,
    /// One device: its steps have a bar of their own.
    alone: bool,
    /// Whether runs that other processes have are waited for.
    waits: bool,
    queue: Mutex<VecDeque<Vec<FitTask<'a>>>>,
    /// Runs that other processes have, looked at again when the queue is empty.
    claimed: Mutex<Vec<(FitTask<'a>, String)>>,
    /// The data set that was prepared last; the lock is held while one is prepared, so that no other device prepares it too.
    loading: Mutex<Weak<PreparedDataset>>,
    /// Keys of images that cannot be prepared, and why.
    unusable: Mutex<BTreeMap<String, String>>,
    tally: Mutex<Tally>,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Scheduler<'a> {
    /// Fits group after group on one device, until none is left or a stop is asked for.
    fn work(&self, device: &Opened) -> Result<()> {
        let mut prepared: Option<Arc<PreparedDataset>> = None;
        while let Some(group) = self.next() {
            if let Err(e) = self.group(&group, device, &mut prepared) {
                match is_lost(&e) {
                    true => lock(&self.queue).push_front(group),
                    // Records cannot be written: that concerns all.
                    false => lock(&self.queue).clear(),
                }
                return Err(e);
            }
        }
        Ok(())
    }

    fn next(&self) -> Option<Vec<FitTask<'a>>> {
        let mut told = false;
        loop {
            if stop::requested() {
                let left = !lock(&self.queue).is_empty() || !lock(&self.claimed).is_empty();
                lock(&self.tally).interrupted |= left;
                return None;
            }
            if let Some(group) = lock(&self.queue).pop_front() {
                return Some(group);
            }
            let (task, why) = {
                let mut claimed = lock(&self.claimed);
                if claimed.is_empty() {
                    return None;
                }
                claimed.remove(0)
            };
            if !self.waits {
                lock(&self.tally).claimed.push(format!("{}: {why}", task.entry.spec));
                continue;
            }
            if !std::mem::replace(&mut told, true) {
                self.c.progress.say(&format!("waiting for {}: {why}", task.entry.spec));
            }
            let until = std::time::Instant::now() + look_again();
            while std::time::Instant::now() < until && !stop::requested() {
                std::thread::sleep(Duration::from_millis(100));
            }
            lock(&self.queue).push_back(vec![task]);
        }
    }

    fn group(&self, group: &[FitTask<'a>], device: &Opened, prepared: &mut Option<Arc<PreparedDataset>>) -> Result<()> {
        let (begun, taken) = fit::claim(&self.plan.store, group)?;
        self.note(taken);
        if begun.is_empty() {
            return Ok(());
        }
        let first = &group[0];
        let key = first.entry.spec.image_key(&first.inputs.data_root);
        if prepared.as_ref().is_none_or(|p| p.key != key) {
            drop(prepared.take());
        }
        let ready = match prepared {
            Some(p) => Ok(Arc::clone(p)),
            None => self.prepare(&first.entry.spec, key),
        };
        let ends = match ready {
            Err(e) => fit::fail(&self.plan.store, begun, &e)?,
            Ok(p) => {
                let steps = self.alone.then(|| self.c.progress.steps(&name_of(group)));
                *prepared = Some(Arc::clone(&p));
                fit::fit(self.c, self.plan, begun, &p, device, steps.as_ref())?
            }
        };
        self.note(ends);
        Ok(())
    }

    /// Counts and tells what became of runs.
    fn note(&self, ends: Vec<(FitTask<'a>, RunOutcome)>) {
        for (task, outcome) in ends {
            let run = &task.entry.spec;
            let mut tally = lock(&self.tally);
            match outcome {
                RunOutcome::Done(text) => {
                    tally.done += 1;
                    self.c.progress.say(&text);
                }
                RunOutcome::Failed(why) => {
                    self.bar.message(format!("{} failed", tally.failed.len() + 1));
                    self.c.progress.say(&format!("failed {} {run}: {why}", task.id.short()));
                    tally.failed.push((format!("{} {run}", task.id.short()), why));
                }
                RunOutcome::Finished => tally.finished += 1,
                RunOutcome::Claimed(why) => {
                    lock(&self.claimed).push((task, why));
                    continue;
                }
                RunOutcome::Again => {
                    lock(&self.queue).push_back(vec![task]);
                    continue;
                }
                RunOutcome::Interrupted => {
                    tally.interrupted = true;
                    continue;
                }
            }
            drop(tally);
            self.bar.step();
        }
    }

    /// The data set with its images, also where another device has it already.
    fn prepare(&self, spec: &RunSpec, key: String) -> Result<Arc<PreparedDataset>> {
        let mut last = lock(&self.loading);
        if let Some(p) = last.upgrade().filter(|p| p.key == key) {
            return Ok(p);
        }
        if let Some(why) = lock(&self.unusable).get(&key) {
            return Err(anyhow!(why.clone()));
        }
        let load = PreparedDataset::load(self.c, &self.plan.inventory, spec, key.clone());
        let p = Arc::new(load.inspect_err(|e| {
            if !e.is::<stop::Stopped>() {
                lock(&self.unusable).insert(key, format!("{e:#}"));
            }
        })?);
        *last = Arc::downgrade(&p);
        Ok(p)
    }
}

/// Runs that are made together, as people name them.
fn name_of(group: &[FitTask<'_>]) -> String {
    let s = &group[0].entry.spec;
    let mut heads: Vec<String> = group.iter().map(|t| t.entry.spec.head.to_string()).collect();
    heads.dedup();
    format!(
        "{} {} {} {} s{}",
        s.dataset,
        s.backbone,
        s.freeze,
        heads.join("+"),
        s.seed
    )
}

/// What is to be fitted, in the plan's order: runs that differ in nothing but the head of a frozen backbone come together,
/// so that the backbone runs once for both.
fn groups(plan: &Plan) -> Vec<Vec<FitTask<'_>>> {
    let mut groups: Vec<Vec<FitTask<'_>>> = Vec::new();
    for e in &plan.entries {
        let (Some(id), Some(inputs)) = (&e.id, &e.inputs) else {
            continue;
        };
        if matches!(e.state, PlanState::Done | PlanState::Blocked(_)) {
            continue;
        }
        let task = FitTask { entry: e, id, inputs };
        let fits = |g: &&mut Vec<FitTask<'_>>| {
            let first = &g[0];
            let same_head = RunSpec {
                head: first.entry.spec.head,
                ..e.spec.clone()
            };
            e.spec.freeze == Freeze::Frozen
                && same_head == first.entry.spec
                && e.spec.precision() == first.entry.spec.precision()
                && inputs.pretrained.backbone == first.inputs.pretrained.backbone
        };
        match groups.iter_mut().find(fits) {
            Some(g) => g.push(task),
            None => groups.push(vec![task]),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, StudyArgs, Verb};
    use crate::device::{DeviceRequest, Devices};
    use crate::manifest::Catalogue;
    use crate::progress::Progress;
    use crate::runner::inventory;
    use crate::study::RunId;
    use crate::train::scripted::Scripted;
    use crate::train::{FitOutcome, Job, Progress as Step, Trainer};
    use clap::Parser;
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    static TRAINER: Scripted = Scripted {
        epoch: Duration::from_millis(1),
    };

    fn context(data: &Path, results: &Path, trainer: &'static dyn Trainer) -> (Context, StudyArgs) {
        let args = [
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
        let cli = Cli::parse_from(args);
        let Verb::Run(args) = cli.verb else { unreachable!() };
        let c = Context {
            global: cli.global,
            devices: Devices::default(),
            fit: args.fit,
            catalogue: Catalogue::embedded(),
            progress: Progress::default(),
            trainer,
        };
        (c, args.study)
    }

    fn cpus(n: usize) -> Vec<Opened> {
        vec![Devices::default().open(&DeviceRequest::Cpu).unwrap().all[0].clone(); n]
    }

    fn plan(c: &Context, args: &StudyArgs) -> Plan {
        let (study, runs) = c.study(args).unwrap();
        inventory::synthesise_missing(c, &runs).unwrap();
        Plan::make(c, study, runs).unwrap()
    }

    fn metrics(plan: &Plan) -> BTreeMap<String, Vec<u8>> {
        let file = |id: &RunId| std::fs::read(plan.store.run_dir(id.full()).join("metrics.json")).unwrap();
        let ids = plan.entries.iter().filter_map(|e| e.id.as_ref());
        ids.map(|id| (id.short().to_owned(), file(id))).collect()
    }

    /// Runs a small study on `devices` and returns the records' metrics by file.
    fn records(data: &Path, devices: usize) -> BTreeMap<String, Vec<u8>> {
        let place = tempfile::tempdir().unwrap();
        let (c, args) = context(data, &place.path().join("results"), &TRAINER);
        let plan = plan(&c, &args);
        let all = groups(&plan);
        let runs: usize = all.iter().map(Vec::len).sum();
        // Frozen heads go together.
        assert!(all.len() < runs && runs >= 16, "{} groups of {runs} runs", all.len());
        let tally = fit_on(&c, &plan, &cpus(devices), all).unwrap();
        assert_eq!((tally.done, tally.failed.len(), tally.interrupted), (runs, 0, false));
        metrics(&plan)
    }

    #[test]
    fn several_devices_give_the_records_of_one() {
        let data = tempfile::tempdir().unwrap();
        let one = records(data.path(), 1);
        assert_eq!(one, records(data.path(), 3));
    }

    /// Two images of one data set vanish after it was verified: its runs fail, both images are named, the other set is done.
    #[test]
    fn a_bad_image_stops_its_own_data_set_alone() {
        let place = tempfile::tempdir().unwrap();
        let data = place.path().join("data");
        let (c, args) = context(&data, &place.path().join("results"), &TRAINER);
        let plan = plan(&c, &args);
        let images = data.join("phantom/APTOS2019/train_images/train_images");
        let mut names: Vec<_> = std::fs::read_dir(&images).unwrap().map(|e| e.unwrap().path()).collect();
        // Of those that this study reads: the phantom has images, as Kaggle's folder, that its label file does not list.
        let listed = std::fs::read_to_string(data.join("phantom/APTOS2019/train_1.csv")).unwrap();
        names.retain(|p| listed.contains(p.file_stem().unwrap().to_str().unwrap()));
        names.sort();
        std::fs::remove_file(&names[3]).unwrap();
        std::fs::write(&names[7], b"no image").unwrap();
        let tally = fit_on(&c, &plan, &cpus(1), groups(&plan)).unwrap();
        let of = |set: &str| plan.entries.iter().filter(|e| e.spec.dataset == set).count();
        assert_eq!(
            (tally.done, tally.failed.len()),
            (of("ddsm"), of("aptos2019")),
            "{tally:?}"
        );
        let said = tally.summary();
        assert_eq!(said.len(), 1, "one reason, told once: {said:?}");
        for n in [&names[3], &names[7]] {
            assert!(said[0].contains(n.file_name().unwrap().to_str().unwrap()), "{said:?}");
        }
        assert!(!tally.complete());
        for e in plan.entries.iter().filter(|e| e.spec.dataset == "aptos2019") {
            let state = plan.store.state(e.id.as_ref().unwrap().full());
            assert!(matches!(state, crate::results::RunState::Failed(_)), "{state:?}");
        }
    }

    /// Fails or panics in some runs, after an epoch.
    struct Faulty;

    impl Trainer for Faulty {
        fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Step)) -> Result<Vec<FitOutcome>> {
            let bad: Vec<_> = jobs.iter().filter(|j| j.spec.backbone == "mae-b").collect();
            for job in &bad {
                std::fs::create_dir_all(job.checkpoint_dir).unwrap();
                std::fs::write(job.checkpoint_dir.join("kept"), b"work").unwrap();
            }
            match bad.first().map(|j| j.spec.freeze) {
                Some(Freeze::Frozen) => anyhow::bail!("out of memory"),
                Some(Freeze::Unfrozen) => panic!("a panic of the test"),
                None => {}
            }
            TRAINER.fit(jobs, progress)
        }
    }

    #[test]
    fn an_error_ends_its_run_and_its_checkpoint_is_kept() {
        let place = tempfile::tempdir().unwrap();
        let (data, results) = (place.path().join("data"), place.path().join("results"));
        let (c, args) = context(&data, &results, &Faulty);
        let first = plan(&c, &args);
        let tally = fit_on(&c, &first, &cpus(2), groups(&first)).unwrap();
        let bad = first.entries.iter().filter(|e| e.spec.backbone == "mae-b").count();
        assert_eq!((tally.done, tally.failed.len()), (first.entries.len() - bad, bad));
        assert_eq!(tally.summary().len(), 2, "{:?}", tally.summary());
        for e in first.entries.iter().filter(|e| e.spec.backbone == "mae-b") {
            let dir = first.store.checkpoint_dir(e.id.as_ref().unwrap().full());
            assert!(dir.join("kept").exists(), "{}", e.spec);
        }
        // With the fault gone, the same command makes what is missing, in the bytes of an undisturbed study.
        let (c, args) = context(&data, &results, &TRAINER);
        let second = plan(&c, &args);
        let tally = fit_on(&c, &second, &cpus(1), groups(&second)).unwrap();
        assert_eq!((tally.wanted, tally.done), (bad, bad));
        assert_eq!(metrics(&second), records(&data, 1));
    }
}
