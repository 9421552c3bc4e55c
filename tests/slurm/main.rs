//! `medft submit` on a real Slurm: two nodes on this machine (see `testbed`), the scripted trainer, nodes that are killed or fall
//! silent, a controller that does not answer, time limits, cancels. Whatever happens, every run is made to its end once, and the
//! files are those of one undisturbed process.
//!
//! Without Slurm (Debian's slurm-wlm and munge) every test is reported as ignored. A word on the command line keeps the tests
//! whose names hold it.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

#[path = "../shared/skip.rs"]
mod skip;
mod testbed;

use clap::Parser;
use medft::cli::Cli;
use medft::train::scripted::Scripted;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use testbed::{Testbed, until};

/// 16 runs in 10 groups: two frozen ones of four runs, eight unfrozen ones.
const STUDY: &str = r#"
title = "A scripted study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019"]
backbones = ["dinov2-b", "mae-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [0, 1]
[protocol]
resize = 72
crop = 64
epochs = 5
batch = 16
"#;
const RUNS: usize = 16;
const GROUPS: usize = 10;

type Test = fn(&mut Stage<'_>);

const TESTS: [(&str, Test); 11] = [
    ("submit_makes_everything_and_submits_nothing_twice", whole_way),
    ("refused_options_leave_nothing", refused),
    ("dry_run_says_what_would_be_submitted", dry_run),
    (
        "a_controller_that_stops_during_sbatch_gets_no_run_twice",
        controller_away,
    ),
    ("an_array_is_cut_and_the_rest_waits_for_the_next_submit", cut),
    ("a_limit_of_jobs_halves_the_array", job_limit),
    ("a_prepare_that_fails_leaves_nothing_stuck", failed_prepare),
    ("the_time_limit_checkpoints_and_requeues", time_limit),
    ("a_cancel_keeps_the_checkpoint_and_does_not_requeue", cancel),
    ("a_killed_node_loses_no_run", killed_node),
    ("a_silent_node_makes_no_run_twice", mute_node),
];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|w| w == "as-medft") {
        std::process::exit(as_medft(&args[2..]));
    }
    // As libtest: words are filters, but not the values of its options; what is ignored there is nothing here.
    let takes_value = |w: &str| ["--test-threads", "--skip", "--format", "--color", "--logfile", "-Z"].contains(&w);
    let filters: Vec<&String> = (1..args.len())
        .filter(|&i| !args[i].starts_with('-') && !takes_value(&args[i - 1]))
        .map(|i| &args[i])
        .collect();
    let ignored = args.iter().any(|w| w == "--ignored");
    let wanted = |name: &str| !ignored && (filters.is_empty() || filters.iter().any(|f| name.contains(*f)));
    let tests: Vec<_> = TESTS.into_iter().filter(|t| wanted(t.0)).collect();
    let missing = testbed::missing();
    if args.iter().any(|w| w == "--list") || tests.is_empty() || !missing.is_empty() {
        for (name, _) in &tests {
            match missing.is_empty() {
                true => println!("{name}: test"),
                false => {
                    println!("test {name} ... ignored, skipped: there is no {}", missing.join(", "));
                    skip::note(name, &format!("there is no {}", missing.join(", ")));
                }
            }
        }
        println!("test result: ok. 0 passed; 0 failed; {} ignored; skipped", tests.len());
        return;
    }
    std::process::exit(i32::from(!all(&tests)));
}

/// What medft is in these tests: itself with a trainer whose epochs take a moment.
fn as_medft(args: &[String]) -> i32 {
    let epoch = std::env::var("EPOCH_MS").map_or(1, |v| v.parse().unwrap());
    let trainer = Box::leak(Box::new(Scripted {
        epoch: Duration::from_millis(epoch),
    }));
    let args = std::iter::once("medft".to_owned()).chain(args.iter().cloned());
    match medft::commands::run_with(Cli::parse_from(args), trainer) {
        Ok(code) => i32::from(code),
        Err(e) => {
            eprintln!("error: {e:#}");
            2
        }
    }
}

