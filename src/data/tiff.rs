//! TIFF images: grey or RGB of 8 or 16 bits, with or without transparency, one image a file.
//!
//! The image crate decodes; 16-bit samples become 8 as those of a PNG do. What it would guess at is refused: several images in a file,
//! CMYK (its conversion is not Pillow's), samples that are no whole numbers.

use super::fault::{Damage, Fault, MAX_PIXELS, Stored, narrow};
use super::{ImageArray, exif};
use crate::spec::protocol::ImageLoading;
use image::codecs::tiff::TiffDecoder;
use image::error::{ImageError, LimitErrorKind};
use image::{ColorType, ExtendedColorType, ImageDecoder, Limits};
use std::io::Cursor;

pub(super) fn decode(bytes: &[u8], loading: ImageLoading) -> Result<(ImageArray, Stored), Fault> {
    if images(bytes) > 1 {
        return Err(Fault::Unsupported("a TIFF file of several images"));
    }
    let mut decoder = TiffDecoder::new(Cursor::new(bytes)).map_err(fault)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    let mut limits = Limits::no_limits();
    // Pixels of four samples of two bytes, twice.
    limits.max_alloc = Some(MAX_PIXELS as u64 * 16);
    decoder.set_limits(limits).map_err(fault)?;
    if matches!(
        decoder.original_color_type(),
        ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16
    ) {
        return Err(Fault::Unsupported("a CMYK TIFF image"));
    }
    let colour = decoder.color_type();
    let (samples, deep) = match colour {
        ColorType::L8 | ColorType::L16 => (1, colour == ColorType::L16),
        ColorType::La8 | ColorType::La16 => (2, colour == ColorType::La16),
        ColorType::Rgb8 | ColorType::Rgb16 => (3, colour == ColorType::Rgb16),
        ColorType::Rgba8 | ColorType::Rgba16 => (4, colour == ColorType::Rgba16),
        _ => {
            return Err(Fault::Unsupported(
                "a TIFF image whose samples are no whole numbers of 8 or 16 bits",
            ));
        }
    };
    let mut raw = vec![0; width * height * samples * if deep { 2 } else { 1 }];
    decoder.read_image(&mut raw).map_err(fault)?;
    if deep {
        let eight = |&v: &[u8; 2]| narrow(u16::from_ne_bytes(v), samples == 1, loading);
        raw = raw.as_chunks().0.iter().map(eight).collect();
    }
    let channels = if samples < 3 { 1 } else { 3 };
    let data = match samples - channels {
        0 => raw,
        _ => raw
            .chunks_exact(samples)
            .flat_map(|px| &px[..channels])
            .copied()
            .collect(),
    };
    let stored = Stored {
        channels,
        alpha: samples != channels,
        deep,
        orientation: exif::orientation(bytes),
        damage: Damage::default(),
    };
    let img = ImageArray {
        width,
        height,
        channels,
        data,
    };
    Ok((img, stored))
}

fn fault(e: ImageError) -> Fault {
    match e {
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Fault::Damaged("TIFF", "the file ends early".to_owned())
        }
        ImageError::Limits(l) if l.kind() == LimitErrorKind::InsufficientMemory => {
            Fault::Unsupported("a TIFF image that wants too much memory")
        }
        ImageError::Unsupported(_) => Fault::Unsupported(
            "a TIFF image of an unusual kind (colours by palette or YCbCr, other depths, a rare compression)",
        ),
        e => Fault::Damaged("TIFF", e.to_string()),
    }
}

/// Images in the chain of a classic TIFF file, as far as it can be followed; 1 for a BigTIFF, whose reader looks at the first.
fn images(bytes: &[u8]) -> usize {
    let little = bytes.starts_with(b"II");
    let number = |at: usize, n: usize| {
        let raw = bytes.get(at..at.checked_add(n)?)?;
        let digit = |x: usize, &b: &u8| x << 8 | usize::from(b);
        Some(if little {
            raw.iter().rev().fold(0, digit)
        } else {
            raw.iter().fold(0, digit)
        })
    };
    if number(2, 2) != Some(42) {
        return 1;
    }
    let (mut at, mut n) = (number(4, 4), 0);
    while let Some(here) = at.filter(|&a| a != 0 && n < 2) {
        n += 1;
        at = number(here, 2).and_then(|entries| number(here + 2 + 12 * entries, 4));
    }
    n.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::examine;
    use image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, Rgb, Rgba};

    fn tiff(img: &DynamicImage) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        img.write_to(&mut out, ImageFormat::Tiff).unwrap();
        out.into_inner()
    }

    fn read(img: &DynamicImage, channels: usize, loading: ImageLoading) -> (ImageArray, Stored) {
        examine(&tiff(img), channels, loading).unwrap()
    }

    #[test]
    fn grey_and_colour_of_8_and_16_bits_are_read() {
        let grey = DynamicImage::ImageLuma8(GrayImage::from_fn(5, 3, |x, y| Luma([(x * 40 + y) as u8])));
        let (img, stored) = read(&grey, 1, ImageLoading::Sane);
        assert_eq!((img.width, img.height, &img.data[..]), (5, 3, grey.as_bytes()));
        assert!(!stored.deep && !stored.alpha && stored.channels == 1);
        let colour = ImageBuffer::from_fn(4, 2, |x, y| Rgb([x as u8, y as u8, 200]));
        assert_eq!(
            read(&colour.clone().into(), 3, ImageLoading::Sane).0.data,
            colour.into_raw()
        );
        let clear = ImageBuffer::from_fn(2, 2, |x, _| Rgba([x as u8, 7, 8, 0]));
        let (img, stored) = read(&clear.into(), 3, ImageLoading::Sane);
        assert!(stored.alpha);
        assert_eq!(img.data, [0, 7, 8, 1, 7, 8, 0, 7, 8, 1, 7, 8]);
        // 1/257 of the whole range, or clipped at 255 as Pillow's conversion does.
        let deep: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_raw(3, 1, vec![0u16, 300, 65535]).unwrap();
        let (img, stored) = read(&deep.clone().into(), 1, ImageLoading::Sane);
        assert!(stored.deep);
        assert_eq!(img.data, [0, 1, 255]);
        assert_eq!(read(&deep.into(), 1, ImageLoading::Authors).0.data, [0, 255, 255]);
    }

    #[test]
    fn two_images_a_cut_and_rubbish_are_refused() {
        let grey = tiff(&DynamicImage::ImageLuma8(GrayImage::from_pixel(9, 9, Luma([3]))));
        let decode = |bytes: &[u8]| examine(bytes, 1, ImageLoading::Sane).map(drop);
        assert_eq!(decode(&grey), Ok(()));
        // The first directory's link leads to itself.
        let at = u32::from_le_bytes(grey[4..8].try_into().unwrap()) as usize;
        let entries = u16::from_le_bytes(grey[at..at + 2].try_into().unwrap()) as usize;
        let mut two = grey.clone();
        two[at + 2 + 12 * entries..][..4].copy_from_slice(&grey[4..8]);
        assert_eq!(decode(&two), Err(Fault::Unsupported("a TIFF file of several images")));
        for cut in (8..grey.len()).step_by(5) {
            assert!(decode(&grey[..cut]).is_err(), "cut at {cut}");
        }
        let mut s = crate::rng::Stream::new(0, crate::rng::Purpose::Test, 0, 2);
        for _ in 0..400 {
            let mut bytes = grey.clone();
            for _ in 0..=s.below(4) {
                let at = s.below(bytes.len() as u32) as usize;
                bytes[at] = s.next_u32() as u8;
            }
            let _ = decode(&bytes);
        }
    }
}
