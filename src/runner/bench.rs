//! Throughput of this machine, as median and spread over steps.

use super::Context;
use super::estimate::{self, Machine, Measurement};
use super::usage::{cpu_seconds, peak_rss};
use super::{bench_files, bench_head, bench_peak, products};
use crate::cli::{BenchArgs, BenchPrecision, BenchWhat};
use crate::data::{Labels, Task};
use crate::error::BadInput;
use crate::model::Classifier;
use crate::rng::{Purpose, Stream};
use crate::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use crate::train::loss::Target;
use crate::train::optim::{AdamW, AdamWConfig};
use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use medft_nn::backward;
use medft_nn::precision::scope;
use serde::Serialize;
use std::time::Instant;

/// What was measured; one step is one batch or one file.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub what: String,
    pub subject: String,
    pub batch: usize,
    pub steps: usize,
    pub threads: usize,
    pub device: String,
    pub images_per_s: f64,
    /// Multiply-adds of a forward pass of the backbone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs_per_image: Option<f64>,
    pub seconds_median: f64,
    pub seconds_min: f64,
    pub seconds_max: f64,
    /// Processor time of a step, all threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_seconds_median: Option<f64>,
    /// Floating-point operations of a second of processor time (forward; three times its count for a training step), as a part
    /// of what multiply-adds in registers reach on as many threads: the most that this machine can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop_share: Option<f64>,
    /// Processor time of holding the files against their hashes, as a part of that of decoding (decode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashing_share: Option<f64>,
    /// Speed on features that are read from a table, as a part of that on the same ones on the device (head).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_memory: Option<f64>,
    /// Of the prepared images (decode).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixels_sha256: Option<String>,
    pub peak_rss_bytes: Option<u64>,
    /// The most memory of the device that tensors had at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_device_bytes: Option<u64>,
}

/// Measures decoding, augmenting, a forward pass or a training step; the speed of a model is kept for plans.
///
/// # Errors
/// [`BadInput`] for flags that do not go together and folders without images.
pub fn measure(c: &Context, a: &BenchArgs) -> Result<BenchReport> {
    match a.what {
        BenchWhat::Decode | BenchWhat::Augment | BenchWhat::Hash | BenchWhat::Peak => return images(a),
        BenchWhat::Head => return head(c, a),
        BenchWhat::Forward | BenchWhat::Train => {}
        BenchWhat::Products => return timed_products(c, a),
    }
    let r = model(c, a)?;
    if a.head == HeadKind::Linear && a.images.is_none() {
        estimate::keep(
            c,
            &Measurement {
                what: r.what.clone(),
                backbone: a.backbone.clone(),
                size: a.size,
                machine: Machine::this(c),
                precision: a.precision.of_protocol(),
                images_per_s: r.images_per_s,
            },
        )?;
    }
    Ok(r)
}

fn precision(a: &BenchArgs) -> String {
    match a.precision {
        BenchPrecision::F32 => String::new(),
        p => format!(", {}", format!("{p:?}").to_lowercase()),
    }
}

fn report(device: &Device, a: &BenchArgs, subject: String, batch: usize, mut seconds: Vec<f64>) -> BenchReport {
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    BenchReport {
        cpu_seconds_median: None,
        flop_share: None,
        hashing_share: None,
        of_memory: None,
        what: format!("{:?}", a.what).to_lowercase(),
        subject,
        batch,
        steps: seconds.len(),
        threads: rayon::current_num_threads(),
        device: crate::device::name(device),
        images_per_s: batch as f64 / median,
        macs_per_image: None,
        seconds_median: median,
        seconds_min: seconds[0],
        seconds_max: seconds[seconds.len() - 1],
        pixels_sha256: None,
        peak_rss_bytes: peak_rss(),
        peak_device_bytes: crate::device::peak_memory(device),
    }
}

/// Times the products of a training step on a GPU, then the step itself.
fn timed_products(c: &Context, a: &BenchArgs) -> Result<BenchReport> {
    let chosen = c.opened()?;
    let device = match &*chosen.all {
        [one] if !one.device.is_cpu() => one,
        all => {
            let found = all.iter().map(|d| d.name.as_str()).collect::<Vec<_>>().join(", ");
            let remedy =
                "Name one with --device cuda:N. Products on the CPU are medft's own, of which there is one for each.";
            return Err(BadInput::new(format!("--device {}", c.global.device), "one GPU", found, remedy).into());
        }
    };
    let step = BenchArgs {
        what: BenchWhat::Train,
        ..a.clone()
    };
    let mut report = None;
    let record = products::time(c, device, || {
        report = Some(BenchReport {
            what: "products".to_owned(),
            ..model(c, &step)?
        });
        Ok(())
    })?;
    let other = record.values().filter(|t| t.place > 0).count();
    let (first, taken) = record
        .values()
        .fold((0.0, 0.0), |(f, t), p| (f + p.first_us, t + p.taken_us));
    c.progress.say(&format!(
        "{} products are on record, {other} of them computed otherwise than the library would; all of them once take {taken:.0} µs instead of {first:.0}",
        record.len()
    ));
    report.context("no step was made")
}

/// Steps of a head on features from a table.
fn head(c: &Context, a: &BenchArgs) -> Result<BenchReport> {
    let device = device(c, a)?;
    let model = Classifier::random(&spec(a, Freeze::Frozen), 3, 5, &device)?;
    let of = (&model, &target(a, &device)?, &mut optimiser(&model)?);
    let mut m = bench_head::measure(a, &device, of)?;
    m.device.sort_by(f64::total_cmp);
    let (dims, table, precision) = (m.dims, a.feature_dtype, precision(a));
    let subject = format!("{}, {}, rows of {dims:?} in {table}{precision}", a.backbone, a.head);
    let r = report(&device, a, subject, a.batch, m.table);
    Ok(BenchReport {
        of_memory: Some(m.device[m.device.len() / 2] / r.seconds_median),
        ..r
    })
}

