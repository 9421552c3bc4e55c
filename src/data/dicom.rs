//! DICOM images of one frame, by the tags of [`super::DICOM_TAGS`]: pixels as stored, rescaled to the modality's values, through the window to 8 bits.
//!
//! * Grey (MONOCHROME1, MONOCHROME2): slope and intercept, then the first window by its function (PS3.3 C.11.2.1.2: LINEAR,
//!   LINEAR_EXACT). Without a window 8 stored bits stay as they are, and more are stretched from the least to the greatest value of the
//!   image. MONOCHROME1 is turned, so that bright is bright.
//! * Colour: RGB and what the decoder makes RGB of. JPEG data (8 bits) go through [`super::jpeg`], so that they are libjpeg-turbo's pixels
//!   as those of any other JPEG file; the DICOM crate's decoder is a level off in places.
//!
//! Everything else (several frames, palettes, YBR, a table in place of a window, SIGMOID) is refused by name, since it would be a guess.
//! The arithmetic is additions, products and one division in double precision, so that every machine gives the same bytes.

use super::fault::{Damage, Fault, MAX_PIXELS, Stored};
use super::{ImageArray, jpeg};
use dicom_object::{DefaultDicomObject, OpenFileOptions};
use dicom_pixeldata::{
    DecodedPixelData, PhotometricInterpretation, PixelDecoder, PixelRepresentation, PlanarConfiguration, VoiLutFunction,
};

pub(super) fn decode(bytes: &[u8]) -> Result<(ImageArray, Stored), Fault> {
    let damaged = |e: &dyn std::fmt::Display| Fault::Damaged("DICOM", e.to_string());
    // Behind the preamble, which means nothing.
    let object = OpenFileOptions::new()
        .from_reader(bytes.get(128..).unwrap_or_default())
        .map_err(|e| damaged(&e))?;
    let size = |tag: &str| {
        let element = object.element_by_name(tag).ok()?;
        element.to_int::<u32>().ok().map(|n| n as usize)
    };
    let (Some(width), Some(height)) = (size("Columns"), size("Rows")) else {
        return Err(Fault::Unsupported("a DICOM file without an image"));
    };
    // Before anything is unpacked because the file says so.
    if width.saturating_mul(height) > MAX_PIXELS {
        return Err(Fault::TooLarge { width, height });
    }
    if size("NumberOfFrames").is_some_and(|n| n > 1) {
        return Err(Fault::Unsupported("a DICOM file of several frames"));
    }
    let picture = baseline(&object)?;
    let px = object.decode_pixel_data().map_err(|e| damaged(&e))?;
    let raw = match &picture {
        Some(p) if (p.width, p.height) != (width, height) => return Err(Fault::Corrupt("JPEG data of another size")),
        Some(p) => &p.data,
        None => px.frame_data(0).map_err(|e| damaged(&e))?,
    };
    let (channels, data) = match (
        px.photometric_interpretation(),
        px.samples_per_pixel(),
        px.bits_allocated(),
    ) {
        (PhotometricInterpretation::Monochrome1 | PhotometricInterpretation::Monochrome2, 1, 8 | 16) => {
            (1, grey(&px, raw)?)
        }
        (PhotometricInterpretation::Rgb, 3, 8) if picture.is_some() => (3, raw.to_vec()),
        (PhotometricInterpretation::Rgb, 3, 8) => (3, colour(&px, raw)),
        _ => {
            return Err(Fault::Unsupported(
                "a DICOM image that is neither grey of 8 or 16 bits nor RGB of 8",
            ));
        }
    };
    let stored = Stored {
        channels,
        alpha: false,
        // A window has made eight bits of them in any case.
        deep: false,
        orientation: None,
        damage: picture.as_ref().map_or_else(Damage::default, |p| p.damage),
    };
    let img = ImageArray {
        width,
        height,
        channels,
        data,
    };
    Ok((img, stored))
}

/// JPEG Baseline, and Extended where it has 8 bits.
const JPEG: [&str; 2] = ["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"];

/// The picture of a file whose pixels are JPEG data; `None` for every other transfer syntax.
fn baseline(object: &DefaultDicomObject) -> Result<Option<jpeg::Picture>, Fault> {
    let syntax = object.meta().transfer_syntax().trim_end_matches(['\0', ' ']);
    let element = object.element_by_name("PixelData").ok();
    let fragments = element.and_then(|e| e.value().fragments());
    let (true, Some(fragments)) = (JPEG.contains(&syntax), fragments) else {
        return Ok(None);
    };
    let bytes = fragments.concat();
    // Without Adobe's marker every JPEG decoder takes three components for luma and chroma, whatever the tag says.
    let photometric = object.element_by_name("PhotometricInterpretation").ok();
    let rgb = photometric
        .and_then(|e| e.to_str().ok())
        .is_some_and(|p| p.trim() == "RGB");
    if rgb && !bytes.windows(5).any(|w| w == b"Adobe") {
        return Err(Fault::Unsupported(
            "a DICOM image whose JPEG data do not say that they are RGB",
        ));
    }
    jpeg::decode(&bytes, MAX_PIXELS).map(Some)
}

