//! nohup and broken-pipe, and what else befalls runs that nobody watches: signals, terminals that go away, pipes whose reader
//! leaves, and what a plan tells other programs. An ignored SIGHUP was undone (LlamaFactory#3036, SparK#19, rust-ctrlc#103); a
//! reader that left was a panic, and ended training (rust#119980, fd#24).

use crate::place::{Place, Said};
use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A study whose runs take some seconds, and what selects one of them.
fn longer(p: &Place) -> String {
    assert_eq!(p.medft(&["data", "synth", "aptos2019"]).code, 0);
    p.study("short", |t| t.replace("epochs = 2", "epochs = 40"))
}

const ONE: &str = "freeze=unfrozen,head=linear";

/// Starts `medft run` from a shell that does `before`, with checkpoints at every step.
fn start(p: &Place, study: &str, before: &str, err: Stdio) -> Child {
    let medft = assert_cmd::cargo::cargo_bin!("medft");
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{before} exec \"$0\" run \"$1\" --only {ONE} --checkpoint-every 0"
        ))
        .arg(medft)
        .arg(study)
        .current_dir(p.path(""))
        .stdout(Stdio::null())
        .stderr(err)
        .spawn()
        .unwrap()
}

fn below(p: &Place, name: &str) -> usize {
    let runs = fs::read_dir(p.path("results/short")).into_iter().flatten().flatten();
    let count = |dir: fs::DirEntry| match dir.path().join(name) {
        f if f.is_dir() => fs::read_dir(f).into_iter().flatten().count(),
        f => usize::from(f.is_file()),
    };
    runs.map(count).sum()
}

/// Waits until the shell has become medft and a checkpoint says that training is, or was, under way.
fn training(p: &Place, child: &mut Child) {
    let begun = |child: &Child| {
        let name = fs::read_to_string(format!("/proc/{}/comm", child.id()));
        name.is_ok_and(|n| n.trim() == "medft")
    };
    while below(p, "checkpoint") == 0 || !begun(child) {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended before its first checkpoint"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn nohup_outlives_its_terminal_and_others_write_a_checkpoint() {
    let p = Place::new();
    let s = longer(&p);
    let mut child = start(&p, &s, "", Stdio::null());
    training(&p, &mut child);
    signal(&child, "-HUP");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(below(&p, "checkpoint") > 0 && below(&p, "DONE") == 0);
    let mut child = start(&p, &s, "trap '' HUP INT;", Stdio::null());
    training(&p, &mut child);
    signal(&child, "-HUP");
    signal(&child, "-INT");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(below(&p, "DONE"), 1);
}

/// A batch system signals every process of a job, and its script forwards the signal: it comes twice.
#[test]
fn a_second_sigterm_loses_no_checkpoint() {
    let p = Place::new();
    let s = longer(&p);
    let mut child = start(&p, &s, "", Stdio::piped());
    training(&p, &mut child);
    for _ in 0..3 {
        signal(&child, "-TERM");
        std::thread::sleep(Duration::from_millis(3));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(
        said.contains("stopped at 0 of 1; go on with `") && said.contains("run ./short.toml"),
        "{said}"
    );
    assert!(below(&p, "checkpoint") > 0 && below(&p, "lease") == 0);
    assert!(!p.path("reports").exists(), "nothing else is done after a stop");
    assert_eq!(p.medft(&["run", &s, "--only", ONE]).code, 0);
}

#[test]
fn a_reader_that_leaves_ends_printing_quietly() {
    let p = Place::new();
    for args in ["data list -v", "weights list", "plan paper --json", "completions bash"] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin!("medft"))
            .args(args.split(' '))
            .current_dir(p.path(""))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(141), ""), "{args}");
    }
    let mut full = Command::new(assert_cmd::cargo::cargo_bin!("medft"));
    full.args(["data", "list"])
        .current_dir(p.path(""))
        .stdout(File::create("/dev/full").unwrap());
    let out = full.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(
        out.status.code() == Some(2) && said.contains("standard output") && !said.contains("panicked"),
        "{said}"
    );
}

