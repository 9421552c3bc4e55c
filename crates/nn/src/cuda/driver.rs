//! Running kernels on a CUDA device, through candle's context and stream.
//!
//! All work of a device goes to candle's one stream, so launches run in the order they are made in and nothing here waits.

use crate::emulation::{Launch, Word};
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::result::{device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::CUmemPool_attribute;
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, CudaStorage, Error, Result, backend::BackendStorage, bail};

macro_rules! modules {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")))),*]
    };
}

/// The kernels as PTX, by source file.
const MODULES: &[(&str, &str)] = modules!(
    "attention_16",
    "attention_64",
    "attention_80",
    "attention_96",
    "attention_128",
    "elementwise",
    "map",
    "norm",
    "optimiser",
    "scan",
    "softmax",
    "window"
);

/// Sets up a device that has just been opened.
pub(crate) fn prepare(device: &CudaDevice) -> Result<()> {
    // With a stream of its own, cudarc would record and await events at every access to a buffer, to order the work of several
    // streams. SAFETY: all buffers of a device are made, used and freed on its one stream, in order, but those of batches on
    // their way here, which record and await their own (`device::staging`); what was allocated before has its events, which are no longer
    // recorded or awaited.
    unsafe { device.disable_event_tracking() };
    let stream = device.cuda_stream();
    let context = stream.context();
    if context.has_async_alloc() {
        // Buffers come from this pool. At its default threshold of 0 bytes it gives all that is free in it back to the driver
        // whenever the host waits for the device, at every step's loss, and has to ask for it again.
        let mut threshold = u64::MAX;
        // SAFETY: the pool is the device's own, and this attribute is a number of 64 bits, which the call only reads.
        unsafe {
            let pool = device::get_default_mem_pool(context.cu_device()).map_err(Error::wrap)?;
            let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()).map_err(Error::wrap)?;
        }
    }
    Ok(())
}

/// Runs a kernel of ours.
///
/// # Safety
/// The words must fit the kernel's parameters, and their memory be as large as it takes it to be.
pub(crate) unsafe fn run(device: &CudaDevice, launch: &Launch<'_>) -> Result<()> {
    let Some((_, ptx)) = MODULES.iter().find(|(name, _)| *name == launch.module) else {
        bail!("there is no module {}", launch.module)
    };
    let function = device.get_or_load_custom_func(launch.kernel, &format!("medft_{}", launch.module), ptx)?;
    // An argument is read from the low bytes of its eight, as many as its type has.
    let values: Vec<u64> = launch
        .words
        .iter()
        .map(|w| match *w {
            Word::Read { at, .. } | Word::Write { at, .. } => at,
            Word::Number(x) => x,
        })
        .collect();
    let mut builder = function.builder();
    for v in &values {
        builder.arg(v);
    }
    let config = LaunchConfig {
        grid_dim: (launch.grid, 1, 1),
        block_dim: (launch.block, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: passed on to the caller; the emulator's tests hold every launch to it.
    unsafe { builder.launch(config) }.map_err(Error::wrap)?;
    Ok(())
}

/// Where a storage lies on its device, and how many elements it has.
fn memory(s: &CudaStorage) -> Result<(u64, usize)> {
    let stream = s.device().cuda_stream();
    macro_rules! of {
        ($($t:ident),*) => {
            match &s.slice {
                $(CudaStorageSlice::$t(v) => Ok((v.device_ptr(&stream).0, v.len())),)*
                _ => bail!("kernels do not use {:?}", s.dtype()),
            }
        };
    }
    of!(U32, I64, BF16, F16, F32, F64)
}

/// Where a storage lies on its device.
pub(crate) fn address(s: &CudaStorage) -> Result<u64> {
    Ok(memory(s)?.0)
}

/// How many elements a storage has.
pub(crate) fn elements(s: &CudaStorage) -> Result<usize> {
    Ok(memory(s)?.1)
}
