//! The three programs of Slurm that are asked, and what they say: sbatch, squeue, scontrol. Formats of squeue are asked for field
//! by field, since its JSON changes between versions; sacct may be off or closed to users and is not asked.

use anyhow::{Context, Result, bail};
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that a program of Slurm may take: longer than it gives its own controller.
const PATIENCE: Duration = Duration::from_secs(150);

/// What a program has said.
pub(super) struct Said {
    pub ok: bool,
    pub out: String,
    /// On stderr, on one line.
    pub err: String,
}

/// Runs a program of Slurm.
///
/// # Errors
/// Where it cannot be started.
pub(super) fn call(args: &[String]) -> Result<Said> {
    let mut child = Command::new(&args[0])
        .args(&args[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}: is this a login node of a Slurm cluster?", args[0]))?;
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let read = |from: Option<&mut dyn Read>| {
        let mut bytes = Vec::new();
        if let Some(from) = from {
            let _ = from.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let end = Instant::now() + PATIENCE;
    std::thread::scope(|s| {
        let out = s.spawn(move || read(out.as_mut().map(|o| o as &mut dyn Read)));
        let err = s.spawn(move || read(err.as_mut().map(|e| e as &mut dyn Read)));
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if Instant::now() > end {
                let _ = child.kill();
                child.wait()?;
                break None;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        let err = err.split_whitespace().collect::<Vec<_>>().join(" ");
        Ok(match status {
            Some(status) => Said {
                ok: status.success(),
                out,
                err,
            },
            None => Said {
                ok: false,
                out,
                err: format!("{} did not end in {PATIENCE:?} {err}", args[0]),
            },
        })
    })
}

/// A job, or a task of an array, as squeue tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueLine {
    /// Of the array, where it is a task of one.
    pub job: String,
    pub task: Option<usize>,
    pub state: String,
    pub reason: String,
    pub node: String,
    pub comment: String,
}

impl QueueLine {
    /// `JOB_TASK`, as Slurm's programs take it.
    pub(crate) fn name(&self) -> String {
        match self.task {
            Some(t) => format!("{}_{t}", self.job),
            None => self.job.clone(),
        }
    }

    /// Whether it waits, or will be started again.
    pub(crate) fn is_queued(&self) -> bool {
        const QUEUED: [&str; 9] = [
            "PENDING",
            "CONFIGURING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "REQUEUE_FED",
            "RESV_DEL_HOLD",
            "SPECIAL_EXIT",
            "SUSPENDED",
            "STOPPED",
        ];
        QUEUED.contains(&self.state.as_str())
    }

    pub(crate) fn is_running(&self) -> bool {
        ["RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"].contains(&self.state.as_str())
    }

    /// Whether it waits for what cannot come any more; one that was cancelled for it keeps the reason.
    pub(crate) fn is_stuck(&self) -> bool {
        self.is_queued() && self.reason == "DependencyNeverSatisfied"
    }
}

/// Every job of this user that the controller knows, by one question.
///
/// # Errors
/// Where squeue cannot be started, or the controller does not answer.
pub(super) fn queue() -> Result<Vec<QueueLine>> {
    let args = ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%F|%K|%T|%r|%N|%k"].map(String::from);
    let said = call(&args)?;
    if !said.ok {
        bail!("squeue: {}", said.err);
    }
    Ok(said.out.lines().filter_map(line).collect())
}

fn line(text: &str) -> Option<QueueLine> {
    let mut fields = text.splitn(6, '|').map(str::trim);
    let mut next = || fields.next();
    Some(QueueLine {
        job: next()?.to_owned(),
        task: next()?.parse().ok(),
        state: next()?.to_owned(),
        reason: next()?.to_owned(),
        node: next()?.to_owned(),
        comment: next()?.to_owned(),
    })
}

/// Tasks that an array may have; 1000, Slurm's default, where it does not say.
pub(super) fn most_tasks() -> usize {
    let said = call(&["scontrol", "show", "config"].map(String::from));
    let size = said.ok().and_then(|s| {
        let line = s.out.lines().find(|l| l.starts_with("MaxArraySize"))?.to_owned();
        line.split('=').nth(1)?.trim().parse::<usize>().ok()
    });
    // The highest index is one less, and the first is 1.
    size.unwrap_or(1001).saturating_sub(1).max(1)
}

/// Whether sbatch was refused for the number of jobs that this user may have.
pub(super) fn is_job_limit(err: &str) -> bool {
    err.contains("SubmitJob") || err.contains("job submit limit")
}

/// Whether an answer to `--test-only` says nothing against the options: the controller is away, or all nodes are busy or down.
pub(super) fn is_passing(err: &str) -> bool {
    [
        "busy",
        "not available",
        "Unable to contact",
        "timed out",
        "Zero Bytes",
        "Connection",
    ]
    .iter()
    .any(|w| err.contains(w))
        && !err.contains("configuration is not available")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_are_read() {
        let l = line("12|3|RUNNING|None|n1|medft:x").unwrap();
        assert_eq!(
            (l.name().as_str(), l.is_running(), l.is_queued()),
            ("12_3", true, false)
        );
        let l = line("7|N/A|PENDING|DependencyNeverSatisfied||a|b").unwrap();
        assert_eq!(
            (l.name().as_str(), l.comment.as_str(), l.is_stuck()),
            ("7", "a|b", true)
        );
        assert!(line("slurm_load_jobs error").is_none());
    }

    #[test]
    fn programs_are_heard_whole_and_missing_ones_named() {
        let said = call(&["sh", "-c", "seq 20000; echo 'not  so' >&2; exit 3"].map(String::from)).unwrap();
        assert_eq!(
            (said.ok, said.out.lines().count(), said.err.as_str()),
            (false, 20_000, "not so")
        );
        assert!(call(&["no-such-program".to_owned()]).is_err());
    }
}
