//! Every system call that can fail does: each write, fsync, rename, link, removal, new folder and open for writing of a short run
//! fails once with an error of the disk or of memory, and so does each kind of read and open, file by file; the plain run that
//! follows ends in the bytes of an undisturbed one.
//!
//! Of reads and opens to read, of which there are thousands, the first of each file (but for numbers in names) and a seeded sample of
//! the others fail; with `MEDFT_FAULTS=all` all do. Nothing maps a file, which the count of mmap says.
//!
//! The calls are made to fail by a library of `faults/faults.c`, which this test builds and preloads; where there is no C
//! compiler it says so and is skipped.

use clap::Parser;
use medft::cli::Cli;
use medft::rng::{Purpose, Stream};
use medft::train::scripted::Scripted;
use std::collections::{BTreeMap, BTreeSet};
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

/// Kinds of calls, as `faults.c` names them, each call of which fails.
const ALL_OF: [&str; 8] = [
    "create", "write", "fsync", "rename", "link", "unlink", "mkdir", "truncate",
];
/// Those of which a part does.
const SOME_OF: [&str; 3] = ["open", "read", "opendir"];
/// How many of those beyond the first of each file.
const SAMPLE: usize = 60;
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
    call: &'a Call,
    errno: i32,
}

/// A call of the undisturbed run: its kind, the number within that, and the path below the working folder.
#[derive(Debug, Clone)]
struct Call {
    kind: String,
    at: usize,
    path: String,
}

fn command(dir: &Path) -> Command {
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
    c
}

fn start(dir: &Path, fault: Option<&Fault>) -> Child {
    let mut c = command(dir);
    if let Some(f) = fault {
        c.env("LD_PRELOAD", f.library)
            .env("MEDFT_FAULT_DIR", dir)
            .env("MEDFT_FAULT_KIND", &f.call.kind)
            .env("MEDFT_FAULT_AT", f.call.at.to_string())
            .env("MEDFT_FAULT_ERRNO", f.errno.to_string());
    }
    c.spawn().unwrap()
}

/// Every call of an undisturbed run in `dir`.
fn calls(library: &Path, dir: &Path) -> Vec<Call> {
    let log = dir.with_extension("log");
    let mut c = command(dir);
    c.env("LD_PRELOAD", library)
        .env("MEDFT_FAULT_DIR", dir)
        .env("MEDFT_FAULT_LOG", &log);
    assert_eq!(end(c.spawn().unwrap()), Some(true));
    let text = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
    let (lines, last) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(last, "end", "the log is whole");
    let call = |line: &str| -> Option<Call> {
        let mut fields = line.splitn(3, ' ');
        Some(Call {
            kind: fields.next()?.to_owned(),
            at: fields.next()?.parse().ok()?,
            path: fields.next()?.to_owned(),
        })
    };
    lines.lines().map(|l| call(l).unwrap()).collect()
}

/// The path without what differs from one file of a kind to the next: hashes, numbers, the names of temp files.
fn file_kind(path: &str) -> String {
    let name = |part: &str| -> String {
        if part.starts_with(".medft-") && part.ends_with(".tmp") {
            return "temp".to_owned();
        }
        let word = |w: &str| w.len() >= 8 && w.bytes().all(|b| b.is_ascii_hexdigit());
        part.split(['-', '_', '.'])
            .map(|w| match word(w) || w.bytes().any(|b| b.is_ascii_digit()) {
                true => "#",
                false => w,
            })
            .collect::<Vec<_>>()
            .join(".")
    };
    path.split('/').map(name).collect::<Vec<_>>().join("/")
}

/// The calls that are made to fail.
fn chosen(calls: &[Call]) -> Vec<&Call> {
    if std::env::var("MEDFT_FAULTS").is_ok_and(|v| v == "all") {
        return calls.iter().collect();
    }
    let mut files = BTreeSet::new();
    let (mut out, mut rest) = (Vec::new(), Vec::new());
    for c in calls {
        let mut first = || files.insert((c.kind.as_str(), file_kind(&c.path)));
        match ALL_OF.contains(&c.kind.as_str()) || first() {
            true => out.push(c),
            false => rest.push(c),
        }
    }
    let mut draw = Stream::new(16, Purpose::Test, 0, 0);
    for _ in 0..SAMPLE.min(rest.len()) {
        out.push(rest.swap_remove(draw.below(rest.len() as u32) as usize));
    }
    out
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
fn every_call_that_can_fail_fails_once_and_a_plain_rerun_ends_in_the_undisturbed_bytes() {
    let began = Instant::now();
    let place = tempfile::tempdir().unwrap();
    let place = place.path().canonicalize().unwrap();
    let Some(library) = library(&place) else {
        crate::skip::skipped("no C compiler");
        return;
    };
    let whole = fresh(&place, "whole", &place.join("none"));
    assert_eq!(end(start(&whole, None)), Some(true));
    let data = whole.join("data");
    let expected = results(&whole);
    assert_eq!(expected.len(), 4, "{:?}", expected.keys());

    let dir = fresh(&place, "calls", &data);
    let calls = calls(&library, &dir);
    assert_eq!(results(&dir), expected);
    let chosen = chosen(&calls);
    let count = |all: &[&Call], kind: &str| all.iter().filter(|c| c.kind == kind).count();
    let every: Vec<&Call> = calls.iter().collect();
    let said = |k: &&str| format!("{k} {} of {}", count(&chosen, k), count(&every, k));
    let said: Vec<String> = ALL_OF.iter().chain(&SOME_OF).map(said).collect();
    println!(
        "calls that fail: {}; mmap 0 of {}: nothing is mapped",
        said.join(", "),
        count(&every, "mmap")
    );
    assert_eq!(count(&every, "mmap"), 0);
    // Nothing is cut in a run; everything else is called.
    for kind in ALL_OF.iter().chain(&SOME_OF).filter(|k| **k != "truncate") {
        assert!(count(&chosen, kind) > 0, "no {kind} fails");
    }

    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    let work = |worker: usize| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = chosen.get(n) else { break };
            // One error after the other.
            let (error, errno) = ERRORS[n % ERRORS.len()];
            let dir = fresh(&place, &format!("w{worker}"), &data);
            let fault = Fault {
                library: &library,
                call,
                errno,
            };
            let what = format!("{} {} ({}) with {error}", call.kind, call.at, call.path);
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
    let workers = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    std::thread::scope(|s| (0..workers).for_each(|w| drop(s.spawn(move || work(w)))));
    println!(
        "{} of {} calls failed, {} of them ended the run; {} seconds",
        chosen.len(),
        calls.len(),
        ended.into_inner(),
        began.elapsed().as_secs()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        chosen.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
}
