//! From indices to batches of normalised pixels: in order, ahead of the consumer, the same for any number of threads.
//!
//! What is random about an image depends on (seed, epoch, sample index) alone, so neither the batch it is in nor the thread it
//! runs on matters. The prepared images (see [`super::transform`]) come from memory, from a [`DiskCache`] or straight from the
//! files; this is a question of speed and never of results.
//!
//! A [`Batches`] owns one producer thread, which fills batch after batch with a few helpers and waits when two batches are
//! finished. Dropping the iterator stops the work within an image and joins the threads.

mod batches;
mod onto;

pub use batches::{Batch, Batches};
pub use onto::{BatchesOnto, DeviceBatch};

use super::cache::{DiskCache, Unreadable};
use super::transform::Transform;
use super::{Dataset, ImageArray, Pixels};
use crate::cache::Cache;
use crate::error::BadInput;
use crate::rng::{Purpose, Stream};
use crate::spec::Protocol;
use crate::spec::protocol::{Augment, Normalisation};
use crate::threads::on_threads;
use anyhow::{Context, Result};
use rayon::prelude::*;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Which transform an image goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ViewMode {
    /// As in validation and test; nothing is random.
    Val,
    /// As in training; the view of a sample is drawn from the stream (`seed`, Augment, `epoch`, sample index).
    Train { seed: u64, epoch: u32 },
}

impl ViewMode {
    /// What `epoch` (from 1) of a run with this seed sees of the training images. Where the protocol has a number of `views`,
    /// these are the first epochs' of seed 0, in turn.
    pub fn training(p: &Protocol, seed: u64, epoch: u32) -> Self {
        match (p.augment, p.views) {
            (Augment::None, _) => Self::Val,
            (_, 0) => Self::Train { seed, epoch },
            (_, views) => Self::Train {
                seed: 0,
                epoch: (epoch - 1) % views + 1,
            },
        }
    }

    /// All that a run sees of the training images in turn, where that is the same for every seed.
    pub fn of_all_seeds(p: &Protocol) -> Vec<Self> {
        let views = match (p.augment, p.views) {
            (Augment::None, _) => 1,
            (_, views) => views.min(p.epochs),
        };
        (1..=views).map(|epoch| Self::training(p, 0, epoch)).collect()
    }
}

/// Prepared bytes from which a disk cache is worth it.
pub const WORTH_CACHING: usize = 64 << 20;

/// How images are kept between epochs.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Threads that decode and augment, at least 1.
    pub workers: usize,
    /// Where prepared images of file-based data sets may be kept between runs.
    pub cache: Option<Cache>,
    /// Sets of fewer prepared bytes are not worth a cache: they are decoded in a second or two.
    pub worth_caching: usize,
    /// Bytes of memory that prepared images may take.
    pub memory: usize,
}

impl LoaderOptions {
    /// No disk cache; a quarter of the memory that is free now.
    pub fn new(workers: usize) -> Self {
        Self {
            workers: workers.max(1),
            cache: None,
            worth_caching: WORTH_CACHING,
            memory: free_memory() / 4,
        }
    }

    /// With a disk cache. `MEDFT_IMAGE_CACHE_FROM` (bytes) sets from which size of a set it is used: tests have it for sets of a
    /// few images.
    pub fn cached(workers: usize, cache: Cache) -> Self {
        let asked = std::env::var("MEDFT_IMAGE_CACHE_FROM")
            .ok()
            .and_then(|n| n.parse().ok());
        Self {
            cache: Some(cache),
            worth_caching: asked.unwrap_or(WORTH_CACHING),
            ..Self::new(workers)
        }
    }
}

/// Bytes of memory that programs can still take; 4 GiB where the system does not say.
fn free_memory() -> usize {
    let free = crate::machine::free_memory().and_then(|b| usize::try_from(b).ok());
    free.unwrap_or(4 << 30)
}

/// A data set's images under one transform.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
    /// The transform of these batches; what is held was prepared by its deterministic part.
    transform: Transform,
    workers: usize,
}

struct Inner {
    data: Dataset,
    store: ImageStore,
}

/// Where prepared images come from.
enum ImageStore {
    /// Each time from the source.
    Source,
    /// By sample index; `None` where the sample is in no split.
    Memory(Vec<Option<ImageArray>>),
    /// The cache, and for each sample index the position in it.
    Disk(DiskCache, Vec<Option<u32>>),
}

impl Images {
    /// Prepares the images of all splits, normalised with the data set's statistics. File-based sets that are not small go
    /// through the disk cache if there is one; others are held in memory if they fit, or prepared each time they are needed.
    /// `progress` is called with (images ready, images in all), from any thread.
    ///
    /// # Errors
    /// [`BadInput`] naming every image that is missing, truncated or no image, or a cache that cannot be written; also
    /// for a protocol that wants the backbone's statistics (Q19), which come through [`Images::with_transform`].
    pub fn prepare(
        data: &Dataset,
        p: &Protocol,
        options: &LoaderOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        if p.normalisation != Normalisation::Dataset {
            let remedy = "Set `normalisation = \"dataset\"` in the study.";
            return Err(BadInput::new(
                "protocol",
                "the data set's own statistics",
                "normalisation = backbone",
                remedy,
            )
            .into());
        }
        let transform = Transform::new(p, &data.info.mean, &data.info.std)?;
        Self::with_transform(data, transform, options, progress)
    }

