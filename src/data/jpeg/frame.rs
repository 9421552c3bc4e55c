//! What of a file is known before and between its scans: frame, tables, notes; and the picture at the end.

use super::bits::Huffman;
use crate::data::fault::Damage;

/// Decoded pixels, channels last: grey (1), RGB (3), or CMYK (4) with the values as Pillow has them (0 = no ink).
#[derive(Debug)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub data: Vec<u8>,
    /// The orientation, 1 to 8, when EXIF or XMP name one.
    pub orientation: Option<u8>,
    pub damage: Damage,
}

/// Position k of the zigzag order in a row-major block.
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// One colour component of the frame.
pub struct Component {
    pub id: u8,
    /// Sampling factors.
    pub h: usize,
    pub v: usize,
    pub quant_slot: usize,
    /// Row-major; taken when the first scan of the component starts, as the standard wants.
    pub quant: Option<[i32; 64]>,
    /// Samples that belong to the image.
    pub width: usize,
    pub height: usize,
    /// Blocks that hold such samples (what a scan of this component alone codes).
    pub blocks_wide: usize,
    pub blocks_high: usize,
    /// Blocks in a row of `plane` and `coefficients`: whole MCUs.
    pub stride: usize,
    /// 8-bit samples, `8 · stride` a row.
    pub plane: Vec<u8>,
    /// Row-major blocks; only progressive files need them.
    pub coefficients: Vec<[i16; 64]>,
    /// For every coefficient how many low bits are still unknown; `None` before its first scan.
    pub missing: [Option<u8>; 64],
}

pub struct Frame {
    pub width: usize,
    pub height: usize,
    pub progressive: bool,
    pub mcus_wide: usize,
    pub mcus_high: usize,
    pub h_max: usize,
    pub v_max: usize,
    pub components: Vec<Component>,
}

#[derive(Default)]
pub struct Tables {
    pub quant: [Option<[i32; 64]>; 4],
    pub dc: [Option<Huffman>; 4],
    pub ac: [Option<Huffman>; 4],
    pub restart_interval: usize,
}

/// What the application markers say about colours and orientation.
#[derive(Default)]
pub struct Notes {
    pub jfif: bool,
    /// The transform byte of an Adobe marker.
    pub adobe: Option<u8>,
    pub exif: Option<u8>,
    pub xmp: Option<u8>,
}
