//! Where, when and with what a run was made. The only record whose bytes differ between two equal runs.

use super::spec::Spec;
use crate::build_info::BuildInfo;
use crate::privacy::argument_without_places;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// The locked dependencies that can change a number.
const KEY_CRATES: [&str; 8] = [
    "candle-core",
    "candle-nn",
    "gemm",
    "image",
    "libm",
    "polars",
    "rand_mt",
    "safetensors",
];

/// `provenance.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    pub medft: String,
    /// Git commit that the binary was built from; `None` when it was built outside a repository.
    pub commit: Option<String>,
    /// Whether the tree had changes that are not in the commit.
    pub dirty: Option<bool>,
    /// Name → version of the dependencies that can change a number.
    pub crates: BTreeMap<String, String>,
    /// What computed: `cpu`, or the name of the GPU; `A, then B` where a run was taken up on another device, which other devices'
    /// bytes do not repeat.
    pub device: String,
    pub cpu: String,
    pub threads: u32,
    /// The vector instructions that the processor computed with; a run has the same bytes with each of them. None in records of
    /// before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isa: Option<String>,
    /// What the device's self-check has found, in words; None where there was none: of tiny models on a CPU, and in records of
    /// before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<String>,
    /// What chose the algorithms of matrix products on a GPU where it was not the library: how many were timed, and a hash of the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub products: Option<String>,
    pub command: Vec<String>,
    pub seed: u64,
    pub data_sha256: String,
    pub weights: BTreeMap<String, String>,
    /// RFC 3339, UTC.
    pub started: String,
    /// RFC 3339, UTC.
    pub ended: String,
    /// Seconds by phase (`load`, `train`, `validate`, `test`, …), over all attempts of the run.
    pub phases: BTreeMap<String, f64>,
    /// Seconds of every epoch, in order.
    pub epoch_seconds: Vec<f64>,
    /// Epochs after which the run was taken up again after an interruption.
    pub resumed_after: Vec<u32>,
}

impl Provenance {
    /// What is known when a run starts; the caller adds times and, where known, the commit.
    pub fn start(spec: &Spec, device: &str, threads: u32) -> Self {
        Self {
            medft: env!("CARGO_PKG_VERSION").to_owned(),
            commit: BuildInfo::get().commit.map(str::to_owned),
            dirty: BuildInfo::get().dirty,
            crates: crate_versions(),
            device: device.to_owned(),
            cpu: cpu_name(),
            threads,
            self_check: None,
            products: None,
            isa: medft_nn::isa::chosen().ok().map(|i| i.name().to_owned()),
            command: command(std::env::args()),
            seed: spec.run.seed,
            data_sha256: spec.data_sha256.clone(),
            weights: spec.weights.clone(),
            started: utc_now(),
            ended: String::new(),
            phases: BTreeMap::new(),
            epoch_seconds: Vec::new(),
            resumed_after: Vec::new(),
        }
    }

    /// Seconds over all phases.
    pub fn seconds(&self) -> f64 {
        self.phases.values().sum()
    }
}

/// What was typed, without the places of this machine; of the program its name alone.
fn command(args: impl Iterator<Item = String>) -> Vec<String> {
    let name = |program: String| program.rsplit('/').next().unwrap_or_default().to_owned();
    args.enumerate()
        .map(|(i, a)| if i == 0 { name(a) } else { argument_without_places(&a) })
        .collect()
}

/// Versions of the dependencies that can change a number, from the lock file that the binary was built with.
pub fn crate_versions() -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut name = "";
    for line in include_str!("../../Cargo.lock").lines() {
        if let Some(n) = line.strip_prefix("name = ") {
            name = n.trim_matches('"');
        } else if let Some(v) = line.strip_prefix("version = ")
            && KEY_CRATES.contains(&name)
        {
            let v = v.trim_matches('"');
            versions
                .entry(name.to_owned())
                .and_modify(|all: &mut String| *all = format!("{all}, {v}"))
                .or_insert(v.to_owned());
        }
    }
    versions
}

/// The processor's name, as the system gives it.
pub fn cpu_name() -> String {
    let field = |text: &str, key: &str| {
        let line = text.lines().find(|l| l.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    crate::fsio::read_system("/proc/cpuinfo")
        .and_then(|text| field(&text, "model name").or_else(|| field(&text, "Hardware")))
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The time now as RFC 3339 in UTC, to the second.
pub fn utc_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    utc(now)
}

/// Seconds since 1970 of a time as [`utc_now`] writes it; `None` for any other text.
pub(super) fn seconds_of(time: &str) -> Option<i64> {
    let number = |part: std::ops::Range<usize>| -> Option<i64> {
        let digits = time.get(part)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let (y, m, d) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days from a civil date (Howard Hinnant's `days_from_civil`, for dates after 1970).
    let year = if m <= 2 { y - 1 } else { y };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    let days = era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    let seconds = days * 86_400 + number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    // Only what is written the same again is such a time.
    (utc(u64::try_from(seconds).ok()?) == time).then_some(seconds)
}

/// A time in seconds since 1970 in the form `2026-01-31T12:00:00Z`. Civil date from days since 1970-01-01 (Howard Hinnant's `civil_from_days`, for dates after 1970).
pub fn utc(unix: u64) -> String {
    let (days, second) = (unix / 86_400 + 719_468, unix % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (h, m, s) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from `date -u -d @N --iso-8601=seconds`.
    #[test]
    fn dates_are_those_of_gnu_date() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_748_217_599), "2025-05-25T23:59:59Z");
        assert_eq!(utc(4_107_542_399), "2100-02-28T23:59:59Z");
        for n in [0, 951_782_400, 1_748_217_599, 4_107_542_399] {
            assert_eq!(seconds_of(&utc(n)), Some(n as i64));
        }
        for other in [
            "",
            "2025-05-25",
            "2025-02-30T00:00:00Z",
            "2025-05-25T23:59:60Z",
            "2025-05-25T23:59:59Zx",
        ] {
            assert_eq!(seconds_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_lock_file_names_every_key_crate() {
        let versions = crate_versions();
        assert_eq!(versions.keys().map(String::as_str).collect::<Vec<_>>(), KEY_CRATES);
        assert!(versions["candle-core"].starts_with("0.11"), "{versions:?}");
    }
}
