//! What `medft bench` does with files: the image path of one core, batches for training, and how hashing grows with threads.

use super::usage::cpu_seconds;
use crate::cache::Cache;
use crate::cli::{BenchArgs, BenchWhat};
use crate::data::cache::DiskCache;
use crate::data::loader::{BatchesOnto, Images, LoaderOptions, ViewMode};
use crate::data::transform::Transform;
use crate::data::{Dataset, DatasetReader, Labels, Pixels, Sample, decode, registry};
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::hash::{hash_many, quiet};
use crate::rng::{Purpose, Stream};
use crate::study::Protocol;
use anyhow::{Context as _, Result};
use candle_core::Device;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Bytes of each of the files that are hashed where none are named, and how many there are.
const DRAWN: (usize, usize) = (64 << 20, 4);

/// What was measured over some files; one step is a pass over all of them.
pub struct Measured {
    pub files: usize,
    /// Of each step, the first left out.
    pub seconds: Vec<f64>,
    pub cpu: Vec<f64>,
    /// Seconds of processor time for all files' hashes as a part of those for decoding and preparing them.
    pub hashing: Option<f64>,
    /// SHA-256 over the pixels of all images in order of their paths: what another decoder must give.
    pub pixels: Option<String>,
}

/// Hashing on some number of threads.
#[derive(Debug, Serialize)]
pub struct HashSpeed {
    pub threads: usize,
    pub bytes_per_s: f64,
    /// Bytes a second of processor time, reading included.
    pub bytes_per_cpu_s: Option<f64>,
    /// Seconds of a pass, median.
    pub seconds_median: f64,
}

/// Times one stretch of work after the other.
#[derive(Default)]
struct Watch {
    seconds: f64,
    cpu: f64,
}

impl Watch {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (start, used) = (Instant::now(), cpu_seconds());
        let out = work();
        self.seconds += start.elapsed().as_secs_f64();
        self.cpu += cpu_seconds().zip(used).map_or(0.0, |(now, then)| now - then);
        out
    }
}

/// A folder of images, drawn for the purpose where none is named.
struct Folder {
    dir: PathBuf,
    paths: Vec<PathBuf>,
    _drawn: Option<tempfile::TempDir>,
}

/// The data set that stands for photographs: the first of the paper in colour.
fn photographs() -> Result<&'static dyn DatasetReader> {
    let p = Protocol::faithful();
    let found = registry::all()
        .into_iter()
        .find(|s| s.of_paper() && s.info(&p).channels == 3);
    found.context("no data set of photographs")
}

impl Folder {
    fn open(a: &BenchArgs) -> Result<Self> {
        let (dir, drawn) = match &a.images {
            Some(d) => (d.clone(), None),
            None => {
                let drawn = tempfile::tempdir()?;
                let photographs = photographs()?;
                photographs.synth(drawn.path(), photographs.phantom_images())?;
                (drawn.path().to_path_buf(), Some(drawn))
            }
        };
        let image = |p: &Path| {
            let end = p.extension().unwrap_or_default();
            ["jpg", "jpeg", "png"].iter().any(|k| end.eq_ignore_ascii_case(k))
        };
        let paths = files(&dir, &image)?;
        if paths.is_empty() {
            return Err(BadInput::new(dir.display(), "JPEG or PNG files", "none", "Name a folder with images.").into());
        }
        Ok(Self {
            dir,
            paths,
            _drawn: drawn,
        })
    }

    /// Its images as a data set of one class, in no split.
    fn dataset(&self, a: &BenchArgs, p: &Protocol) -> Result<Dataset> {
        let mut info = photographs()?.info(p);
        (info.name, info.channels) = ("bench", a.channels);
        (info.mean, info.std) = (vec![MEAN; a.channels], vec![STD; a.channels]);
        let sample = |path: &PathBuf| -> Result<Sample> {
            let below = path.strip_prefix(&self.dir)?;
            Ok(Sample {
                id: below.display().to_string(),
                group: None,
                pixels: Pixels::File(below.to_path_buf()),
            })
        };
        Ok(Dataset {
            info,
            root: self.dir.clone().into(),
            samples: self.paths.iter().map(sample).collect::<Result<_>>()?,
            labels: Labels::Classes(vec![0; self.paths.len()]),
            train: Vec::new(),
            val: Vec::new(),
            test: Vec::new(),
        })
    }
}

/// Statistics that images are normalised with.
const MEAN: f32 = 0.5;
const STD: f32 = 0.25;

/// Batches for `medft bench train --images`: the folder's images over and over, decoded once, augmented for every batch, and
/// brought to the device by the loader.
///
/// # Errors
/// As [`images`].
pub fn batches(a: &BenchArgs, p: &Protocol, workers: usize, device: &Device) -> Result<BatchesOnto> {
    let folder = Folder::open(a)?;
    let mut data = folder.dataset(a, p)?;
    let n = data.samples.len() as u32;
    data.train = (0..n).collect();
    let images = Images::prepare(&data, p, &LoaderOptions::new(workers), &|_, _| {})?;
    let wanted: Vec<u32> = (0..n).cycle().take(a.batch * (a.steps + 1)).collect();
    let mode = ViewMode::Train { seed: 0, epoch: 1 };
    Ok(images.batches(&wanted, mode, a.batch, true).onto(device))
}

