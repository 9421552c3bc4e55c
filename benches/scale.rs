//! The report at the paper's full size: 224 cells × 5 seeds with the predictions of the real test sets.
//!
//! `cargo bench --bench scale` writes a synthetic result set through the real store (once; 1 GB, kept in the folder that
//! `MEDFT_BENCH_DIR` names or else in the target folder) and times `medft report` on it: without resamples, with 1,000
//! and an empty cache, and again with that cache. Nothing is asserted: the numbers belong to the machine.
//!
//! The scores are drawn (a shared difficulty of every image, a skill of every cell, noise of every run): they look like
//! results and mean nothing.
#![allow(clippy::disallowed_methods)] // It reads the system's own files.

#[path = "../tests/shared/synthetic/mod.rs"]
mod synthetic;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

fn main() {
    let dir = std::env::var_os("MEDFT_BENCH_DIR").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-scale"),
        PathBuf::from,
    );
    let start = Instant::now();
    let (file, written) = synthetic::write(&dir, synthetic::Size::FULL);
    println!("{written} runs written in {:.0} s", start.elapsed().as_secs_f64());
    let cache = dir.join("results/.cache");
    for (what, replicates, empty) in [
        ("without resamples", "0", false),
        ("1,000 resamples", "1000", true),
        ("1,000 resamples, cached", "1000", false),
    ] {
        if empty && cache.exists() {
            std::fs::remove_dir_all(&cache).unwrap();
        }
        measure(what, &dir, &file, replicates);
    }
}

/// Times `medft report` in a process of its own; its CPU time and largest memory are read while it runs.
fn measure(what: &str, dir: &Path, file: &Path, replicates: &str) {
    let start = Instant::now();
    let mut child = synthetic::report(dir, file, replicates)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let (mut memory, mut ticks) = (0, 0_i64);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        let read = |f: &str| std::fs::read_to_string(proc.join(f)).unwrap_or_default();
        let field = |text: &str, key: &str| -> Option<u64> {
            let line = text.lines().find(|l| l.starts_with(key))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        memory = memory.max(field(&read("status"), "VmHWM:").unwrap_or(0));
        // Fields 14 and 15 of stat, counted after the name in brackets: user and system time in hundredths of a second.
        let stat = read("stat");
        let fields: Vec<i64> = stat
            .rsplit(')')
            .next()
            .unwrap_or("")
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        if fields.len() > 11 {
            ticks = ticks.max(fields[10] + fields[11]);
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(0), "medft report failed");
    println!(
        "report of 1,120 runs, {what}: {:.1} s wall, {:.1} s CPU, {} MiB",
        start.elapsed().as_secs_f64(),
        ticks as f64 / 100.0,
        memory / 1024
    );
}
