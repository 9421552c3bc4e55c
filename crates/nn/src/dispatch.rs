//! Which of the two engines computes an op: the loops of this crate on the CPU, or the kernels in [`crate::cuda`].
//!
//! Every public op asks once, at its beginning; nothing below it asks again.

use crate::emulation;
use candle_core::Tensor;

/// Whether an op on `x` runs as kernels: on a GPU, and on the CPU where a test emulates one.
pub(crate) fn uses_kernels(x: &Tensor) -> bool {
    !x.device().is_cpu() || emulation::active()
}