fn all(tests: &[(&str, Test)]) -> bool {
    // The path of munge's socket may not be long.
    let short = Some(std::env::temp_dir()).filter(|d| d.as_os_str().len() < 60);
    let short = short.unwrap_or_else(|| "/tmp".into());
    let place = tempfile::Builder::new().prefix("mt").tempdir_in(short).unwrap();
    let begun = Instant::now();
    let mut bed = Testbed::start(&place.path().join("c"), GROUPS + 1);
    let alone = Place::new(&place.path().join("alone"), 1);
    let made = alone.medft(&bed, &["run", "./study.toml"]);
    assert!(made.status.success(), "{}", text(&made));
    let expected = alone.results();
    assert_eq!(expected.keys().filter(|p| p.ends_with("metrics.json")).count(), RUNS);
    let mut counts = Counts::default();
    let mut failed = Vec::new();
    for (i, (name, test)) in tests.iter().enumerate() {
        let begun = Instant::now();
        let mut stage = Stage {
            bed: &mut bed,
            place: place.path().join(format!("t{i}")),
            expected: &expected,
            counts: &mut counts,
        };
        let end = catch_unwind(AssertUnwindSafe(|| test(&mut stage)));
        let text = if end.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {text} ({:.0} s)", begun.elapsed().as_secs_f64());
        if end.is_err() {
            failed.push(*name);
            bed.controller("-CONT");
            bed.ask("scancel", &["--me"]);
            for node in testbed::NODES {
                bed.start_node(node);
            }
        }
    }
    drop(bed);
    println!(
        "Slurm: {} arrays, {} runs wanted, {} nodes killed with {} processes, {} nodes silenced, {} requeues, {} lost runs, {} doubled runs",
        counts.arrays,
        counts.wanted,
        counts.killed,
        counts.processes,
        counts.silenced,
        counts.requeues,
        counts.lost,
        counts.doubled
    );
    println!(
        "test result: {}. {} passed; {} failed; 0 ignored; finished in {:.0} s",
        if failed.is_empty() { "ok" } else { "FAILED" },
        tests.len() - failed.len(),
        failed.len(),
        begun.elapsed().as_secs_f64()
    );
    if !failed.is_empty() {
        println!("the cluster's logs are in {}", place.keep().display());
    }
    failed.is_empty()
}

#[derive(Default)]
struct Counts {
    arrays: usize,
    wanted: usize,
    killed: usize,
    processes: usize,
    silenced: usize,
    requeues: usize,
    lost: usize,
    doubled: usize,
}

/// What a test works on.
struct Stage<'a> {
    bed: &'a mut Testbed,
    place: PathBuf,
    /// Of an undisturbed process, without what holds times.
    expected: &'a BTreeMap<PathBuf, Vec<u8>>,
    counts: &'a mut Counts,
}

fn text(o: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&o.stdout),
        String::from_utf8_lossy(&o.stderr)
    )
}

/// A folder in which a study is made.
struct Place {
    dir: PathBuf,
}

