//! Pinned memory, and a stream of copies.

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, PinnedHostSlice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Error, Result, Storage, Tensor, bail};
use std::sync::Arc;

/// Pinned memory, and memory of the device that it is copied to.
pub(super) struct PinnedMemory {
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

impl PinnedMemory {
    pub(super) fn new(device: &CudaDevice) -> Self {
        Self {
            device: device.clone(),
            memory: None,
        }
    }

    /// Copies `pixels` to the device; returns when they are there.
    pub(super) fn fill(&mut self, pixels: &[f32]) -> Result<()> {
        let n = pixels.len();
        let mut memory = match self.memory.take().filter(|m| m.pinned.len() >= n) {
            Some(m) => m,
            None => Memory::new(&self.device, n)?,
        };
        // Waits until the last copy out of it has ended.
        memory.pinned.as_mut_slice().map_err(Error::wrap)?[..n].copy_from_slice(pixels);
        if let Some(read) = memory.read.take() {
            memory.copies.wait(&read).map_err(Error::wrap)?;
        }
        memory
            .copies
            .memcpy_htod(&memory.pinned, &mut memory.on_device)
            .map_err(Error::wrap)?;
        memory.copies.synchronize().map_err(Error::wrap)?;
        self.memory = Some(memory);
        Ok(())
    }

    /// A copy of the last pixels, in the order of the device's stream.
    pub(super) fn tensor(&mut self, dims: &[usize]) -> Result<Tensor> {
        let Some(memory) = &mut self.memory else {
            bail!("a batch was read before it came");
        };
        let n: usize = dims.iter().product();
        let stream = self.device.cuda_stream();
        // SAFETY: the copy below writes every element.
        let mut images = unsafe { self.device.alloc::<f32>(n)? };
        stream
            .memcpy_dtod(&memory.on_device.slice(..n), &mut images)
            .map_err(Error::wrap)?;
        memory.read = Some(stream.record_event(None).map_err(Error::wrap)?);
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(images, self.device.clone()));
        Ok(Tensor::from_storage(storage, dims, BackpropOp::none(), false))
    }
}

impl Memory {
    fn new(device: &CudaDevice, n: usize) -> Result<Self> {
        let stream = device.cuda_stream();
        let context = stream.context();
        let copies = context.new_stream().map_err(Error::wrap)?;
        // SAFETY: pinned memory is written below, the device's by the first copy, before anything reads them.
        let (pinned, on_device) = unsafe { (context.alloc_pinned::<f32>(n), copies.alloc::<f32>(n)) };
        let (mut pinned, on_device) = (pinned.map_err(Error::wrap)?, on_device.map_err(Error::wrap)?);
        pinned.as_mut_slice().map_err(Error::wrap)?.fill(0.0);
        Ok(Self {
            copies,
            pinned,
            on_device,
            read: None,
        })
    }
}
