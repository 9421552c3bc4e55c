//! `medft bench`: throughput of this machine, as median and spread over steps.

use super::estimate::{self, Machine, Measurement};
use super::{Context, OK};
use crate::cli::{BenchArgs, BenchWhat};
use crate::data::{Label, Task};
use crate::error::BadInput;
use crate::model::Classifier;
use crate::model::layers::backward;
use crate::rng::{Purpose, Stream};
use crate::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use crate::train::loss::Target;
use crate::train::optim::{AdamW, AdamWConfig};
use anyhow::Result;
use candle_core::{Device, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What was measured; one step is one batch or one file.
#[derive(Debug, Serialize)]
struct Report {
    what: String,
    subject: String,
    batch: usize,
    steps: usize,
    threads: usize,
    device: String,
    images_per_s: f64,
    seconds_median: f64,
    seconds_min: f64,
    seconds_max: f64,
    /// Processor time of a step, all threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds_median: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_s: Option<f64>,
    peak_rss_bytes: Option<u64>,
}

pub fn run(c: &Context, a: &BenchArgs) -> Result<u8> {
    let r = match a.what {
        BenchWhat::Forward | BenchWhat::Train => {
            let r = model(c, a)?;
            if a.head == HeadKind::Linear {
                estimate::keep(
                    c,
                    &Measurement {
                        what: r.what.clone(),
                        backbone: a.backbone.clone(),
                        size: a.size,
                        machine: Machine::this(c),
                        images_per_s: r.images_per_s,
                    },
                )?;
            }
            r
        }
        BenchWhat::Decode | BenchWhat::Augment | BenchWhat::Hash => files(a)?,
    };
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&r)?);
    } else {
        println!(
            "{} {}: {:.2} images/s (median of {}; {:.3} s a step, {:.3} to {:.3})",
            r.what, r.subject, r.images_per_s, r.steps, r.seconds_median, r.seconds_min, r.seconds_max
        );
        if let Some(b) = r.bytes_per_s {
            println!("{:.1} MB/s", b / 1e6);
        }
        if let Some(b) = r.peak_rss_bytes {
            println!("peak memory {:.2} GiB", b as f64 / (1u64 << 30) as f64);
        }
    }
    Ok(OK)
}

fn report(
    device: &Device,
    a: &BenchArgs,
    subject: String,
    batch: usize,
    mut seconds: Vec<f64>,
    bytes: Option<f64>,
) -> Report {
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    Report {
        cpu_seconds_median: None,
        what: format!("{:?}", a.what).to_lowercase(),
        subject,
        batch,
        steps: seconds.len(),
        threads: rayon::current_num_threads(),
        device: crate::device::name(device),
        images_per_s: batch as f64 / median,
        seconds_median: median,
        seconds_min: seconds[0],
        seconds_max: seconds[seconds.len() - 1],
        bytes_per_s: bytes.map(|b| b / median),
        peak_rss_bytes: peak_rss(),
    }
}

/// A model of the published size with random weights on random images.
fn model(c: &Context, a: &BenchArgs) -> Result<Report> {
    let device = c.device()?;
    let mut protocol = Protocol::faithful();
    protocol.crop = a.size as u32;
    protocol.checkpointing = a.checkpointing;
    let spec = RunSpec {
        dataset: "bench".into(),
        backbone: a.backbone.clone(),
        scale: Scale::Full,
        freeze: if a.what == BenchWhat::Train {
            Freeze::Unfrozen
        } else {
            Freeze::Frozen
        },
        head: a.head,
        seed: 0,
        protocol,
    };
    let m = Classifier::random(&spec, 3, 5, &device)?;
    let (b, s) = (a.batch, a.size);
    let mut r = Stream::new(0, Purpose::Test, 0, 0);
    let x: Vec<f32> = (0..b * 3 * s * s).map(|_| r.uniform_in(-1.0, 1.0) as f32).collect();
    let x = Tensor::from_vec(x, (b, 3, s, s), &device)?;
    let labels: Vec<Label> = (0..b).map(|i| Label::Class(i as u32 % 5)).collect();
    let target = Target::new(Task::MultiClass(5), &labels, &device)?;
    let mut optim = AdamW::new(
        &m.params,
        AdamWConfig {
            weight_decay: 1e-5,
            layer_decay: 1.0,
            clip: 1.0,
        },
    )?;
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    for i in 0..=a.steps {
        let (start, used) = (Instant::now(), cpu_seconds());
        let y = m.forward(&x)?;
        if a.what == BenchWhat::Train {
            optim.step(&backward(&target.loss(&y)?)?, 1e-4)?;
        } else {
            y.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        }
        // The first step warms caches and allocator.
        if i > 0 {
            seconds.push(start.elapsed().as_secs_f64());
            cpu.extend(cpu_seconds().zip(used).map(|(now, then)| now - then));
        }
    }
    let head = if a.head == HeadKind::Mha { " + mha" } else { "" };
    let again = if a.checkpointing { ", checkpointing" } else { "" };
    let subject = format!("{}{head}, {s} px{again}", a.backbone);
    cpu.sort_by(f64::total_cmp);
    Ok(Report {
        cpu_seconds_median: cpu.get(cpu.len() / 2).copied(),
        ..report(&device, a, subject, b, seconds, None)
    })
}

