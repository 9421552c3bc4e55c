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
use medft_nn::fallback::{self, Kernel};
use medft_nn::selfcheck::{self, Checked, Mended};
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
    /// Kernels that were found wrong and are not used: candle's own ops stand in for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// What failed before they were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<String>,
    /// A GPU's measured rates beside its nominal ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<String>,
}

impl SelfcheckReport {
    fn of(all: &[Checked]) -> Self {
        Self {
            checks: all.len(),
            failed: failures(all),
            replaced: Vec::new(),
            found: Vec::new(),
            rates: None,
        }
    }

    fn of_kernels(mended: &Mended) -> Self {
        let replaced: Vec<String> = mended.replaced.iter().map(|k| k.name().to_owned()).collect();
        Self {
            found: if replaced.is_empty() {
                Vec::new()
            } else {
                failures(&mended.first)
            },
            replaced,
            ..Self::of(&mended.last)
        }
    }

    /// Has the engine do without what was found wrong. `None` where this program does not know it.
    fn take_up(&self, device: &Opened) -> Option<()> {
        let kernels: Vec<Kernel> = self.replaced.iter().map(|n| Kernel::named(n)).collect::<Option<_>>()?;
        if !device.device.is_cpu() {
            fallback::replace(&device.device, &kernels);
        }
        Some(())
    }

    /// In a clause, for records and people.
    pub fn text(&self) -> String {
        match self.failed.len() {
            0 if !self.replaced.is_empty() => format!(
                "passed, {} checks, with candle's own ops, which are slow, in place of these kernels: {} ({})",
                self.checks,
                self.replaced.join(", "),
                self.found.join("; ")
            ),
            0 => format!("passed, {} checks", self.checks),
            n => format!("failed, {n} of {} checks: {}", self.checks, self.failed.join("; ")),
        }
    }
}

fn failures(all: &[Checked]) -> Vec<String> {
    let failed = |c: &Checked| Some(format!("{}: {}", c.name, c.failed.as_ref()?));
    all.iter().filter_map(failed).collect()
}

/// SHA-256 of this program.
fn build() -> Option<&'static str> {
    static BUILD: OnceLock<Option<String>> = OnceLock::new();
    let hash = || fsio::sha256_file(&std::env::current_exe().ok()?, |_| {}).ok();
    BUILD.get_or_init(hash).as_deref()
}

/// Where something is kept that holds for a device, its driver and this program.
pub(super) fn file(c: &Context, device: &Opened, end: &str) -> Result<std::path::PathBuf> {
    let processor = device.name == CPU;
    let key = Bucket::Checks.key(&(
        &device.name,
        device.driver_version(),
        processor.then(cpu_name),
        build().unwrap_or_default(),
    ))?;
    Ok(Bucket::Checks
        .dir(&c.global.results_dir)
        .join(format!("{}{end}", &key[..16])))
}

/// What is kept of an earlier check, and taken up; `None` where there was none, or it cannot be read.
pub fn kept(c: &Context, device: &Opened) -> Option<SelfcheckReport> {
    let text = fsio::read_at_most(&file(c, device, ".json").ok()?, limits::RECORD).ok()?;
    let report: SelfcheckReport = serde_json::from_slice(&text).ok()?;
    report.take_up(device)?;
    Some(report)
}

/// Checks a device and keeps what came of it where there is a folder of results, or where `keep` says so.
///
/// # Errors
/// Where that cannot be written.
pub fn check(c: &Context, device: &Opened, keep: bool) -> Result<SelfcheckReport> {
    let start = Instant::now();
    let report = if device.device.is_cpu() {
        SelfcheckReport::of(&selfcheck::instructions())
    } else {
        c.progress.say(&format!(
            "checking every kernel on {}: once for each GPU, driver and build; the driver may compile some first, for up to half a minute",
            device.name
        ));
        SelfcheckReport {
            rates: selfcheck::rates(&device.device).ok().map(|r| rates(&device.name, r)),
            ..SelfcheckReport::of_kernels(&selfcheck::mend(&device.device))
        }
    };
    // A look at the machine leaves nothing where no study is.
    if keep || c.global.results_dir.is_dir() {
        fsio::write_atomic(&file(c, device, ".json")?, &serde_json::to_vec_pretty(&report)?)?;
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
        if !report.replaced.is_empty() {
            c.progress
                .say(&format!("warning: {}: self-check {}", device.name, report.text()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceRequest, Devices};

    fn checked(name: &str, failed: Option<&str>) -> Checked {
        Checked {
            name: name.into(),
            failed: failed.map(str::to_owned),
        }
    }

    #[test]
    fn a_report_says_what_stands_in_for_what_and_leads_back_to_it() {
        let last = vec![checked("GELU, f32", None), checked("layer norm, f32", None)];
        let mended = Mended {
            first: vec![checked("GELU, f32", None), checked("layer norm, f32", Some("off"))],
            replaced: vec![Kernel::LayerNorm],
            last: last.clone(),
        };
        let report = SelfcheckReport::of_kernels(&mended);
        assert_eq!(
            report.text(),
            "passed, 2 checks, with candle's own ops, which are slow, in place of these kernels: layer norm (layer norm, f32: off)"
        );
        let kept: SelfcheckReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(kept, report);
        let cpu = Devices::default();
        let device = &cpu.open(&DeviceRequest::Cpu).unwrap().all[0];
        assert!(kept.take_up(device).is_some());
        let other = SelfcheckReport {
            replaced: vec!["another program's".into()],
            ..kept
        };
        assert!(other.take_up(device).is_none());
        // Where nothing was wrong, and where nothing helped.
        assert_eq!(SelfcheckReport::of(&last).text(), "passed, 2 checks");
        let hopeless = Mended {
            first: mended.first.clone(),
            replaced: Vec::new(),
            last: mended.first,
        };
        assert_eq!(
            SelfcheckReport::of_kernels(&hopeless).text(),
            "failed, 1 of 2 checks: layer norm, f32: off"
        );
    }
}
