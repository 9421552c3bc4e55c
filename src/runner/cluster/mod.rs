//! A study on a Slurm cluster: `medft submit` turns what is missing into three jobs (prepare → array → report), `medft plan` says
//! what became of them.
//!
//! The lease in a run's folder is what keeps two processes off one run; Slurm's state only explains. Nothing is submitted twice:
//! runs that a task has which is queued, running or unresolved (sbatch did not answer) are left out, and what is done is what the
//! disk says. On the login node no data and no weights are read, squeue is asked once a command, and nothing has to stay alive.

mod file;
mod record;
mod script;
mod slurm;
mod standing;
mod tasks;

pub use file::ClusterFile;
pub use record::{Receipt, Stage};
pub use standing::{Now, look};
pub use tasks::ArrayTask;

use super::Context;
use super::estimate::{Machine, times};
use super::inventory::{Inventory, Look};
use super::plan::{Plan, PlanEntry, PlanState};
use crate::cli::SubmitArgs;
use crate::error::BadInput;
use crate::fsio;
use crate::lease::{self, Lease};
use crate::results::{JOBS, utc_now};
use crate::text::command;
use anyhow::{Context as _, Result};
use record::{Intent, Submission};
use script::Scripts;
use serde::Serialize;
use slurm::QueueLine;
use standing::{Standing, standings};
use std::path::{Path, PathBuf};

/// What came of `medft submit`.
#[derive(Debug, Serialize)]
pub struct Submitted {
    /// Of the submission; `None` where nothing was missing.
    pub id: Option<String>,
    pub folder: Option<PathBuf>,
    pub jobs: Receipt,
    /// Tasks and runs of the array.
    pub tasks: Vec<ArrayTask>,
    pub runs: usize,
    /// Tasks and runs beyond what one array or this user may have: for the next `submit`.
    pub waiting_tasks: usize,
    pub waiting_runs: usize,
    /// Runs of the study that are done, that a task or another process has, that an input is missing of.
    pub done: usize,
    pub live: usize,
    pub blocked: usize,
    /// Commands that hash what was not hashed yet, to be run in a job.
    pub hash_first: Vec<String>,
    /// Jobs that wait for what cannot come any more.
    pub stuck: Vec<String>,
    /// With `--dry-run`: each job's sbatch line and script.
    pub scripts: Vec<(String, String)>,
}

/// A submission under way.
struct Submitter<'a> {
    c: &'a Context,
    file: &'a ClusterFile,
    study: &'a str,
    id: String,
    dir: PathBuf,
    scripts: Vec<(Stage, String)>,
}

/// Submits what is missing of a study and nobody has; with `dry_run` only says how.
///
/// # Errors
/// [`BadInput`] for a cluster file or options that are refused, and where Slurm does not answer: what it may have taken is then
/// asked for by the next call.
pub fn submit(c: &Context, a: &SubmitArgs) -> Result<(Plan, Submitted)> {
    let file = ClusterFile::read(&a.cluster)?;
    let (study, runs) = c.study(&a.study)?;
    let jobs = std::path::absolute(c.global.results_dir.join(&study.name).join(JOBS))?;
    let _alone = (!a.dry_run).then(|| alone(&jobs)).transpose()?;
    // Before the records: what Slurm says has ended has its result on the disk then, if it has one.
    let (known, queue) = earlier(&jobs, a.dry_run)?;
    let inventory = Inventory::take(c, study.scale, &runs, Look::Unread)?;
    let plan = Plan::of(c, study, runs, inventory)?;
    let mut machine = Machine::this(c);
    if let Some(device) = &file.device {
        machine.device.clone_from(device);
    }
    let times = times(c, &plan, &machine)?;
    let standings = standings(&known, &queue);
    let now = lease::clock(plan.store.folder());
    let has = |e: &PlanEntry| {
        e.id.as_ref().is_some_and(|id| {
            let live = standings.get(id.full()).is_some_and(Standing::is_live);
            live || e.state == PlanState::Resume && plan.store.holder(id.full(), now).is_some()
        })
    };
    let open = |e: &PlanEntry| !matches!(e.state, PlanState::Done | PlanState::Blocked(_));
    let groups = tasks::groups(&plan, &times, &|e| open(e) && !has(e));
    let mut tasks = tasks::pack(groups, file.pack_hours());
    let slurm_limit = if a.dry_run && queue.is_empty() {
        1000
    } else {
        slurm::most_tasks()
    };
    let waiting = tasks.split_off(tasks.len().min(slurm_limit).min(file.max_tasks.unwrap_or(usize::MAX)));
    let count = |tasks: &[ArrayTask]| tasks.iter().map(|t| t.runs.len()).sum::<usize>();
    let n = |f: &dyn Fn(&PlanEntry) -> bool| plan.entries.iter().filter(|e| f(e)).count();
    let mut out = Submitted {
        id: None,
        folder: None,
        jobs: Receipt::default(),
        runs: count(&tasks),
        waiting_tasks: waiting.len(),
        waiting_runs: count(&waiting),
        done: n(&|e| e.state == PlanState::Done),
        live: n(&|e| open(e) && has(e)),
        blocked: n(&|e| matches!(e.state, PlanState::Blocked(_))),
        hash_first: hash_first(c, &file, &plan)?,
        stuck: standing::stuck(&known, &queue),
        scripts: Vec::new(),
        tasks,
    };
    if out.tasks.is_empty() {
        return Ok((plan, out));
    }
    let submitter = Submitter::new(c, &file, a, &plan, &jobs)?;
    let live = standing::live_arrays(&known, &queue);
    if a.dry_run {
        out.scripts = submitter.dry(out.tasks.len(), &live);
        return Ok((plan, out));
    }
    let submission = submitter.submit(std::mem::take(&mut out.tasks), &live)?;
    out.waiting_tasks += submission.1.len();
    out.waiting_runs += count(&submission.1);
    let submission = submission.0;
    out.runs = count(&submission.tasks);
    out.id = Some(submission.id);
    out.folder = Some(submission.dir);
    out.jobs = submission.receipt;
    out.tasks = submission.tasks;
    Ok((plan, out))
}