impl Place {
    /// With a cluster file whose runs take `epoch` milliseconds an epoch.
    fn new(dir: &Path, epoch: u64) -> Self {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("study.toml"), STUDY).unwrap();
        let place = Self { dir: dir.to_owned() };
        place.cluster(&format!("setup = [\"export EPOCH_MS={epoch}\"]\n"));
        place
    }

    fn cluster(&self, more: &str) {
        let exe = std::env::current_exe().unwrap();
        let medft = format!("medft = [{:?}, \"as-medft\"]\n", exe.display().to_string());
        let sbatch = if more.contains("sbatch =") {
            ""
        } else {
            "sbatch = [\"--cpus-per-task=1\"]\n"
        };
        fs::write(
            self.dir.join("cluster.toml"),
            format!("{sbatch}time = \"30:00\"\n{medft}{more}"),
        )
        .unwrap();
    }

    fn command(&self, bed: &Testbed, args: &[&str]) -> Command {
        let mut c = Command::new(std::env::current_exe().unwrap());
        c.arg("as-medft")
            .args(args)
            .args(["--checkpoint-every", "0"])
            .current_dir(&self.dir)
            .env("SLURM_CONF", bed.configuration())
            // Longer than any wait here: what is taken over at once is taken over for a reason.
            .env("MEDFT_LEASE_SECONDS", "120")
            .stdin(Stdio::null());
        c
    }

    fn medft(&self, bed: &Testbed, args: &[&str]) -> Output {
        self.command(bed, args).output().unwrap()
    }

    /// Submits; what it says as JSON.
    fn submit(&self, bed: &Testbed, code: i32) -> Value {
        let out = self.medft(bed, &["submit", "./study.toml", "--cluster", "cluster.toml", "--json"]);
        assert_eq!(out.status.code(), Some(code), "{}", text(&out));
        serde_json::from_slice(&out.stdout).unwrap_or(Value::Null)
    }

    /// Submits with lines of shell before each call of sbatch.
    fn submit_by(&self, bed: &Testbed, before: &str) -> Output {
        let bin = self.dir.join("bin");
        fs::create_dir_all(&bin).unwrap();
        let real = testbed::find("sbatch").unwrap();
        let sbatch = bin.join("sbatch");
        fs::write(
            &sbatch,
            format!("#!/bin/bash\n{before}\nexec {} \"$@\"\n", real.display()),
        )
        .unwrap();
        fs::set_permissions(&sbatch, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let args = ["submit", "./study.toml", "--cluster", "cluster.toml", "--json"];
        self.command(bed, &args).env("PATH", path).output().unwrap()
    }

    /// How many runs of the plan are in each state.
    fn states(&self, bed: &Testbed) -> BTreeMap<String, usize> {
        let mut out = BTreeMap::new();
        for line in self.plan(bed).as_array().unwrap() {
            *out.entry(line["state"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        out
    }

    fn plan(&self, bed: &Testbed) -> Value {
        let out = self.medft(bed, &["plan", "./study.toml", "--json"]);
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out)))
    }

    fn jobs(&self) -> PathBuf {
        self.dir.join("results/study/.jobs")
    }

    /// Everything that the jobs have said.
    fn logs(&self) -> String {
        let mut out = String::new();
        for dir in fs::read_dir(self.jobs()).into_iter().flatten().flatten() {
            for e in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
                if e.file_name().to_string_lossy().starts_with("log-") {
                    out.push_str(&fs::read_to_string(e.path()).unwrap());
                }
            }
        }
        out
    }

    /// Every file of the finished runs, without what holds times.
    fn results(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.dir.join("results/study");
        let mut out = BTreeMap::new();
        for run in fs::read_dir(&root).into_iter().flatten().flatten() {
            if run.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            for e in fs::read_dir(run.path()).unwrap().flatten() {
                let path = e.path();
                if !path.ends_with("provenance.json") && !path.ends_with("DONE") {
                    out.insert(
                        path.strip_prefix(&root).unwrap().to_owned(),
                        fs::read(&path).unwrap_or_default(),
                    );
                }
            }
        }
        out
    }

    fn done(&self) -> usize {
        let runs = fs::read_dir(self.dir.join("results/study"))
            .into_iter()
            .flatten()
            .flatten();
        runs.filter(|r| r.path().join("DONE").exists()).count()
    }

    /// Nodes of the runs that a process has.
    fn holders(&self) -> Vec<String> {
        let runs = fs::read_dir(self.dir.join("results/study"))
            .into_iter()
            .flatten()
            .flatten();
        runs.filter_map(|r| serde_json::from_slice::<Value>(&fs::read(r.path().join("lease")).ok()?).ok())
            .map(|l| l["host"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Stage<'_> {
    fn place(&self, epoch: u64) -> Place {
        Place::new(&self.place, epoch)
    }

    /// Waits until no job is left, and holds what is there against the undisturbed process.
    fn finish(&mut self, p: &Place, runs: usize) {
        until("the jobs to end", 150, || {
            let left = self.bed.ask(
                "squeue",
                &[
                    "--me",
                    "-h",
                    "-r",
                    "-t",
                    "PENDING,RUNNING,SUSPENDED,COMPLETING",
                    "-o",
                    "%i %T %r",
                ],
            );
            left.trim().is_empty()
        });
        let logs = p.logs();
        let of_run = |l: &&str| l.starts_with("done ") && !l.starts_with("done  ");
        let made = logs.lines().filter(of_run).count();
        self.counts.wanted += runs;
        self.counts.lost += runs.saturating_sub(p.done());
        self.counts.doubled += made.saturating_sub(p.done());
        self.counts.arrays += fs::read_dir(p.jobs())
            .unwrap()
            .flatten()
            .filter(|e| e.path().join("receipt.json").exists())
            .count();
        assert_eq!((p.done(), made), (runs, runs), "{logs}");
        let found = p.results();
        for (file, bytes) in found.iter().filter(|f| self.expected.contains_key(f.0)) {
            assert!(self.expected[file] == *bytes, "{}: {logs}", file.display());
        }
        if runs == RUNS {
            assert!(found.keys().eq(self.expected.keys()), "other files: {logs}");
        }
    }

    fn number(said: &Value) -> String {
        said["jobs"]["runs"]
            .as_str()
            .unwrap_or_else(|| panic!("{said}"))
            .to_owned()
    }
}

fn whole_way(s: &mut Stage<'_>) {
    let p = s.place(150);
    let said = p.submit(s.bed, 0);
    assert_eq!(
        (said["tasks"].as_array().unwrap().len(), &said["runs"]),
        (GROUPS, &Value::from(RUNS))
    );
    let queued = p.states(s.bed);
    let live: usize = ["queued", "running"].iter().filter_map(|w| queued.get(*w)).sum();
    assert_eq!(live, RUNS, "all are queued before anything has run: {queued:?}");
    let again = p.submit(s.bed, 0);
    assert_eq!(
        (&again["id"], &again["live"]),
        (&Value::Null, &Value::from(RUNS)),
        "nothing twice: {again}"
    );
    until("a run to be at work", 60, || !p.holders().is_empty());
    // A plan is seen while runs come and go: one of a few looks meets one at work.
    let running = (0..40).find_map(|_| {
        let plan = p.plan(s.bed);
        let at_work = plan
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["state"] == "running" && l["epoch"].is_u64());
        at_work.cloned()
    });
    let running = running.expect("a running run");
    assert!(testbed::NODES.contains(&running["node"].as_str().unwrap()), "{running}");
    assert!(running["since"].as_str().unwrap().ends_with('Z'), "{running}");
    assert!(
        running["job"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{}_", Stage::number(&said))),
        "{running}"
    );
    s.finish(&p, RUNS);
    assert!(p.dir.join("reports/study/README.md").exists(), "{}", p.logs());
    let after = p.submit(s.bed, 0);
    assert_eq!((&after["id"], &after["done"]), (&Value::Null, &Value::from(RUNS)));
    let intents = fs::read_dir(p.jobs())
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_dir())
        .count();
    assert_eq!(intents, 1);
}

fn refused(s: &mut Stage<'_>) {
    let p = s.place(1);
    for (options, says) in [
        ("sbatch = [\"--gres=gpu:h100:1\"]\n", "gres"),
        ("sbatch = [\"--partition=nowhere\"]\n", "partition"),
        ("sbatch = [\"--no-such-option\"]\n", "no-such-option"),
        (
            "sbatch = []\nreport = [\"--partition=nowhere\"]\n",
            "report of the cluster file",
        ),
    ] {
        p.cluster(options);
        let out = p.medft(s.bed, &["submit", "./study.toml", "--cluster", "cluster.toml"]);
        assert_eq!(out.status.code(), Some(2), "{}", text(&out));
        assert!(text(&out).contains(says), "{}", text(&out));
        let left: Vec<_> = fs::read_dir(p.jobs()).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "no intent is left: {left:?}");
    }
    assert!(s.bed.ask("squeue", &["-h", "-t", "PENDING,RUNNING"]).is_empty());
}

