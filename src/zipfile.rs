//! Opening zip archives as Python's `zipfile` and torch.load do.
//!
//! The crate's own search for bytes before the archive (`ArchiveOffset::Detect`) takes the Zip64 records of an archive that
//! does not need them, 76 bytes, for such bytes where the first entry of the central directory is as long: a name of 21
//! characters and no extra field, by chance (`deit_base_patch16_224`, `mae_pretrain_vit_base`). Here the records at the end
//! decide, as in `zipfile._RealGetContents`: the directory ends where they begin, so what its stated place lacks to that
//! are the bytes before the archive.

use std::io::{self, Read, Seek, SeekFrom};
use zip::ZipArchive;
use zip::read::{ArchiveOffset, Config};
use zip::result::ZipResult;

/// A record with its signature and fixed size.
const END: (&[u8], usize) = (b"PK\x05\x06", 22);
const END64: (&[u8], usize) = (b"PK\x06\x06", 56);
const LOCATOR64: (&[u8], usize) = (b"PK\x06\x07", 20);
/// The longest comment.
const COMMENT: u64 = 1 << 16;

/// Opens an archive; bytes before it (a self-extractor, a saved HTTP head) are allowed for.
///
/// # Errors
/// Those of [`ZipArchive`].
pub(crate) fn open<R: Read + Seek>(mut reader: R) -> ZipResult<ZipArchive<R>> {
    let offset = bytes_before(&mut reader)?;
    reader.seek(SeekFrom::Start(0))?;
    let config = Config {
        archive_offset: ArchiveOffset::Known(offset),
    };
    ZipArchive::with_config(config, reader)
}

/// How many bytes lie before the archive; none where its records do not fit together, which the reader then complains of.
fn bytes_before<R: Read + Seek>(reader: &mut R) -> io::Result<u64> {
    let length = reader.seek(SeekFrom::End(0))?;
    let tail_at = length.saturating_sub(COMMENT + (END.1 + END64.1 + LOCATOR64.1) as u64);
    reader.seek(SeekFrom::Start(tail_at))?;
    let mut tail = Vec::new();
    reader.take(length - tail_at).read_to_end(&mut tail)?;
    let is = |at: usize, record: (&[u8], usize)| tail[at..].starts_with(record.0) && at + record.1 <= tail.len();
    // The last record whose comment fills the file to its end, else the last one at all.
    let ends: Vec<usize> = (0..tail.len()).rev().filter(|&i| is(i, END)).collect();
    let fits = |&&i: &&usize| i + END.1 + number(&tail, i + 20, 2) as usize == tail.len();
    let Some(&end) = ends.iter().find(fits).or(ends.first()) else {
        return Ok(0);
    };
    let locator = end.checked_sub(LOCATOR64.1).filter(|&i| is(i, LOCATOR64));
    let record = locator.and_then(|i| i.checked_sub(END64.1)).filter(|&i| is(i, END64));
    let (directory_end, size, offset) = match record {
        Some(r) => (r, number(&tail, r + 40, 8), number(&tail, r + 48, 8)),
        None => (end, number(&tail, end + 12, 4), number(&tail, end + 16, 4)),
    };
    let before = (tail_at + directory_end as u64).checked_sub(size);
    Ok(before.and_then(|start| start.checked_sub(offset)).unwrap_or(0))
}

/// A little-endian number of `bytes` bytes.
fn number(data: &[u8], at: usize, bytes: usize) -> u64 {
    data[at..at + bytes].iter().rev().fold(0, |n, &b| n << 8 | u64::from(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Write};

    /// The records of a stored file named `name`, with the Zip64 records that it does not need or without them.
    fn archive(name: &str, zip64: bool, comment: &[u8]) -> Vec<u8> {
        let (n2, n4) = (|n: usize| (n as u16).to_le_bytes(), |n: usize| (n as u32).to_le_bytes());
        let data = b"some bytes";
        let crc = 0x9f59_7f55u32; // zlib.crc32(b"some bytes")
        let mut fixed = [n2(20), n2(0), n2(0), n2(0), n2(0x21)].concat();
        fixed.extend([crc.to_le_bytes(), n4(data.len()), n4(data.len())].concat());
        fixed.extend([n2(name.len()), n2(0)].concat());
        let mut out = [b"PK\x03\x04", &fixed[..], name.as_bytes(), data].concat();
        let start = out.len();
        out.extend([b"PK\x01\x02\x14\x00", &fixed[..], &[0; 14], name.as_bytes()].concat());
        let size = out.len() - start;
        if zip64 {
            let at = out.len() as u64;
            let n8 = |n: usize| (n as u64).to_le_bytes();
            out.extend([b"PK\x06\x06", &n8(44)[..], &n2(45), &n2(45), &n4(0), &n4(0)].concat());
            out.extend([n8(1), n8(1), n8(size), n8(start)].concat());
            out.extend([b"PK\x06\x07", &n4(0)[..], &at.to_le_bytes(), &n4(1)].concat());
            // torch writes the saturated fields, PyTorch's miniz among them the count.
            out.extend([b"PK\x05\x06", &n4(0)[..], &[0xff; 4], &[0xff; 8], &n2(comment.len())].concat());
        } else {
            let numbers = [n4(size), n4(start)].concat();
            out.extend([b"PK\x05\x06", &n4(0)[..], &n2(1), &n2(1), &numbers, &n2(comment.len())].concat());
        }
        out.extend(comment);
        out
    }

    /// Every length of a name, with and without Zip64 records, a comment, and bytes before the archive.
    #[test]
    fn names_of_every_length_are_read_as_zipfile_reads_them() {
        for length in 1..120 {
            for (zip64, before, comment) in [
                (false, 0, &b""[..]),
                (true, 0, b""),
                (true, 0, b"PK\x05\x06 a comment"),
                (true, 76, b""),
                (false, 76, b""),
                (true, 1000, b"x"),
                (false, 1, b"y"),
            ] {
                let name = "n".repeat(length);
                let mut bytes = vec![b'!'; before];
                bytes.write_all(&archive(&name, zip64, comment)).unwrap();
                let case = format!("{length} characters, zip64 {zip64}, {before} bytes before");
                let mut zip = open(Cursor::new(bytes)).unwrap_or_else(|e| panic!("{case}: {e}"));
                let mut text = String::new();
                zip.by_name(&name).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, "some bytes", "{case}");
            }
        }
    }
}
