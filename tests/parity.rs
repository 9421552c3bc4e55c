//! Parity with the upstream Python implementations, a test (or more) per fixture folder.
//!
//! The folder is `MEDFT_FIXTURES` (default `tests/fixtures`); every configuration is read from its JSON files.

#[path = "parity/aimv2.rs"]
mod aimv2;
#[path = "parity/clip.rs"]
mod clip;
#[path = "parity/coca.rs"]
mod coca;
#[path = "parity/common.rs"]
mod common;
#[path = "parity/dinov2.rs"]
mod dinov2;
#[path = "parity/mae.rs"]
mod mae;
#[path = "parity/metrics.rs"]
mod metrics;
#[path = "parity/mha.rs"]
mod mha;
#[path = "parity/model.rs"]
mod model;
#[path = "parity/params.rs"]
mod params;
#[path = "parity/preprocess.rs"]
mod preprocess;
#[path = "parity/real.rs"]
mod real;
#[path = "parity/sam2.rs"]
mod sam2;
#[path = "parity/train.rs"]
mod train;
#[path = "parity/vmamba.rs"]
mod vmamba;

/// Where these tests compute; `tests/kernels.rs` and `tests/cuda.rs` have their own.
mod compute {
    use candle_core::Device;

    /// Whether bf16 is checked too.
    pub const SIXTEEN_BITS: bool = false;

    /// Whether the device is there.
    pub fn ready() -> bool {
        true
    }

    pub fn device() -> Device {
        Device::Cpu
    }
}
