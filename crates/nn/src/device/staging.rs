//! The way of a batch to its device: through pinned memory, where that is a GPU, and on a stream of its own, so that a thread can
//! bring the next batch while one is computed.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Device, Result, Tensor};

/// Where a batch of float32 values lies on its way to a device; it is filled again and again.
pub struct Staging {
    device: Device,
    place: StagingMemory,
}

enum StagingMemory {
    Host(Vec<f32>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::PinnedMemory>),
}

impl Staging {
    /// An empty one for batches to `device`.
    pub fn new(device: &Device) -> Self {
        let place = match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(d) => StagingMemory::Cuda(Box::new(cuda::PinnedMemory::new(d))),
            _ => StagingMemory::Host(Vec::new()),
        };
        Self {
            device: device.clone(),
            place,
        }
    }

    /// Takes up a batch; returns when it is on the device. Meant for another thread than the one that computes.
    ///
    /// # Errors
    /// Where memory is short, or the device fails.
    pub fn fill(&mut self, values: &[f32]) -> Result<()> {
        match &mut self.place {
            StagingMemory::Host(v) => {
                v.clear();
                v.extend_from_slice(values);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            StagingMemory::Cuda(p) => p.fill(values),
        }
    }

    /// The first values of the last batch, as a tensor of their own.
    ///
    /// # Errors
    /// Where nothing was filled in, fewer values were, or the device fails.
    pub fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        match &mut self.place {
            StagingMemory::Host(v) => Tensor::from_slice(v, dims, &self.device),
            #[cfg(feature = "cuda")]
            StagingMemory::Cuda(p) => p.tensor(dims),
        }
    }
}
