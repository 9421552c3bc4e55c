//! Data sets, splits, decoding, augmentation, loading. Knows no model.

pub mod aptos2019;
pub mod audit;
pub mod cache;
pub mod chexpert;
pub mod csv;
pub mod ddsm;
pub mod decode;
#[cfg(feature = "dicom")]
mod dicom;
pub mod duplicates;
mod exif;
mod fault;
pub mod files;
pub mod folder;
pub mod format;
pub mod fraction;
pub mod isic2019;
mod jpeg;
pub mod labels;
pub mod leaks;
pub mod loader;
pub mod medmnist;
pub mod npz;
pub mod own;
pub mod phantom;
pub mod pil;
pub mod presence;
pub mod registry;
pub mod split;
pub mod table;
mod tiff;
pub mod transform;
pub mod types;
pub use folder::Folder;

/// The tags of a DICOM file that decide its pixels, where medft is built with the feature `dicom`; no other tag is read.
pub const DICOM_TAGS: [&str; 16] = [
    "TransferSyntaxUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleIntercept and RescaleSlope",
    "WindowCenter and WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "PixelData",
];

pub use labels::Labels;
pub use leaks::{Leaks, Overlap, leaks};
pub use types::*;