fn dry_run(s: &mut Stage<'_>) {
    let p = s.place(1);
    p.cluster("at_once = 3\nlead = 120\nsetup = [\"module load 'a b'\"]\n");
    let out = p.medft(
        s.bed,
        &[
            "submit",
            "./study.toml",
            "--cluster",
            "cluster.toml",
            "--dry-run",
            "--only",
            "seed=0",
        ],
    );
    assert_eq!(out.status.code(), Some(0), "{}", text(&out));
    let said = String::from_utf8(out.stdout).unwrap();
    for text in [
        "--array=1-6%3",
        "--signal=B:USR1@120",
        "--cpus-per-task=1",
        "--dependency=afterok:PREPARE",
        "--dependency=afterany:RUNS",
        "module load 'a b'",
        "scontrol requeue",
        "dataset=aptos2019,split=authors,backbone=mae-b,freeze=frozen,head=linear,head=mha,seed=0",
        "6 tasks with 8 runs would be submitted",
    ] {
        assert!(said.contains(text), "{text} is not in: {said}");
    }
    assert!(!p.jobs().exists() && s.bed.ask("squeue", &["-h", "-t", "PENDING,RUNNING"]).is_empty());
    // The scripts are shell.
    for script in said.split("\n$ ").skip(1) {
        let script = script.split_once('\n').unwrap().1;
        let script = script.split("\ntask  runs").next().unwrap();
        let checked = Command::new("bash").args(["-n", "-c", script]).output().unwrap();
        assert!(checked.status.success(), "{}: {script}", text(&checked));
    }
}

