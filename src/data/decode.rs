//! Image files to 8-bit pixels.
//!
//! With `ImageLoading::Authors` the result is what the authors' loader (Pillow, then `convert("L")` or `convert("RGB")`)
//! gives: EXIF orientation is ignored, 16-bit grey is clipped at 255, other 16-bit samples lose their low byte, transparency
//! is dropped without blending. `Sane` applies the orientation and scales 16 bits by 1/257. JPEG pixels are libjpeg-turbo's
//! to the bit ([`super::jpeg`]).

use super::fault::MAX_PIXELS;
use super::fault::narrow;
pub use super::fault::{Damage, Fault, Stored};
use super::folder::Folder;
use super::format::{Format, HEAD};
use super::pil::{orient, to_channels};
use super::{ImageArray, exif, jpeg, tiff};
use crate::error::BadInput;
use crate::limits;
use crate::spec::protocol::{ImageLoading, PngTwin};
use anyhow::Result;
use std::borrow::Cow;
use std::path::Path;

/// Decodes a JPEG, PNG or TIFF file (or DICOM, with that feature) to 1 (L) or 3 (RGB) channels.
///
/// # Errors
/// A [`Fault`] for anything that is not a whole, undamaged image of at most [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], channels: usize, loading: ImageLoading) -> Result<ImageArray, Fault> {
    examine(bytes, channels, loading).map(|found| found.0)
}

/// As [`decode`], with what the conversion to these pixels left out.
///
/// # Errors
/// As [`decode`].
pub fn examine(bytes: &[u8], channels: usize, loading: ImageLoading) -> Result<(ImageArray, Stored), Fault> {
    assert!(matches!(channels, 1 | 3), "1 or 3 channels");
    let (img, stored) = match bytes {
        [0xFF, 0xD8, ..] => decode_jpeg(bytes)?,
        [0x89, b'P', b'N', b'G', ..] => decode_png(bytes, loading)?,
        _ => match Format::of(&bytes[..bytes.len().min(HEAD)]) {
            Format::Tiff => tiff::decode(bytes, loading)?,
            #[cfg(feature = "dicom")]
            Format::Dicom => super::dicom::decode(bytes)?,
            other => return Err(Fault::NotAnImage(other)),
        },
    };
    let img = to_channels(img, channels);
    let img = match (loading, stored.orientation) {
        (ImageLoading::Sane, Some(o)) => orient(img, o),
        _ => img,
    };
    Ok((img, stored))
}

/// The file that is read for one that the labels name: that file, or (Q44) a `.png` beside it.
pub fn resolve<'a>(root: &Folder, file: &'a Path, twin: PngTwin) -> Cow<'a, Path> {
    if twin == PngTwin::Prefer {
        let png = file.with_extension("png");
        if png != file && root.has(&png) {
            return Cow::Owned(png);
        }
    }
    Cow::Borrowed(file)
}

/// The bytes of an image of a data set (or of its twin, see [`resolve`]): the verified ones, where it was verified.
///
/// # Errors
/// [`BadInput`] naming the file when it is missing, not the verified one, no regular file or larger than an image may be.
pub fn read(root: &Folder, file: &Path, twin: PngTwin) -> Result<Vec<u8>> {
    root.read(&resolve(root, file, twin), "an image", limits::IMAGE_FILE)
}

/// Reads and decodes an image of a data set.
///
/// # Errors
/// As [`read`]; [`BadInput`] where it is no whole image.
pub fn open(root: &Folder, file: &Path, channels: usize, loading: ImageLoading, twin: PngTwin) -> Result<ImageArray> {
    let bytes = read(root, file, twin)?;
    decode(&bytes, channels, loading).map_err(|e| {
        let path = root.join(resolve(root, file, twin));
        BadInput::new(path.display(), "a whole image", e.to_string(), e.cure().sentence()).into()
    })
}

fn decode_jpeg(bytes: &[u8]) -> Result<(ImageArray, Stored), Fault> {
    let picture = jpeg::decode(bytes, MAX_PIXELS)?;
    let stored = Stored {
        channels: picture.channels,
        alpha: false,
        deep: false,
        orientation: picture.orientation,
        damage: picture.damage,
    };
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
    Ok((img, stored))
}

