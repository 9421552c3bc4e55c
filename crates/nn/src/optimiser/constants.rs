//! AdamW's constants, which its kernel is given too.

/// Decay of the first moment.
pub const BETA1: f64 = 0.9;
/// Decay of the second moment.
pub const BETA2: f64 = 0.999;
pub(crate) const EPS: f64 = 1e-8;
