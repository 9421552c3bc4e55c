//! The driver behind `--device`, as a trait: tests script drivers that are too old, libraries that are missing and GPUs that fail.

use candle_core::Device;
use medft_nn::device as nn;
pub use medft_nn::device::Card;
use std::path::Path;

/// The CUDA version that the driver must be made for (13.0), and what NVIDIA calls the first such driver.
pub const LEAST_CUDA: u32 = 13_000;
/// See [`LEAST_CUDA`].
pub const LEAST_DRIVER: &str = "R580";
/// The least compute capability that the kernels are compiled for.
pub const LEAST_CAPABILITY: (u32, u32) = (8, 0);

/// What is there instead of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// This binary was built without CUDA and asks no driver.
    NotBuilt,
    /// The driver's library, libcuda, could not be loaded.
    NoLibrary,
}

/// What opens GPUs.
pub trait Driver: Sync {
    /// The CUDA version that the driver is made for: 13000 is 13.0.
    ///
    /// # Errors
    /// Where there is no driver.
    fn version(&self) -> Result<u32, Absent>;

    /// Whether the machine has an NVIDIA GPU, whatever can be done with it.
    fn gpu_seen(&self) -> bool;

    /// How many GPUs the driver reports.
    ///
    /// # Errors
    /// What the driver says where it does not work.
    fn count(&self) -> Result<usize, String>;

    /// What the driver says of GPU `n`.
    ///
    /// # Errors
    /// As [`Driver::count`].
    fn card(&self, n: usize) -> Result<Card, String>;

    /// Opens GPU `n`.
    ///
    /// # Errors
    /// The message of the driver or a library.
    fn open(&self, n: usize) -> Result<Device, String>;

    /// Whether GPU `n` still computes: after some errors a GPU answers nothing any more, after others (no memory left) it does.
    ///
    /// # Errors
    /// What the device says where it does not.
    fn answers(&self, n: usize, device: &Device) -> Result<(), String>;
}

/// NVIDIA's driver.
#[derive(Debug, Clone, Copy, Default)]
pub struct Nvidia;

impl Driver for Nvidia {
    fn version(&self) -> Result<u32, Absent> {
        if cfg!(not(feature = "cuda")) {
            return Err(Absent::NotBuilt);
        }
        nn::driver_version().ok_or(Absent::NoLibrary)
    }

    fn gpu_seen(&self) -> bool {
        // The kernel module lists its GPUs there, inside containers too; WSL has a bridge instead.
        let listed = std::fs::read_dir("/proc/driver/nvidia/gpus").is_ok_and(|mut gpus| gpus.next().is_some());
        listed || Path::new("/usr/lib/wsl/lib/libcuda.so.1").exists()
    }

    fn count(&self) -> Result<usize, String> {
        nn::count().map_err(|e| first_line(&e))
    }

    fn card(&self, n: usize) -> Result<Card, String> {
        nn::card(n).map_err(|e| first_line(&e))
    }

    fn open(&self, n: usize) -> Result<Device, String> {
        nn::open_gpu(n).map_err(|e| first_line(&e))
    }

    fn answers(&self, _: usize, device: &Device) -> Result<(), String> {
        let probe = || {
            let one = candle_core::Tensor::ones(1, candle_core::DType::F32, device)?;
            (one + 1.0)?.to_vec1::<f32>()?;
            device.synchronize()
        };
        probe().map_err(|e| first_line(&e))
    }
}

/// An error without the backtrace below it.
fn first_line(e: &candle_core::Error) -> String {
    e.to_string()
        .lines()
        .next()
        .unwrap_or("an error without a message")
        .to_owned()
}