/// The device, where it computes in the precision that is asked for.
fn device(c: &Context, a: &BenchArgs) -> Result<Device> {
    let device = c.device()?;
    if device.is_cpu() && a.precision != BenchPrecision::F32 {
        return Err(BadInput::new(
            "--precision",
            "f32 on the CPU",
            format!("{:?}", a.precision).to_lowercase(),
            "Leave it out, or name a GPU with --device.",
        )
        .into());
    }
    Ok(device)
}

/// A run of the published size on five classes.
fn spec(a: &BenchArgs, freeze: Freeze) -> RunSpec {
    let mut protocol = Protocol::faithful();
    protocol.crop = a.size as u32;
    protocol.checkpointing = a.checkpointing;
    protocol.feature_dtype = a.feature_dtype;
    RunSpec {
        dataset: "bench".into(),
        backbone: a.backbone.clone(),
        scale: Scale::Full,
        freeze,
        head: a.head,
        seed: 0,
        protocol,
    }
}

/// The truth of a batch.
fn target(a: &BenchArgs, device: &Device) -> Result<Target> {
    let labels = Labels::Classes((0..a.batch).map(|i| i as u32 % 5).collect());
    Target::new(Task::MultiClass(5), &labels, device)
}

fn optimiser(m: &Classifier) -> Result<AdamW> {
    let config = AdamWConfig {
        weight_decay: 1e-5,
        layer_decay: 1.0,
        clip: 1.0,
    };
    Ok(AdamW::new(&m.params, config)?)
}

/// A model of the published size with random weights on random images.
fn model(c: &Context, a: &BenchArgs) -> Result<BenchReport> {
    let device = device(c, a)?;
    let spec = match a.what {
        BenchWhat::Train => spec(a, Freeze::Unfrozen),
        _ => spec(a, Freeze::Frozen),
    };
    let m = Classifier::random(&spec, 3, 5, &device)?;
    let (b, s) = (a.batch, a.size);
    let mut r = Stream::new(0, Purpose::Test, 0, 0);
    let x: Vec<f32> = (0..b * 3 * s * s).map(|_| r.uniform_in(-1.0, 1.0) as f32).collect();
    let x = Tensor::from_vec(x, (b, 3, s, s), &device)?;
    let (target, mut optim) = (target(a, &device)?, optimiser(&m)?);
    let mut fed = match (&a.images, a.what) {
        (Some(_), BenchWhat::Train) => Some(bench_files::batches(a, &spec.protocol, c.workers(), &device)?),
        _ => None,
    };
    // Measured before and after: it is a limit that is looked for, and others may be using the machine.
    let limit = || match device.is_cpu() {
        true => bench_peak::flop(rayon::current_num_threads()).per_cpu_s,
        false => None,
    };
    let before = limit();
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    for i in 0..=a.steps {
        let (start, used) = (Instant::now(), cpu_seconds());
        let x = match &mut fed {
            None => x.clone(),
            Some(batches) => batches.next().context("the loader ended early")??.images,
        };
        scope(a.precision.compute(), || -> Result<()> {
            let y = m.forward(&x)?;
            if a.what == BenchWhat::Train {
                optim.step(&backward(&target.loss(&y)?)?, 1e-4)?;
            } else {
                y.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
            }
            Ok(device.synchronize()?)
        })?;
        // The first step warms caches and allocator.
        if i > 0 {
            seconds.push(start.elapsed().as_secs_f64());
            cpu.extend(cpu_seconds().zip(used).map(|(now, then)| now - then));
        }
    }
    let head = if a.head == HeadKind::Mha { " + mha" } else { "" };
    let again = if a.checkpointing { ", checkpointing" } else { "" };
    let precision = precision(a);
    let loaded = if fed.is_some() { ", images from files" } else { "" };
    let subject = format!("{}{head}, {s} px{again}{precision}{loaded}", a.backbone);
    cpu.sort_by(f64::total_cmp);
    let used = cpu.get(cpu.len() / 2).copied();
    let macs = estimate::gmacs(&a.backbone, s as f64).map(|g| g * 1e9);
    let passes = if a.what == BenchWhat::Train { 3.0 } else { 1.0 };
    let flop = macs
        .filter(|_| a.head == HeadKind::Linear)
        .map(|m| 2.0 * m * passes * b as f64);
    let limit = before.zip(limit()).map(|(x, y)| x.max(y));
    Ok(BenchReport {
        cpu_seconds_median: used,
        macs_per_image: macs,
        flop_share: flop.zip(used).zip(limit).map(|((f, s), most)| f / s / most),
        ..report(&device, a, subject, b, seconds)
    })
}

/// Decoding or augmenting images on one thread.
fn images(a: &BenchArgs) -> Result<BenchReport> {
    let mut m = bench_files::images(a)?;
    m.cpu.sort_by(f64::total_cmp);
    let subject = format!("{} files, one thread", m.files);
    Ok(BenchReport {
        threads: 1,
        cpu_seconds_median: m.cpu.get(m.cpu.len() / 2).copied(),
        hashing_share: m.hashing,
        pixels_sha256: m.pixels,
        ..report(&Device::Cpu, a, subject, m.files, m.seconds)
    })
}
