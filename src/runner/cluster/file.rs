//! The cluster file of `medft submit`: what only the user knows of a cluster. Options of sbatch are passed on as they stand.
//!
//! ```toml
//! sbatch = ["--account=abc", "--partition=gpu", "--gres=gpu:h100:1", "--cpus-per-task=16", "--mem=64G"]
//! # optional:
//! time = "12:00:00"      # of a task; what takes longer goes on after a requeue
//! pack = "4:00:00"       # groups of runs are put together up to this many hours
//! lead = 300             # seconds before the limit: checkpoint, requeue
//! at_once = 32           # tasks that run at a time
//! max_tasks = 400        # tasks of one submission; MaxArraySize bounds it in any case
//! device = "NVIDIA H100 80GB HBM3"     # whose measured hours count
//! setup = ["module load cuda/13.0"]    # lines of shell before medft
//! medft = ["apptainer", "exec", "--nv", "/scratch/me/medft.sif", "medft"]      # default: this binary
//! report = ["--partition=cpu", "--mem=16G", "--time=1:00:00"]                  # default: as sbatch
//! prepare = ["--partition=cpu", "--cpus-per-task=16", "--time=8:00:00"]        # default: as report
//! ```

use super::record::Stage;
use crate::error::BadInput;
use crate::fsio;
use anyhow::Result;
use serde::Deserialize;
use std::path::Path;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterFile {
    pub sbatch: Vec<String>,
    pub time: Option<String>,
    pack: Option<String>,
    #[serde(default = "five_minutes")]
    pub lead: u64,
    pub at_once: Option<u32>,
    pub max_tasks: Option<usize>,
    pub device: Option<String>,
    #[serde(default)]
    pub setup: Vec<String>,
    medft: Option<Vec<String>>,
    report: Option<Vec<String>>,
    prepare: Option<Vec<String>>,
}

fn five_minutes() -> u64 {
    300
}

/// Options of sbatch that medft gives itself, or that would keep it from knowing what became of a job.
const OWN: [&str; 15] = [
    "--array",
    "-a",
    "--comment",
    "--dependency",
    "-d",
    "--signal",
    "--wrap",
    "--parsable",
    "--test-only",
    "--wait",
    "-W",
    "--no-requeue",
    "--kill-on-invalid-dep",
    "--help",
    "--version",
];

impl ClusterFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`BadInput`] with file and line for what is not understood or cannot be.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self::parse(&path.display().to_string(), &fsio::read_to_string(path)?)?)
    }

    fn parse(at: &str, text: &str) -> Result<Self, BadInput> {
        let file: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|s| 1 + text[..s.start].matches('\n').count());
            let at = line.map_or_else(|| at.to_owned(), |l| format!("{at}:{l}"));
            let keys = "sbatch, time, pack, lead, at_once, max_tasks, device, setup, medft, report and prepare";
            let remedy = format!("The keys of a cluster file are {keys}; docs/CLUSTER.md shows one.");
            BadInput::new(at, "a cluster file", e.message(), remedy)
        })?;
        let bad = |key: &str, expected: &str, found: &str| {
            let line = text.lines().position(|l| l.trim_start().starts_with(key));
            let at = line.map_or_else(|| at.to_owned(), |l| format!("{at}:{}", l + 1));
            BadInput::new(at, expected, format!("`{found}`"), "Write it so.")
        };
        for (key, options) in [
            ("sbatch", Some(&file.sbatch)),
            ("report", file.report.as_ref()),
            ("prepare", file.prepare.as_ref()),
        ] {
            for option in options.into_iter().flatten() {
                let name = option.split('=').next().unwrap_or_default();
                if OWN.contains(&name) {
                    return Err(BadInput {
                        remedy: "Leave it out: medft gives it itself.".into(),
                        ..bad(key, "an option of sbatch that is not medft's own", option)
                    });
                }
            }
        }
        const FORM: &str = "a time as Slurm writes it, such as 90, 12:00:00 or 2-12";
        let time = |key: &str, text: &Option<String>| match text {
            None => Ok(None),
            Some(t) if key == "time" && ["UNLIMITED", "INFINITE"].contains(&t.as_str()) => Ok(None),
            Some(t) => seconds(t).map(Some).ok_or_else(|| bad(key, FORM, t)),
        };
        time("pack", &file.pack)?;
        if let Some(limit) = time("time", &file.time)?
            && file.lead >= limit
        {
            let expected = format!("fewer seconds than the {limit} of `time`");
            return Err(bad("lead", &expected, &file.lead.to_string()));
        }
        if file.lead > 65_535 {
            return Err(bad(
                "lead",
                "at most 65535 seconds, as sbatch --signal takes them",
                &file.lead.to_string(),
            ));
        }
        if file.at_once == Some(0) {
            return Err(bad("at_once", "at least 1", "0"));
        }
        if file.max_tasks == Some(0) {
            return Err(bad("max_tasks", "at least 1", "0"));
        }
        if file.medft.as_ref().is_some_and(Vec::is_empty) {
            return Err(bad("medft", "a command that starts medft", "[]"));
        }
        if let Some(line) = file.setup.iter().find(|l| l.contains('\0')) {
            return Err(bad("setup", "lines of shell", line));
        }
        Ok(file)
    }

    /// Hours up to which groups of runs are put together.
    pub fn pack_hours(&self) -> Option<f64> {
        Some(seconds(self.pack.as_ref()?)? as f64 / 3600.0)
    }

    /// The command that starts medft in a job.
    ///
    /// # Errors
    /// Where the file names none and the system does not tell this program's own path.
    pub fn medft(&self) -> Result<Vec<String>> {
        match &self.medft {
            Some(command) => Ok(command.clone()),
            None => Ok(vec![std::env::current_exe()?.display().to_string()]),
        }
    }

    /// The key of the file that a job's options come from.
    pub(super) fn key(&self, stage: Stage) -> &'static str {
        match stage {
            Stage::Prepare if self.prepare.is_some() => "prepare",
            Stage::Prepare | Stage::Report if self.report.is_some() => "report",
            _ => "sbatch",
        }
    }

    /// Options of the job that renders the report.
    pub fn report(&self) -> &[String] {
        self.report.as_deref().unwrap_or(&self.sbatch)
    }

    /// Options of the job that prepares images.
    pub fn prepare(&self) -> &[String] {
        self.prepare.as_deref().unwrap_or_else(|| self.report())
    }
}

