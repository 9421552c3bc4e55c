//! The one fact of an EXIF block that matters here: which way up the picture is.

/// The orientation (1 to 8) in a TIFF-formed EXIF block; `None` when it has none or is not well formed.
pub fn orientation(tiff: &[u8]) -> Option<u8> {
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

#[cfg(test)]
mod tests {
    use super::orientation;

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
