//! With the scripted trainer, many times over: `kill -9` at random points, two nodes at one study, a node that is silent for long.
//! Whatever happens, what `medft run` leaves are the bytes of an undisturbed one.

use clap::Parser;
use medft::cli::Cli;
use medft::rng::{Purpose, Stream};
use medft::train::scripted::Scripted;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const STUDY: &str = r#"
title = "A scripted study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019"]
backbones = ["dinov2-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear", "mha"]
seeds = [0, 1]
[protocol]
resize = 72
crop = 64
epochs = 5
batch = 16
"#;

const KILLS: usize = 50;

/// The process that is killed: `medft run` with a trainer whose epochs take a moment.
#[test]
#[ignore = "started by the other test as a process of its own"]
fn child() {
    let var = |name: &str, other: u64| std::env::var(name).map_or(other, |v| v.parse().unwrap());
    let epoch = Duration::from_millis(var("EPOCH_MS", 1));
    let trainer = Box::leak(Box::new(Scripted { epoch }));
    let every = var("EVERY", 60).to_string();
    let args = [
        "medft",
        "run",
        "./study.toml",
        "--data-dir",
        "../data",
        "--checkpoint-every",
        &every,
    ];
    assert_eq!(medft::commands::run_with(Cli::parse_from(args), trainer).unwrap(), 0);
}

/// As [`child`], with the real trainer: a checkpoint after every step, written by a thread of its own while the next step is made.
#[test]
#[ignore = "started by the other test as a process of its own"]
fn training_child() {
    let args = [
        "medft",
        "run",
        "./study.toml",
        "--only",
        "freeze=unfrozen,head=linear,seed=0",
        "--data-dir",
        "../data",
        "--checkpoint-every",
        "0",
    ];
    assert_eq!(medft::commands::run(Cli::parse_from(args)).unwrap(), 0);
}

#[test]
fn kills_while_checkpoints_are_written_change_no_byte() {
    let place = tempfile::tempdir().unwrap();
    let train = |dir: &Path| command_of(dir, "crash::training_child").spawn().unwrap();
    let whole = place.path().join("whole");
    assert!(train(&whole).wait().unwrap().success());
    let expected = results(&whole);
    assert_eq!(expected.keys().filter(|p| p.ends_with("metrics.json")).count(), 1);
    fs::remove_dir_all(whole.join("results")).unwrap();
    let begun = Instant::now();
    assert!(train(&whole).wait().unwrap().success());
    let length = begun.elapsed();
    let mut waits = Stream::new(21, Purpose::Test, 0, 0);
    let dir = place.path().join("killed");
    let mut kills = 0;
    for _ in 0..8 {
        let mut child = train(&dir);
        std::thread::sleep(length.mul_f64(0.2 + 0.5 * waits.uniform()));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 0, "the child ends before it can be killed");
    assert!(train(&dir).wait().unwrap().success());
    same(&results(&dir), &expected, &format!("after {kills} kills"));
}

fn command(dir: &Path) -> Command {
    command_of(dir, "crash::child")
}