/// Earlier submissions, and what squeue says; what was not resolved is, unless nothing may be written.
fn earlier(jobs: &Path, dry_run: bool) -> Result<(Vec<Submission>, Vec<QueueLine>)> {
    let mut known = Submission::all(jobs)?;
    if dry_run && known.is_empty() {
        return Ok((known, Vec::new()));
    }
    let queue = slurm::queue().map_err(no_answer)?;
    if !dry_run {
        for s in &mut known {
            s.resolve(&queue)?;
        }
        go_on_with_reports(&mut known, &queue)?;
    }
    Ok((known, queue))
}

/// Keeps other `medft submit`s of the study away.
fn alone(jobs: &Path) -> Result<Lease> {
    fsio::create_dir(jobs)?;
    Lease::take(&jobs.join("lease"))?.map_err(|held| {
        let remedy = "Wait until it has ended, then run the same command again.";
        BadInput::new(
            jobs.display(),
            "one medft submit of a study at a time",
            held.to_string(),
            remedy,
        )
        .into()
    })
}

fn no_answer(e: anyhow::Error) -> anyhow::Error {
    let remedy = "Run the same command again where and when Slurm answers: it asks first what became of earlier submissions, and submits \
                  nothing twice.";
    BadInput::new("squeue", "an answer of Slurm's controller", format!("{e:#}"), remedy).into()
}

/// An array that went through without its report: sbatch did not answer in between.
fn go_on_with_reports(known: &mut [Submission], queue: &[QueueLine]) -> Result<()> {
    for s in known {
        let live = s.lines(Stage::Runs, queue).any(|l| l.is_queued() || l.is_running());
        if let (true, None, Some(array)) = (
            live,
            s.receipt.of(Stage::Report),
            s.receipt.of(Stage::Runs).map(str::to_owned),
        ) {
            let mut args = s.intent.report.clone();
            let script = args.pop();
            args.push(format!("--dependency=afterany:{array}"));
            args.extend(script);
            if let SbatchOutcome::Number(job) = ask(&args, &s.comment(Stage::Report))? {
                s.put(Stage::Report, &job)?;
            }
        }
    }
    Ok(())
}

/// Commands that hash what was never hashed: reading data is no work for a login node.
fn hash_first(c: &Context, file: &ClusterFile, plan: &Plan) -> Result<Vec<String>> {
    let options = script::options(c)?;
    let medft = file.medft()?;
    let mut out = Vec::new();
    for m in plan.missing() {
        let verb = m.remedy.split('`').find(|s| {
            ["medft data lock", "medft data verify", "medft weights verify"]
                .iter()
                .any(|v| s.starts_with(v))
        });
        if let Some(verb) = verb {
            let args = verb.split_whitespace().skip(1).map(str::to_owned);
            let inner: Vec<String> = medft.iter().cloned().chain(args).chain(options.clone()).collect();
            let sbatch = ["sbatch".to_owned()].into_iter().chain(file.prepare().to_vec());
            let line: Vec<String> = sbatch.chain(["--wrap".to_owned(), command(&inner)]).collect();
            out.push(command(&line));
        }
    }
    out.dedup();
    Ok(out)
}