/// An sbatch that stops the controller before it asks it for the array: it gives up after a while, and the controller takes the
/// job all the same when it goes on.
fn controller_away(s: &mut Stage<'_>) {
    let p = s.place(20);
    let stop = format!(
        "case \"$*\" in *--test-only*) ;; *--array*) kill -STOP {} ;; esac",
        s.bed.controller_pid()
    );
    let out = p.submit_by(s.bed, &stop);
    assert_eq!(out.status.code(), Some(2), "{}", text(&out));
    // Still away: it is asked first, and nothing is submitted.
    let submissions = || {
        fs::read_dir(p.jobs())
            .unwrap()
            .flatten()
            .filter(|e| e.path().is_dir())
            .count()
    };
    let out = p.medft(s.bed, &["submit", "./study.toml", "--cluster", "cluster.toml"]);
    assert_eq!((out.status.code(), submissions()), (Some(2), 1), "{}", text(&out));
    assert!(text(&out).contains("submits nothing twice"), "{}", text(&out));
    s.bed.controller("-CONT");
    until("the controller", 30, || s.bed.ask("scontrol", &["ping"]).contains("UP"));
    // It had been taken (the usual case), or not: either way every run is submitted once.
    let said = p.submit(s.bed, 0);
    println!(
        "  after the outage: {} live, {} submitted anew",
        said["live"], said["runs"]
    );
    p.submit(s.bed, 0);
    s.finish(&p, RUNS);
    until("the report", 30, || p.dir.join("reports/study/README.md").exists());
}

fn cut(s: &mut Stage<'_>) {
    let p = s.place(1);
    // Two data sets: twice the groups, of which the array may have ten.
    let two = STUDY.replace("[\"aptos2019\"]", "[\"aptos2019\", \"ddsm\"]");
    fs::write(p.dir.join("study.toml"), two).unwrap();
    let first = p.submit(s.bed, 1);
    assert_eq!(
        (first["tasks"].as_array().unwrap().len(), &first["waiting_tasks"]),
        (GROUPS, &Value::from(GROUPS))
    );
    let second = p.submit(s.bed, 0);
    assert_eq!(
        (second["tasks"].as_array().unwrap().len(), &second["waiting_tasks"]),
        (GROUPS, &Value::from(0))
    );
    s.finish(&p, 2 * RUNS);
}

