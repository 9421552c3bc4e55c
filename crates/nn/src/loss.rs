//! Losses whose gradients are right, on every device.

use crate::cuda;
use crate::dispatch::uses_kernels;
use crate::fallback::{Kernel, is_replaced};
use crate::precision::to_float;
use candle_core::{D, Result, Tensor};

/// Mean cross-entropy of logits (B, C) against class indices (B), u32 → scalar.
///
/// # Errors
/// Where shapes do not fit.
pub fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    if uses_kernels(logits) && !is_replaced(Kernel::CrossEntropy, logits.device()) {
        return cuda::loss::cross_entropy(logits, classes);
    }
    let logits = &to_float(logits)?;
    let log_z = logits.log_sum_exp(D::Minus1)?;
    let own = logits.gather(&classes.unsqueeze(1)?, 1)?.squeeze(1)?;
    (log_z - own)?.mean_all()
}

/// Mean binary cross-entropy with logits (B, L) against 0/1 labels (B, L) of the logits' type → scalar.
///
/// # Errors
/// Where shapes do not fit.
pub fn bce_with_logits(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if uses_kernels(logits) && !is_replaced(Kernel::BinaryCrossEntropy, logits.device()) {
        return cuda::loss::bce_with_logits(logits, labels);
    }
    // max(x, 0) − x·y + ln(1 + e^{−|x|}), as torch computes it.
    let x = &to_float(logits)?;
    let labels = &labels.to_dtype(x.dtype())?;
    let soft = ((x.abs()?.neg()?.exp()? + 1.0)?).log()?;
    (x.relu()? - (x * labels)? + soft)?.mean_all()
}
