//! The arithmetic of products and activations on a GPU: float32, with products in TF32 or not, or 16 bits with float32
//! parameters, sums and residual stream.
//!
//! Inside a [`scope`] of 16 bits, the operands of linear layers, convolutions and attention are cast; norms and softmax compute
//! in float32 and write the 16-bit type; parameters and their gradients, the residual stream, logits and loss stay float32, and
//! so does what a model calls [`with_f32`].

use crate::cuda;
use crate::dispatch::uses_kernels;
use crate::emulation;
use candle_core::{DType, Device, Result, Tensor};
use std::cell::Cell;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compute {
    #[default]
    /// float32 throughout.
    Float32,
    /// float32 operands rounded to 10 bits of fraction inside the tensor cores.
    Tf32,
    /// bfloat16 operands, float32 sums.
    Bfloat16,
    /// float16 operands, float32 sums.
    Float16,
}

impl Compute {
    /// Whether layers of tensors on `device` can compute so: 16 bits and TF32 need the kernels.
    pub fn runs_on(self, device: &Device) -> bool {
        self == Self::Float32 || !device.is_cpu() || emulation::active()
    }

    /// The type of activations.
    pub fn dtype(self) -> DType {
        match self {
            Self::Float32 | Self::Tf32 => DType::F32,
            Self::Bfloat16 => DType::BF16,
            Self::Float16 => DType::F16,
        }
    }
}

thread_local! {
    static CURRENT: Cell<Compute> = const { Cell::new(Compute::Float32) };
}

/// What this thread computes in.
pub fn current() -> Compute {
    CURRENT.get()
}

/// Calls `f` with float32 operands, and products in TF32, where the scope has 16 bits: for what rounding to 8 bits would harm most
/// and that costs little. Elsewhere `f` runs as it is.
pub fn with_f32<R>(f: impl FnOnce() -> R) -> R {
    match current() {
        Compute::Bfloat16 | Compute::Float16 => scope(Compute::Tf32, f),
        Compute::Float32 | Compute::Tf32 => f(),
    }
}

/// Calls `f` with this thread computing in `compute`; the backward pass belongs inside too, since it may run layers again.
pub fn scope<R>(compute: Compute, f: impl FnOnce() -> R) -> R {
    struct Restore(Compute);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0);
        }
    }
    let _restore = Restore(CURRENT.replace(compute));
    f()
}

/// The type that an op on `x` computes in: the scope's, float64 for gradient checks.
pub(crate) fn compute_type(x: &Tensor) -> DType {
    match x.dtype() {
        DType::F64 => DType::F64,
        _ => current().dtype(),
    }
}

/// The type that values of `t` are summed in, and that parameters have.
pub(crate) fn computed_in(t: DType) -> DType {
    if t == DType::F64 { t } else { DType::F32 }
}

/// `x` in float32 (float64 stays): what ops outside the layers are given.
///
/// # Errors
/// Where there is no conversion from the type of `x`.
pub fn to_float(x: &Tensor) -> Result<Tensor> {
    let to = computed_in(x.dtype());
    if uses_kernels(x) {
        return cuda::cast(x, to);
    }
    x.to_dtype(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_f32_leaves_only_16_bits() {
        for (outer, inner) in [
            (Compute::Float32, Compute::Float32),
            (Compute::Tf32, Compute::Tf32),
            (Compute::Bfloat16, Compute::Tf32),
            (Compute::Float16, Compute::Tf32),
        ] {
            assert_eq!(scope(outer, || (with_f32(current), current())), (inner, outer));
        }
    }

    #[test]
    fn scopes_nest_and_end() {
        assert_eq!(current(), Compute::Float32);
        scope(Compute::Bfloat16, || {
            assert_eq!(current().dtype(), DType::BF16);
            scope(Compute::Float16, || assert_eq!(current().dtype(), DType::F16));
            assert_eq!(current(), Compute::Bfloat16);
            // Runs side by side each have their own.
            let beside = std::thread::spawn(|| scope(Compute::Tf32, current)).join().unwrap();
            assert_eq!((current(), beside), (Compute::Bfloat16, Compute::Tf32));
        });
        assert_eq!(current(), Compute::Float32);
    }
}
