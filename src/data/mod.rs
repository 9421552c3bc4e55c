//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod cache;
pub mod decode;
mod exif;
mod jpeg;
pub mod loader;
pub mod pil;
mod simd;
pub mod transform;
pub mod types;
pub use types::*;
