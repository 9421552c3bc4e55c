//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod phantom;
pub mod types;
pub use types::*;
