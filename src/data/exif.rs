//! The one fact of EXIF and XMP that matters here: which way up the picture is. Looked for where Pillow's `getexif` looks.

/// The orientation (1 to 8) in a TIFF-formed EXIF block; `None` when it has none or is not well formed.
pub(crate) fn orientation(tiff: &[u8]) -> Option<u8> {
    const TAG: u64 = 0x0112;
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| {
        let raw = tiff.get(at..at.checked_add(bytes)?)?;
        let digit = |n: u64, &b: &u8| n << 8 | u64::from(b);
        Some(if little {
            raw.iter().rev().fold(0, digit)
        } else {
            raw.iter().fold(0, digit)
        })
    };
    let directory = usize::try_from(number(4, 4)?).ok()?;
    let entries = usize::try_from(number(directory, 2)?).ok()?;
    let entry = (0..entries)
        .map(|i| directory + 2 + 12 * i)
        .find(|&at| number(at, 2) == Some(TAG))?;
    let value = match number(entry + 2, 2)? {
        3 => number(entry + 8, 2)?,
        4 => number(entry + 8, 4)?,
        _ => return None,
    };
    u8::try_from(value).ok().filter(|v| (1..=8).contains(v))
}

/// The orientation in an XMP packet, by the pattern that Pillow searches: `tiff:Orientation` as attribute or element.
pub(crate) fn xmp_orientation(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len())
        .enumerate()
        .filter(|w| w.1 == NAME)
        .find_map(|(i, _)| {
            let rest = &xmp[i + NAME.len()..];
            let digit = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
            digit.is_ascii_digit().then(|| digit - b'0')
        })
        .filter(|o| (1..=8).contains(o))
}

/// The orientation that a PNG file names outside of its `eXIf` chunk: in ImageMagick's text `Raw profile type exif` (hex
/// digits after three lines), else in an XMP text.
pub(crate) fn png_text_orientation(png: &[u8]) -> Option<u8> {
    let mut xmp = None;
    let mut at = 8;
    while let Some(head) = png.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(data) = png.get(at + 8..).and_then(|d| d.get(..length)) else {
            break;
        };
        if let Some((key, text)) = text_chunk(&head[4..], data) {
            match key {
                b"Raw profile type exif" => {
                    let hex: Vec<u8> = text.split(|&b| b == b'\n').skip(3).flatten().copied().collect();
                    let tiff: Option<Vec<u8>> = hex
                        .trim_ascii()
                        .chunks(2)
                        .map(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok())
                        .collect();
                    let found = tiff.and_then(|t| orientation(t.strip_prefix(b"Exif\0\0").unwrap_or(&t)));
                    if found.is_some() {
                        return found;
                    }
                }
                b"XML:com.adobe.xmp" => xmp = xmp.or_else(|| xmp_orientation(&text)),
                _ => {}
            }
        }
        at += length.saturating_add(12);
    }
    xmp
}

/// Key and text of a text chunk; `None` for another chunk, or a text that does not unpack.
fn text_chunk<'a>(kind: &[u8], data: &'a [u8]) -> Option<(&'a [u8], Vec<u8>)> {
    use std::io::Read;
    let end = data.iter().position(|&b| b == 0)?;
    let (key, rest) = (&data[..end], &data[end + 1..]);
    let inflate = |packed: &[u8]| {
        let mut out = Vec::new();
        flate2::read::ZlibDecoder::new(packed)
            .take(crate::limits::PNG_TEXT)
            .read_to_end(&mut out)
            .ok()?;
        Some(out)
    };
    let text = match kind {
        b"tEXt" => rest.to_vec(),
        b"zTXt" => inflate(rest.get(1..)?)?,
        b"iTXt" => {
            let (packed, rest) = (*rest.first()?, rest.get(2..)?);
            let mut parts = rest.splitn(3, |&b| b == 0).skip(2);
            let text = parts.next()?;
            if packed == 0 { text.to_vec() } else { inflate(text)? }
        }
        _ => return None,
    };
    Some((key, text))
}

#[cfg(test)]
mod tests {
    use super::{orientation, png_text_orientation, xmp_orientation};

    /// Pillow 13: `re.search(rb'tiff:Orientation(="|>)([0-9])', xmp)`.
    #[test]
    fn xmp_is_read_as_attribute_and_as_element() {
        assert_eq!(xmp_orientation(b"<x tiff:Orientation=\"6\"/>"), Some(6));
        assert_eq!(xmp_orientation(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(xmp_orientation(b"tiff:Orientation='3'"), None);
        assert_eq!(xmp_orientation(b"tiff:Orientation=\"9\""), None);
        assert_eq!(xmp_orientation(b"tiff:Orientation"), None);
    }

    #[test]
    fn texts_of_a_png_are_found_and_rubbish_does_no_harm() {
        let chunk = |kind: &[u8], data: &[u8]| [&(data.len() as u32).to_be_bytes()[..], kind, data, &[0; 4]].concat();
        let profile = b"Raw profile type exif\0\nexif\n      40\n\
            4578696600004d4d002a0000000800010112000300000001000600000000\n0000\n";
        let xmp = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"8\"/>";
        let file = |chunks: &[Vec<u8>]| [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat();
        let (text, itxt) = (chunk(b"tEXt", profile), chunk(b"iTXt", xmp));
        assert_eq!(png_text_orientation(&file(std::slice::from_ref(&text))), Some(6));
        assert_eq!(
            png_text_orientation(&file(&[itxt.clone(), text.clone()])),
            Some(6),
            "EXIF goes first"
        );
        assert_eq!(png_text_orientation(&file(&[itxt])), Some(8));
        let whole = file(&[text]);
        for cut in 0..whole.len() - 4 {
            assert_eq!(png_text_orientation(&whole[..cut]), None, "{cut}");
        }
    }

    /// Written out after the TIFF 6.0 specification: header, one directory with two entries.
    #[test]
    fn both_byte_orders() {
        let big = b"MM\0*\0\0\0\x08\0\x02\x01\0\0\x03\0\0\0\x01\0\x10\0\0\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        assert_eq!(orientation(big), Some(6));
        let little = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x08\0\0\0\0\0\0\0";
        assert_eq!(orientation(little), Some(8));
        for cut in 0..little.len() - 6 {
            assert_eq!(orientation(&little[..cut]), None, "cut at {cut}");
        }
    }
}
