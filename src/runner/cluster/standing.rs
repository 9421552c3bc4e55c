//! What became of the tasks that were submitted, run by run: squeue's one answer, and the leases on the disk.

use super::record::{Stage, Submission};
use super::slurm::{self, QueueLine};
use crate::lease::{self, Holder};
use crate::results::{JOBS, utc};
use crate::runner::Context;
use crate::runner::inventory::{Inventory, Look};
use crate::runner::plan::{Plan, PlanState};
use crate::study::{RunId, RunSpec, Scale};
use crate::train::state::epochs_done;
use serde::Serialize;
use std::collections::BTreeMap;

/// How Slurm has a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// Task, reason.
    Queued(String, String),
    /// Task, node.
    Running(String, String),
    /// It waits for what cannot come any more.
    Stuck(String),
    /// sbatch did not answer, and squeue has not been asked since.
    Unresolved(String),
    /// Task, state, where its log is.
    Ended(String, String, String),
}

impl Standing {
    /// Whether the run is not to be submitted again.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self, Self::Queued(..) | Self::Running(..) | Self::Unresolved(_))
    }
}

/// By run id. Of several tasks that had a run the one that is alive counts, else the newest.
pub(super) fn standings(known: &[Submission], queue: &[QueueLine]) -> BTreeMap<String, Standing> {
    let mut out: BTreeMap<String, Standing> = BTreeMap::new();
    for s in known.iter().filter(|s| !s.given_up) {
        let lines: Vec<&QueueLine> = s.lines(Stage::Runs, queue).collect();
        let resolved = s.receipt.runs.is_some() || !lines.is_empty();
        for (index, task) in (1..).zip(&s.tasks) {
            let line = lines.iter().find(|l| l.task == Some(index));
            let standing = match line {
                None if resolved => continue,
                None => Standing::Unresolved(s.id.clone()),
                Some(l) if l.is_stuck() => Standing::Stuck(l.name()),
                Some(l) if l.is_queued() => Standing::Queued(l.name(), l.reason.clone()),
                Some(l) if l.is_running() => Standing::Running(l.name(), l.node.clone()),
                Some(l) => {
                    // Elsewhere, where the user's options say so.
                    let log = s.dir.join(format!("log-{index}.txt"));
                    let log = log.exists().then(|| format!(", log {}", log.display()));
                    Standing::Ended(l.name(), l.state.clone(), log.unwrap_or_default())
                }
            };
            for run in &task.runs {
                if standing.is_live() || !out.get(run).is_some_and(Standing::is_live) {
                    out.insert(run.clone(), standing.clone());
                }
            }
        }
    }
    out
}

/// Arrays that are queued or running: a report waits for them too.
pub(super) fn live_arrays(known: &[Submission], queue: &[QueueLine]) -> Vec<String> {
    let live = |s: &&Submission| {
        let mut lines = s.lines(Stage::Runs, queue);
        lines.any(|l| !l.is_stuck() && (l.is_queued() || l.is_running()))
    };
    known
        .iter()
        .filter(live)
        .filter_map(|s| s.receipt.runs.clone())
        .collect()
}

/// Numbers of jobs that wait for what cannot come any more.
pub(super) fn stuck(known: &[Submission], queue: &[QueueLine]) -> Vec<String> {
    let mut out: Vec<String> = known
        .iter()
        .flat_map(|s| Stage::ALL.map(|stage| s.lines(stage, queue).find(|l| l.is_stuck()).map(|l| l.job.clone())))
        .flatten()
        .collect();
    out.dedup();
    out
}

/// Where a run is now.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Now {
    /// Slurm's name of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The epoch under way, as far as checkpoints tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u32>,
    /// When its process began with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// What Slurm says of a task that ended without a result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// Puts into the plan which runs are queued and which are running, and says of each entry where it is; what cannot be asked is
