//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod pil;
mod simd;
pub mod types;
pub use types::*;
