//! Whether a device computes what it should, asked once for each (device, driver, build) and kept in the cache.

use super::Context;
use super::card::Card;
use crate::cache::Bucket;
use crate::device::{CPU, Opened};
use crate::error::BadInput;
use crate::results::cpu_name;
use crate::spec::protocol::Precision;
use crate::{fsio, limits};
use anyhow::{Context as _, Result};
use medft_nn::selfcheck::{self, Checked};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;
use std::time::Instant;

/// What came of a device's self-check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfcheckReport {
    /// How many checks were made.
    pub checks: usize,
    /// Those that failed, with the reason.
    pub failed: Vec<String>,
    /// A GPU's measured rates beside its nominal ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<String>,
}

impl SelfcheckReport {
    fn of(all: Vec<Checked>) -> Self {
        let failed = |c: &Checked| Some(format!("{}: {}", c.name, c.failed.as_ref()?));
        Self {
            checks: all.len(),
            failed: all.iter().filter_map(failed).collect(),
            rates: None,
        }
    }

    /// In a clause, for records and people.
    pub fn text(&self) -> String {
        match self.failed.len() {
            0 => format!("passed, {} checks", self.checks),
            n => format!("failed, {n} of {} checks: {}", self.checks, self.failed.join("; ")),
        }
    }
}

/// SHA-256 of this program.
fn build() -> Option<&'static str> {
    static BUILD: OnceLock<Option<String>> = OnceLock::new();
    let hash = || fsio::sha256_file(&std::env::current_exe().ok()?, |_| {}).ok();
    BUILD.get_or_init(hash).as_deref()
}

/// What a check holds for.
fn file(c: &Context, device: &Opened) -> Result<std::path::PathBuf> {
    let processor = device.name == CPU;
    let key = Bucket::Checks.key(&(
        &device.name,
        device.driver_version(),
        processor.then(cpu_name),
        build().unwrap_or_default(),
    ))?;
    Ok(Bucket::Checks
        .dir(&c.global.results_dir)
        .join(format!("{}.json", &key[..16])))
}

/// What is kept of an earlier check; `None` where there was none, or it cannot be read.
pub fn kept(c: &Context, device: &Opened) -> Option<SelfcheckReport> {
    let text = fsio::read_at_most(&file(c, device).ok()?, limits::RECORD).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Checks a device and keeps what came of it where there is a folder of results, or where `keep` says so.
///
/// # Errors
/// Where that cannot be written.
pub fn check(c: &Context, device: &Opened, keep: bool) -> Result<SelfcheckReport> {
    let start = Instant::now();
    let report = if device.device.is_cpu() {
        SelfcheckReport::of(selfcheck::instructions())
    } else {
        c.progress.say(&format!(
            "checking every kernel on {}: once for each GPU, driver and build; the driver may compile some first, for up to half a minute",
            device.name
        ));
        SelfcheckReport {
            rates: selfcheck::rates(&device.device).ok().map(|r| rates(&device.name, r)),
            ..SelfcheckReport::of(selfcheck::kernels(&device.device))
        }
    };
    // A look at the machine leaves nothing where no study is.
    if keep || c.global.results_dir.is_dir() {
        fsio::write_atomic(&file(c, device)?, &serde_json::to_vec_pretty(&report)?)?;
    }
    if !device.device.is_cpu() {
        c.progress.say(&format!(
            "self-check of {}: {} in {:.0} s",
            device.name,
            report.text(),
            start.elapsed().as_secs_f64()
        ));
    }
    Ok(report)
}

fn rates(name: &str, (tflops, copies): (f64, f64)) -> String {
    let nominal = Card::find(name).map_or_else(String::new, |card| {
        format!(" of nominal {:.0}", card.peak(Precision::Bf16))
    });
    format!("bfloat16 products {tflops:.0}{nominal} TFLOPS, copies {copies:.0} GB/s")
}

/// Makes sure that a device was checked, and refuses one that has failed.
///
/// # Errors
/// [`BadInput`] that names the checks that failed.
pub(super) fn require(c: &Context, device: &Opened) -> Result<()> {
    let report = match kept(c, device) {
        Some(report) => report,
        None => check(c, device, true).context("a self-check could not be kept")?,
    };
    if report.failed.is_empty() {
        return Ok(());
    }
    let remedy = match device.name == CPU {
        true => {
            "Set MEDFT_ISA=generic, whose loops are what the others are held against, and report it with `medft doctor --json`."
        }
        false => {
            "Use another device (--device cpu is slow and right), update the driver, and report it with `medft doctor --json`."
        }
    };
    Err(BadInput::new(
        &device.name,
        "a device that computes what it should",
        report.text(),
        remedy,
    )
    .into())
}
