//! The same tests as `tests/kernels.rs` and `crates/nn/tests/kernels.rs` on a CUDA device.
//!
//! A plain program that can be carried to a machine without Rust: set MEDFT_FIXTURES to the folder of fixtures there.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.
#![cfg(feature = "cuda")]

#[path = "../crates/nn/tests/kernels/attention.rs"]
mod attention;
#[path = "../crates/nn/tests/kernels/ops.rs"]
mod ops;
#[path = "kernels/optimiser.rs"]
mod optimiser;
#[path = "kernels/parity.rs"]
mod parity;
#[path = "kernels/resume.rs"]
mod resume;
#[path = "../crates/nn/tests/harness/skip.rs"]
mod skip;

/// Where these tests compute.
mod compute {
    use candle_core::Device;

    /// Whether bf16 is checked too.
    pub(crate) const SIXTEEN_BITS: bool = true;
    /// nvcc contracts multiplications and additions.
    pub(crate) const CONTRACTED: bool = true;

    thread_local! {
        // A stream of its own for every test's thread.
        static DEVICE: Option<Device> = medft_nn::device::open_gpu(0).ok();
    }

    /// Whether the device is there.
    pub(crate) fn ready() -> bool {
        let there = DEVICE.with(Option::is_some);
        if !there {
            crate::skip::skip("no CUDA device");
        }
        there
    }

    pub(crate) fn device() -> Device {
        DEVICE.with(|d| d.clone().expect("a test asks whether the device is ready first"))
    }

    /// Calls `f` with the device.
    pub(crate) fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        ready().then(|| f(&device()))
    }
}