/// Decodes and prepares every image in each step, or takes it from a cache and augments it; one thread. Reading the files is
/// not counted, reading the cache is.
///
/// # Errors
/// [`BadInput`] for a folder without images, and for an image that cannot be decoded.
pub fn images(a: &BenchArgs) -> Result<Measured> {
    let folder = Folder::open(a)?;
    let p = Protocol::faithful();
    let t = Transform::new(&p, &vec![MEAN; a.channels], &vec![STD; a.channels])?;
    match a.what {
        BenchWhat::Augment => augment(a, &folder, &p, &t),
        _ => prepare(a, &folder.paths, &p, &t),
    }
}

fn prepare(a: &BenchArgs, paths: &[PathBuf], p: &Protocol, t: &Transform) -> Result<Measured> {
    let (mut seconds, mut cpu, mut hashing) = (Vec::new(), Vec::new(), Vec::new());
    let mut pixels = Sha256::new();
    for round in 0..=a.steps {
        let (mut watch, mut hash) = (Watch::default(), Watch::default());
        for path in paths {
            let file = fsio::read(path)?;
            // As it is held against its list in a run.
            hash.time(|| std::hint::black_box(Sha256::digest(&file)));
            let small = watch
                .time(|| decode::decode(&file, a.channels, p.image_loading).map(|img| t.prepare(&img)))
                .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
            if round == 0 {
                pixels.update(&small.data);
            }
        }
        if round > 0 {
            seconds.push(watch.seconds);
            cpu.push(watch.cpu);
            hashing.push(hash.cpu / watch.cpu);
        }
    }
    Ok(Measured {
        files: paths.len(),
        seconds,
        cpu,
        hashing: Some(median(&mut hashing)).filter(|h| h.is_finite()),
        pixels: Some(fsio::hex(&pixels.finalize())),
    })
}

fn augment(a: &BenchArgs, folder: &Folder, p: &Protocol, t: &Transform) -> Result<Measured> {
    let data = folder.dataset(a, p)?;
    let paths = &folder.paths;
    let used: Vec<u32> = (0..paths.len() as u32).collect();
    let place = tempfile::tempdir()?;
    let cache = DiskCache::open(
        &Cache::below(place.path(), None),
        &data,
        &used,
        t.preparation(),
        &|_, _| {},
    )?;
    let mut out = vec![0f32; t.len()];
    let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
    for round in 0..=a.steps {
        let mut watch = Watch::default();
        for i in 0..paths.len() {
            let mut s = Stream::new(0, Purpose::Augment, round as u32, i as u32);
            watch.time(|| {
                let small = cache.get(i).context("a record of the new cache is damaged")?;
                t.finish_train(&small, &mut s, &mut out);
                anyhow::Ok(())
            })?;
            std::hint::black_box(&out);
        }
        if round > 0 {
            seconds.push(watch.seconds);
            cpu.push(watch.cpu);
        }
    }
    Ok(Measured {
        files: paths.len(),
        seconds,
        cpu,
        hashing: None,
        pixels: None,
    })
}

/// Hashes all files of a folder (default: some drawn for the purpose) as `medft data verify --full` does, on 1, 2, 4, … threads
/// up to the number of cores; returns how many files, their bytes, and a speed for each.
///
/// # Errors
/// When a file cannot be read, or the drawn ones cannot be written.
pub fn hash(a: &BenchArgs) -> Result<(usize, u64, Vec<HashSpeed>)> {
    let keep;
    let dir: &Path = match &a.images {
        Some(d) => d,
        None => {
            keep = tempfile::tempdir()?;
            let bytes: Vec<u8> = (0..DRAWN.0 as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            for i in 0..DRAWN.1 {
                fsio::write_atomic(&keep.path().join(i.to_string()), &bytes)?;
            }
            keep.path()
        }
    };
    let paths = files(dir, &|_| true)?;
    let jobs = paths
        .iter()
        .map(|p| Ok((p.as_path(), std::fs::metadata(p)?.len())))
        .collect::<Result<Vec<_>>>()?;
    let bytes: u64 = jobs.iter().map(|j| j.1).sum();
    if bytes == 0 {
        return Err(BadInput::new(dir.display(), "files to hash", "none", "Name a folder with files.").into());
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut speeds = Vec::new();
    for threads in (0..).map(|n| 1usize << n).take_while(|&n| n == 1 || n <= cores) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let (mut seconds, mut cpu) = (Vec::new(), Vec::new());
        // The first pass brings the files into memory.
        for round in 0..=a.steps {
            let mut watch = Watch::default();
            for hashed in watch.time(|| pool.install(|| hash_many(&jobs, &quiet))) {
                hashed.with_context(|| format!("cannot hash the files of {}", dir.display()))?;
            }
            if round > 0 {
                seconds.push(watch.seconds);
                cpu.push(watch.cpu);
            }
        }
        let (seconds, cpu) = (median(&mut seconds), median(&mut cpu));
        speeds.push(HashSpeed {
            threads,
            bytes_per_s: bytes as f64 / seconds,
            bytes_per_cpu_s: (cpu > 0.0).then(|| bytes as f64 / cpu),
            seconds_median: seconds,
        });
    }
    Ok((jobs.len(), bytes, speeds))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Files below a folder, sorted by path.
fn files(dir: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    fn walk(dir: &Path, wanted: &dyn Fn(&Path) -> bool, out: &mut Vec<PathBuf>) -> Result<()> {
        for e in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
            let p = e?.path();
            if p.is_dir() {
                walk(&p, wanted, out)?;
            } else if wanted(&p) {
                out.push(p);
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    walk(dir, wanted, &mut out)?;
    out.sort();
    Ok(out)
}