fn command_of(dir: &Path, child: &str) -> Command {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("study.toml"), STUDY).unwrap();
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.args(["--ignored", "--exact", child, "--nocapture"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    c
}

fn start(dir: &Path) -> Child {
    command(dir).spawn().unwrap()
}

/// As a task of a batch system's job on a node of its own: what another node's processes do cannot be seen from there, locks
/// included, and a run that another task has is waited for.
fn on_node(dir: &Path, node: &str) -> Command {
    let mut c = command(dir);
    c.env("SLURMD_NODENAME", node)
        .env("SLURM_JOB_ID", format!("7{}", &node[1..]))
        .stderr(Stdio::piped());
    c
}

/// Ends a process; whether it was content, and what it said.
fn ended(child: Child) -> (bool, String) {
    let out = child.wait_with_output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Every file of the results, without what holds times.
fn results(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>, root: &Path) {
        for e in fs::read_dir(dir).unwrap() {
            let p = e.unwrap().path();
            if p.is_dir() {
                walk(&p, out, root);
            } else if !p.ends_with("provenance.json") && !p.ends_with("DONE") {
                out.insert(p.strip_prefix(root).unwrap().to_owned(), fs::read(&p).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    let root = dir.join("results/study");
    walk(&root, &mut out, &root);
    out
}

#[test]
fn fifty_kills_change_no_byte() {
    let place = tempfile::tempdir().unwrap();
    let whole = place.path().join("whole");
    // The first run also writes the phantom, which all share.
    assert!(start(&whole).wait().unwrap().success());
    let expected = results(&whole);
    assert_eq!(expected.keys().filter(|p| p.ends_with("metrics.json")).count(), 8);
    fs::remove_dir_all(whole.join("results")).unwrap();
    let begun = Instant::now();
    assert!(start(&whole).wait().unwrap().success());
    let length = begun.elapsed();

    let mut waits = Stream::new(20, Purpose::Test, 0, 0);
    let (mut kills, mut round) = (0, 0);
    while kills < KILLS {
        let dir = place.path().join(format!("round{round}"));
        round += 1;
        // A run that survives its draw is finished: compare and begin anew.
        loop {
            let mut child = start(&dir);
            std::thread::sleep(length.mul_f64(waits.uniform()));
            if child.try_wait().unwrap().is_some() {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            if kills >= KILLS {
                break;
            }
        }
        assert!(start(&dir).wait().unwrap().success(), "round {round}");
        let found = results(&dir);
        let names = |r: &BTreeMap<PathBuf, Vec<u8>>| r.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "round {round}");
        for (file, bytes) in &expected {
            assert!(found[file] == *bytes, "round {round}: {} differs", file.display());
        }
    }
    println!("{kills} kills in {round} rounds");
}

/// The same files with the same bytes.
fn same(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>, said: &str) {
    let differs = |p: &&PathBuf| found.get(*p) != expected.get(*p);
    let names: BTreeSet<&PathBuf> = found.keys().chain(expected.keys()).filter(differs).collect();
    assert!(names.is_empty(), "{names:?} differ\n{said}");
}

/// The results of an undisturbed study in a folder of that place, which the others share the phantom of.
fn undisturbed(place: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let whole = place.join("whole");
    assert!(start(&whole).wait().unwrap().success());
    results(&whole)
}

/// Two nodes that see nothing of each other but the files begin the same study at once, over and over (`MEDFT_PAIRS` times), with a
/// checkpoint after every epoch and at the default: both end content, every run is trained to its end once, the bytes are those
/// of one node.
#[test]
fn two_nodes_at_one_study_make_every_run_once() {
    let place = tempfile::tempdir().unwrap();
    let expected = undisturbed(place.path());
    let runs = expected.keys().filter(|p| p.ends_with("metrics.json")).count();
    let pairs: usize = std::env::var("MEDFT_PAIRS").map_or(6, |n| n.parse().unwrap());
    let (mut twice, mut lost) = (0, 0);
    for pair in 0..pairs {
        let dir = place.path().join(format!("pair{pair}"));
        let every = if pair % 2 == 0 { "0" } else { "60" };
        let both = ["n1", "n2"].map(|n| {
            let mut c = on_node(&dir, n);
            c.env("EVERY", every)
                .env("MEDFT_LEASE_SECONDS", "10")
                .env("EPOCH_MS", "10")
                .spawn()
                .unwrap()
        });
        let ends = both.map(ended);
        let done: usize = ends
            .iter()
            .map(|e| e.1.matches("\ndone ").count() + usize::from(e.1.starts_with("done ")))
            .sum();
        lost += ends.iter().filter(|e| !e.0).count();
        twice += done.saturating_sub(runs);
        assert!(done >= runs, "pair {pair}: {done} of {runs}: {ends:?}");
        same(&results(&dir), &expected, &format!("pair {pair}: {ends:?}"));
    }
    println!("{pairs} pairs: {lost} processes lost, {twice} runs made twice");
    assert_eq!((lost, twice), (0, 0));
}

/// A node falls silent (SIGSTOP) for longer than its lease. Another takes its run over and ends the study. When the first comes
/// back, it sees that and writes nothing.
#[test]
fn a_node_that_was_silent_too_long_writes_nothing_when_it_is_back() {
    let place = tempfile::tempdir().unwrap();
    let expected = undisturbed(place.path());
    for round in 0..3 {
        let dir = place.path().join(format!("silent{round}"));
        let slow = |node: &str, ms: &str| {
            let mut c = on_node(&dir, node);
            c.env("MEDFT_LEASE_SECONDS", "3")
                .env("EPOCH_MS", ms)
                .env("EVERY", "0")
                .spawn()
                .unwrap()
        };
        let first = slow("n1", "300");
        let leases = || {
            let runs = fs::read_dir(dir.join("results/study")).into_iter().flatten().flatten();
            runs.filter(|r| r.path().join("lease").exists()).count()
        };
        while leases() == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150 * round));
        let signal = |name: &str| {
            let sent = Command::new("kill").args([name, &first.id().to_string()]).status();
            assert!(sent.unwrap().success());
        };
        signal("-STOP");
        let (content, said) = ended(slow("n2", "1"));
        assert!(content, "{said}");
        assert!(
            said.contains("waiting for"),
            "it was waited for until its time was up: {said}"
        );
        // It may have been stopped with a file half written or a lease not yet named. Only itself can know that it still lives,
        // so the file stays as long as it may be wanted, and is gone when it is back.
        let mut found = results(&dir);
        found.retain(|p, _| !p.file_name().unwrap().to_string_lossy().starts_with(".medft-"));
        same(&found, &expected, &said);
        // Everything but times of reading: what is written again has another one.
        let written = || -> Vec<_> {
            let files = results(&dir).into_keys();
            files
                .filter(|f| expected.contains_key(f))
                .map(|f| {
                    (
                        f.clone(),
                        fs::metadata(dir.join("results/study").join(f))
                            .unwrap()
                            .modified()
                            .unwrap(),
                    )
                })
                .collect()
        };
        let before = written();
        signal("-CONT");
        let (content, said) = ended(first);
        assert!(content, "{said}");
        assert!(!said.contains("\ndone "), "{said}");
        assert_eq!(written(), before, "{said}");
        same(&results(&dir), &expected, &said);
    }
}
