//! The same tests as `tests/kernels.rs` on a CUDA device; where there is none, every test says "skipped".
//!
//! A plain program that can be carried to a machine without Rust: set MEDFT_FIXTURES to the folder of fixtures there.
#![cfg(feature = "cuda")]

#[path = "kernels/attention.rs"]
mod attention;
#[path = "kernels/ops.rs"]
mod ops;
#[path = "kernels/parity.rs"]
mod parity;
#[path = "kernels/resume.rs"]
mod resume;

/// Where these tests compute.
mod compute {
    use candle_core::Device;

    /// Whether bf16 is checked too.
    pub const SIXTEEN_BITS: bool = true;

    thread_local! {
        // A stream of its own for every test's thread.
        static DEVICE: Option<Device> = medft::device::gpu(0).ok();
    }

    /// Whether the device is there.
    pub fn ready() -> bool {
        let there = DEVICE.with(Option::is_some);
        if !there {
            println!("skipped: no CUDA device");
        }
        there
    }

    pub fn device() -> Device {
        DEVICE.with(|d| d.clone().expect("a test asks whether the device is ready first"))
    }

    /// Calls `f` with the device.
    pub fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        ready().then(|| f(&device()))
    }
}