/// told once and stays as the disk says.
pub fn look(c: &Context, plan: &mut Plan) -> Vec<Now> {
    let known = Submission::all(&plan.store.folder().join(JOBS)).unwrap_or_else(|e| {
        c.progress.say(&format!("note: {e:#}"));
        Vec::new()
    });
    let asked = known.iter().any(|s| !s.given_up);
    let queue = match asked.then(slurm::queue) {
        Some(Err(e)) => {
            c.progress.say(&format!("note: what is queued cannot be told: {e:#}"));
            None
        }
        Some(Ok(queue)) => Some(queue),
        None => Some(Vec::new()),
    };
    // Without an answer only what is not resolved is known.
    let standings = queue.as_deref().map(|q| standings(&known, q)).unwrap_or_default();
    let ids = ids(c, plan, asked);
    let begun = plan.entries.iter().any(|e| e.state == PlanState::Resume);
    let clock = begun.then(|| lease::clock(plan.store.folder()));
    let holders: Vec<Option<Holder>> = plan
        .entries
        .iter()
        .map(|e| match (&e.state, &e.id, clock) {
            (PlanState::Resume, Some(id), Some(now)) => plan.store.holder(id.full(), now),
            _ => None,
        })
        .collect();
    let at_work: Vec<&str> = holders.iter().flatten().filter_map(|h| h.job.as_deref()).collect();
    let mut out = Vec::new();
    let mut states = Vec::new();
    for ((e, holder), id) in plan.entries.iter().zip(&holders).zip(&ids) {
        let standing = id.as_ref().and_then(|id| standings.get(id.full()));
        let (state, now) = match (&e.state, standing, holder) {
            (PlanState::Done, ..) => (None, Now::default()),
            (_, standing, Some(h)) => {
                let dir = plan.store.checkpoint_dir(e.id.as_ref().map_or("", |i| i.full()));
                let epoch = epochs_done(&dir).map_or(1, |n| n + 1).min(e.spec.protocol.epochs);
                let now = Now {
                    job: h
                        .job
                        .clone()
                        .or_else(|| standing.and_then(Standing::task).map(str::to_owned)),
                    node: Some(h.process.host.clone()),
                    epoch: Some(epoch),
                    since: h.since.map(utc),
                    ended: None,
                };
                let since = now.since.as_ref().map_or_else(String::new, |s| format!(", since {s}"));
                let of = e.spec.protocol.epochs;
                (
                    Some(PlanState::Running(format!(
                        "{}, epoch {epoch} of {of}{since}",
                        h.place()
                    ))),
                    now,
                )
            }
            (_, Some(s), None) => s.now(&at_work),
            _ => (None, Now::default()),
        };
        states.push(state);
        out.push(now);
    }
    for (e, state) in plan.entries.iter_mut().zip(states) {
        if let Some(state) = state {
            e.state = state;
        }
    }
    out
}

/// The runs' ids, also where stand-ins are still to be written by the job that prepares them.
fn ids(c: &Context, plan: &Plan, asked: bool) -> Vec<Option<RunId>> {
    let unread = (asked && plan.study.scale == Scale::Tiny && plan.entries.iter().any(|e| e.id.is_none())).then(|| {
        let runs: Vec<RunSpec> = plan.entries.iter().map(|e| e.spec.clone()).collect();
        Inventory::take(c, plan.study.scale, &runs, Look::Unread)
    });
    let unread = unread.and_then(Result::ok);
    let id = |spec: &RunSpec| Some(RunId::new(spec, &unread.as_ref()?.of(spec).ok()?.ids));
    plan.entries
        .iter()
        .map(|e| e.id.clone().or_else(|| id(&e.spec)))
        .collect()
}

impl Standing {
    fn task(&self) -> Option<&str> {
        match self {
            Self::Queued(t, _) | Self::Running(t, _) | Self::Stuck(t) | Self::Ended(t, ..) => Some(t),
            Self::Unresolved(_) => None,
        }
    }

