//! The CUDA kernels' own source on the CPU: the parity fixtures, the optimiser and resumed trainings. Single ops are tested in
//! `crates/nn/tests/kernels.rs`, by the same emulator.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

#[path = "../crates/nn/tests/harness/mod.rs"]
mod harness;
#[path = "kernels/optimiser.rs"]
mod optimiser;
#[path = "kernels/parity.rs"]
mod parity;
#[path = "kernels/resume.rs"]
mod resume;
#[path = "kernels/selfcheck.rs"]
mod selfcheck;

/// Where these tests compute.
mod compute {
    use super::harness::emulator;
    use candle_core::Device;
    use medft_nn::emulation;

    /// Whether the kernels are compiled with fused multiply-adds, as nvcc compiles them.
    pub(crate) const CONTRACTED: bool = false;

    /// Whether bf16 is checked too.
    pub(crate) const SIXTEEN_BITS: bool = true;

    /// Runs the rest of the calling thread's layers as kernels; `false` where the test is skipped.
    pub(crate) fn ready() -> bool {
        let found = emulator::get();
        if let Some(e) = found {
            emulation::emulate_from_here(e.clone());
        }
        found.is_some()
    }

    pub(crate) fn device() -> Device {
        Device::Cpu
    }

    /// Calls `f` with layers run as kernels; `None` where the test is skipped.
    pub(crate) fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        emulator::get().map(|e| emulation::emulate(e.clone(), || f(&Device::Cpu)))
    }
}
