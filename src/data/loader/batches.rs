//! Batches of pixels, filled ahead of their consumer by one producer thread.

use super::{Images, ViewMode};
use crate::data::Labels;
use anyhow::{Result, anyhow};
use candle_core::{Device, Tensor};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// Finished batches that may wait for the consumer.
pub(super) const AHEAD: usize = 2;

/// Images (B, C, H, W), normalised float32, with their truth. Its memory goes back to the loader when it is dropped.
pub struct Batch {
    /// Sample indices, in the order of the images.
    pub indices: Vec<u32>,
    /// The truth of each image.
    pub labels: Labels,
    /// B, C, H, W.
    pub dims: [usize; 4],
    /// B · C · H · W values.
    pub pixels: Vec<f32>,
    home: Sender<Vec<f32>>,
}

impl Batch {
    /// The images as a tensor (B, C, H, W).
    ///
    /// # Errors
    /// Where the device has no memory for it.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_slice(&self.pixels, &self.dims[..], device)?)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // The loader may be gone; then the memory is freed.
        let _ = self.home.send(std::mem::take(&mut self.pixels));
    }
}

/// The iterator over batches; see [`Images::batches`].
pub struct Batches {
    ready: Option<Receiver<Result<Batch>>>,
    producer: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl Batches {
    pub(super) fn start(images: &Images, indices: Vec<u32>, mode: ViewMode, batch: usize) -> Self {
        let (send, ready) = mpsc::sync_channel(AHEAD);
        let stop = Arc::new(AtomicBool::new(false));
        let (images, stopped) = (images.clone(), stop.clone());
        let refused = send.clone();
        let run = move || produce(&images, &indices, mode, batch, &stopped, &send);
        let producer = std::thread::Builder::new().spawn(run);
        let producer = producer.map_err(|e| {
            // There is room for it: nothing was sent yet.
            let _ = refused.send(Err(anyhow!("cannot start a thread to load images: {e}")));
        });
        drop(refused);
        Self {
            ready: Some(ready),
            producer: producer.ok(),
            stop,
        }
    }

    /// Ends the work and reports a panic in it.
    fn finish(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.ready = None;
        match self.producer.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(anyhow!("a loader thread panicked; the message is above")),
            _ => Ok(()),
        }
    }
}

fn produce(
    images: &Images,
    indices: &[u32],
    mode: ViewMode,
    batch: usize,
    stop: &AtomicBool,
    send: &SyncSender<Result<Batch>>,
) {
    let (inner, transform) = (&images.inner, &images.transform);
    let preparation = transform.preparation();
    let (home, used) = mpsc::channel::<Vec<f32>>();
    for indices in indices.chunks(batch) {
        let mut pixels = used.try_iter().find(|v| v.capacity() > 0).unwrap_or_default();
        pixels.resize(indices.len() * transform.len(), 0.0);
        let filled = inner.fill_all(transform, indices, mode, images.workers, stop, &mut pixels);
        let failed = filled.is_err();
        let item = filled.map(|()| Batch {
            indices: indices.to_vec(),
            labels: inner.data.labels.pick(indices.iter().copied()),
            dims: [
                indices.len(),
                preparation.channels(),
                transform.side(),
                transform.side(),
            ],
            pixels,
            home: home.clone(),
        });
        // Also when the consumer is gone: a half-filled batch of a stopped loader is never sent, for nobody receives it.
        if stop.load(Ordering::Relaxed) || send.send(item).is_err() || failed {
            return;
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.ready.as_ref()?.recv() {
            Ok(Ok(batch)) => Some(Ok(batch)),
            Ok(Err(e)) => {
                // The error is what the caller needs to know; a panic cannot have happened as well.
                let _ = self.finish();
                Some(Err(e))
            }
            Err(_) => self.finish().err().map(Err),
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}