    /// Of a run that no process has.
    fn now(&self, at_work: &[&str]) -> (Option<PlanState>, Now) {
        let job = self.task().map(str::to_owned);
        let now = Now { job, ..Now::default() };
        match self {
            Self::Queued(task, reason) => (Some(PlanState::Queued(format!("{task}, {reason}"))), now),
            Self::Running(task, node) => {
                let state = match at_work.contains(&task.as_str()) {
                    true => PlanState::Queued(format!("{task}, in turn on {node}")),
                    false => PlanState::Running(format!("{node}, job {task}, about to begin")),
                };
                let node = Some(node.clone());
                (Some(state), Now { node, ..now })
            }
            Self::Stuck(task) => {
                let job = task.split('_').next().unwrap_or_default();
                let why =
                    format!("stuck: {task} waits for a job that did not succeed; `scancel {job}`, then submit again");
                (
                    Some(PlanState::Queued(why.clone())),
                    Now {
                        ended: Some(why),
                        ..now
                    },
                )
            }
            Self::Unresolved(id) => {
                let why = format!("unresolved: sbatch did not answer for {id}; `medft submit` asks again");
                (Some(PlanState::Queued(why)), now)
            }
            Self::Ended(task, state, log) => {
                let ended = (state != "COMPLETED").then(|| format!("job {task} {state}{log}"));
                (None, Now { ended, ..now })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Intent, Receipt};
    use super::super::tasks::ArrayTask;
    use super::*;

    fn submission(id: &str, runs: Option<&str>) -> Submission {
        let task = |run: &str| ArrayTask {
            only: Vec::new(),
            runs: vec![run.to_owned()],
            hours: None,
        };
        Submission {
            id: id.into(),
            dir: id.into(),
            tasks: vec![task("a"), task("b")],
            intent: Intent {
                made: String::new(),
                tasks: 2,
                report: Vec::new(),
            },
            receipt: Receipt {
                runs: runs.map(Into::into),
                ..Receipt::default()
            },
            given_up: false,
        }
    }

    fn line(id: &str, task: usize, state: &str, reason: &str) -> QueueLine {
        QueueLine {
            job: "12".into(),
            task: Some(task),
            state: state.into(),
            reason: reason.into(),
            node: "n1".into(),
            comment: format!("medft:{id}"),
        }
    }

    /// The table of states: sinfo's states as squeue(1) lists them.
    #[test]
    fn slurms_states_say_whether_a_run_is_submitted_again() {
        for (state, reason, live) in [
            ("PENDING", "Priority", true),
            ("CONFIGURING", "None", true),
            ("REQUEUED", "None", true),
            ("REQUEUE_HOLD", "None", true),
            ("SUSPENDED", "None", true),
            ("RUNNING", "None", true),
            ("COMPLETING", "None", true),
            ("PENDING", "DependencyNeverSatisfied", false),
            ("COMPLETED", "None", false),
            ("FAILED", "NonZeroExitCode", false),
            ("TIMEOUT", "TimeLimit", false),
            ("CANCELLED", "None", false),
            ("NODE_FAIL", "None", false),
            ("OUT_OF_MEMORY", "None", false),
            ("PREEMPTED", "None", false),
            ("BOOT_FAIL", "None", false),
            ("DEADLINE", "None", false),
            ("A_NEW_WORD", "None", false),
        ] {
            let all = standings(&[submission("s", Some("12"))], &[line("s", 1, state, reason)]);
            assert_eq!(all["a"].is_live(), live, "{state} {reason}");
            assert_eq!(
                all.get("b"),
                None,
                "{state}: the controller has forgotten the other task"
            );
        }
    }

    #[test]
    fn what_was_cancelled_for_its_dependency_has_ended() {
        let of = |state| {
            standings(
                &[submission("s", Some("12"))],
                &[line("s", 1, state, "DependencyNeverSatisfied")],
            )["a"]
                .clone()
        };
        assert!(matches!(of("PENDING"), Standing::Stuck(_)));
        assert!(matches!(of("CANCELLED"), Standing::Ended(..)));
    }

    #[test]
    fn what_is_not_resolved_is_not_submitted_again_and_the_living_task_counts() {
        let all = standings(&[submission("s", None)], &[]);
        assert!(all["a"].is_live() && all["b"].is_live());
        let given_up = Submission {
            given_up: true,
            ..submission("s", None)
        };
        assert!(standings(&[given_up], &[]).is_empty());
        let old = submission("s", Some("12"));
        let new = submission("t", Some("13"));
        let queue = [
            line("s", 1, "RUNNING", "None"),
            line("t", 1, "FAILED", "None"),
            line("t", 2, "TIMEOUT", "TimeLimit"),
        ];
        let all = standings(&[old, new], &queue);
        assert!(all["a"].is_live());
        assert!(matches!(&all["b"], Standing::Ended(task, state, _) if task == "12_2" && state == "TIMEOUT"));
    }
}
