//! Running kernels and products on a CUDA device, through candle's context, stream and cuBLAS handle.
//!
//! All work of a device goes to candle's one stream, so launches run in the order they are made in and nothing here waits.

use super::launch::{Launch, Word};
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{DevicePtr, LaunchConfig, PushKernelArg};
use candle_core::{CudaDevice, CudaStorage, DType, Error, Layout, Result, backend::BackendStorage, bail};

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
    "softmax"
);

/// Runs a kernel of ours.
pub fn run(device: &CudaDevice, launch: &Launch<'_>) -> Result<()> {
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
    // SAFETY: the words fit the kernel's parameters and stay inside their buffers; the emulator's tests hold every launch to that.
    unsafe { builder.launch(config) }.map_err(Error::wrap)?;
    Ok(())
}

/// Where a storage lies on its device.
pub fn address(s: &CudaStorage) -> Result<u64> {
    let stream = s.device().cuda_stream();
    macro_rules! of {
        ($($t:ident),*) => {
            match &s.slice {
                $(CudaStorageSlice::$t(v) => Ok(v.device_ptr(&stream).0),)*
                _ => bail!("kernels do not use {:?}", s.dtype()),
            }
        };
    }
    of!(U32, I64, BF16, F16, F32, F64)
}

/// Leading dimension and transposition of a matrix (rows, columns) that lies contiguously, or as the transpose of one that does.
fn operand(l: &Layout, rows: usize, columns: usize) -> Result<(i32, sys::cublasOperation_t)> {
    let s = l.stride();
    let (major, minor) = (s[s.len() - 2], s[s.len() - 1]);
    if (minor == 1 || columns == 1) && (major == columns || rows == 1) {
        Ok((columns as i32, sys::cublasOperation_t::CUBLAS_OP_N))
    } else if (major == 1 || rows == 1) && (minor == rows || columns == 1) {
        Ok((rows as i32, sys::cublasOperation_t::CUBLAS_OP_T))
    } else {
        bail!("a product's operand must be a matrix or its transpose, its layout is {l:?}")
    }
}

/// The product of 16-bit matrices (m, k) · (k, n) in float32; no leading axes.
pub fn product_to_float(
    a: &CudaStorage,
    b: &CudaStorage,
    (batch, m, n, k): (usize, usize, usize, usize),
    la: &Layout,
    lb: &Layout,
) -> Result<CudaStorage> {
    if batch != 1 || la.stride().len() != 2 {
        bail!("a float32 product of 16-bit operands has no leading axes");
    }
    let element = match (a.dtype(), b.dtype()) {
        (DType::BF16, DType::BF16) => sys::cudaDataType_t::CUDA_R_16BF,
        (DType::F16, DType::F16) => sys::cudaDataType_t::CUDA_R_16F,
        (x, y) => bail!("a product of {x:?} and {y:?}"),
    };
    let ((lda, ta), (ldb, tb)) = (operand(la, m, k)?, operand(lb, k, n)?);
    let device = a.device();
    // SAFETY: the product below writes every element.
    let out = unsafe { device.alloc::<f32>(m * n)? };
    let out = CudaStorage::wrap_cuda_slice(out, device.clone());
    let at = |s: &CudaStorage, l: &Layout| Ok::<_, Error>(address(s)? + 2 * l.start_offset() as u64);
    let (pa, pb, pc) = (at(a, la)?, at(b, lb)?, address(&out)?);
    let (one, zero) = (1f32, 0f32);
    // SAFETY: cuBLAS is column-major, so C^T = B^T A^T is asked for; sizes and strides were checked above.
    unsafe {
        result::gemm_strided_batched_ex(
            *device.cublas_handle().handle(),
            tb,
            ta,
            n as i32,
            m as i32,
            k as i32,
            (&raw const one).cast(),
            pb as *const _,
            element,
            ldb,
            0,
            pa as *const _,
            element,
            lda,
            0,
            (&raw const zero).cast(),
            pc as *mut _,
            sys::cudaDataType_t::CUDA_R_32F,
            n as i32,
            0,
            1,
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
        .map_err(Error::wrap)?;
    }
    Ok(out)
}