    /// As [`Images::prepare`], with a transform of the caller's (other statistics, for instance).
    ///
    /// # Errors
    /// As [`Images::prepare`].
    pub fn with_transform(
        data: &Dataset,
        transform: Transform,
        options: &LoaderOptions,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let used: BTreeSet<u32> = [&data.train, &data.val, &data.test]
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let used: Vec<u32> = used.into_iter().collect();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(options.workers);
        let pool = pool.build().context("cannot start threads for decoding")?;
        let preparation = transform.preparation();
        let files = used
            .iter()
            .any(|&i| matches!(data.samples[i as usize].pixels, Pixels::File(_)));
        let bytes = used.len().saturating_mul(preparation.bytes());
        let store = match &options.cache {
            Some(cache) if files && bytes >= options.worth_caching => {
                let cache = pool.install(|| DiskCache::open(cache, data, &used, preparation, progress))?;
                let mut positions = vec![None; data.samples.len()];
                for (at, &i) in (0..).zip(&used) {
                    positions[i as usize] = Some(at);
                }
                ImageStore::Disk(cache, positions)
            }
            _ if bytes <= options.memory => {
                let done = AtomicUsize::new(0);
                let one = |&i: &u32| -> Result<ImageArray> {
                    let img = preparation.open(&data.root, &data.samples[i as usize])?;
                    progress(done.fetch_add(1, Ordering::Relaxed) + 1, used.len());
                    Ok(img)
                };
                // All results, and then every error in order: one complaint, the same whichever thread was faster.
                let images: Vec<Result<ImageArray>> = pool.install(|| used.par_iter().map(one).collect());
                let mut held = vec![None; data.samples.len()];
                let mut unreadable = Unreadable::default();
                for (&i, img) in used.iter().zip(images) {
                    match img {
                        Ok(img) => held[i as usize] = Some(img),
                        Err(e) => unreadable.files.push(e),
                    }
                }
                unreadable.none()?;
                ImageStore::Memory(held)
            }
            _ => ImageStore::Source,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                data: data.clone(),
                store,
            }),
            transform,
            workers: options.workers.max(1),
        })
    }

    /// The transform, for its sizes.
    pub fn transform(&self) -> &Transform {
        &self.transform
    }

    /// The same images in memory, with the training views of another protocol whose images are these
    /// ([`crate::spec::RunSpec::image_key`]).
    ///
    /// # Errors
    /// As [`Transform::viewed_by`].
    pub fn viewed_by(&self, p: &Protocol) -> Result<Self> {
        Ok(Self {
            transform: self.transform.viewed_by(p)?,
            ..self.clone()
        })
    }

    /// Batches of `indices` (of samples) in order; an incomplete last one is dropped where `drop_last`. Nothing is shuffled
    /// here: the caller's order is the order (for training: [`epoch_order`]).
    ///
    /// # Errors
    /// The iterator ends with the first error, in order: a [`BadInput`] that names the image.
    pub fn batches(&self, indices: &[u32], mode: ViewMode, batch: usize, drop_last: bool) -> Batches {
        let batch = batch.max(1);
        let n = if drop_last {
            indices.len() / batch * batch
        } else {
            indices.len()
        };
        Batches::start(self, indices[..n].to_vec(), mode, batch)
    }
}

/// The order of one epoch of training: `indices` shuffled by the stream (`seed`, Shuffle, `epoch`, 0).
pub fn epoch_order(indices: &[u32], seed: u64, epoch: u32) -> Vec<u32> {
    let mut order = indices.to_vec();
    Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
    order
}

impl Inner {
    /// The prepared image of a sample.
    fn prepared(&self, transform: &Transform, index: u32) -> Result<Cow<'_, ImageArray>> {
        let sample = &self.data.samples[index as usize];
        let kept = match &self.store {
            ImageStore::Source => None,
            ImageStore::Memory(held) => held[index as usize].as_ref().map(Cow::Borrowed),
            ImageStore::Disk(cache, positions) => positions[index as usize]
                .and_then(|p| cache.get(p as usize))
                .map(Cow::Owned),
        };
        match kept {
            Some(img) => Ok(img),
            None => Ok(Cow::Owned(transform.preparation().open(&self.data.root, sample)?)),
        }
    }

    /// Writes one image into its slot of a batch.
    fn fill(&self, transform: &Transform, index: u32, mode: ViewMode, out: &mut [f32]) -> Result<()> {
        let img = self.prepared(transform, index)?;
        match mode {
            ViewMode::Val => transform.finish_val(&img, out),
            ViewMode::Train { seed, epoch } => {
                let mut stream = Stream::new(seed, Purpose::Augment, epoch, index);
                transform.finish_train(&img, &mut stream, out);
            }
        }
        Ok(())
    }

    /// Fills the slots of a batch with `workers` threads; stops early (with whatever is there) when `stop` is set.
    fn fill_all(
        &self,
        transform: &Transform,
        indices: &[u32],
        mode: ViewMode,
        workers: usize,
        stop: &AtomicBool,
        pixels: &mut [f32],
    ) -> Result<()> {
        let slots = pixels.chunks_exact_mut(transform.len()).zip(indices).enumerate();
        let queue = Mutex::new(slots);
        let failure: Mutex<Option<(usize, anyhow::Error)>> = Mutex::new(None);
        let failed = AtomicBool::new(false);
        let work = || {
            while !stop.load(Ordering::Relaxed) && !failed.load(Ordering::Relaxed) {
                let Some((at, (out, &index))) = lock(&queue).next() else {
                    return;
                };
                if let Err(e) = self.fill(transform, index, mode, out) {
                    failed.store(true, Ordering::Relaxed);
                    // Slots are taken in order and finished once taken, so the first failing one is always among them.
                    let mut first = lock(&failure);
                    if first.as_ref().is_none_or(|(other, _)| at < *other) {
                        *first = Some((at, e));
                    }
                }
            }
        };
        on_threads(workers.min(indices.len()), work);
        match failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some((_, e)) => Err(e),
            None => Ok(()),
        }
    }
}

/// A panic in another thread is reported where that thread is joined.
fn lock<T>(m: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    m.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests;
