//! What was submitted, on disk before sbatch is called: `results/<study>/.jobs/<id>/` with the scripts, their tasks, what was meant
//! (`intent.json`) and the numbers that sbatch gave (`receipt.json`). An intent without a receipt is asked about before anything
//! else is submitted.

use super::slurm::QueueLine;
use super::tasks::ArrayTask;
use crate::fsio;
use crate::fsio::host::Process;
use crate::results::utc_now;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Says that a submission was given up; its jobs end at once should there be any.
pub(super) const NOT_SUBMITTED: &str = "not-submitted";

/// The jobs of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Prepare,
    Runs,
    Report,
}

impl Stage {
    pub const ALL: [Self; 3] = [Self::Prepare, Self::Runs, Self::Report];

    /// Of its script.
    pub fn file(self) -> &'static str {
        match self {
            Self::Prepare => "prepare.sh",
            Self::Runs => "job.sh",
            Self::Report => "report.sh",
        }
    }

    /// What follows the comment and the name of a job.
    pub(super) fn suffix(self, separator: &str) -> String {
        match self {
            Self::Prepare => format!("{separator}prepare"),
            Self::Runs => String::new(),
            Self::Report => format!("{separator}report"),
        }
    }
}

/// Slurm's numbers of the jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<String>,
}

impl Receipt {
    pub fn of(&self, stage: Stage) -> Option<&str> {
        match stage {
            Stage::Prepare => self.prepare.as_deref(),
            Stage::Runs => self.runs.as_deref(),
            Stage::Report => self.report.as_deref(),
        }
    }

    fn put(&mut self, stage: Stage, job: String) {
        *match stage {
            Stage::Prepare => &mut self.prepare,
            Stage::Runs => &mut self.runs,
            Stage::Report => &mut self.report,
        } = Some(job);
    }
}

/// What is about to be submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    pub made: String,
    /// How many of the tasks, from the first.
    pub tasks: usize,
    /// The report's sbatch line, without its dependency.
    pub report: Vec<String>,
}

/// One `medft submit`.
#[derive(Debug, Clone)]
pub(super) struct Submission {
    pub id: String,
    pub dir: PathBuf,
    pub tasks: Vec<ArrayTask>,
    pub intent: Intent,
    pub receipt: Receipt,
    pub given_up: bool,
}

/// A new name: the time, and what tells submissions of one second apart.
pub(super) fn new_id() -> String {
    let now = std::time::SystemTime::now();
    let unique = fsio::sha256_hex(format!("{:?} {now:?}", Process::this()).as_bytes());
    let time: String = utc_now().chars().filter(char::is_ascii_digit).collect();
    format!("{}-{}-{}", &time[..8], &time[8..], &unique[..4])
}