/// The testbed has no accounting that would limit a user: an sbatch that answers as Slurm does where it has.
fn job_limit(s: &mut Stage<'_>) {
    let p = s.place(1);
    let limit = r#"for w in "$@"; do [ "$w" != --test-only ] || limit=no; done
for w in "$@"; do
  n=${w#--array=1-}
  if [ -z "$limit" ] && [ "$n" != "$w" ] && [ "$n" -gt 3 ]; then
    echo 'sbatch: error: QOSMaxSubmitJobPerUserLimit' >&2
    echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit)' >&2
    exit 1
  fi
done"#;
    let out = p.submit_by(s.bed, limit);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out));
    let first: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (first["tasks"].as_array().unwrap().len(), &first["waiting_tasks"]),
        (2, &Value::from(8)),
        "{first}"
    );
    let second = p.submit(s.bed, 0);
    assert_eq!(
        (second["tasks"].as_array().unwrap().len(), &second["waiting_tasks"]),
        (8, &Value::from(0)),
        "{second}"
    );
    s.finish(&p, RUNS);
}

fn failed_prepare(s: &mut Stage<'_>) {
    let p = s.place(1);
    p.cluster("setup = [\"exit 3\"]\n");
    let job = Stage::number(&p.submit(s.bed, 0));
    until("the array to be given up", 60, || {
        s.bed
            .ask("squeue", &["-h", "-t", "PENDING,RUNNING", "-j", &job])
            .trim()
            .is_empty()
    });
    assert_eq!(p.states(s.bed).get("queued"), None, "{}", p.plan(s.bed));
    p.cluster("");
    let again = p.submit(s.bed, 0);
    assert_eq!(again["runs"], Value::from(RUNS), "{again}");
    s.finish(&p, RUNS);
}

fn time_limit(s: &mut Stage<'_>) {
    let p = s.place(700);
    let job = Stage::number(&p.submit(s.bed, 0));
    // Of a process that is at work: a task that has only just begun cannot be signalled yet, and scancel would do it again later.
    let tasks = || -> Vec<String> {
        let runs = fs::read_dir(p.dir.join("results/study"))
            .into_iter()
            .flatten()
            .flatten();
        let at_work = runs
            .filter(|r| has_checkpoint(&r.path()))
            .filter_map(|r| fs::read(r.path().join("lease")).ok());
        let leases = at_work.filter_map(|l| serde_json::from_slice::<Value>(&l).ok());
        leases.filter_map(|l| Some(l["job"].as_str()?.to_owned())).collect()
    };
    until("a run at work with a checkpoint", 60, || !tasks().is_empty());
    let task = tasks().pop().expect("a task at work");
    assert!(task.starts_with(&format!("{job}_")), "{task}");
    // What --signal=B:USR1@… does at the limit, without the wait of a minute.
    s.bed.ask("scancel", &["--batch", "--signal=USR1", &task]);
    s.finish(&p, RUNS);
    let restarts = restarts(s.bed, &task);
    // scancel repeats a signal that slurmd did not confirm, also after the restart: no run is lost or made twice by it.
    assert!((1..=2).contains(&restarts), "{restarts}: {}", p.logs());
    s.counts.requeues += restarts;
    assert!(p.logs().contains("goes on after a requeue"), "{}", p.logs());
}

/// Runs that have a checkpoint and no result.
fn checkpoints(p: &Place) -> usize {
    let runs = fs::read_dir(p.dir.join("results/study"))
        .into_iter()
        .flatten()
        .flatten();
    runs.filter(|r| has_checkpoint(&r.path()) && !r.path().join("DONE").exists())
        .count()
}

fn has_checkpoint(run: &Path) -> bool {
    let files = fs::read_dir(run.join("checkpoint"));
    files.is_ok_and(|f| {
        f.flatten()
            .any(|e| e.path().extension().is_some_and(|x| x == "safetensors"))
    })
}

