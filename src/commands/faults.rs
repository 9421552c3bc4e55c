//! Studies on scripted devices whose memory runs out, or that are lost: what is said, how it ends, what goes on and what is kept.

use super::run_on;
use crate::cli::Cli;
use crate::device::Devices;
use crate::device::scripted::{GOOD, Script};
use crate::study::{Freeze, HeadKind};
use crate::train::scripted::Scripted;
use crate::train::{FitOutcome, Job, Progress, Trainer};
use anyhow::{Result, bail};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

const FULL: &str = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
const ILLEGAL: &str = "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"an illegal memory access was encountered\")";

/// Fits as scripted, but ends with an error after a checkpoint where `fails` says so.
struct Faulty {
    fails: fn(&[Job<'_>]) -> Option<&'static str>,
    failures: AtomicUsize,
}

impl Faulty {
    fn new(fails: fn(&[Job<'_>]) -> Option<&'static str>) -> &'static Self {
        Box::leak(Box::new(Self {
            fails,
            failures: AtomicUsize::new(0),
        }))
    }
}

impl Trainer for Faulty {
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>> {
        if let Some(message) = (self.fails)(jobs) {
            self.failures.fetch_add(1, Relaxed);
            for job in jobs {
                std::fs::create_dir_all(job.checkpoint_dir)?;
                std::fs::write(job.checkpoint_dir.join("kept"), b"work")?;
            }
            bail!("{message}");
        }
        let epoch = Duration::from_millis(1);
        Scripted { epoch }.fit(jobs, progress)
    }
}

fn is_large(job: &Job<'_>) -> bool {
    (job.spec.backbone.as_str(), job.spec.freeze, job.spec.head) == ("mae-b", Freeze::Unfrozen, HeadKind::Mha)
}

struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn run(&self, trainer: &'static dyn Trainer, script: Script, device: &str) -> Result<u8> {
        let at = |name: &str| self.0.path().join(name).display().to_string();
        let args = [
            "medft",
            "run",
            "demo",
            "--only",
            "dataset=aptos2019,backbone=dinov2-b,backbone=mae-b",
            "--device",
            device,
            "--data-dir",
            &at("data"),
            "--results-dir",
            &at("results"),
        ];
        run_on(Cli::parse_from(args), trainer, Devices::of(Box::leak(Box::new(script))))
    }

    /// Files of this name in the study's runs.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        fn walk(dir: &Path, name: &str, out: &mut Vec<PathBuf>) {
            for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match e.path() {
                    p if p.is_dir() => walk(&p, name, out),
                    p if p.ends_with(name) => out.push(p),
                    _ => {}
                }
            }
        }
        let mut out = Vec::new();
        walk(&self.0.path().join("results/demo"), name, &mut out);
        out
    }
}

/// Two backbones, two freeze modes, two heads, two seeds.
const RUNS: usize = 16;

#[test]
fn out_of_memory_is_one_failed_run_with_its_remedy() {
    let place = Folders::new();
    let trainer = Faulty::new(|jobs| jobs.iter().any(is_large).then_some(FULL));
    assert_eq!(place.run(trainer, GOOD, "cuda:0").unwrap(), 1);
    // Two seeds, each tried again with its activations recomputed.
    assert_eq!(trainer.failures.load(Relaxed), 4);
    assert_eq!(place.files("metrics.json").len(), RUNS - 2);
    let failed = place.files("failed.json");
    assert_eq!(failed.len(), 2);
    for f in failed {
        let text = std::fs::read_to_string(&f).unwrap();
        for needle in [
            "out of memory on Scripted GPU 0",
            "86 GB",
            "activations recomputed",
            "larger one",
            "`batch`",
        ] {
            assert!(text.contains(needle), "{needle}: {text}");
        }
    }
    assert_eq!(place.files("kept").len(), 2, "checkpoints stay");
    // The same command where there is room makes what is missing.
    let well = Faulty::new(|_| None);
    assert_eq!(place.run(well, GOOD, "cuda:1").unwrap(), 0);
    assert_eq!(place.files("metrics.json").len(), RUNS);
}

#[test]
fn recomputed_activations_save_a_run_that_does_not_fit() {
    let place = Folders::new();
    let trainer = Faulty::new(|jobs| jobs.iter().any(|j| is_large(j) && !j.recompute).then_some(FULL));
    assert_eq!(place.run(trainer, GOOD, "cuda:0").unwrap(), 0);
    assert_eq!(trainer.failures.load(Relaxed), 2);
    assert_eq!(place.files("metrics.json").len(), RUNS);
}

#[test]
fn heads_that_do_not_fit_together_are_made_one_after_the_other() {
    let place = Folders::new();
    let trainer = Faulty::new(|jobs| (jobs.len() > 1).then_some(FULL));
    assert_eq!(place.run(trainer, GOOD, "cuda:0").unwrap(), 0);
    assert!(trainer.failures.load(Relaxed) > 0);
    assert_eq!(place.files("metrics.json").len(), RUNS);
}

#[test]
fn a_lost_device_ends_the_study_and_what_is_done_is_kept() {
    let place = Folders::new();
    let lost = Script { lost: &[0], ..GOOD };
    let trainer = Faulty::new(|jobs| jobs.iter().any(is_large).then_some(ILLEGAL));
    let e = format!("{:#}", place.run(trainer, lost, "cuda:0").unwrap_err());
    for needle in [
        "Scripted GPU 0 does not answer any more",
        "CUDA_LAUNCH_BLOCKING=1",
        "run the same command again",
    ] {
        assert!(e.contains(needle), "{needle}: {e}");
    }
    let done = place.files("metrics.json").len();
    assert!(done > 0 && done < RUNS, "{done}");
    assert_eq!(place.files("failed.json").len(), 0, "the device has failed, no run");
    assert_eq!(place.run(Faulty::new(|_| None), GOOD, "auto").unwrap(), 0);
    assert_eq!(place.files("metrics.json").len(), RUNS);
}

/// An error that leaves the device well is the run's own.
#[test]
fn a_fault_of_a_kernel_ends_its_run_and_names_the_way_to_its_cause() {
    let place = Folders::new();
    let trainer = Faulty::new(|jobs| jobs.iter().any(is_large).then_some(ILLEGAL));
    assert_eq!(place.run(trainer, GOOD, "cuda:0").unwrap(), 1);
    let failed = place.files("failed.json");
    assert_eq!((failed.len(), place.files("metrics.json").len()), (2, RUNS - 2));
    let text = std::fs::read_to_string(&failed[0]).unwrap();
    assert!(text.contains("CUDA_LAUNCH_BLOCKING=1"), "{text}");
}

#[test]
fn a_device_that_cannot_be_opened_leaves_everything_as_it_was() {
    let place = Folders::new();
    let old = Script {
        version: Ok(12_040),
        ..GOOD
    };
    let e = format!("{:#}", place.run(Faulty::new(|_| None), old, "auto").unwrap_err());
    assert!(e.contains("CUDA 12.4") && e.contains("R580"), "{e}");
    assert!(place.files("spec.json").is_empty() && place.files("metrics.json").is_empty());
}
