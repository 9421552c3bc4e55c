//! GPUs: opening them, what they are called, how much of their memory was used, and the way of batches to them.

pub(crate) mod card;
mod staging;

use candle_core::{Device, Result};
pub use card::Card;
pub use staging::Staging;

/// Bytes of working memory that products have on a GPU, what NVIDIA recommends for Hopper.
pub const LIBRARY_WORKSPACE: usize = 32 << 20;

/// The CUDA version that the installed driver is made for, as the driver writes it (13000 is 13.0); `None` where this program
/// was built without CUDA, or the driver's library is missing.
pub fn driver_version() -> Option<u32> {
    #[cfg(feature = "cuda")]
    return crate::cuda::driver::version();
    #[cfg(not(feature = "cuda"))]
    None
}

/// How many GPUs the driver reports.
///
/// # Errors
/// What the driver says where it does not work.
pub fn count() -> Result<usize> {
    #[cfg(feature = "cuda")]
    return crate::cuda::driver::count();
    #[cfg(not(feature = "cuda"))]
    Ok(0)
}

/// What the driver says of GPU `n`, without opening it.
///
/// # Errors
/// What the driver says where there is no such GPU.
pub fn card(n: usize) -> Result<Card> {
    #[cfg(feature = "cuda")]
    return crate::cuda::driver::card(n);
    #[cfg(not(feature = "cuda"))]
    candle_core::bail!("GPU {n}: this program was built without CUDA")
}

/// GPU `n` with one stream of its own: whichever thread uses the device, its work is done in the order it was given.
///
/// # Errors
/// Where there is no such GPU, or this program was built without CUDA.
pub fn open_gpu(n: usize) -> Result<Device> {
    let device = Device::new_cuda_with_stream(n)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(d) = &device {
        crate::cuda::driver::prepare(d)?;
    }
    Ok(device)
}

/// What a device is called in records: `cpu`, or the GPU's model, such as `NVIDIA H100 80GB HBM3`.
pub fn name(device: &Device) -> String {
    match device {
        Device::Cpu => "cpu".to_owned(),
        #[cfg(feature = "cuda")]
        Device::Cuda(d) => d
            .cuda_stream()
            .context()
            .name()
            .unwrap_or_else(|e| format!("a GPU that does not tell its name ({e})")),
        d => format!("{:?}", d.location()),
    }
}

/// The most memory of a device that tensors have had at once in this process, in bytes; `None` where nobody counts it: on the CPU
/// in programs without [`crate::memory::LargePages`].
pub fn peak_memory(device: &Device) -> Option<u64> {
    match device {
        Device::Cpu => Some(crate::memory::peak() as u64).filter(|&bytes| bytes > 0),
        #[cfg(feature = "cuda")]
        Device::Cuda(d) => cuda_peak(d),
        _ => None,
    }
}

/// What the device's default memory pool had in use at most: candle allocates from it.
#[cfg(feature = "cuda")]
fn cuda_peak(device: &candle_core::CudaDevice) -> Option<u64> {
    use candle_core::cuda_backend::cudarc::driver::sys;
    let stream = device.cuda_stream();
    let context = stream.context();
    context.bind_to_thread().ok()?;
    let mut pool = std::ptr::null_mut();
    let mut bytes = 0u64;
    // SAFETY: the context is current, and both calls only write what they are given: a handle and a 64-bit number.
    let code = unsafe {
        match sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()) {
            sys::CUresult::CUDA_SUCCESS => sys::cuMemPoolGetAttribute(
                pool,
                sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
                (&raw mut bytes).cast(),
            ),
            failed => failed,
        }
    };
    (code == sys::CUresult::CUDA_SUCCESS).then_some(bytes)
}
