//! The paper's matrix on a cluster: 672 runs by 64 workers on one folder, with processes killed at random.
//!
//! `cargo bench --bench cluster` starts a process of medft for every group of runs, as the tasks of an array do (`medft run --only`),
//! at most 64 at a time, each on a node of its own name, so that nobody sees more of another than its files. The trainer is the
//! scripted one: an epoch sleeps five seconds and writes a checkpoint. One process in six is killed at a random moment and started
//! again elsewhere. Every eighth process runs under strace, where that is installed, which counts what a shared disk is asked.
//! That every run was made once is asserted; the other numbers belong to the machine.
#![allow(clippy::disallowed_methods)] // What a bench reads it has written.

use clap::Parser;
use medft::cli::Cli;
use medft::rng::{Purpose, Stream};
use medft::train::scripted::Scripted;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

const WORKERS: usize = 64;
const EPOCHS: u64 = 3;
const EPOCH: Duration = Duration::from_secs(5);
/// In place of the 300 seconds of every day, of which a run of fifteen seconds would never see a touch.
const LEASE_SECONDS: u64 = 60;
/// One in so many processes is killed, one in so many is traced.
const KILLED: usize = 6;
const TRACED: usize = 8;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|w| w == "as-medft") {
        let trainer = Box::leak(Box::new(Scripted { epoch: EPOCH }));
        let args = std::iter::once("medft".to_owned()).chain(args[2..].iter().cloned());
        std::process::exit(i32::from(
            medft::commands::run_with(Cli::parse_from(args), trainer).unwrap(),
        ));
    }
    let place = tempfile::tempdir().unwrap();
    let study = include_str!("../experiments/demo.toml").replace("seeds = [0, 1]", "seeds = [0, 1, 2]");
    fs::write(place.path().join("study.toml"), study).unwrap();
    assert!(
        medft(place.path())
            .args(["prepare", "./study.toml"])
            .output()
            .unwrap()
            .status
            .success()
    );
    let mut groups = groups(place.path());
    // The longest first, as `submit` orders its tasks.
    groups.sort_by_key(|g| std::cmp::Reverse(g.1));
    let runs: usize = groups.iter().map(|g| g.1).sum();
    let array = Array {
        dir: place.path(),
        groups: Mutex::new(groups.iter().cloned().enumerate().collect()),
        all: Mutex::default(),
        draws: Mutex::new(Stream::new(64, Purpose::Test, 0, 0)),
        traces: Command::new("strace").arg("--version").output().is_ok(),
    };
    let begun = Instant::now();
    std::thread::scope(|s| (0..WORKERS).for_each(|_| drop(s.spawn(|| array.worker()))));
    report(&array, begun.elapsed(), groups.len(), runs);
}

/// This program as medft, in a folder.
fn medft(dir: &Path) -> Command {
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.arg("as-medft")
        .current_dir(dir)
        .env("MEDFT_LEASE_SECONDS", LEASE_SECONDS.to_string());
    c
}

/// The filters of `--only` for each group of the plan, in order, and how many runs it has.
fn groups(dir: &Path) -> Vec<(String, usize)> {
    let said = medft(dir)
        .args(["plan", "./study.toml", "--json"])
        .output()
        .unwrap()
        .stdout;
    let plan: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let mut out: Vec<(String, usize)> = Vec::new();
    for line in plan.as_array().unwrap() {
        let only = line["only"].as_str().unwrap();
        match out.iter_mut().find(|g| g.0 == only) {
            Some(g) => g.1 += 1,
            None => out.push((only.to_owned(), 1)),
        }
    }
    out
}

/// What the processes of an array came to.
#[derive(Default)]
struct All {
    started: usize,
    kills: usize,
    done: usize,
    traced: usize,
    traced_runs: usize,
    traced_seconds: f64,
    /// Calls of traced processes, by folder and call.
    calls: BTreeMap<(&'static str, String), usize>,
}

struct Array<'a> {
    dir: &'a Path,
    groups: Mutex<VecDeque<(usize, (String, usize))>>,
    all: Mutex<All>,
    draws: Mutex<Stream>,
    traces: bool,
}

