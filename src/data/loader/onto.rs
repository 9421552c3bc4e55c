//! Batches as tensors. A GPU's are brought to it by a thread of their own, through pinned memory and a stream of their own, while
//! the batch before is computed.

use super::{Batch, Batches};
use crate::data::Label;
use anyhow::{Result, anyhow};
use candle_core::{Device, Tensor};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::JoinHandle;

/// Places that batches pass through: one is filled while the other is read.
const PLACES: usize = 2;

/// Images on a device, with their truth.
pub struct Loaded {
    /// Sample indices, in the order of the images.
    pub indices: Vec<u32>,
    /// The truth of each image.
    pub labels: Vec<Label>,
    /// (B, C, H, W), normalised float32.
    pub images: Tensor,
}

/// The iterator over [`Loaded`] batches; see [`Batches::onto`].
pub struct BatchesOnto {
    device: Device,
    source: Source,
}

enum Source {
    Direct(Batches),
    Ahead {
        /// `None` once the end is near.
        ready: Option<(Receiver<Result<Filled>>, Sender<Place>)>,
        carrier: Option<JoinHandle<()>>,
    },
}

/// A batch whose pixels are in a place.
struct Filled {
    indices: Vec<u32>,
    labels: Vec<Label>,
    dims: [usize; 4],
    place: Place,
}

impl Batches {
    /// The batches as tensors on `device`.
    pub fn onto(self, device: &Device) -> BatchesOnto {
        if device.is_cuda() {
            return self.carried(device);
        }
        BatchesOnto {
            device: device.clone(),
            source: Source::Direct(self),
        }
    }

    /// The same by a thread that goes ahead.
    pub(super) fn carried(self, device: &Device) -> BatchesOnto {
        let (send, ready) = mpsc::sync_channel(PLACES);
        let (home, used) = mpsc::channel();
        let places: Vec<Place> = (0..PLACES).map(|_| Place::new(device)).collect();
        let carrier = std::thread::spawn(move || carry(self, places, &used, &send));
        BatchesOnto {
            device: device.clone(),
            source: Source::Ahead {
                ready: Some((ready, home)),
                carrier: Some(carrier),
            },
        }
    }
}

fn carry(batches: Batches, mut places: Vec<Place>, used: &Receiver<Place>, send: &SyncSender<Result<Filled>>) {
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

fn fill(mut batch: Batch, mut place: Place) -> Result<Filled> {
    place.fill(&batch.pixels)?;
    Ok(Filled {
        indices: std::mem::take(&mut batch.indices),
        labels: std::mem::take(&mut batch.labels),
        dims: batch.dims,
        place,
    })
}

impl Iterator for BatchesOnto {
    type Item = Result<Loaded>;

    fn next(&mut self) -> Option<Self::Item> {
        let device = &self.device;
        match &mut self.source {
            Source::Direct(batches) => Some(batches.next()?.and_then(|mut b| {
                Ok(Loaded {
                    images: b.tensor(device)?,
                    indices: std::mem::take(&mut b.indices),
                    labels: std::mem::take(&mut b.labels),
                })
            })),
            Source::Ahead { ready, carrier } => {
                let (from, home) = ready.as_ref()?;
                match from.recv() {
                    Ok(filled) => Some(filled.and_then(|mut f| {
                        let images = f.place.tensor(&f.dims, device)?;
                        // Where no batch is left nobody waits for the place.
                        let _ = home.send(f.place);
                        Ok(Loaded {
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
        if let Source::Ahead { ready, carrier } = &mut self.source {
            *ready = None;
            if let Some(c) = carrier.take() {
                let _ = c.join();
            }
        }
    }
}

/// Where a batch lies on its way to a device.
enum Place {
    Host(Vec<f32>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Place>),
}

impl Place {
    fn new(device: &Device) -> Self {
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(d) => Self::Cuda(Box::new(cuda::Place::new(d))),
            _ => Self::Host(Vec::new()),
        }
    }

    fn fill(&mut self, pixels: &[f32]) -> Result<()> {
        match self {
            Self::Host(v) => {
                v.clear();
                v.extend_from_slice(pixels);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Self::Cuda(p) => p.fill(pixels),
        }
    }

    fn tensor(&mut self, dims: &[usize], device: &Device) -> Result<Tensor> {
        match self {
            Self::Host(v) => Ok(Tensor::from_slice(v, dims, device)?),
            #[cfg(feature = "cuda")]
            Self::Cuda(p) => p.tensor(dims),
        }
    }
}

#[cfg(feature = "cuda")]
mod cuda {
    use anyhow::Result;
    use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice};
    use candle_core::op::BackpropOp;
    use candle_core::{CudaDevice, CudaStorage, Storage, Tensor};
    use std::sync::Arc;

    /// Pinned memory, and memory of the device that it is copied to.
    pub struct Place {
        device: CudaDevice,
        memory: Option<Memory>,
    }

    struct Memory {
        copies: Arc<CudaStream>,
        pinned: PinnedHostSlice<f32>,
        on_device: CudaSlice<f32>,
        /// The last read by the device's stream.
        read: Option<CudaEvent>,
    }

    impl Drop for Memory {
        fn drop(&mut self) {
            // The memory is given back in the order of the stream of copies, which knows nothing of the reads.
            if let Some(e) = &self.read {
                let _ = e.synchronize();
            }
        }
    }

    impl Place {
        pub fn new(device: &CudaDevice) -> Self {
            Self {
                device: device.clone(),
                memory: None,
            }
        }

        /// Copies `pixels` to the device; returns when they are there.
        pub fn fill(&mut self, pixels: &[f32]) -> Result<()> {
            let n = pixels.len();
            let mut memory = match self.memory.take().filter(|m| m.pinned.len() >= n) {
                Some(m) => m,
                None => Memory::new(&self.device, n)?,
            };
            // Waits until the last copy out of it has ended.
            memory.pinned.as_mut_slice()?[..n].copy_from_slice(pixels);
            if let Some(read) = memory.read.take() {
                memory.copies.wait(&read)?;
            }
            memory.copies.memcpy_htod(&memory.pinned, &mut memory.on_device)?;
            memory.copies.synchronize()?;
            self.memory = Some(memory);
            Ok(())
        }

        /// A copy of the last pixels, in the order of the device's stream.
        pub fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
            let Some(memory) = &mut self.memory else {
                anyhow::bail!("a batch was read before it came");
            };
            let n: usize = dims.iter().product();
            let stream = self.device.cuda_stream();
            // SAFETY: the copy below writes every element.
            let mut images = unsafe { self.device.alloc::<f32>(n)? };
            stream.memcpy_dtod(&memory.on_device.slice(..n), &mut images)?;
            memory.read = Some(stream.record_event(None)?);
            let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(images, self.device.clone()));
            Ok(Tensor::from_storage(storage, dims, BackpropOp::none(), false))
        }
    }

    impl Memory {
        fn new(device: &CudaDevice, n: usize) -> Result<Self> {
            let stream = device.cuda_stream();
            let context = stream.context();
            let copies = context.new_stream()?;
            // SAFETY: pinned memory is written below, the device's by the first copy, before anything reads them.
            let (mut pinned, on_device) = unsafe { (context.alloc_pinned::<f32>(n)?, copies.alloc::<f32>(n)?) };
            pinned.as_mut_slice()?.fill(0.0);
            Ok(Self {
                copies,
                pinned,
                on_device,
                read: None,
            })
        }
    }
}
