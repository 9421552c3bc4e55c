//! The walk from marker to marker.

use crate::data::fault::Fault;

/// A place in a file between its segments.
pub struct Reader<'a> {
    pub bytes: &'a [u8],
    pub pos: usize,
    /// Whether bytes were passed over that belong to no segment.
    pub skipped: bool,
}

impl<'a> Reader<'a> {
    /// The next marker; bytes that belong to none are skipped, as libjpeg does.
    pub fn marker(&mut self) -> Result<u8, Fault> {
        loop {
            let rest = self.bytes.get(self.pos..).ok_or(Fault::Truncated)?;
            let skip = rest.iter().position(|&b| b == 0xFF).ok_or(Fault::Truncated)?;
            let fill = rest[skip..].iter().take_while(|&&b| b == 0xFF).count();
            let code = *rest.get(skip + fill).ok_or(Fault::Truncated)?;
            self.pos += skip + fill + 1;
            self.skipped |= skip > 0 || code == 0;
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// The segment after a marker, without its length.
    pub fn segment(&mut self) -> Result<&'a [u8], Fault> {
        let length = be16(self.bytes.get(self.pos..).ok_or(Fault::Truncated)?, 0)?;
        let from = self.pos + 2;
        self.pos += length;
        if length < 2 {
            return Err(Fault::Corrupt("a segment shorter than its length"));
        }
        self.bytes.get(from..self.pos).ok_or(Fault::Truncated)
    }
}

impl<'a> Reader<'a> {
    /// As [`Reader::segment`], for one that nothing depends on: a length below 2, which some writers give to an empty
    /// comment, means no content, as libjpeg and Pillow read it.
    pub fn loose_segment(&mut self) -> Result<&'a [u8], Fault> {
        if be16(self.bytes.get(self.pos..).ok_or(Fault::Truncated)?, 0)? < 2 {
            self.pos += 2;
            return Ok(&[]);
        }
        self.segment()
    }
}

pub fn be16(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    match bytes.get(at..at + 2) {
        Some(b) => Ok(usize::from(b[0]) << 8 | usize::from(b[1])),
        None => Err(Fault::Truncated),
    }
}