impl Array<'_> {
    /// Makes group after group; what is killed is started again, as Slurm does.
    fn worker(&self) {
        loop {
            let Some((index, (only, runs))) = self.groups.lock().unwrap().pop_front() else {
                return;
            };
            let mut restart = 0;
            while !self.task(index, &only, runs, restart) {
                restart += 1;
            }
        }
    }

    /// Whether the process lived to its end.
    fn task(&self, index: usize, only: &str, runs: usize, restart: usize) -> bool {
        let (number, draw, when) = {
            let mut all = self.all.lock().unwrap();
            all.started += 1;
            let mut draws = self.draws.lock().unwrap();
            (all.started, draws.uniform(), draws.uniform())
        };
        let traced = self.traces && number % TRACED == 0;
        let killed = !traced && draw < 1.0 / KILLED as f64;
        let trace = self.dir.join(format!("trace-{number}"));
        let mut c = medft(self.dir);
        if traced {
            let exe = c.get_program().to_owned();
            c = Command::new("strace");
            let calls = "trace=%file,getdents64,fsync,fdatasync,flock,pwrite64";
            c.args(["-f", "-y", "-qq", "--seccomp-bpf", "-e", calls, "-o"])
                .arg(&trace)
                .arg(exe)
                .arg("as-medft");
            c.current_dir(self.dir)
                .env("MEDFT_LEASE_SECONDS", LEASE_SECONDS.to_string());
        }
        let place = |name: &str| self.dir.join(name).display().to_string();
        c.args([
            "run",
            "./study.toml",
            "--only",
            only,
            "--data-dir",
            &place("data"),
            "--results-dir",
            &place("results"),
        ])
        .env("SLURM_JOB_ID", (1000 + index).to_string())
        .env("SLURM_ARRAY_JOB_ID", "1000")
        .env("SLURM_ARRAY_TASK_ID", index.to_string())
        .env("SLURM_RESTART_COUNT", restart.to_string())
        .env("SLURMD_NODENAME", format!("w{number}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
        let begun = Instant::now();
        let mut child = c.spawn().unwrap();
        if killed {
            std::thread::sleep((EPOCH * EPOCHS as u32).mul_f64(when));
            let _ = child.kill();
        }
        let out = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        let lived = out.status.success();
        assert!(lived || killed, "{said}");
        let mut all = self.all.lock().unwrap();
        all.kills += usize::from(!lived);
        all.done += said.lines().filter(|l| l.starts_with("done ")).count();
        if traced {
            all.traced += 1;
            all.traced_runs += runs;
            all.traced_seconds += begun.elapsed().as_secs_f64();
            read_trace(&trace, &mut all.calls);
        }
        lived
    }
}

/// Counts the calls of a trace: what touches a lease, the other results, the data, anything else.
fn read_trace(path: &Path, calls: &mut BTreeMap<(&'static str, String), usize>) {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    for line in text.lines().filter(|l| !l.contains("resumed>")) {
        let Some((head, rest)) = line.split_once('(') else {
            continue;
        };
        let call = head.split_whitespace().last().unwrap_or_default().to_owned();
        let place = match rest {
            r if r.contains("/lease\"") || r.contains("/lease>") => "lease",
            r if r.contains("/results/") || r.contains("/results\"") => "results",
            r if r.contains("/data/") => "data",
            _ => "other",
        };
        *calls.entry((place, call)).or_default() += 1;
    }
    fs::remove_file(path).unwrap();
}

fn report(array: &Array<'_>, wall: Duration, groups: usize, runs: usize) {
    let all = array.all.lock().unwrap();
    let results = array.dir.join("results/study");
    let folders: Vec<PathBuf> = fs::read_dir(&results).unwrap().map(|e| e.unwrap().path()).collect();
    let done = folders.iter().filter(|f| f.join("DONE").exists()).count();
    let left = folders
        .iter()
        .filter(|f| f.join("lease").exists() || f.join("checkpoint").exists())
        .count();
    let ideal = (EPOCH * EPOCHS as u32).as_secs_f64() * runs as f64 / WORKERS as f64;
    println!("| | |\n|---|---|");
    let row = |what: &str, value: String| println!("| {what} | {value} |");
    row("runs, groups, workers", format!("{runs}, {groups}, {WORKERS}"));
    row(
        "processes started, killed at random",
        format!("{}, {}", all.started, all.kills),
    );
    row(
        "runs done, lost, made twice",
        format!("{done}, {}, {}", runs - done, all.done.saturating_sub(done)),
    );
    row("leases or checkpoints left behind", left.to_string());
    row(
        "time against the ideal (work / workers)",
        format!(
            "{:.0} s against {ideal:.0} s: {:.2}",
            wall.as_secs_f64(),
            wall.as_secs_f64() / ideal
        ),
    );
    if all.traced > 0 {
        let of = |place: &str, f: &dyn Fn(&str) -> bool| -> usize {
            all.calls
                .iter()
                .filter(|((p, c), _)| *p == place && f(c))
                .map(|(_, n)| n)
                .sum()
        };
        let meta = |c: &str| c != "pwrite64";
        let a_run = |n: usize| format!("{:.0}", n as f64 / all.traced_runs as f64);
        row("traced processes, runs", format!("{}, {}", all.traced, all.traced_runs));
        row(
            "metadata operations a run below results/, leases apart",
            a_run(of("results", &meta)),
        );
        row("of them fsync", a_run(of("results", &|c| c.ends_with("sync"))));
        row("metadata operations a run on its lease", a_run(of("lease", &meta)));
        row(
            "metadata operations a process on the data set",
            format!("{:.0}", of("data", &meta) as f64 / all.traced as f64),
        );
        let touches = of("lease", &|c| c == "pwrite64") as f64 / (all.traced_seconds / 60.0);
        let (every, day) = (LEASE_SECONDS as f64 / 10.0, 30.0);
        row(
            "touches of a lease a minute and worker",
            format!(
                "{touches:.1} at one in {every:.0} s; {:.1} at one in {day:.0} s, the default",
                touches * every / day
            ),
        );
        let mut names: Vec<_> = all.calls.iter().filter(|((p, _), _)| *p == "results").collect();
        names.sort_by_key(|c| std::cmp::Reverse(*c.1));
        let names: Vec<String> = names
            .iter()
            .map(|((_, c), n)| format!("{c} {:.1}", **n as f64 / all.traced_runs as f64))
            .collect();
        row("calls a run below results/", names.join(", "));
    }
    // A process that is killed between the marker of a run and its line has said one less.
    assert!(
        (done, left) == (runs, 0) && all.done <= runs,
        "{done} done, {} said, {left} left",
        all.done
    );
}