/// What came of a call of sbatch.
enum SbatchOutcome {
    Number(String),
    /// The controller refused, in these words.
    Refused(String),
    /// Nobody knows.
    Unknown(String),
}

/// Calls sbatch. One that fails may have submitted all the same: squeue is asked, by the comment.
fn ask(args: &[String], comment: &str) -> Result<SbatchOutcome> {
    let said = slurm::call(args)?;
    let number = said.out.trim().split(';').next().unwrap_or_default().to_owned();
    if said.ok && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()) {
        return Ok(SbatchOutcome::Number(number));
    }
    if slurm::is_job_limit(&said.err) {
        return Ok(SbatchOutcome::Refused(said.err));
    }
    Ok(match slurm::queue() {
        Err(_) => SbatchOutcome::Unknown(said.err),
        Ok(queue) => match queue.into_iter().find(|l| l.comment == comment) {
            Some(l) => SbatchOutcome::Number(l.job),
            None => SbatchOutcome::Refused(said.err),
        },
    })
}

impl<'a> Submitter<'a> {
    fn new(c: &'a Context, file: &'a ClusterFile, a: &SubmitArgs, plan: &'a Plan, jobs: &Path) -> Result<Self> {
        let id = record::new_id();
        let dir = jobs.join(&id);
        let scripts = Scripts {
            c,
            file,
            study: script::study_argument(&a.study.study)?,
            only: &a.study.only,
            dir: &dir,
        };
        let scripts = vec![
            (Stage::Prepare, scripts.prepare()?),
            (Stage::Runs, scripts.task()?),
            (Stage::Report, scripts.report()?),
        ];
        Ok(Self {
            c,
            file,
            study: &plan.study.name,
            id,
            dir,
            scripts,
        })
    }

    /// The sbatch line of a job. Users' options come after what they may want otherwise and before what must hold.
    fn line(&self, stage: Stage, tasks: usize, dependency: Option<String>) -> Vec<String> {
        let log = match stage {
            Stage::Prepare => "log-prepare.txt",
            Stage::Runs => "log-%a.txt",
            Stage::Report => "log-report.txt",
        };
        let folder = self.dir.display().to_string();
        let mut out = vec![
            "sbatch".to_owned(),
            "--parsable".to_owned(),
            format!("--job-name=medft-{}{}", self.study, stage.suffix("-")),
            format!("--output={}/{log}", folder.replace('%', "%%")),
            "--open-mode=append".to_owned(),
        ];
        let (options, time) = match stage {
            Stage::Prepare => (self.file.prepare(), None),
            Stage::Runs => (&self.file.sbatch[..], self.file.time.as_ref()),
            Stage::Report => (self.file.report(), None),
        };
        out.extend(time.map(|t| format!("--time={t}")));
        out.extend(options.iter().cloned());
        out.push("--requeue".to_owned());
        out.push(format!("--comment=medft:{}{}", self.id, stage.suffix(":")));
        if stage == Stage::Runs {
            let at_once = self.file.at_once.map_or_else(String::new, |n| format!("%{n}"));
            out.push(format!("--array=1-{tasks}{at_once}"));
            out.push(format!("--signal=B:USR1@{}", self.file.lead));
            out.push("--kill-on-invalid-dep=yes".to_owned());
        }
        out.extend(dependency.map(|d| format!("--dependency={d}")));
        out.push(format!("{folder}/{}", stage.file()));
        out
    }

    /// After the array, and after those of earlier submissions.
    fn after_all(array: &str, live: &[String]) -> String {
        let all: Vec<&str> = std::iter::once(array).chain(live.iter().map(String::as_str)).collect();
        format!("afterany:{}", all.join(":"))
    }

    /// Lines and scripts, with names where numbers will be.
    fn dry(&self, tasks: usize, live: &[String]) -> Vec<(String, String)> {
        let dependency = |stage| match stage {
            Stage::Prepare => None,
            Stage::Runs => Some("afterok:PREPARE".to_owned()),
            Stage::Report => Some(Self::after_all("RUNS", live)),
        };
        let both =
            |(stage, text): &(Stage, String)| (command(&self.line(*stage, tasks, dependency(*stage))), text.clone());
        self.scripts.iter().map(both).collect()
    }

