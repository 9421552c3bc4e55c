//! Batches as tensors. A GPU's are brought to it by a thread of their own, through pinned memory and a stream of their own, while
//! the batch before is computed.

use super::{Batch, Batches};
use crate::data::Labels;
use anyhow::{Result, anyhow};
use candle_core::{Device, Tensor};
use medft_nn::device::Staging;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// Places that batches pass through: one is filled while the other is read.
const PLACES: usize = 2;

/// Images on a device, with their truth.
pub struct DeviceBatch {
    /// Sample indices, in the order of the images.
    pub indices: Vec<u32>,
    /// The truth of each image.
    pub labels: Labels,
    /// (B, C, H, W), normalised float32.
    pub images: Tensor,
}

/// The iterator over [`DeviceBatch`] batches; see [`Batches::onto`].
pub struct BatchesOnto {
    device: Device,
    source: BatchFeed,
}

enum BatchFeed {
    Direct(Batches),
    Ahead {
        /// `None` once the end is near.
        ready: Option<(Receiver<Result<Filled>>, Sender<Staging>)>,
        carrier: Option<JoinHandle<()>>,
    },
}

/// A batch whose pixels are in a place.
struct Filled {
    indices: Vec<u32>,
    labels: Labels,
    dims: [usize; 4],
    place: Staging,
}

impl Batches {
    /// The batches as tensors on `device`.
    pub fn onto(self, device: &Device) -> BatchesOnto {
        if device.is_cuda() {
            return self.carried(device);
        }
        BatchesOnto {
            device: device.clone(),
            source: BatchFeed::Direct(self),
        }
    }

    /// The same by a thread that goes ahead.
    pub(super) fn carried(self, device: &Device) -> BatchesOnto {
        let (send, ready) = mpsc::sync_channel(PLACES);
        let (home, used) = mpsc::channel();
        let places: Vec<Staging> = (0..PLACES).map(|_| Staging::new(device)).collect();
        let refused = send.clone();
        let carrier = std::thread::Builder::new().spawn(move || carry(self, places, &used, &send));
        let carrier = carrier.map_err(|e| {
            // There is room for it: nothing was sent yet.
            let _ = refused.send(Err(anyhow!("cannot start a thread to carry images: {e}")));
        });
        drop(refused);
        BatchesOnto {
            device: device.clone(),
            source: BatchFeed::Ahead {
                ready: Some((ready, home)),
                carrier: carrier.ok(),
            },
        }
    }
}

fn carry(batches: Batches, mut places: Vec<Staging>, used: &Receiver<Staging>, send: &SyncSender<Result<Filled>>) {
    for batch in batches {
        let filled = batch.and_then(|b| {
            let place = places.pop().map_or_else(|| used.recv(), Ok);
            place.map_or(Ok(None), |place| fill(b, place).map(Some))
        });
        let Some(filled) = filled.transpose() else {
            // The consumer is gone.
            return;
        };
        let failed = filled.is_err();
        if send.send(filled).is_err() || failed {
            return;
        }
    }
}

fn fill(mut batch: Batch, mut place: Staging) -> Result<Filled> {
    place.fill(&batch.pixels)?;
    Ok(Filled {
        indices: std::mem::take(&mut batch.indices),
        labels: batch.labels.clone(),
        dims: batch.dims,
        place,
    })
}

impl Iterator for BatchesOnto {
    type Item = Result<DeviceBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let device = &self.device;
        match &mut self.source {
            BatchFeed::Direct(batches) => Some(batches.next()?.and_then(|mut b| {
                Ok(DeviceBatch {
                    images: b.tensor(device)?,
                    indices: std::mem::take(&mut b.indices),
                    labels: b.labels.clone(),
                })
            })),
            BatchFeed::Ahead { ready, carrier } => {
                let (from, home) = ready.as_ref()?;
                match from.recv() {
                    Ok(filled) => Some(filled.and_then(|mut f| {
                        let images = f.place.tensor(&f.dims)?;
                        // Where no batch is left nobody waits for the place.
                        let _ = home.send(f.place);
                        Ok(DeviceBatch {
                            indices: f.indices,
                            labels: f.labels,
                            images,
                        })
                    })),
                    Err(_) => {
                        *ready = None;
                        match carrier.take().map(JoinHandle::join) {
                            Some(Err(_)) => Some(Err(anyhow!("a loader thread panicked; the message is above"))),
                            _ => None,
                        }
                    }
                }
            }
        }
    }
}

impl Drop for BatchesOnto {
    fn drop(&mut self) {
        if let BatchFeed::Ahead { ready, carrier } = &mut self.source {
            *ready = None;
            if let Some(c) = carrier.take() {
                let _ = c.join();
            }
        }
    }
}
