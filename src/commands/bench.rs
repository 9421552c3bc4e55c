//! `medft bench`: throughput of this machine, as median and spread over steps.

use crate::cli::exit::OK;
use crate::cli::{BenchArgs, BenchWhat};
use crate::runner::{Context, bench, bench_files, bench_peak};
use crate::{outln, print};
use anyhow::Result;

/// Measures and prints.
pub(super) fn run(c: &Context, a: &BenchArgs) -> Result<u8> {
    if a.what == BenchWhat::Hash {
        return hash(c, a);
    }
    if a.what == BenchWhat::Peak {
        return peak(c);
    }
    let r = bench::measure(c, a)?;
    if c.global.json {
        print::json(&r)?;
    } else {
        outln!(
            "{} {}: {:.2} images/s (median of {}; {} a step, {} to {})",
            r.what,
            r.subject,
            r.images_per_s,
            r.steps,
            short(r.seconds_median),
            short(r.seconds_min),
            short(r.seconds_max)
        )?;
        if let Some(share) = r.flop_share {
            outln!("{:.0} % of what multiply-adds alone reach here", 100.0 * share)?;
        }
        if let Some(share) = r.hashing_share {
            outln!("hashing the files takes {:.1} % of that more", 100.0 * share)?;
        }
        if let Some(part) = r.of_memory {
            outln!("{:.2} of the speed on features in memory", part)?;
        }
        if let Some(b) = r.peak_rss_bytes {
            outln!("peak memory {:.2} GiB", b as f64 / (1u64 << 30) as f64)?;
        }
        if let Some(b) = r.peak_device_bytes {
            outln!(
                "tensors had {:.2} GiB of the device at most",
                b as f64 / (1u64 << 30) as f64
            )?;
        }
    }
    Ok(OK)
}

/// Seconds, or milliseconds where there are few.
fn short(seconds: f64) -> String {
    match seconds < 0.1 {
        true => format!("{:.3} ms", seconds * 1e3),
        false => format!("{seconds:.3} s"),
    }
}

/// The limits of this machine.
fn peak(c: &Context) -> Result<u8> {
    let p = bench_peak::measure();
    if c.global.json {
        print::json(&p)?;
        return Ok(OK);
    }
    for (limits, unit, of) in [
        (&p.flop, "GFLOP", "float32 multiply-adds"),
        (&p.copied_bytes, "GB", "copies in memory"),
    ] {
        for l in limits {
            let cpu = l.per_cpu_s.map_or_else(String::new, |r| {
                format!(", {:.1} {unit} a second of processor time", r / 1e9)
            });
            outln!(
                "{of}, {} threads, {}: {:.1} {unit}/s{cpu}",
                l.threads,
                p.instructions,
                l.per_s / 1e9
            )?;
        }
    }
    Ok(OK)
}

/// Hashing files on 1, 2, … threads.
fn hash(c: &Context, a: &BenchArgs) -> Result<u8> {
    let (files, bytes, speeds) = bench_files::hash(a)?;
    if c.global.json {
        let out =
            serde_json::json!({ "what": "hash", "files": files, "bytes": bytes, "steps": a.steps, "speeds": speeds });
        print::json(&out)?;
        return Ok(OK);
    }
    outln!("hash {files} files, {:.1} MB:", bytes as f64 / 1e6)?;
    for s in &speeds {
        let mb = s.bytes_per_s / 1e6;
        let cpu = s.bytes_per_cpu_s.map_or_else(String::new, |b| {
            format!(", {:.1} MB a second of processor time", b / 1e6)
        });
        let threads = s.threads;
        outln!(
            "{threads} threads: {mb:.1} MB/s, {:.1} MB/s a thread{cpu}",
            mb / threads as f64
        )?;
    }
    Ok(OK)
}
