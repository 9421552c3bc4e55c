//! How much medft takes in at most, in one place: a file that promises or is more is refused with an error that names it.
//!
//! Nothing is allocated on a file's word before it was held against one of these. Of what is decompressed, only pixels and
//! arrays are: colour profiles and texts of images are skipped, compressed or not.

/// Bytes of a file that is read whole: records, lists, templates, label files.
pub const WHOLE_FILE: u64 = 1 << 30;

/// Bytes of an image file.
pub const IMAGE_FILE: u64 = 512 << 20;

/// Pixels of an image: Pillow's own limit (twice its `MAX_IMAGE_PIXELS`) against decompression bombs. With rows, filters and
/// the conversion to eight bits, decoding takes at most 12 bytes a pixel beside the file.
pub const IMAGE_PIXELS: usize = 178_956_970;

/// Bytes of an array in an npz file; the largest MedMNIST member (chestmnist_224's training images) has 3.9 GB.
pub const ARRAY_BYTES: u64 = 8 << 30;

/// Images or rows of labels in an array: each is a value of its own in memory.
pub const ARRAY_ROWS: usize = 16 << 20;

/// An array larger than [`ARRAY_SMALL`] may unpack to at most this many times its bytes in the file (deflate reaches 1,032).
pub const ARRAY_RATIO: u64 = 100;

/// Bytes up to which an array may unpack from any number of bytes.
pub const ARRAY_SMALL: u64 = 16 << 20;
