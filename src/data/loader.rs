//! From indices to batches of normalised pixels, in order, the same for any number of threads.
//!
//! Images are decoded and resized once where they fit in memory; larger sets are decoded batch by batch. What is random
//! about an image hangs on (seed, epoch, image index) alone, so neither the batch it is in nor the thread it runs on matters.

use super::transform::Transform;
use super::{Dataset, ImageArray};
use crate::rng::{Purpose, Stream};
use crate::study::Protocol;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use rayon::ThreadPool;
use rayon::prelude::*;
use std::collections::BTreeSet;

/// Which transform a batch goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Val,
    Train { seed: u64, epoch: u32 },
}

/// Prepared sets up to this many bytes are held in memory.
const MEMORY: usize = 4 << 30;

/// A data set's images under one transform.
pub struct Images {
    transform: Transform,
    /// By sample index; `None` where the set is too large to hold or the sample is in no split.
    prepared: Vec<Option<ImageArray>>,
    pool: ThreadPool,
}

/// Images (B, C, H, W), normalised float32, and the sample indices they are of.
pub struct Batch {
    pub indices: Vec<u32>,
    dims: [usize; 4],
    pixels: Vec<f32>,
}

impl Batch {
    /// The images as a tensor (B, C, H, W).
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.pixels, &self.dims[..], device)?)
    }
}

impl Images {
    /// Decodes and resizes what fits in memory; `progress` hears (done, of).
    ///
    /// # Errors
    /// [`crate::error::BadInput`] naming a file that is missing, truncated or no image.
    pub fn prepare(
        data: &Dataset,
        p: &Protocol,
        workers: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let transform = Transform::new(p, &data.info.mean, &data.info.std)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(workers)
            .build()
            .context("cannot start loader threads")?;
        let used: BTreeSet<u32> = [&data.train, &data.val, &data.test].into_iter().flatten().copied().collect();
        let mut prepared = vec![None; data.samples.len()];
        if used.len() * transform.len() <= MEMORY {
            let done = std::sync::atomic::AtomicUsize::new(0);
            let used: Vec<u32> = used.into_iter().collect();
            let images: Vec<(u32, ImageArray)> = pool.install(|| {
                used.par_iter()
                    .map(|&i| {
                        let img = transform.preparation().open(&data.root, &data.samples[i as usize])?;
                        let n = done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        progress(n + 1, used.len());
                        Ok((i, img))
                    })
                    .collect::<Result<_>>()
            })?;
            for (i, img) in images {
                prepared[i as usize] = Some(img);
            }
        }
        Ok(Self {
            transform,
            prepared,
            pool,
        })
    }

    /// Batches of `indices` in order; an incomplete last one is dropped where `drop_last`.
    pub fn batches<'a>(
        &'a self,
        data: &'a Dataset,
        indices: &'a [u32],
        mode: Mode,
        batch: usize,
        drop_last: bool,
    ) -> impl Iterator<Item = Result<Batch>> + 'a {
        let n = if drop_last { indices.len() / batch * batch } else { indices.len() };
        indices[..n].chunks(batch).map(move |c| self.batch(data, c, mode))
    }

    fn batch(&self, data: &Dataset, indices: &[u32], mode: Mode) -> Result<Batch> {
        let (channels, side) = (data.info.channels, self.transform.preparation().side());
        let len = channels * side * side;
        let mut pixels = vec![0f32; indices.len() * len];
        self.pool.install(|| {
            pixels
                .par_chunks_mut(len)
                .zip(indices)
                .try_for_each(|(out, &i)| self.one(data, i, mode, out))
        })?;
        Ok(Batch {
            indices: indices.to_vec(),
            dims: [indices.len(), channels, side, side],
            pixels,
        })
    }

    fn one(&self, data: &Dataset, i: u32, mode: Mode, out: &mut [f32]) -> Result<()> {
        let fresh;
        let img = match &self.prepared[i as usize] {
            Some(img) => img,
            None => {
                fresh = self.transform.preparation().open(&data.root, &data.samples[i as usize])?;
                &fresh
            }
        };
        match mode {
            Mode::Val => self.transform.finish_val(img, out),
            Mode::Train { seed, epoch } => {
                let mut s = Stream::new(seed, Purpose::Augment, epoch, i);
                self.transform.finish_train(img, &mut s, out);
            }
        }
        Ok(())
    }
}
