//! What decoders of all formats say of a file: why it could not be read, what it holds besides its pixels.

use super::format::{Cure, Format};
use crate::limits;
use crate::spec::protocol::ImageLoading;

/// The most pixels an image may have.
pub(super) const MAX_PIXELS: usize = limits::IMAGE_PIXELS;

/// Why bytes could not be decoded; reads as what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("{}", .0.as_found())]
    NotAnImage(Format),
    #[error("a file that ends early")]
    Truncated,
    #[error("damaged data ({0})")]
    Corrupt(&'static str),
    #[error("damaged PNG data ({0})")]
    Png(String),
    #[error("damaged {0} data ({1})")]
    Damaged(&'static str, String),
    #[error("{0}, which medft does not read")]
    Unsupported(&'static str),
    #[error("{width} × {height} pixels, more than {MAX_PIXELS}")]
    TooLarge { width: usize, height: usize },
}

impl Fault {
    /// What to do about the file.
    pub fn cure(&self) -> Cure {
        match self {
            Self::NotAnImage(format) => format.cure(),
            Self::Unsupported(_) => Cure::Convert,
            Self::TooLarge { .. } => Cure::Shrink,
            Self::Truncated | Self::Corrupt(_) | Self::Png(_) | Self::Damaged(..) => Cure::GetAgain,
        }
    }
}

/// What a JPEG file has that libjpeg warns about while every pixel is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes that belong to no segment or scan: what follows a damaged code is often read wrongly up to there.
    pub extra_bytes: bool,
    /// Scans in an unusual order or with parameters that mean nothing.
    pub scan_order: bool,
    /// An Adobe marker with an unknown colour transform.
    pub adobe_transform: bool,
    pub jfif_version: bool,
}

impl Damage {
    /// In words, for `data audit`.
    pub fn descriptions(self) -> Vec<&'static str> {
        [
            (
                self.extra_bytes,
                "JPEG data left over: damaged, and read as Pillow reads it",
            ),
            (self.scan_order, "JPEG scans in an unusual order"),
            (self.adobe_transform, "an unknown colour transform of Adobe's"),
            (self.jfif_version, "an unknown version of JFIF"),
        ]
        .into_iter()
        .filter(|w| w.0)
        .map(|w| w.1)
        .collect()
    }
}

/// What a file holds besides the pixels that [`decode`](super::decode::decode) makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// 1 (grey), 3 (colour) or 4 (CMYK).
    pub channels: usize,
    pub alpha: bool,
    /// 16 bits a sample.
    pub deep: bool,
    /// The orientation, 1 to 8, when EXIF or XMP name one.
    pub orientation: Option<u8>,
    pub damage: Damage,
}

/// One 16-bit sample: Pillow opens 16-bit grey as such and clips it when it converts, and takes the high byte of all others.
pub(super) fn narrow(v: u16, grey: bool, loading: ImageLoading) -> u8 {
    match (loading, grey) {
        (ImageLoading::Sane, _) => ((u32::from(v) + 128) / 257) as u8,
        (ImageLoading::Authors, true) => v.min(255) as u8,
        (ImageLoading::Authors, false) => (v >> 8) as u8,
    }
}