fn colour(px: &DecodedPixelData<'_>, raw: &[u8]) -> Vec<u8> {
    if px.planar_configuration() == PlanarConfiguration::Standard {
        return raw.to_vec();
    }
    let plane = raw.len() / 3;
    (0..plane)
        .flat_map(|i| [raw[i], raw[plane + i], raw[2 * plane + i]])
        .collect()
}

fn grey(px: &DecodedPixelData<'_>, raw: &[u8]) -> Result<Vec<u8>, Fault> {
    let damaged = |e: &dyn std::fmt::Display| Fault::Damaged("DICOM", e.to_string());
    let bits = u32::from(px.bits_stored()).clamp(1, 16);
    let shift = (u32::from(px.high_bit()) + 1).saturating_sub(bits);
    let signed = px.pixel_representation() == PixelRepresentation::Signed;
    let value = |raw: u16| {
        let v = (i32::from(raw) >> shift) & ((1 << bits) - 1);
        if signed && v >> (bits - 1) & 1 == 1 {
            v - (1 << bits)
        } else {
            v
        }
    };
    let stored: Vec<i32> = match px.bits_allocated() {
        8 => raw.iter().map(|&b| value(u16::from(b))).collect(),
        _ => raw
            .as_chunks()
            .0
            .iter()
            .map(|&b| value(u16::from_ne_bytes(b)))
            .collect(),
    };
    if stored.len() != px.rows() as usize * px.columns() as usize {
        return Err(Fault::Truncated);
    }
    let rescale = px.rescale().map_err(|e| damaged(&e))?;
    let (slope, intercept) = rescale.first().map_or((1.0, 0.0), |r| (r.slope, r.intercept));
    let window = px.window().map_err(|e| damaged(&e))?.and_then(|w| w.first());
    let function = px.voi_lut_function().map_err(|e| damaged(&e))?.and_then(|f| f.first());
    if window.is_none() && px.voi_lut_sequence().map_err(|e| damaged(&e))?.is_some() {
        return Err(Fault::Unsupported("a DICOM image with a table in place of a window"));
    }
    let exact = match function {
        None | Some(VoiLutFunction::Linear) => false,
        Some(VoiLutFunction::LinearExact) => true,
        Some(VoiLutFunction::Sigmoid) => return Err(Fault::Unsupported("a DICOM image with a SIGMOID window")),
    };
    let values = || stored.iter().map(|&v| slope * f64::from(v) + intercept);
    // 0 at `from`, 1 at `from + span`.
    let (from, span) = match window {
        Some(w) if exact => (w.center - w.width / 2.0, w.width),
        Some(w) => (w.center - 0.5 - (w.width - 1.0) / 2.0, w.width - 1.0),
        None if bits <= 8 && !signed && (slope, intercept) == (1.0, 0.0) => (0.0, f64::from((1 << bits) - 1)),
        None => {
            let (least, most) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
            (least, most - least)
        }
    };
    let turned = *px.photometric_interpretation() == PhotometricInterpretation::Monochrome1;
    let byte = |v: f64| {
        // A window of one value is a threshold.
        let share = if span > 0.0 {
            (v - from) / span
        } else {
            f64::from(u8::from(v > from))
        };
        let level = (share.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
        if turned { 255 - level } else { level }
    };
    Ok(values().map(byte).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Explicit little endian: one element.
    fn element(group: u16, number: u16, vr: &str, mut value: Vec<u8>) -> Vec<u8> {
        if value.len() % 2 == 1 {
            value.push(if vr == "UI" { 0 } else { b' ' });
        }
        let mut out = [group.to_le_bytes(), number.to_le_bytes()].concat();
        out.extend(vr.as_bytes());
        match vr {
            "OB" | "OW" => {
                out.extend([0, 0]);
                out.extend((value.len() as u32).to_le_bytes());
            }
            _ => out.extend((value.len() as u16).to_le_bytes()),
        }
        out.extend(value);
        out
    }

    struct Facts {
        photometric: &'static str,
        bits: [u16; 3],
        signed: u16,
        samples: u16,
        rescale: Option<(&'static str, &'static str)>,
        window: Option<(&'static str, &'static str)>,
        function: Option<&'static str>,
        frames: Option<&'static str>,
    }

    const PLAIN: Facts = Facts {
        photometric: "MONOCHROME2",
        bits: [16, 12, 11],
        signed: 0,
        samples: 1,
        rescale: None,
        window: None,
        function: None,
        frames: None,
    };

    /// A file of one row, as PS3.10 and PS3.5 lay it out.
    fn file(f: &Facts, pixels: &[u16]) -> Vec<u8> {
        let us = |n: u16| n.to_le_bytes().to_vec();
        let text = |s: &str| s.as_bytes().to_vec();
        let mut meta = element(2, 0x0010, "UI", text("1.2.840.10008.1.2.1"));
        meta = [
            element(2, 0x0002, "UI", text("1.2.840.10008.5.1.4.1.1.7")),
            element(2, 0x0003, "UI", text("1.2.3")),
            meta,
            element(2, 0x0012, "UI", text("1.2.3.4")),
        ]
        .concat();
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        let mut length = element(2, 0, "UL", (meta.len() as u32).to_le_bytes().to_vec());
        out.append(&mut length);
        out.extend(meta);
        out.extend(element(0x28, 0x0002, "US", us(f.samples)));
        out.extend(element(0x28, 0x0004, "CS", text(f.photometric)));
        if f.samples > 1 {
            out.extend(element(0x28, 0x0006, "US", us(1)));
        }
        if let Some(n) = f.frames {
            out.extend(element(0x28, 0x0008, "IS", text(n)));
        }
        out.extend(element(0x28, 0x0010, "US", us(1)));
        out.extend(element(
            0x28,
            0x0011,
            "US",
            us((pixels.len() / f.samples as usize) as u16),
        ));
        for (i, n) in f.bits.into_iter().enumerate() {
            out.extend(element(0x28, 0x0100 + i as u16, "US", us(n)));
        }
        out.extend(element(0x28, 0x0103, "US", us(f.signed)));
        if let Some((centre, width)) = f.window {
            out.extend(element(0x28, 0x1050, "DS", text(centre)));
            out.extend(element(0x28, 0x1051, "DS", text(width)));
        }
        if let Some((intercept, slope)) = f.rescale {
            out.extend(element(0x28, 0x1052, "DS", text(intercept)));
            out.extend(element(0x28, 0x1053, "DS", text(slope)));
        }
        if let Some(function) = f.function {
            out.extend(element(0x28, 0x1056, "CS", text(function)));
        }
        let (vr, bytes) = match f.bits[0] {
            8 => ("OB", pixels.iter().map(|&p| p as u8).collect()),
            _ => ("OW", pixels.iter().flat_map(|p| p.to_le_bytes()).collect::<Vec<u8>>()),
        };
        out.extend(element(0x7FE0, 0x0010, vr, bytes));
        out
    }

    fn read(f: &Facts, pixels: &[u16]) -> Vec<u8> {
        let (img, _) = decode(&file(f, pixels)).unwrap();
        assert_eq!((img.width, img.height), (pixels.len() / f.samples as usize, 1));
        img.data
    }

    /// By hand from PS3.3 C.11.2.1.2.1: c = 2048, w = 4096: y = ((x − 2047.5) / 4095 + 0.5) · 255.
    #[test]
    fn a_window_is_the_standards() {
        let f = Facts {
            window: Some(("2048", "4096")),
            ..PLAIN
        };
        assert_eq!(read(&f, &[0, 1, 8, 9, 2047, 2048, 4095]), [0, 0, 0, 1, 127, 128, 255]);
        let exact = Facts {
            window: Some(("100", "200")),
            function: Some("LINEAR_EXACT"),
            ..PLAIN
        };
        assert_eq!(read(&exact, &[0, 50, 100, 200, 4000]), [0, 64, 128, 255, 255]);
        let turned = Facts {
            photometric: "MONOCHROME1",
            ..f
        };
        assert_eq!(read(&turned, &[0, 4095]), [255, 0]);
    }

    /// A CT: stored values are signed, Hounsfield units are 2 · v − 1024, the window is of Hounsfield units.
    #[test]
    fn signs_slope_and_intercept_come_before_the_window() {
        let f = Facts {
            signed: 1,
            bits: [16, 16, 15],
            rescale: Some(("-1024", "2")),
            window: Some(("0.5", "101")),
            ..PLAIN
        };
        let stored = [-1i16, 487, 512, 537].map(|v| v as u16);
        assert_eq!(read(&f, &stored), [0, 0, 128, 255]);
    }

    #[test]
    fn without_a_window_eight_bits_stay_and_more_are_stretched() {
        let eight = Facts {
            bits: [8, 8, 7],
            ..PLAIN
        };
        assert_eq!(read(&eight, &[0, 7, 200, 9]), [0, 7, 200, 9]);
        assert_eq!(read(&PLAIN, &[100, 200, 300, 100]), [0, 128, 255, 0]);
        let planes = Facts {
            photometric: "RGB",
            samples: 3,
            ..eight
        };
        assert_eq!(read(&planes, &[1, 2, 3, 4, 5, 6]), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn what_would_be_a_guess_is_refused_by_name() {
        let said = |f: &Facts| decode(&file(f, &[1, 2, 3, 4, 5, 6])).unwrap_err().to_string();
        assert!(
            said(&Facts {
                frames: Some("2"),
                ..PLAIN
            })
            .contains("several frames")
        );
        assert!(
            said(&Facts {
                photometric: "YBR_FULL",
                samples: 3,
                bits: [8, 8, 7],
                ..PLAIN
            })
            .contains("neither grey")
        );
        assert!(
            said(&Facts {
                window: Some(("1", "2")),
                function: Some("SIGMOID"),
                ..PLAIN
            })
            .contains("SIGMOID")
        );
        let whole = file(&PLAIN, &[1, 2, 3, 4]);
        for cut in 132..whole.len() {
            assert!(decode(&whole[..cut]).is_err(), "cut at {cut}");
        }
    }

    /// An encapsulated file of one fragment, its padding included.
    fn of_jpeg(photometric: &str, samples: u16, (width, height): (u16, u16), jpeg: &[u8]) -> Vec<u8> {
        let us = |n: u16| n.to_le_bytes().to_vec();
        let text = |s: &str| s.as_bytes().to_vec();
        let meta = [
            element(2, 0x0002, "UI", text("1.2.840.10008.5.1.4.1.1.7")),
            element(2, 0x0003, "UI", text("1.2.3")),
            element(2, 0x0010, "UI", text(JPEG[0])),
            element(2, 0x0012, "UI", text("1.2.3.4")),
        ]
        .concat();
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        out.extend(element(2, 0, "UL", (meta.len() as u32).to_le_bytes().to_vec()));
        out.extend(meta);
        out.extend(element(0x28, 0x0002, "US", us(samples)));
        out.extend(element(0x28, 0x0004, "CS", text(photometric)));
        if samples > 1 {
            out.extend(element(0x28, 0x0006, "US", us(0)));
        }
        for (number, n) in [
            (0x10, height),
            (0x11, width),
            (0x100, 8),
            (0x101, 8),
            (0x102, 7),
            (0x103, 0),
        ] {
            out.extend(element(0x28, number, "US", us(n)));
        }
        out.extend([0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
        out.extend([0xFE, 0xFF, 0, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0, 0xE0]);
        out.extend((jpeg.len().next_multiple_of(2) as u32).to_le_bytes());
        out.extend(jpeg);
        out.extend(vec![0; jpeg.len() % 2]);
        out.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        out
    }

    /// The same pixels as the JPEG file alone has, which are libjpeg-turbo's.
    #[test]
    fn jpeg_data_are_decoded_as_jpeg_files_are() {
        let (w, h) = (33u16, 21u16);
        let pixels = |samples: usize| -> Vec<u8> {
            (0..usize::from(w) * usize::from(h) * samples)
                .map(|i| (i * i / 7 + i * 31) as u8)
                .collect()
        };
        for (photometric, samples, kind) in [
            ("YBR_FULL_422", 3, image::ExtendedColorType::Rgb8),
            ("YBR_FULL", 3, image::ExtendedColorType::Rgb8),
            ("MONOCHROME2", 1, image::ExtendedColorType::L8),
        ] {
            let mut jpeg = Vec::new();
            image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 83)
                .encode(&pixels(samples), w.into(), h.into(), kind)
                .unwrap();
            let alone = jpeg::decode(&jpeg, MAX_PIXELS).unwrap();
            let (img, _) = decode(&of_jpeg(photometric, samples as u16, (w, h), &jpeg)).unwrap();
            assert_eq!((img.channels, &img.data), (samples, &alone.data), "{photometric}");
            // A tag that contradicts the data is no licence to guess; nor is another size.
            if samples == 3 {
                let rgb = decode(&of_jpeg("RGB", 3, (w, h), &jpeg));
                assert!(matches!(rgb, Err(Fault::Unsupported(_))), "{rgb:?}");
            }
            assert!(decode(&of_jpeg(photometric, samples as u16, (w, h + 1), &jpeg)).is_err());
        }
    }
}