/// Pillow's `cmyk2rgb`, with its rounded division by 255.
fn cmyk_to_rgb([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    let light = u32::from(255 - k);
    [c, m, y].map(|ink| {
        let t = u32::from(ink) * light + 128;
        (light - (((t >> 8) + t) >> 8)) as u8
    })
}

fn decode_png(bytes: &[u8], loading: ImageLoading) -> Result<(ImageArray, Stored), Fault> {
    let fault = |e: png::DecodingError| match e {
        png::DecodingError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Fault::Truncated,
        e => Fault::Png(plain(&e.to_string())),
    };
    // Rows, filters and a palette besides the pixels of at most eight bytes.
    let limits = png::Limits {
        bytes: MAX_PIXELS * 8 + (1 << 20),
    };
    let mut decoder = png::Decoder::new_with_limits(std::io::Cursor::new(bytes), limits);
    // Colour profiles and texts may unpack to anything, and no pixel depends on them.
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(png::Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(fault)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let stored = (header.color_type, header.bit_depth);
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    let mut reader = decoder.read_info().map_err(fault)?;
    // The png crate's expansion reads whole colours and does not look whether the last one is.
    let palette = reader.info().palette.as_ref().map_or(0, |p| p.len());
    if !palette.is_multiple_of(3) || palette > 3 * 256 {
        return Err(Fault::Png(format!("a palette of {palette} bytes")));
    }
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
    let stored = Stored {
        channels,
        alpha: matches!(frame.color_type, png::ColorType::GrayscaleAlpha | png::ColorType::Rgba),
        deep: frame.bit_depth == png::BitDepth::Sixteen,
        orientation: (reader.info().exif_metadata.as_deref())
            .and_then(exif::orientation)
            .or_else(|| exif::png_text_orientation(bytes)),
        damage: Damage::default(),
    };
    Ok((img, stored))
}

/// The png crate's complaint without Rust's notation: a chunk is called by its name, a checksum a checksum.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("ChunkType { type: ") {
        let (name, after) = after.split_once(',').unwrap_or((after, ""));
        out.push_str(before);
        // A name that is no letters was damaged.
        out.push_str(if name.contains('\\') {
            "an unknown"
        } else {
            name.trim_matches(['"', '\''])
        });
        rest = after.split_once('}').map_or("", |a| a.1);
    }
    out.push_str(rest);
    if let Some((_, chunk)) = out.split_once("while decoding ")
        && out.starts_with("CRC error")
    {
        return format!(
            "the checksum of its {} chunk is wrong",
            chunk.trim_matches(['.', ' ']).trim_end_matches(" chunk")
        );
    }
    // A cause in Rust's notation follows the sentence: `Corrupt deflate stream. InsufficientInput`.
    let sentence = out.split_once(". ").map_or(out.as_str(), |s| s.0);
    sentence.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fsio::sha256_hex;
    use crate::rng::{Purpose, Stream};
    use std::path::PathBuf;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/pillow")
    }

    /// Name and bytes of every image, with what Pillow makes of it.
    fn images() -> Vec<(String, Vec<u8>, serde_json::Value)> {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder().join("pillow.json")).unwrap()).unwrap();
        let files = json["files"].as_object().unwrap();
        let image = |(name, expected): (&String, &serde_json::Value)| {
            (
                name.clone(),
                std::fs::read(folder().join(name)).unwrap(),
                expected.clone(),
            )
        };
        files.iter().map(image).collect()
    }

    /// Sampling factors, progressive and restarted scans, colour spaces, tiny sizes; all PNG colour types and depths.
    #[test]
    fn every_kind_of_file_gives_pillows_pixels() {
        let images = images();
        assert!(images.len() > 70);
        for (name, bytes, expected) in images {
            if name == "arith.jpg" {
                let e = decode(&bytes, 3, ImageLoading::Authors).unwrap_err();
                assert_eq!(e, Fault::Unsupported("arithmetic coding"));
                continue;
            }
            for (channels, key) in [(3, "rgb"), (1, "l")] {
                let img = decode(&bytes, channels, ImageLoading::Authors).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(
                    (img.width as u64, img.height as u64),
                    (
                        expected["width"].as_u64().unwrap(),
                        expected["height"].as_u64().unwrap()
                    )
                );
                assert_eq!(sha256_hex(&img.data), expected[key].as_str().unwrap(), "{name} {key}");
            }
            if let Some(scaled) = expected["scaled"].as_str() {
                let channels = if name.starts_with("grey") { 1 } else { 3 };
                let img = decode(&bytes, channels, ImageLoading::Sane).unwrap();
                assert_eq!(sha256_hex(&img.data), scaled, "{name} scaled");
            }
        }
    }

    /// Every beginning of a file is refused (Pillow refuses them too), and so is what is no image at all.
    #[test]
    fn a_cut_file_is_an_error() {
        for name in [
            "420.jpg",
            "progressive.jpg",
            "restart.jpg",
            "rgb8.png",
            "palette4_interlaced.png",
        ] {
            let bytes = std::fs::read(folder().join(name)).unwrap();
            // A PNG is whole without its last chunk of 12 bytes and the checksum of its data.
            let whole = if name.ends_with("jpg") {
                bytes.len()
            } else {
                bytes.len() - 16
            };
            for cut in (3..whole).step_by(7).chain([whole - 1]) {
                assert!(
                    decode(&bytes[..cut], 3, ImageLoading::Authors).is_err(),
                    "{name} cut at {cut}"
                );
            }
        }
        let fault = |bytes: &[u8]| decode(bytes, 3, ImageLoading::Authors).unwrap_err();
        assert_eq!(fault(b""), Fault::NotAnImage(Format::Empty));
        assert_eq!(fault(b"<html>"), Fault::NotAnImage(Format::HtmlPage));
    }

    /// Damage gives an error or some pixels, never a panic or a hang.
    #[test]
    fn random_damage_does_no_harm() {
        let mut s = Stream::new(0, Purpose::Test, 0, 1);
        for (_, bytes, _) in images() {
            for _ in 0..60 {
                let mut bytes = bytes.clone();
                for _ in 0..=s.below(4) {
                    let at = s.below(bytes.len() as u32) as usize;
                    bytes[at] = s.next_u32() as u8;
                }
                let _ = decode(&bytes, 1, ImageLoading::Sane);
            }
        }
    }

    /// Found by fuzzing: a palette that is cut inside a colour made the png crate (0.18.1) panic.
    #[test]
    fn a_palette_that_ends_inside_a_colour_is_refused() {
        let file = folder().join("../fuzz/palette_of_49_bytes.png");
        let e = decode(&std::fs::read(file).unwrap(), 3, ImageLoading::Authors).unwrap_err();
        assert_eq!(e, Fault::Png("a palette of 49 bytes".into()));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let mut jpeg = std::fs::read(folder().join("grey.jpg")).unwrap();
        let at = jpeg.windows(2).position(|w| w == [0xFF, 0xC0]).unwrap();
        jpeg[at + 5..at + 9].copy_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF]);
        let e = decode(&jpeg, 1, ImageLoading::Authors).unwrap_err();
        assert_eq!(
            e,
            Fault::TooLarge {
                width: 65535,
                height: 65535
            }
        );
        // A PNG header for 2³¹−1 × 2³¹−1 pixels; its checksum (CRC-32) was computed by zlib.
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
        png.extend([
            0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 8, 2, 0, 0, 0, 0x9B, 0xAB, 0x9C, 0x31,
        ]);
        assert!(matches!(
            decode(&png, 3, ImageLoading::Authors),
            Err(Fault::TooLarge { .. })
        ));
    }

    #[test]
    fn the_error_names_the_file_and_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("case0001.jpg");
        let root = Folder::unverified(dir.path());
        let open = || {
            open(
                &root,
                "case0001.jpg".as_ref(),
                1,
                ImageLoading::Authors,
                PngTwin::Prefer,
            )
        };
        let text = |e: anyhow::Error| e.downcast::<BadInput>().unwrap().to_string();
        let missing = text(open().unwrap_err());
        assert!(
            missing.contains("case0001.jpg") && missing.contains("no such file"),
            "{missing}"
        );
        std::fs::write(&path, &std::fs::read(folder().join("420.jpg")).unwrap()[..1000]).unwrap();
        let cut = text(open().unwrap_err());
        assert!(cut.contains("ends early") && cut.contains("data verify"), "{cut}");
    }

    /// (Q44): the twin replaces the listed file, even a whole one, unless that is switched off.
    #[test]
    fn a_png_twin_is_preferred() {
        let dir = tempfile::tempdir().unwrap();
        let listed = dir.path().join("a.b.jpg");
        std::fs::copy(folder().join("420.jpg"), &listed).unwrap();
        let root = Folder::unverified(dir.path());
        let width = |twin| {
            let file = Path::new("a.b.jpg");
            open(&root, file, 3, ImageLoading::Authors, twin).unwrap().width
        };
        assert_eq!((width(PngTwin::Prefer), width(PngTwin::Off)), (83, 83));
        std::fs::copy(folder().join("rgb8.png"), dir.path().join("a.b.png")).unwrap();
        assert_eq!((width(PngTwin::Prefer), width(PngTwin::Off)), (29, 83));
    }
}