#[test]
fn training_goes_on_without_anybody_to_tell() {
    let p = Place::new();
    let s = longer(&p);
    let mut child = start(&p, &s, "", Stdio::piped());
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(below(&p, "DONE"), 1);
    fs::remove_dir_all(p.path("results/short")).unwrap();
    let mut child = start(&p, &s, "", File::create("/dev/full").unwrap().into());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(below(&p, "DONE"), 1);
}

/// Other programs start the runs of a plan by its own filters: every run is in exactly the groups that name it.
#[test]
fn a_plan_tells_the_filters_of_each_runs_group() {
    let p = Place::new();
    let plan = |args: &[&str]| -> Vec<serde_json::Value> {
        let said: Said = p.medft(args);
        said.json().as_array().unwrap().clone()
    };
    let all = plan(&["plan", "splits", "--json"]);
    let key = |r: &serde_json::Value| {
        ["dataset", "split", "backbone", "freeze", "head"]
            .map(|k| r[k].as_str().unwrap().to_owned())
            .join(" ")
            + &r["seed"].to_string()
    };
    let mut keys: Vec<String> = all.iter().map(key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all.len(), "no two runs look the same");
    let mut groups: Vec<&str> = all.iter().map(|r| r["only"].as_str().unwrap()).collect();
    groups.sort_unstable();
    groups.dedup();
    assert!(groups.len() < all.len());
    for group in [groups[0], groups[groups.len() - 1]] {
        let mut by_group: Vec<String> = plan(&["plan", "splits", "--json", "--only", group])
            .iter()
            .map(key)
            .collect();
        let mut named: Vec<String> = all.iter().filter(|r| r["only"] == group).map(key).collect();
        by_group.sort();
        named.sort();
        assert_eq!(by_group, named, "{group}");
    }
}

/// What the study costs in each arithmetic is seen before it is begun: by nominal rates here, which is said.
#[test]
fn a_plan_prices_every_arithmetic_by_card() {
    let p = Place::new();
    let only = "dataset=ddsm,seed=0";
    let said = p.medft(&["plan", "paper", "--only", only, "--as-device", "NVIDIA H100 80GB HBM3"]);
    for part in [
        "GPU-hours on one",
        "authors",
        "bfloat16",
        "nominal",
        "by the card's nominal rate",
    ] {
        assert!(said.out.contains(part), "{part}: {}", said.out);
    }
    for card in ["NVIDIA A100-SXM4-80GB", "NVIDIA H100 80GB HBM3"] {
        let row = said.out.lines().find(|l| l.starts_with(card)).unwrap();
        let hours: Vec<f64> = row[card.len()..]
            .split_whitespace()
            .filter_map(|w| w.parse().ok())
            .collect();
        assert!(hours.len() == 3 && hours[0] > hours[1] && hours[1] > hours[2], "{row}");
        assert!(hours[0] > 4.0 * hours[2], "{row}");
    }
}

/// Hours measured on a GPU count on a computer without one, when the GPU is named.
#[test]
fn a_plan_on_a_login_node_knows_the_hours_of_a_named_gpu() {
    let p = Place::new();
    let dir = p.path("results/.cache/rates-2");
    fs::create_dir_all(&dir).unwrap();
    for what in ["forward", "train"] {
        let bench = serde_json::json!({
            "what": what, "backbone": "mae-b", "size": 224, "images_per_s": 100.0,
            "machine": { "device": "NVIDIA H100 80GB HBM3", "cpu": "another", "threads": 96 },
        });
        let m: medft::runner::estimate::Measurement = serde_json::from_value(bench.clone()).unwrap();
        let name = medft::runner::estimate::file_name(&m).unwrap();
        fs::write(dir.join(name), bench.to_string()).unwrap();
    }
    let only = "backbone=mae-b,head=linear,seed=0";
    let hours = |more: &[&str]| {
        let said = p.medft(&[&["plan", "paper", "--json", "--only", only], more].concat());
        let all = said.json();
        all.as_array()
            .unwrap()
            .iter()
            .filter(|r| r["hours"].as_f64().is_some_and(|h| h > 0.0))
            .count()
    };
    assert_eq!(hours(&[]), 0, "a CPU is not that GPU");
    assert_eq!(hours(&["--as-device", "NVIDIA H100 80GB HBM3"]), 8);
}