fn restarts(bed: &Testbed, task: &str) -> usize {
    let said = bed.ask("scontrol", &["show", "job", task]);
    let text = said.split_whitespace().find_map(|w| w.strip_prefix("Restarts="));
    text.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Restarts of all tasks of an array.
fn all_restarts(bed: &Testbed, job: &str) -> usize {
    (1..=GROUPS).map(|i| restarts(bed, &format!("{job}_{i}"))).sum()
}

fn cancel(s: &mut Stage<'_>) {
    let p = s.place(700);
    let job = Stage::number(&p.submit(s.bed, 0));
    until("a run to have a checkpoint", 60, || checkpoints(&p) > 0);
    s.bed.ask("scancel", &[&job]);
    until("the array to end", 60, || {
        s.bed
            .ask("squeue", &["-h", "-t", "PENDING,RUNNING,COMPLETING", "-j", &job])
            .trim()
            .is_empty()
    });
    assert!(checkpoints(&p) > 0, "{}", p.logs());
    assert_eq!(all_restarts(s.bed, &job), 0);
    let ended = p.plan(s.bed);
    let told = |l: &&Value| {
        l["ended"]
            .as_str()
            .is_some_and(|e| e.contains("CANCELLED") && e.contains(".jobs"))
    };
    assert!(ended.as_array().unwrap().iter().filter(told).count() > 0, "{ended}");
    // Only what is missing is submitted again.
    let done = p.done();
    let again = p.submit(s.bed, 0);
    assert_eq!(again["runs"], Value::from(RUNS - done), "{again}");
    s.finish(&p, RUNS);
}

fn killed_node(s: &mut Stage<'_>) {
    let p = s.place(300);
    let job = Stage::number(&p.submit(s.bed, 0));
    let node = at_work(&p);
    s.counts.processes += s.bed.kill_node(node);
    s.counts.killed += 1;
    until("Slurm to notice", 60, || {
        s.bed
            .ask("sinfo", &["-h", "-N", "-n", node, "-o", "%T"])
            .contains("down")
    });
    s.bed.start_node(node);
    s.finish(&p, RUNS);
    let restarts = all_restarts(s.bed, &job);
    assert!(restarts > 0, "{}", p.logs());
    s.counts.requeues += restarts;
}

/// The node of a run that is under way and has a checkpoint.
fn at_work(p: &Place) -> &'static str {
    until("a run at work with a checkpoint", 60, || {
        checkpoints(p) > 0 && !p.holders().is_empty()
    });
    let holders = p.holders();
    testbed::NODES
        .into_iter()
        .find(|n| holders.iter().any(|h| h == n))
        .expect("a node at work")
}

fn mute_node(s: &mut Stage<'_>) {
    // Runs that last longer than Slurm takes to give the node up (half a minute): the same task then runs twice at once.
    let p = s.place(10_000);
    let only = "freeze=unfrozen,head=linear,backbone=mae-b";
    let out = p.medft(
        s.bed,
        &[
            "submit",
            "./study.toml",
            "--cluster",
            "cluster.toml",
            "--json",
            "--only",
            only,
        ],
    );
    let job = Stage::number(&serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&out))));
    let node = at_work(&p);
    s.bed.mute_node(node);
    s.counts.silenced += 1;
    until("the newer start to have a run", 60, || {
        let runs = fs::read_dir(p.dir.join("results/study"))
            .into_iter()
            .flatten()
            .flatten();
        let leases = runs.filter_map(|r| serde_json::from_slice::<Value>(&fs::read(r.path().join("lease")).ok()?).ok());
        leases.into_iter().any(|l| l["restart"].as_u64() > Some(0))
    });
    s.finish(&p, 2);
    // The older start sees at its next checkpoint that it has lost its run, and waits for the newer one without writing.
    assert!(p.logs().contains("waiting for"), "{}", p.logs());
    s.counts.requeues += all_restarts(s.bed, &job);
    s.bed.start_node(node);
}
