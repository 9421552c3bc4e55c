//! Parity with the upstream Python implementations, a test (or more) per fixture folder.
//!
//! The folder is `MEDFT_FIXTURES` (default `tests/fixtures`); every configuration is read from its JSON files.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod aimv2;
mod clip;
mod coca;
#[path = "../shared/fixtures.rs"]
mod common;
mod dinov2;
mod mae;
mod metrics;
mod mha;
mod model;
mod params;
mod preprocess;
mod real;
mod sam2;
mod timm_vit;
mod train;
mod vmamba;

/// Where these tests compute; `tests/kernels.rs` and `tests/cuda.rs` have their own.
mod compute {
    use candle_core::Device;

    /// Whether bf16 is checked too.
    pub(crate) const SIXTEEN_BITS: bool = false;

    /// Whether the device is there.
    pub(crate) fn ready() -> bool {
        true
    }

    pub(crate) fn device() -> Device {
        Device::Cpu
    }
}
