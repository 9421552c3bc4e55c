//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod aptos2019;
pub mod chexpert;
pub mod csv;
pub mod ddsm;
pub mod files;
pub mod isic2019;
pub mod leaks;
pub mod medmnist;
pub mod npz;
pub mod phantom;
pub mod registry;
pub mod split;
pub mod types;
pub use leaks::{Leaks, Overlap, leaks};
pub use types::*;
