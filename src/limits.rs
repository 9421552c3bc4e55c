//! How much medft takes in at most, in one place: a file that promises or is more is refused with an error that names it.
//!
//! Nothing is allocated for what a file promises before it was held against one of these. Of what is decompressed, only pixels and
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

/// Bytes of a record in JSON (of a run, a report, an audit), of `DONE`, a seal, a study or a text beside it: parsed, it takes some
/// times as much.
pub const RECORD: u64 = 64 << 20;

/// Bytes of a lease or a secret.
pub const NOTE: u64 = 64 << 10;

/// Bytes of a file of the kernel (`/proc/cpuinfo` of a large machine has some hundred KiB).
pub const SYSTEM_FILE: u64 = 16 << 20;

/// Cells of stored predictions: rows (sets of weights × images) × columns. The largest test set of the paper's kind
/// (chestmnist, 22,433 images, 14 labels, four sets) has 2.8 million.
pub const PREDICTION_CELLS: usize = 256 << 20;

/// Bytes that stored predictions may unpack to, by what the file says of each column.
pub const PREDICTION_BYTES: u64 = 4 << 30;

/// Bytes of a file in an archive of results: trained weights of the largest backbone take less than 4 GB.
pub const BUNDLED_FILE: u64 = 8 << 30;

/// Bytes of the list of files in an archive of results.
pub const BUNDLE_LIST: u64 = 256 << 20;

/// Bytes of a safetensors header; the format's own limit.
pub const SAFETENSORS_HEADER: u64 = 100_000_000;

/// Bytes of `data.pkl` in a PyTorch checkpoint; real ones have some 100 KiB.
pub const PICKLE: u64 = 16 << 20;

/// Bytes of an npy header; NumPy's own limit on what it trusts.
pub const NPY_HEADER: usize = 10_000;

/// Bytes that a text of a PNG may unpack to.
pub const PNG_TEXT: u64 = 1 << 20;