    /// Whether sbatch takes the options, before anything is written.
    fn test(&self, tasks: usize) -> Result<()> {
        for stage in Stage::ALL {
            let mut args = self.line(stage, tasks, None);
            args.pop();
            args.extend(["--test-only".to_owned(), "--wrap=true".to_owned()]);
            let said = slurm::call(&args)?;
            if !said.ok && !slurm::is_passing(&said.err) && !slurm::is_job_limit(&said.err) {
                let remedy = "Mend the options in the cluster file; nothing was submitted.";
                return Err(BadInput::new(
                    format!("{} of the cluster file", self.file.key(stage)),
                    "options that sbatch takes",
                    format!("{} ({})", said.err, command(&args[4..])),
                    remedy,
                )
                .into());
            }
        }
        Ok(())
    }

    /// Submits the three jobs; returns what was submitted and the tasks that are left for the next time.
    fn submit(&self, tasks: Vec<ArrayTask>, live: &[String]) -> Result<(Submission, Vec<ArrayTask>)> {
        self.test(tasks.len())?;
        let mut s = self.write(tasks)?;
        let prepare = self.stage(&mut s, Stage::Prepare, None)?;
        let mut left = Vec::new();
        let array = loop {
            let dependency = Some(format!("afterok:{prepare}"));
            match ask(
                &self.line(Stage::Runs, s.tasks.len(), dependency),
                &s.comment(Stage::Runs),
            )? {
                SbatchOutcome::Number(job) => break job,
                SbatchOutcome::Refused(why) if slurm::is_job_limit(&why) && s.tasks.len() > 1 => {
                    // How many jobs this user may have cannot be asked: half as many, until they are few enough.
                    let more = s.tasks.split_off(s.tasks.len() / 2);
                    left.splice(0..0, more);
                    s.intent.tasks = s.tasks.len();
                    s.write_intent()?;
                }
                other => return Err(self.end(&mut s, other)),
            }
        };
        s.put(Stage::Runs, &array)?;
        self.stage(&mut s, Stage::Report, Some(Self::after_all(&array, live)))?;
        Ok((s, left))
    }

    /// Puts a submission on the disk, its intent last.
    fn write(&self, tasks: Vec<ArrayTask>) -> Result<Submission> {
        for (stage, text) in &self.scripts {
            fsio::write_atomic(&self.dir.join(stage.file()), text.as_bytes())?;
        }
        let lines: String = tasks.iter().map(|t| format!("{}\n", t.only.join(" "))).collect();
        fsio::write_atomic(&self.dir.join("tasks.txt"), lines.as_bytes())?;
        fsio::write_atomic(&self.dir.join("tasks.json"), &serde_json::to_vec_pretty(&tasks)?)?;
        let s = Submission {
            id: self.id.clone(),
            dir: self.dir.clone(),
            intent: Intent {
                made: utc_now(),
                tasks: tasks.len(),
                report: self.line(Stage::Report, 0, None),
            },
            tasks,
            receipt: Receipt::default(),
            given_up: false,
        };
        s.write_intent().context("nothing was submitted")?;
        Ok(s)
    }

    fn stage(&self, s: &mut Submission, stage: Stage, dependency: Option<String>) -> Result<String> {
        match ask(&self.line(stage, s.tasks.len(), dependency), &s.comment(stage))? {
            SbatchOutcome::Number(job) => {
                s.put(stage, &job)?;
                Ok(job)
            }
            other => Err(self.end(s, other)),
        }
    }

    /// What is to be done where sbatch gave no number.
    fn end(&self, s: &mut Submission, answer: SbatchOutcome) -> anyhow::Error {
        let again =
            "Run the same command again when Slurm's controller answers: it asks first what became of this submission.";
        match answer {
            SbatchOutcome::Refused(why) if s.receipt.runs.is_none() => {
                self.c.progress.say(&format!("{}: given up", s.dir.display()));
                if let Err(e) = s.give_up(&why) {
                    return e;
                }
                let remedy = "Mend what it names; none of the runs was submitted.";
                BadInput::new("sbatch", "a job's number", why, remedy).into()
            }
            SbatchOutcome::Refused(why) | SbatchOutcome::Unknown(why) | SbatchOutcome::Number(why) => {
                BadInput::new("sbatch", "a job's number", why, again).into()
            }
        }
    }
}
