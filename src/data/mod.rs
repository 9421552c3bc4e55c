//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod aptos2019;
pub mod audit;
pub mod cache;
pub mod chexpert;
pub mod csv;
pub mod ddsm;
pub mod decode;
pub mod duplicates;
mod exif;
pub mod files;
pub mod format;
pub mod isic2019;
mod jpeg;
pub mod leaks;
pub mod loader;
pub mod medmnist;
pub mod npz;
pub mod phantom;
pub mod pil;
pub mod presence;
pub mod registry;
pub mod split;
pub mod table;
pub mod transform;
pub mod types;
pub use leaks::{Leaks, Overlap, leaks};
pub use types::*;
