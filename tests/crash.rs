//! `kill -9` at random points, many times over, with the scripted trainer: whatever is killed, the next `medft run` ends in
//! the bytes of an undisturbed one.

use clap::Parser;
use medft::cli::Cli;
use medft::rng::{Purpose, Stream};
use medft::train::scripted::Scripted;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
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
    static TRAINER: Scripted = Scripted {
        epoch: Duration::from_millis(1),
    };
    let cli = Cli::parse_from(["medft", "run", "./study.toml", "--data-dir", "../data"]);
    assert_eq!(medft::commands::run_with(cli, &TRAINER).unwrap(), 0);
}

fn start(dir: &Path) -> std::process::Child {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("study.toml"), STUDY).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child", "--nocapture"])
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
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