/// Processor time of this process so far, user and system, all threads.
#[cfg(unix)]
fn cpu_seconds() -> Option<f64> {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes the struct it is given.
    let code = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut t) };
    (code == 0).then_some(t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9)
}

#[cfg(not(unix))]
fn cpu_seconds() -> Option<f64> {
    None
}

/// Decoding, augmenting and hashing, one thread a file.
fn files(a: &BenchArgs) -> Result<Report> {
    let keep;
    let dir: &Path = match &a.images {
        Some(d) => d,
        None => {
            keep = tempfile::tempdir()?;
            let source = crate::data::registry::find("isic2019")?;
            source.synth(keep.path(), crate::data::registry::phantom_images("isic2019"))?;
            keep.path()
        }
    };
    let mut paths = Vec::new();
    collect(dir, &mut paths)?;
    paths.sort();
    if paths.is_empty() {
        return Err(BadInput::new(dir.display(), "JPEG or PNG files", "none", "Name a folder with images.").into());
    }
    let p = Protocol::faithful();
    let t = crate::data::transform::Transform::new(&p, &[0.5; 3], &[0.25; 3])?;
    let mut out = vec![0f32; t.len()];
    let (mut seconds, mut bytes) = (Vec::new(), 0.0);
    for round in 0..=a.steps {
        let (mut spent, mut total) = (0.0, 0u64);
        for (i, path) in paths.iter().enumerate() {
            let file = crate::fsio::read(path)?;
            total += file.len() as u64;
            let start = Instant::now();
            match a.what {
                BenchWhat::Hash => {
                    std::hint::black_box(crate::fsio::sha256_hex(&file));
                    spent += start.elapsed().as_secs_f64();
                }
                _ => {
                    let img = crate::data::decode::decode(&file, 3, p.image_loading)
                        .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
                    let small = t.prepare(&img);
                    if a.what == BenchWhat::Decode {
                        spent += start.elapsed().as_secs_f64();
                    } else {
                        let mut s = Stream::new(0, Purpose::Augment, round as u32, i as u32);
                        let start = Instant::now();
                        t.finish_train(&small, &mut s, &mut out);
                        spent += start.elapsed().as_secs_f64();
                    }
                }
            }
        }
        if round > 0 {
            seconds.push(spent);
        }
        bytes = total as f64;
    }
    let bytes = (a.what == BenchWhat::Hash).then_some(bytes);
    Ok(report(
        &Device::Cpu,
        a,
        format!("{} files, one thread", paths.len()),
        paths.len(),
        seconds,
        bytes,
    ))
}

fn collect(dir: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for e in std::fs::read_dir(dir)? {
        let p = e?.path();
        if p.is_dir() {
            collect(&p, out)?;
        } else if p
            .extension()
            .is_some_and(|x| ["jpg", "jpeg", "png"].iter().any(|k| x.eq_ignore_ascii_case(k)))
        {
            out.push(p);
        }
    }
    Ok(())
}

/// The largest memory this process has had, in bytes.
fn peak_rss() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
