//! The same tests as `kernels.rs` with the kernels compiled as nvcc compiles them, with fused multiply-adds: bounds hold either way.

#[path = "kernels/attention.rs"]
mod attention;
mod harness;
#[path = "kernels/ops.rs"]
mod ops;

/// Where these tests compute.
mod compute {
    use super::harness::emulator;
    use candle_core::Device;
    use medft_nn::emulation;

    /// Whether the kernels are compiled with fused multiply-adds, as nvcc compiles them.
    pub(crate) const CONTRACTED: bool = true;

    /// Calls `f` with layers run as kernels; `None` where the test is skipped.
    pub(crate) fn kernels<R>(f: impl FnOnce(&Device) -> R) -> Option<R> {
        #[cfg(target_arch = "x86_64")]
        if !is_x86_feature_detected!("fma") {
            super::harness::skip::skip("no FMA");
            return None;
        }
        emulator::get().map(|e| emulation::emulate(e.clone(), || f(&Device::Cpu)))
    }
}
