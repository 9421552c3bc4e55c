//! What can be wrong with a GPU, and what to do about it.

use super::driver::{LEAST_CAPABILITY, LEAST_CUDA, LEAST_DRIVER};
use crate::error::BadInput;

/// Why a GPU cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// This binary has no CUDA in it.
    NotBuilt,
    /// libcuda could not be loaded.
    NoDriver,
    /// The driver is made for this CUDA version.
    OldDriver(u32),
    /// The driver does not work; its message.
    Driver(String),
    /// The driver reports so many GPUs, and another was asked for.
    NoSuchGpu(usize),
    /// Name and compute capability of a GPU that is too old.
    OldGpu(String, (u32, u32)),
    /// A library of CUDA could not be loaded or started; its message.
    Library(String),
    /// Another process has the GPU to itself; the driver's message.
    Busy(String),
    /// The GPU's memory is full before anything of ours is in it.
    Full(String),
    /// Anything else, in the driver's message.
    Other(String),
}

impl Fault {
    /// What a message of the driver or of a library means when a GPU was to be opened.
    pub(crate) fn of(message: &str) -> Self {
        let has = |all: &[&str]| all.iter().any(|w| message.contains(w));
        let message = message.to_owned();
        if is_out_of_memory(&message) {
            Self::Full(message)
        } else if has(&["DEVICE_UNAVAILABLE", "DEVICES_UNAVAILABLE", "busy or unavailable"]) {
            Self::Busy(message)
        } else if has(&["UNSUPPORTED_PTX_VERSION", "INSUFFICIENT_DRIVER"]) {
            Self::Driver(message)
        } else if has(&["CUBLAS", "CURAND", "NVRTC", "could not be loaded"]) {
            Self::Library(message)
        } else {
            Self::Other(message)
        }
    }

    /// The fault of GPU `n` as an error.
    pub(crate) fn of_gpu(&self, n: usize) -> BadInput {
        let (expected, found, remedy) = self.parts(n);
        BadInput::new(format!("--device cuda:{n}"), expected, found, remedy)
    }

    fn parts(&self, n: usize) -> (String, String, String) {
        let cpu = "or use --device cpu.";
        let driver = format!(
            "an NVIDIA driver for CUDA {} or later ({LEAST_DRIVER})",
            version(LEAST_CUDA)
        );
        let gpu = || "a CUDA device".to_owned();
        match self {
            Self::NotBuilt => (
                gpu(),
                "a binary that has no CUDA in it".into(),
                format!("Build one that has with `make cuda`, {cpu}"),
            ),
            Self::NoDriver => (
                driver,
                "no driver: libcuda.so.1 could not be loaded".into(),
                format!("Install the driver; in a container, start it with its GPUs (--gpus all, --nv); {cpu}"),
            ),
            Self::OldDriver(v) => (
                driver,
                format!("a driver for CUDA {}", version(*v)),
                format!("Update the driver to {LEAST_DRIVER} or later, {cpu}"),
            ),
            Self::Driver(message) => (
                format!("{driver} that works"),
                message.clone(),
                format!("Look at what `nvidia-smi` says, update the driver to {LEAST_DRIVER} or later, {cpu}"),
            ),
            Self::NoSuchGpu(0) => (
                gpu(),
                "a driver that reports no GPU".into(),
                format!("Look at what `nvidia-smi` says and at CUDA_VISIBLE_DEVICES, {cpu}"),
            ),
            Self::NoSuchGpu(count) => (
                format!("a GPU in 0..={}", count - 1),
                format!("GPU {n}"),
                format!("Name one of the {count} that the driver reports, {cpu}"),
            ),
            Self::OldGpu(name, (major, minor)) => (
                format!(
                    "a GPU of compute capability {}.{} or later (A100, RTX 30 and later)",
                    LEAST_CAPABILITY.0, LEAST_CAPABILITY.1
                ),
                format!("{name} with {major}.{minor}"),
                format!("Use another GPU (--device cuda:N), {cpu}"),
            ),
            Self::Library(message) => (
                "the CUDA 13 libraries cublas, cublasLt and curand".into(),
                message.clone(),
                format!(
                    "Install them (`python3 -m pip install nvidia-cublas nvidia-curand`, or NVIDIA's toolkit) and name their folder in \
                     LD_LIBRARY_PATH; CUDA_LAZY_DEBUG=1 prints which could not be opened; {cpu}"
                ),
            ),
            Self::Busy(message) => (
                "a GPU that is free".into(),
                format!("one that another process has to itself ({message})"),
                format!("Wait for it or name another (--device cuda:N); `nvidia-smi` lists the processes; {cpu}"),
            ),
            Self::Full(message) => (
                "a GPU with free memory".into(),
                format!("one whose memory is full ({message})"),
                format!(
                    "End what fills it (`nvidia-smi` lists the processes) or name another (--device cuda:N), {cpu}"
                ),
            ),
            Self::Other(message) => (
                gpu(),
                message.clone(),
                format!("Look at what `nvidia-smi` and `medft doctor` say, {cpu}"),
            ),
        }
    }
}

/// A CUDA version as people write it.
fn version(v: u32) -> String {
    format!("{}.{}", v / 1000, v % 1000 / 10)
}

/// Whether a message of CUDA, or of an allocator, says that memory has run out.
pub fn is_out_of_memory(message: &str) -> bool {
    ["OUT_OF_MEMORY", "out of memory", "ALLOC_FAILED"]
        .iter()
        .any(|w| message.contains(w))
}

/// Whether an error of CUDA may stem from an earlier op than the one it surfaced at.
pub fn is_late(message: &str) -> bool {
    message.contains("CUDA_ERROR") && !is_out_of_memory(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart() {
        let of = |w: &str| std::mem::discriminant(&Fault::of(w));
        let like = |f: Fault| std::mem::discriminant(&f);
        let none = String::new;
        for (message, fault) in [
            (
                "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")",
                Fault::Full(none()),
            ),
            ("CublasError(CUBLAS_STATUS_ALLOC_FAILED)", Fault::Full(none())),
            ("CublasError(CUBLAS_STATUS_NOT_INITIALIZED)", Fault::Library(none())),
            (
                "CurandError(CURAND_STATUS_INITIALIZATION_FAILED)",
                Fault::Library(none()),
            ),
            (
                "DriverError(CUDA_ERROR_DEVICE_UNAVAILABLE, \"CUDA-capable device(s) is/are busy or unavailable\")",
                Fault::Busy(none()),
            ),
            (
                "DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"…\")",
                Fault::Driver(none()),
            ),
            ("DriverError(CUDA_ERROR_ECC_UNCORRECTABLE, \"…\")", Fault::Other(none())),
        ] {
            assert_eq!(of(message), like(fault), "{message}");
        }
        assert_eq!(version(12_040), "12.4");
        assert!(is_late("DriverError(CUDA_ERROR_ILLEGAL_ADDRESS, \"…\")") && !is_late("CUDA_ERROR_OUT_OF_MEMORY"));
    }
}