/// Seconds of a time as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours, days-hours:minutes or
/// days-hours:minutes:seconds.
fn seconds(text: &str) -> Option<u64> {
    let numbers = |s: &str| -> Option<Vec<u64>> { s.split(':').map(|n| n.parse().ok()).collect() };
    let sum = match text.split_once('-') {
        Some((days, rest)) => {
            let days: u64 = days.parse().ok()?;
            let of = match numbers(rest)?[..] {
                [h] => [h, 0, 0],
                [h, m] => [h, m, 0],
                [h, m, s] => [h, m, s],
                _ => return None,
            };
            [days.checked_mul(24)?.checked_add(of[0])?, of[1], of[2]]
        }
        None => match numbers(text)?[..] {
            [m] => [0, m, 0],
            [m, s] => [0, m, s],
            [h, m, s] => [h, m, s],
            _ => return None,
        },
    };
    let total = sum[0]
        .checked_mul(3600)?
        .checked_add(sum[1].checked_mul(60)?)?
        .checked_add(sum[2])?;
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against sbatch(1), `--time`.
    #[test]
    fn times_are_slurms() {
        for (text, expected) in [
            ("90", Some(5400)),
            ("90:30", Some(5430)),
            ("12:00:00", Some(43_200)),
            ("2-12", Some(216_000)),
            ("2-12:30", Some(217_800)),
            ("1-0:0:1", Some(86_401)),
            ("0", None),
            ("12h", None),
            ("1:2:3:4", None),
            ("", None),
            ("-5", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_file_is_read_with_its_defaults() {
        let f = ClusterFile::parse("c", "sbatch = [\"-p\", \"gpu\"]\npack = \"4:00:00\"\n").unwrap();
        assert_eq!(f.pack_hours(), Some(4.0));
        assert_eq!((f.report(), f.prepare(), f.lead), (&f.sbatch[..], &f.sbatch[..], 300));
        let f = ClusterFile::parse(
            "c",
            "sbatch = []\nreport = [\"-p\", \"cpu\"]\nmedft = [\"apptainer\", \"medft\"]",
        )
        .unwrap();
        assert_eq!(f.prepare(), ["-p", "cpu"]);
        assert_eq!(f.medft().unwrap(), ["apptainer", "medft"]);
    }

    #[test]
    fn what_cannot_be_is_named_with_its_line() {
        for (text, at, says) in [
            ("sbatch = []\nmemory = 3", "c:2", "unknown field"),
            ("time = \"1:00:00\"", "c", "sbatch"),
            ("sbatch = [\"--array=1-3\"]", "c:1", "--array"),
            ("sbatch = [\"-d\", \"after:3\"]", "c:1", "-d"),
            ("sbatch = []\nreport = [\"--comment=x\"]", "c:2", "--comment"),
            ("sbatch = []\ntime = \"12h\"", "c:2", "12h"),
            ("sbatch = []\npack = \"soon\"", "c:2", "soon"),
            ("sbatch = []\ntime = \"4\"", "c", "240"),
            ("sbatch = []\nat_once = 0", "c:2", "at least 1"),
            ("sbatch = []\nmedft = []", "c:2", "starts medft"),
            ("sbatch = \"-p gpu\"", "c:1", "sequence"),
        ] {
            let e = ClusterFile::parse("c", text).unwrap_err();
            assert!(e.at.starts_with(at), "{text}: {e}");
            assert!(e.to_string().contains(says), "{text}: {e}");
        }
    }
}
