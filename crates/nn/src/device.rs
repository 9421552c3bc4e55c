//! GPUs: opening them, what they are called, how much of their memory was used, and the way of batches to them.

mod staging;

use candle_core::{Device, Result};
pub use staging::Staging;

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

/// The most memory of a GPU that tensors have had at once in this process, in bytes; `None` for the CPU.
pub fn peak_memory(device: &Device) -> Option<u64> {
    match device {
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
