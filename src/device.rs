//! Where to compute: the words of `--device`, and what a device is called in records.

use crate::error::BadInput;
use anyhow::Result;
use candle_core::Device;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Devices as typed: `auto`, `cpu`, `cuda`, `cuda:1` or `cuda:0,1,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceWord {
    /// The first GPU where the binary can use one, else the CPU.
    Auto,
    Cpu,
    /// GPUs by number, each named once; several runs go side by side, each on its own GPU.
    Cuda(Vec<usize>),
}

impl FromStr for DeviceWord {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let wrong = || format!("`{s}` is not auto, cpu, cuda:N or cuda:N,M,… with each GPU named once");
        let numbers = match s {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda" => "0",
            s => s.strip_prefix("cuda:").ok_or_else(wrong)?,
        };
        let numbers: Vec<usize> = numbers
            .split(',')
            .map(|n| n.parse().map_err(|_| wrong()))
            .collect::<Result<_, _>>()?;
        if numbers.iter().collect::<BTreeSet<_>>().len() != numbers.len() {
            return Err(wrong());
        }
        Ok(Self::Cuda(numbers))
    }
}

impl fmt::Display for DeviceWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => {
                let n: Vec<String> = n.iter().map(usize::to_string).collect();
                write!(f, "cuda:{}", n.join(","))
            }
        }
    }
}

impl DeviceWord {
    /// The devices that are meant, at least one.
    ///
    /// # Errors
    /// [`BadInput`] where a GPU was asked for and there is none.
    pub fn open(&self) -> Result<Vec<Device>> {
        match self {
            Self::Cpu => Ok(vec![Device::Cpu]),
            Self::Auto => Ok(vec![gpu(0).unwrap_or(Device::Cpu)]),
            Self::Cuda(numbers) => numbers.iter().map(|&n| cuda(n)).collect(),
        }
    }
}

/// GPU `n` with one stream of its own: whichever thread uses the device, its work is done in the order it was given.
///
/// # Errors
/// Where there is no such GPU, or this binary was built without CUDA.
pub fn gpu(n: usize) -> candle_core::Result<Device> {
    let device = Device::new_cuda_with_stream(n)?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(d) = &device {
        medft_nn::cuda::prepare(d)?;
    }
    Ok(device)
}

fn cuda(n: usize) -> Result<Device> {
    gpu(n).map_err(|e| {
        let remedy = if cfg!(feature = "cuda") {
            "Use --device cpu, or install NVIDIA's driver and the CUDA 13 libraries cublas, cublasLt and curand; \
             CUDA_LAZY_DEBUG=1 prints which of them could not be opened."
        } else {
            "Use --device cpu, or build with `make cuda`: this binary has no CUDA in it."
        };
        BadInput::new(
            format!("--device cuda:{n}"),
            "a CUDA device",
            e.to_string().lines().next().unwrap_or("none").to_owned(),
            remedy,
        )
        .into()
    })
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

/// Whether the device still computes: after some errors a GPU answers nothing any more, after others (no memory left) it does.
///
/// # Errors
/// What the device says where it does not.
pub fn probe(device: &Device) -> candle_core::Result<()> {
    let one = candle_core::Tensor::ones(1, candle_core::DType::F32, device)?;
    (one + 1.0)?.to_vec1::<f32>()?;
    device.synchronize()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_devices() {
        let word = |s: &str| s.parse::<DeviceWord>();
        assert_eq!(word("auto"), Ok(DeviceWord::Auto));
        assert_eq!(word("cpu"), Ok(DeviceWord::Cpu));
        assert_eq!(word("cuda"), Ok(DeviceWord::Cuda(vec![0])));
        assert_eq!(word("cuda:3,1"), Ok(DeviceWord::Cuda(vec![3, 1])));
        assert_eq!(word("cuda:3,1").unwrap().to_string(), "cuda:3,1");
        for wrong in ["", "gpu", "cuda:", "cuda:0,", "cuda:0,0", "cuda:-1", "cpu,cpu"] {
            let e = word(wrong).unwrap_err();
            assert!(e.contains(&format!("`{wrong}`")), "{e}");
        }
    }

    #[test]
    fn a_missing_gpu_is_said_with_the_remedy() {
        let e = DeviceWord::Cuda(vec![99]).open().unwrap_err().to_string();
        assert!(e.contains("--device cuda:99") && e.contains("--device cpu"), "{e}");
        assert_eq!(name(&DeviceWord::Cpu.open().unwrap()[0]), "cpu");
    }
}