impl Submission {
    /// Reads one; `None` where its intent was never written: then nothing was submitted.
    fn read(dir: &Path) -> Result<Option<Self>> {
        let json = |name: &str| dir.join(name);
        if !json("intent.json").exists() {
            return Ok(None);
        }
        fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
            serde_json::from_slice(&fsio::read(path)?)
                .with_context(|| format!("{} is not as medft submit wrote it; restore it, or move the folder away once none of its jobs is queued", path.display()))
        }
        let intent: Intent = parse(&json("intent.json"))?;
        let mut tasks: Vec<ArrayTask> = parse(&json("tasks.json"))?;
        tasks.truncate(intent.tasks);
        let receipt = json("receipt.json");
        Ok(Some(Self {
            id: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            dir: dir.to_owned(),
            tasks,
            intent,
            receipt: if receipt.exists() {
                parse(&receipt)?
            } else {
                Receipt::default()
            },
            given_up: json(NOT_SUBMITTED).exists(),
        }))
    }

    /// All of a study, oldest first.
    ///
    /// # Errors
    /// Where one cannot be read.
    pub(crate) fn all(jobs: &Path) -> Result<Vec<Self>> {
        let mut dirs: Vec<PathBuf> = std::fs::read_dir(jobs)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .filter(|p| p.is_dir())
            .collect();
        dirs.sort();
        dirs.iter().filter_map(|d| Self::read(d).transpose()).collect()
    }

    /// Writes what is meant, to the disk itself, before sbatch is called.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn write_intent(&self) -> Result<()> {
        fsio::write_atomic(&self.dir.join("intent.json"), &serde_json::to_vec_pretty(&self.intent)?)
    }

    /// Keeps the number of a job.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(crate) fn put(&mut self, stage: Stage, job: &str) -> Result<()> {
        self.receipt.put(stage, job.to_owned());
        fsio::write_atomic(
            &self.dir.join("receipt.json"),
            &serde_json::to_vec_pretty(&self.receipt)?,
        )
    }

    /// Gives it up: what may still turn up of it ends at once.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub(crate) fn give_up(&mut self, why: &str) -> Result<()> {
        self.given_up = true;
        fsio::write_atomic(&self.dir.join(NOT_SUBMITTED), format!("{why}\n").as_bytes())
    }

    /// What sbatch is told as comment.
    pub(crate) fn comment(&self, stage: Stage) -> String {
        format!("medft:{}{}", self.id, stage.suffix(":"))
    }

    /// The lines of squeue that are about one of its jobs: by comment, or by number where a plugin of the cluster took the comment
    /// away.
    pub(crate) fn lines<'l>(&self, stage: Stage, queue: &'l [QueueLine]) -> impl Iterator<Item = &'l QueueLine> {
        let comment = self.comment(stage);
        let job = self.receipt.of(stage).map(str::to_owned);
        queue
            .iter()
            .filter(move |l| l.comment == comment || (job.as_ref() == Some(&l.job) && !l.comment.starts_with("medft:")))
    }

    /// Takes in what squeue knows of jobs without a receipt. Where it does not know the array, that was not submitted.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub(crate) fn resolve(&mut self, queue: &[QueueLine]) -> Result<()> {
        for stage in Stage::ALL {
            let found = self.lines(stage, queue).next().map(|l| l.job.clone());
            if let (None, Some(job)) = (self.receipt.of(stage), found) {
                self.put(stage, &job)?;
            }
        }
        if self.receipt.runs.is_none() && !self.given_up {
            self.give_up("sbatch gave no number, and squeue did not know the job")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submission(dir: &Path) -> Submission {
        let s = Submission {
            id: "20260131-120000-abcd".into(),
            dir: dir.join("20260131-120000-abcd"),
            tasks: Vec::new(),
            intent: Intent {
                made: utc_now(),
                tasks: 1,
                report: Vec::new(),
            },
            receipt: Receipt::default(),
            given_up: false,
        };
        let task = |n: usize| ArrayTask {
            only: vec![format!("seed={n}")],
            runs: vec![n.to_string()],
            hours: None,
        };
        std::fs::create_dir_all(&s.dir).unwrap();
        std::fs::write(
            s.dir.join("tasks.json"),
            serde_json::to_vec(&[task(1), task(2)]).unwrap(),
        )
        .unwrap();
        s.write_intent().unwrap();
        s
    }

    fn job(comment: &str) -> QueueLine {
        QueueLine {
            job: "12".into(),
            task: Some(1),
            state: "PENDING".into(),
            reason: "Priority".into(),
            node: String::new(),
            comment: comment.into(),
        }
    }

    #[test]
    fn an_intent_is_resolved_by_what_squeue_knows() {
        let place = tempfile::tempdir().unwrap();
        submission(place.path());
        let read = || Submission::all(place.path()).unwrap().remove(0);
        let mut s = read();
        assert_eq!(s.tasks.len(), 1, "the second task was left for later");
        s.resolve(&[job("another"), job("medft:20260131-120000-abcd")]).unwrap();
        assert_eq!(read().receipt.runs.as_deref(), Some("12"));
        assert!(!read().given_up);
        // A plugin took the comment away: the number tells.
        assert_eq!(read().lines(Stage::Runs, &[job("site")]).count(), 1);
        assert_eq!(read().lines(Stage::Runs, &[job("medft:other")]).count(), 0);
    }

    #[test]
    fn what_squeue_does_not_know_is_given_up() {
        let place = tempfile::tempdir().unwrap();
        submission(place.path());
        let read = || Submission::all(place.path()).unwrap().remove(0);
        read().resolve(&[job("medft:20260131-120000-abcd:prepare")]).unwrap();
        assert!(read().given_up && read().dir.join(NOT_SUBMITTED).exists());
        assert_eq!(read().receipt.prepare.as_deref(), Some("12"));
        // Without an intent nothing was submitted, and nothing is read.
        std::fs::remove_file(read().dir.join("intent.json")).unwrap();
        assert!(Submission::all(place.path()).unwrap().is_empty());
    }
}
