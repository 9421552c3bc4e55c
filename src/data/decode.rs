//! Image files to 8-bit pixels.
//!
//! With `ImageLoading::Authors` the result is what the authors' loader (Pillow, then `convert("L")` or `convert("RGB")`)
//! gives: EXIF orientation is ignored, 16-bit grey is clipped at 255, other 16-bit samples lose their low byte, transparency
//! is dropped without blending. `Sane` applies the orientation and scales 16 bits by 1/257. JPEG pixels are libjpeg-turbo's
//! to the bit ([`super::jpeg`]).

use super::pil::{orient, to_channels};
use super::{ImageArray, exif, jpeg};
use crate::error::BadInput;
use crate::study::protocol::{ImageLoading, PngTwin};
use anyhow::{Context, Result};
use std::borrow::Cow;
use std::path::Path;

/// The most pixels an image may have: Pillow's own limit (twice its `MAX_IMAGE_PIXELS`) against decompression bombs.
pub const MAX_PIXELS: usize = 178_956_970;

/// Why bytes could not be decoded; reads as what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("neither of them")]
    NotAnImage,
    #[error("a file that ends early")]
    Truncated,
    #[error("damaged data ({0})")]
    Corrupt(&'static str),
    #[error("damaged PNG data ({0})")]
    Png(String),
    #[error("{0}, which medft does not read")]
    Unsupported(&'static str),
    #[error("{width} × {height} pixels, more than {MAX_PIXELS}")]
    TooLarge { width: usize, height: usize },
}

/// Decodes a JPEG or PNG file to 1 (L) or 3 (RGB) channels.
///
/// # Errors
/// A [`Fault`] for anything that is not a whole, undamaged image of at most [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], channels: usize, loading: ImageLoading) -> Result<ImageArray, Fault> {
    assert!(matches!(channels, 1 | 3), "1 or 3 channels");
    let (img, orientation) = match bytes {
        [0xFF, 0xD8, ..] => decode_jpeg(bytes)?,
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes, loading)?,
        _ => return Err(Fault::NotAnImage),
    };
    let img = to_channels(img, channels);
    Ok(match (loading, orientation) {
        (ImageLoading::Sane, Some(o)) => orient(img, o),
        _ => img,
    })
}

/// The file that is read for a listed one: the listed file, or [Q44] a `.png` beside it.
pub fn resolve(path: &Path, twin: PngTwin) -> Cow<'_, Path> {
    if twin == PngTwin::Prefer {
        let png = path.with_extension("png");
        if png != path && png.is_file() {
            return Cow::Owned(png);
        }
    }
    Cow::Borrowed(path)
}

/// Reads and decodes the file at `path` (or its twin, see [`resolve`]).
///
/// # Errors
/// [`BadInput`] naming the file when it is missing or is no whole image.
pub fn open(path: &Path, channels: usize, loading: ImageLoading, twin: PngTwin) -> Result<ImageArray> {
    const REMEDY: &str = "Get this file again from its source, then run `medft data verify`.";
    let path = resolve(path, twin);
    let bytes = match std::fs::read(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(BadInput::new(path.display(), "a JPEG or PNG image", "no such file", REMEDY).into());
        }
        bytes => bytes.with_context(|| format!("cannot read {}", path.display()))?,
    };
    decode(&bytes, channels, loading)
        .map_err(|e| BadInput::new(path.display(), "a whole JPEG or PNG image", e.to_string(), REMEDY).into())
}

fn decode_jpeg(bytes: &[u8]) -> Result<(ImageArray, Option<u8>), Fault> {
    let picture = jpeg::decode(bytes, MAX_PIXELS)?;
    let (channels, data) = match picture.channels {
        4 => (
            3,
            picture
                .data
                .as_chunks()
                .0
                .iter()
                .flat_map(|&px| cmyk_to_rgb(px))
                .collect(),
        ),
        n => (n, picture.data),
    };
    let img = ImageArray {
        width: picture.width,
        height: picture.height,
        channels,
        data,
    };
    Ok((img, picture.orientation))
}

/// Pillow's `cmyk2rgb`, with its rounded division by 255.
fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = u32::from(255 - k);
    [c, m, y].map(|ink| {
        let t = u32::from(ink) * light + 128;
        (light - (((t >> 8) + t) >> 8)) as u8
    })
}

fn decode_png(bytes: &[u8], loading: ImageLoading) -> Result<(ImageArray, Option<u8>), Fault> {
    let fault = |e: png::DecodingError| match e {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Fault::Truncated,
        e => Fault::Png(e.to_string()),
    };
    // Rows, filters and a palette besides the pixels of at most eight bytes.
    let limits = png::Limits {
        bytes: MAX_PIXELS * 8 + (1 << 20),
    };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(fault)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let stored = (header.color_type, header.bit_depth);
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    let mut reader = decoder.read_info().map_err(fault)?;
    let size = reader.output_buffer_size().ok_or(Fault::TooLarge { width, height })?;
    let mut raw = vec![0; size];
    let frame = reader.next_frame(&mut raw).map_err(fault)?;
    if (frame.width as usize, frame.height as usize) != (width, height) {
        return Err(Fault::Unsupported(
            "an animated PNG whose first frame is smaller than the image",
        ));
    }
    raw.truncate(frame.buffer_size());
    if frame.bit_depth == png::BitDepth::Sixteen {
        let grey = stored == (png::ColorType::Grayscale, png::BitDepth::Sixteen);
        raw = raw
            .as_chunks()
            .0
            .iter()
            .map(|&v| narrow(u16::from_be_bytes(v), grey, loading))
            .collect();
    }
    let (channels, data) = match frame.color_type {
        png::ColorType::Grayscale => (1, raw),
        png::ColorType::Rgb => (3, raw),
        png::ColorType::GrayscaleAlpha => (1, raw.into_iter().step_by(2).collect()),
        png::ColorType::Rgba => (
            3,
            raw.as_chunks().0.iter().flat_map(|&[r, g, b, _]| [r, g, b]).collect(),
        ),
        png::ColorType::Indexed => return Err(Fault::Unsupported("a PNG palette that was not expanded")),
    };
    let img = ImageArray {
        width,
        height,
        channels,
        data,
    };
    let orientation = reader.info().exif_metadata.as_deref().and_then(exif::orientation);
    Ok((img, orientation))
}

/// One 16-bit sample: Pillow opens 16-bit grey as such and clips it when it converts, and takes the high byte of all others.
fn narrow(v: u16, grey: bool, loading: ImageLoading) -> u8 {
    match (loading, grey) {
        (ImageLoading::Sane, _) => ((u32::from(v) + 128) / 257) as u8,
        (ImageLoading::Authors, true) => v.min(255) as u8,
        (ImageLoading::Authors, false) => (v >> 8) as u8,
    }
}
