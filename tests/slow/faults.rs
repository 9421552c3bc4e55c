//! Every system call that can fail does: each open, read, write, fsync, rename, link, removal and new folder of a short run fails once
//! with an error of the disk or of memory, and the plain run that follows ends in the bytes of an undisturbed one.
//!
//! The run is the program's own, of two cells on a data set of 24 images: small enough that no call is left out. Nothing maps a file, which the count
//! of mmap says. The calls are made to fail by a library of `faults.c`, which this test builds and preloads; where there is no C compiler it says so
//! and is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const STUDY: &str = r#"
title = "A short study"
expected = "Nothing: it tests the program."
preset = "faithful"
scale = "tiny"
datasets = ["toy"]
backbones = ["dinov2-b"]
freeze = ["frozen", "unfrozen"]
heads = ["linear"]
seeds = [0]
[protocol]
resize = 72
crop = 64
epochs = 2
batch = 16
"#;

/// Kinds of calls, as `faults.c` names them.
const KINDS: [&str; 12] = [
    "open", "create", "read", "write", "fsync", "rename", "link", "unlink", "mkdir", "opendir", "truncate", "mmap",
];
/// Those that a run does not make.
const NEVER: [&str; 2] = ["truncate", "mmap"];
const ERRORS: [(&str, i32); 4] = [
    ("EIO", rustix::io::Errno::IO.raw_os_error()),
    ("ENOSPC", rustix::io::Errno::NOSPC.raw_os_error()),
    ("EMFILE", rustix::io::Errno::MFILE.raw_os_error()),
    ("ENOMEM", rustix::io::Errno::NOMEM.raw_os_error()),
];

struct Fault<'a> {
    library: &'a Path,
    call: &'a Call,
    errno: i32,
}

/// A call of the undisturbed run: its kind, the number within that, and the path below the working folder.
struct Call {
    kind: String,
    at: usize,
    path: String,
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_medft"));
    c.args(args)
        .current_dir(dir)
        .env("RAYON_NUM_THREADS", "1")
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.with_extension("stderr")).unwrap());
    c
}

/// The run that is disturbed: a checkpoint after every step, one thread, so that its calls come in one order.
fn run(dir: &Path) -> Command {
    command(
        dir,
        &[
            "run",
            "./study.toml",
            "--device",
            "cpu",
            "--workers",
            "1",
            "--checkpoint-every",
            "0",
        ],
    )
}

fn start(dir: &Path, fault: Option<&Fault>) -> Child {
    let mut c = run(dir);
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
    let mut c = run(dir);
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

/// The study, and a data set of 24 images of two classes.
fn prepared(dir: &Path) {
    for (class, level) in [("a", 40u8), ("b", 160)] {
        fs::create_dir_all(dir.join(format!("toys/{class}"))).unwrap();
        for i in 0..12 {
            let picture = image::GrayImage::from_fn(16, 16, |x, y| image::Luma([level + i + (x * y % 64) as u8]));
            picture.save(dir.join(format!("toys/{class}/{i}.png"))).unwrap();
        }
    }
    let mut add = command(dir, &["data", "add", "toy", "--images", "toys"]);
    assert_eq!(end(add.spawn().unwrap()), Some(true));
    fs::remove_dir_all(dir.join("toys")).unwrap();
    fs::write(dir.join("study.toml"), STUDY).unwrap();
}

/// A working folder with what was prepared, and nothing that a run leaves.
fn fresh(place: &Path, name: &str, from: &Path) -> PathBuf {
    let dir = place.join(name);
    for file in medft::fsio::below(from) {
        let to = dir.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(file, to).unwrap();
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
    let source = place.join("source");
    fs::create_dir_all(&source).unwrap();
    prepared(&source);
    let whole = fresh(&place, "whole", &source);
    assert_eq!(end(start(&whole, None)), Some(true));
    let expected = results(&whole);
    assert_eq!(expected.len(), 10, "{:?}", expected.keys());

    let dir = fresh(&place, "calls", &source);
    let calls = calls(&library, &dir);
    assert_eq!(results(&dir), expected);
    let count = |kind: &str| calls.iter().filter(|c| c.kind == kind).count();
    let said: Vec<String> = KINDS.iter().map(|k| format!("{k} {}", count(k))).collect();
    println!("every call fails once: {}", said.join(", "));
    for kind in KINDS {
        assert_eq!(count(kind) > 0, !NEVER.contains(&kind), "{kind}");
    }

    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    let work = |worker: usize| {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = calls.get(n) else { break };
            // One error after the other.
            let (error, errno) = ERRORS[n % ERRORS.len()];
            let dir = fresh(&place, &format!("w{worker}"), &source);
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
        "{} calls failed, {} of them ended the run; {} seconds",
        calls.len(),
        ended.into_inner(),
        began.elapsed().as_secs()
    );
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        calls.len(),
        wrong[..wrong.len().min(8)].join("\n")
    );
}
