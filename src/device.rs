//! Where to compute: the words of `--device`, and the vector instructions of the CPU.

use crate::error::BadInput;
use anyhow::Result;
use candle_core::Device;
use medft_nn::device::open_gpu;
pub use medft_nn::device::{name, peak_memory};
use medft_nn::isa::{self, Isa};
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
            Self::Auto => Ok(vec![open_gpu(0).unwrap_or(Device::Cpu)]),
            Self::Cuda(numbers) => numbers.iter().map(|&n| cuda(n)).collect(),
        }
    }
}

fn cuda(n: usize) -> Result<Device> {
    open_gpu(n).map_err(|e| {
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

/// Whether the device still computes: after some errors a GPU answers nothing any more, after others (no memory left) it does.
///
/// # Errors
/// What the device says where it does not.
pub fn probe(device: &Device) -> candle_core::Result<()> {
    let one = candle_core::Tensor::ones(1, candle_core::DType::F32, device)?;
    (one + 1.0)?.to_vec1::<f32>()?;
    device.synchronize()
}

/// Which vector instructions this process computes with.
///
/// # Errors
/// [`BadInput`] where `MEDFT_ISA` names some that this processor lacks.
pub fn instructions() -> Result<Isa> {
    isa::chosen().map_err(|e| {
        let here: Vec<&str> = Isa::all_available().map(Isa::name).collect();
        BadInput::new(
            isa::VARIABLE,
            format!("one of {}, which this processor has", here.join(", ")),
            format!("`{}`", e.value),
            format!(
                "Set it to one of them, or unset it: {} is used then.",
                here[here.len() - 1]
            ),
        )
        .into()
    })
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
