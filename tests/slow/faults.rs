//! Every system call that can fail does: each open, read, write, fsync, rename and mmap of a short run fails once with an
//! error of the disk or of memory, and the plain run that follows ends in the bytes of an undisturbed one.
//!
//! The calls are made to fail by a library of `faults/faults.c`, which this test builds and preloads; where there is no C
//! compiler it says so and is skipped.

use clap::Parser;
use medft::cli::Cli;
use medft::train::scripted::Scripted;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const STUDY: &str = r#"
title = "A scripted study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["aptos2019"]
backbones = ["dinov2-b"]
freeze = ["frozen"]
heads = ["linear"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 2
batch = 16
"#;

const KINDS: [&str; 6] = ["open", "read", "write", "fsync", "rename", "mmap"];
const ERRORS: [(&str, i32); 4] = [
    ("EIO", rustix::io::Errno::IO.raw_os_error()),
    ("ENOSPC", rustix::io::Errno::NOSPC.raw_os_error()),
    ("EMFILE", rustix::io::Errno::MFILE.raw_os_error()),
    ("ENOMEM", rustix::io::Errno::NOMEM.raw_os_error()),
];

/// The process that is disturbed.
#[test]
#[ignore = "started by the other test as a process of its own"]
fn child() {
    static TRAINER: Scripted = Scripted { epoch: Duration::ZERO };
    let cli = Cli::parse_from([
        "medft",
        "run",
        "./study.toml",
        "--workers",
        "1",
        "--checkpoint-every",
        "0",
    ]);
    match medft::commands::run_with(cli, &TRAINER) {
        Ok(code) => std::process::exit(i32::from(code)),
        Err(e) => {
            eprintln!("error: {e:#}");
            std::process::exit(2);
        }
    }
}

struct Fault<'a> {
    library: &'a Path,
    kind: &'a str,
    at: usize,
    errno: i32,
}

fn start(dir: &Path, fault: Option<&Fault>) -> Child {
    let mut c = Command::new(std::env::current_exe().unwrap());
    c.args([
        "--ignored",
        "--exact",
        "faults::child",
        "--nocapture",
        "--test-threads",
        "1",
    ])
    .current_dir(dir)
    .env("RAYON_NUM_THREADS", "1")
    .stdout(Stdio::null())
    .stderr(fs::File::create(dir.with_extension("stderr")).unwrap());
    if let Some(f) = fault {
        c.env("LD_PRELOAD", f.library)
            .env("MEDFT_FAULT_DIR", dir)
            .env("MEDFT_FAULT_KIND", f.kind)
            .env("MEDFT_FAULT_AT", f.at.to_string())
            .env("MEDFT_FAULT_ERRNO", f.errno.to_string())
            .env("MEDFT_FAULT_COUNT", dir.with_extension("count"));
    }
    c.spawn().unwrap()
}

/// Waits for its end, a minute at most; says whether it went well.
fn end(mut child: Child) -> Option<bool> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status.success());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

/// Every file of the results, without what holds times, and no temp file of anybody.
fn results(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = medft::fsio::below(&dir.join("results/study"));
    let timeless = all
        .into_iter()
        .filter(|p| !p.ends_with("provenance.json") && !p.ends_with("DONE"));
    timeless
        .map(|p| (p.strip_prefix(dir).unwrap().to_owned(), fs::read(&p).unwrap()))
        .collect()
}

fn library(place: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow/faults.c");
    let library = place.join("faults.so");
    let built = ["cc", "gcc", "clang"].iter().any(|cc| {
        let mut c = Command::new(cc);
        c.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source);
        c.args(["-ldl", "-lpthread"]).stderr(Stdio::null());
        c.status().is_ok_and(|s| s.success())
    });
    built.then_some(library)
}

/// A working folder with the study and the data, made once.
fn fresh(place: &Path, name: &str, data: &Path) -> PathBuf {
    let dir = place.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("study.toml"), STUDY).unwrap();
    for from in medft::fsio::below(data) {
        let to = dir.join("data").join(from.strip_prefix(data).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
    dir
}

#[test]
#[ignore = "takes minutes, and has not been seen to end yet: run it alone"]
fn every_call_that_can_fail_fails_once_and_a_plain_rerun_ends_in_the_undisturbed_bytes() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let Some(library) = library(&place) else {
        println!("skipped: no C compiler");
        return;
    };
    let whole = fresh(&place, "whole", &place.join("none"));
    assert_eq!(end(start(&whole, None)), Some(true));
    let data = whole.join("data");
    let expected = results(&whole);
    assert_eq!(expected.len(), 4, "{:?}", expected.keys());

    let mut faults = Vec::new();
    let mut counts = BTreeMap::new();
    for kind in KINDS {
        let dir = fresh(&place, kind, &data);
        let none = Fault {
            library: &library,
            kind,
            at: 0,
            errno: 0,
        };
        assert_eq!(end(start(&dir, Some(&none))), Some(true));
        assert_eq!(results(&dir), expected);
        let count: usize = fs::read_to_string(dir.with_extension("count"))
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        counts.insert(kind, count);
        // Each call fails once, with one error after the other; the next kind begins with another one.
        let before = faults.len();
        faults.extend((1..=count).map(|at| (kind, at, ERRORS[(at + before) % ERRORS.len()])));
    }
    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    let work = |worker: usize| {
        while let Some(&(kind, at, (error, errno))) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let dir = fresh(&place, &format!("w{worker}"), &data);
            let fault = Fault {
                library: &library,
                kind,
                at,
                errno,
            };
            let what = format!("{kind} {at} with {error}");
            let first = end(start(&dir, Some(&fault)));
            ended.fetch_add(usize::from(first == Some(false)), Ordering::Relaxed);
            let said = fs::read_to_string(dir.with_extension("stderr")).unwrap_or_default();
            let again = end(start(&dir, None));
            let found = results(&dir);
            let names = |r: &BTreeMap<PathBuf, Vec<u8>>| r.keys().cloned().collect::<Vec<_>>();
            let complaint = match (first, again) {
                (None, _) | (_, None) => Some("it hangs".to_owned()),
                _ if said.contains("panicked") => Some("it panics".to_owned()),
                (_, Some(false)) => Some("the plain rerun fails".to_owned()),
                _ if names(&found) != names(&expected) => Some(format!("it leaves {:?}", names(&found))),
                _ if found != expected => Some("the plain rerun gives other bytes".to_owned()),
                _ => None,
            };
            if let Some(c) = complaint {
                let after = fs::read_to_string(dir.with_extension("stderr")).unwrap_or_default();
                wrong
                    .lock()
                    .unwrap()
                    .push(format!("{what}: {c}\n{said}\nthen: {after}"));
            }
            fs::remove_dir_all(&dir).unwrap();
        }
    };
    let work = &work;
    std::thread::scope(|s| (0..2).for_each(|w| drop(s.spawn(move || work(w)))));
    println!(
        "{counts:?}: {} faults, {} ended the run",
        faults.len(),
        ended.into_inner()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        faults.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
    assert!(faults.len() > 60, "a short run makes more calls than that: {counts:?}");
}
