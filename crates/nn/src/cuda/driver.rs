//! Running kernels on a CUDA device, through candle's context and stream.
//!
//! All work of a device goes to candle's one stream, so launches run in the order they are made in and nothing here waits.

use crate::device::card::Card;
use crate::emulation::{KernelParam, Launch};
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::driver::result::{self, device, mem_pool};
use candle_core::cuda_backend::cudarc::driver::sys::{self, CUmemPool_attribute};
use candle_core::cuda_backend::cudarc::driver::{CudaModule, DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, CudaStorage, Error, Result, bail};
use std::sync::{Arc, Mutex, PoisonError};

macro_rules! modules {
    ($($name:literal),*) => {
        &[$(($name, include_bytes!(concat!(env!("OUT_DIR"), "/", $name, ".fatbin")))),*]
    };
}

/// The kernels as fat binaries, by source file.
const MODULES: &[(&str, &[u8])] = modules!(
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

/// See [`crate::device::driver_version`].
pub(crate) fn version() -> Option<u32> {
    let mut version = 0;
    // SAFETY: the call writes a number to the address it is given.
    let code = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    (code == sys::CUresult::CUDA_SUCCESS).then_some(version.try_into().ok()?)
}

/// See [`crate::device::count`].
pub(crate) fn count() -> Result<usize> {
    match result::init() {
        Ok(()) => Ok(device::get_count().map_err(Error::wrap)?.try_into()?),
        Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        Err(e) => Err(Error::wrap(e)),
    }
}

/// See [`crate::device::card`].
pub(crate) fn card(n: usize) -> Result<Card> {
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    result::init().map_err(Error::wrap)?;
    let gpu = device::get(n.try_into()?).map_err(Error::wrap)?;
    // SAFETY: the handle is one that the driver has just given.
    let (major, minor, memory) = unsafe {
        (
            device::get_attribute(gpu, MAJOR).map_err(Error::wrap)?,
            device::get_attribute(gpu, MINOR).map_err(Error::wrap)?,
            device::total_mem(gpu).map_err(Error::wrap)?,
        )
    };
    Ok(Card {
        name: device::get_name(gpu).map_err(Error::wrap)?,
        capability: (major.try_into()?, minor.try_into()?),
        memory: memory as u64,
    })
}

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

/// A module of ours on a device, loaded once.
fn module(device: &CudaDevice, name: &'static str) -> Result<Arc<CudaModule>> {
    static LOADED: Mutex<Vec<(DeviceId, &str, Arc<CudaModule>)>> = Mutex::new(Vec::new());
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., found)) = loaded.iter().find(|(id, n, _)| *id == device.id() && *n == name) {
        return Ok(found.clone());
    }
    let Some((_, code)) = MODULES.iter().find(|(n, _)| *n == name) else {
        bail!("there is no module {name}")
    };
    let stream = device.cuda_stream();
    let new = stream
        .context()
        .load_module(Ptx::from_binary(code.to_vec()))
        .map_err(Error::wrap)?;
    loaded.push((device.id(), name, new.clone()));
    Ok(new)
}

/// Runs a kernel of ours.
///
/// # Safety
/// The values must fit the kernel's parameters, and their memory be as large as it takes it to be.
pub(crate) unsafe fn run(device: &CudaDevice, launch: &Launch<'_>) -> Result<()> {
    let function = module(device, launch.module)?
        .load_function(launch.kernel)
        .map_err(Error::wrap)?;
    // An argument is read from the low bytes of its eight, as many as its type has.
    let values: Vec<u64> = launch
        .params
        .iter()
        .map(|w| match *w {
            KernelParam::Read { at, .. } | KernelParam::Write { at, .. } => at,
            KernelParam::Number(x) => x,
        })
        .collect();
    let stream = device.cuda_stream();
    let mut builder = stream.launch_builder(&function);
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
