//! NumPy's npz: a zip of npy arrays, read strictly.
//!
//! Only what image sets hold: C-ordered images of unsigned bytes, C-ordered labels of integers or booleans, npy header
//! versions 1 to 3. A header may promise anything, so nothing is allocated before it is checked: images are read one at a time, the
//! member's size in the zip must be the very size the header implies, and no small file may unpack to a huge array
//! ([`crate::limits`]).

use super::folder::Folder;
use super::types::ImageArray;
use crate::error::BadInput;
use crate::fsio::HashedReader;
use crate::limits;
use anyhow::Result;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Largest side of an image.
const MAX_SIDE: usize = 4096;
const BROKEN: &str = "Download the file again; `medft data verify` compares it with the published checksum.";
const SAVE: &str = "Save it with numpy.savez_compressed as MedMNIST does.";

/// An open npz file.
pub struct Npz {
    path: PathBuf,
    zip: ZipArchive<HashedReader>,
}

/// Element type of an array; integers carry their width in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IntegerType {
    Signed(usize),
    Unsigned(usize),
}

#[derive(Debug, PartialEq, Eq)]
struct Header {
    kind: IntegerType,
    big_endian: bool,
    shape: Vec<usize>,
}

impl Npz {
    /// Opens `file` of a data set's folder.
    ///
    /// # Errors
    /// [`BadInput`] when the file is missing, not the verified one or not a zip.
    pub fn open(root: &Folder, file: &Path) -> Result<Self> {
        let path = root.join(file);
        let zip = crate::zipfile::open(root.open(file, "an npz file")?.reader())
            .map_err(|e| BadInput::new(path.display(), "an npz (zip) file", e.to_string(), BROKEN))?;
        Ok(Self { path, zip })
    }

    /// Names of the arrays.
    pub fn members(&self) -> Vec<String> {
        let names = self
            .zip
            .file_names()
            .filter_map(|n| Some(n.ok()?.strip_suffix(".npy")?.to_owned()));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// The shape that a member's header states.
    ///
    /// # Errors
    /// [`BadInput`] for a member that is not there or has no usable header.
    pub fn shape(&mut self, member: &str) -> Result<Vec<usize>> {
        let at = self.at(member);
        let mut entry = self
            .zip
            .by_name(&format!("{member}.npy"))
            .map_err(|e| BadInput::new(&at, "a readable member", e.to_string(), BROKEN))?;
        Ok(read_header(&at, &mut entry)?.0.shape)
    }

    /// `file:member.npy`, for complaints.
    pub fn at(&self, member: &str) -> String {
        format!("{}:{member}.npy", self.path.display())
    }

    /// Images of a member of shape (N, H, W) or (N, H, W, 1) for one channel, (N, H, W, 3) for three.
    ///
    /// # Errors
    /// [`BadInput`] for another shape or type, a cut-off or damaged member, or more data than the header says.
    pub fn images(&mut self, member: &str, channels: usize) -> Result<Vec<ImageArray>> {
        self.read(member, |at, header, data| {
            if header.kind != IntegerType::Unsigned(1) {
                return Err(BadInput::new(at, "pixels of type uint8", header.type_name(), SAVE).into());
            }
            let (n, height, width) = match (header.shape.as_slice(), channels) {
                (&[n, h, w], 1) | (&[n, h, w, 1], 1) => (n, h, w),
                (&[n, h, w, c], _) if c == channels => (n, h, w),
                _ => (0, 0, 0),
            };
            if !(1..=MAX_SIDE).contains(&height) || !(1..=MAX_SIDE).contains(&width) {
                let expected = match channels {
                    1 => "images of shape (N, H, W)".to_string(),
                    c => format!("images of shape (N, H, W, {c})"),
                };
                return Err(BadInput::new(at, expected, format!("{:?}", header.shape), SAVE).into());
            }
            let one = |_| {
                let mut pixels = vec![0u8; height * width * channels];
                data.read_exact(&mut pixels)?;
                Ok(ImageArray {
                    width,
                    height,
                    channels,
                    data: pixels,
                })
            };
            (0..n).map(one).collect::<io::Result<_>>().map_err(|e| damaged(at, &e))
        })
    }

    /// Rows of `width` integers of a member of shape (N, width), or (N) where `width` is 1.
    ///
    /// # Errors
    /// As [`Npz::images`].
    pub fn labels(&mut self, member: &str, width: usize) -> Result<Vec<Vec<i64>>> {
        self.read(member, |at, header, data| {
            let n = match *header.shape.as_slice() {
                [n] if width == 1 => n,
                [n, w] if w == width => n,
                _ => {
                    let (expected, found) = (format!("labels of shape (N, {width})"), format!("{:?}", header.shape));
                    return Err(BadInput::new(at, expected, found, SAVE).into());
                }
            };
            let mut bytes = vec![0u8; width * header.size()];
            let one = |_| {
                data.read_exact(&mut bytes)?;
                Ok(bytes.chunks_exact(header.size()).map(|b| header.integer(b)).collect())
            };
            (0..n).map(one).collect::<io::Result<_>>().map_err(|e| damaged(at, &e))
        })
    }

    /// Opens a member, checks its header against its size, hands the data to `take` and checks that it ends there (which
    /// also checks the member's CRC).
    fn read<T>(&mut self, member: &str, take: impl FnOnce(&str, &Header, &mut dyn Read) -> Result<T>) -> Result<T> {
        let at = self.at(member);
        let mut entry = match self.zip.by_name(&format!("{member}.npy")) {
            Ok(entry) => entry,
            Err(zip::result::ZipError::FileNotFound) => {
                return Err(BadInput::new(at, "this array", "none of that name", SAVE).into());
            }
            Err(e) => return Err(BadInput::new(at, "a readable member", e.to_string(), BROKEN).into()),
        };
        let (size, stored) = (entry.size(), entry.compressed_size());
        let mut data = BufReader::with_capacity(1 << 16, &mut entry);
        let (header, used) = read_header(&at, &mut data)?;
        let elements = header
            .shape
            .iter()
            .try_fold(header.size() as u64, |a, &d| a.checked_mul(d as u64));
        let most = limits::ARRAY_BYTES.min(stored.saturating_mul(limits::ARRAY_RATIO).max(limits::ARRAY_SMALL));
        let promised = elements.and_then(|b| b.checked_add(used)).filter(|&b| b <= most);
        let rows = header.shape.first().copied().unwrap_or_default();
        if rows > limits::ARRAY_ROWS {
            let expected = format!("at most {} images or labels", limits::ARRAY_ROWS);
            return Err(BadInput::new(at, expected, rows.to_string(), BROKEN).into());
        }
        if promised != Some(size) {
            let shape = format!("{:?}", header.shape);
            let expected = match promised {
                Some(b) => format!("{b} bytes for an array of shape {shape}"),
                None => format!("at most {most} bytes of an array that has {stored} in the file"),
            };
            return Err(BadInput::new(at, expected, format!("{size} bytes, shape {shape}"), BROKEN).into());
        }
        let value = take(&at, &header, &mut data)?;
        match data.read(&mut [0u8; 1]) {
            Ok(0) => Ok(value),
            Ok(_) => Err(BadInput::new(at, format!("{size} bytes"), "more", BROKEN).into()),
            Err(e) => Err(damaged(&at, &e)),
        }
    }
}

impl Header {
    /// Bytes of an element.
    fn size(&self) -> usize {
        match self.kind {
            IntegerType::Signed(n) | IntegerType::Unsigned(n) => n,
        }
    }

    fn type_name(&self) -> String {
        match self.kind {
            IntegerType::Signed(n) => format!("int{}", 8 * n),
            IntegerType::Unsigned(n) => format!("uint{}", 8 * n),
        }
    }

    /// One element; a uint64 above i64::MAX becomes negative, which no label may be either.
    fn integer(&self, bytes: &[u8]) -> i64 {
        let mut wide = [0u8; 8];
        let n = bytes.len();
        wide[..n].copy_from_slice(bytes);
        if self.big_endian {
            wide[..n].reverse();
        }
        let value = i64::from_le_bytes(wide);
        match self.kind {
            IntegerType::Unsigned(_) => value,
            IntegerType::Signed(_) => {
                let unused = 64 - 8 * n as u32;
                value << unused >> unused
            }
        }
    }
}

fn damaged(at: &str, e: &io::Error) -> anyhow::Error {
    BadInput::new(at, "an undamaged array", e.to_string(), BROKEN).into()
}

/// The header and the number of bytes before the data.
fn read_header(at: &str, data: &mut impl Read) -> Result<(Header, u64)> {
    let bad = |found: String| BadInput::new(at, "an npy header of version 1, 2 or 3", found, BROKEN);
    let mut magic = [0u8; 8];
    data.read_exact(&mut magic).map_err(|e| damaged(at, &e))?;
    if magic[..6] != *b"\x93NUMPY" {
        return Err(bad("other bytes".into()).into());
    }
    let wide = match magic[6..] {
        [1, 0] => 2,
        [2 | 3, 0] => 4,
        _ => return Err(bad(format!("version {}.{}", magic[6], magic[7])).into()),
    };
    let mut length = [0u8; 4];
    data.read_exact(&mut length[..wide]).map_err(|e| damaged(at, &e))?;
    let length = u32::from_le_bytes(length) as usize;
    if length > limits::NPY_HEADER {
        return Err(bad(format!("one of {length} bytes")).into());
    }
    let mut text = vec![0u8; length];
    data.read_exact(&mut text).map_err(|e| damaged(at, &e))?;
    let text = String::from_utf8(text).map_err(|_| bad("one that is not UTF-8".into()))?;
    let header = parse(&text).map_err(|why| BadInput::new(at, why, text.trim_end(), SAVE))?;
    Ok((header, (8 + wide + length) as u64))
}

/// Parses a header's Python dictionary with exactly the keys descr, fortran_order and shape; `Err` says what was expected.
fn parse(text: &str) -> std::result::Result<Header, &'static str> {
    const DICT: &str = "a dictionary of descr, fortran_order and shape";
    let mut at = Cursor(text.trim_end());
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    at.token("{").ok_or(DICT)?;
    while at.token("}").is_none() {
        let key = at.string().ok_or(DICT)?;
        at.token(":").ok_or(DICT)?;
        let again = match key {
            "descr" => descr.replace(at.string().ok_or(TYPES)?).is_some(),
            "fortran_order" => {
                let value = at
                    .token("False")
                    .map(|()| false)
                    .or_else(|| at.token("True").map(|()| true));
                fortran.replace(value.ok_or(DICT)?).is_some()
            }
            "shape" => shape.replace(at.tuple().ok_or(DICT)?).is_some(),
            _ => true,
        };
        if again || (at.token(",").is_none() && !at.0.trim_start().starts_with('}')) {
            return Err(DICT);
        }
    }
    match (descr, fortran, shape) {
        (Some(descr), Some(false), Some(shape)) if at.0.is_empty() => {
            let (kind, big_endian) = element(descr).ok_or(TYPES)?;
            Ok(Header {
                kind,
                big_endian,
                shape,
            })
        }
        (Some(_), Some(true), Some(_)) => Err("an array in C order"),
        _ => Err(DICT),
    }
}

const TYPES: &str = "an integer or boolean type";

/// Type and byte order of a descr: `|u1`, `<i8`, `>i4`, `|b1`, …
fn element(descr: &str) -> Option<(IntegerType, bool)> {
    let (order, name) = descr.split_at_checked(1)?;
    let kind = match name {
        "u1" | "b1" => IntegerType::Unsigned(1),
        "u2" => IntegerType::Unsigned(2),
        "u4" => IntegerType::Unsigned(4),
        "u8" => IntegerType::Unsigned(8),
        "i1" => IntegerType::Signed(1),
        "i2" => IntegerType::Signed(2),
        "i4" => IntegerType::Signed(4),
        "i8" => IntegerType::Signed(8),
        _ => return None,
    };
    match order {
        "<" => Some((kind, false)),
        ">" => Some((kind, true)),
        "|" if name.ends_with('1') => Some((kind, false)),
        _ => None,
    }
}

/// What is left of a header.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn token(&mut self, token_text: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token_text)?;
        Some(())
    }

    /// A quoted string without escapes.
    fn string(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (inside, rest) = rest[1..].split_once(quote)?;
        self.0 = rest;
        (!inside.contains('\\')).then_some(inside)
    }

    /// A tuple of whole numbers: `()`, `(3,)`, `(3, 28, 28)`; Python 2 wrote `3L`.
    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut items = Vec::new();
        self.token("(")?;
        while self.token(")").is_none() {
            let rest = self.0.trim_start();
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            items.push(rest[..digits].parse().ok()?);
            self.0 = rest[digits..].strip_prefix('L').unwrap_or(&rest[digits..]);
            if self.token(",").is_none() && !self.0.trim_start().starts_with(')') {
                return None;
            }
        }
        Some(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_numpy_and_of_other_writers_parse() {
        for (text, kind, big_endian, shape) in [
            (
                "{'descr': '|u1', 'fortran_order': False, 'shape': (546, 28, 28), }   \n",
                IntegerType::Unsigned(1),
                false,
                vec![546, 28, 28],
            ),
            (
                "{\"shape\": (3,), \"descr\": \">i4\", \"fortran_order\": False}",
                IntegerType::Signed(4),
                true,
                vec![3],
            ),
            (
                "{'descr':'<i8','fortran_order':False,'shape':(2L,1L)}",
                IntegerType::Signed(8),
                false,
                vec![2, 1],
            ),
            (
                "{'descr': '|b1', 'fortran_order': False, 'shape': ()}",
                IntegerType::Unsigned(1),
                false,
                vec![],
            ),
        ] {
            let want = Header {
                kind,
                big_endian,
                shape,
            };
            assert_eq!(parse(text).unwrap(), want, "{text}");
        }
    }

    #[test]
    fn other_headers_are_refused() {
        for text in [
            "",
            "{",
            "{}",
            "{'descr': '|u1', 'fortran_order': False}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (3)} x",
            "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), 'more': 'x'}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999999999999,)}",
            "{'descr': '|u1', 'fortran_order': False 'shape': (3,)}",
            "{'descr': '|u1', 'fortran_order': True, 'shape': (3, 2)}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '|u2', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,)}",
            "{'descr': 'é', 'fortran_order': False, 'shape': (3,)}",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn integers_of_every_width_and_order() {
        let of = |descr: &str, bytes: &[u8]| {
            let (kind, big_endian) = element(descr).unwrap();
            let shape = vec![];
            Header {
                kind,
                big_endian,
                shape,
            }
            .integer(bytes)
        };
        assert_eq!(of("|u1", &[255]), 255);
        assert_eq!(of("|i1", &[255]), -1);
        assert_eq!(of("<i2", &[0xfe, 0xff]), -2);
        assert_eq!(of(">i2", &[0x01, 0x02]), 258);
        assert_eq!(of(">u4", &[0, 0, 1, 0]), 256);
        assert_eq!(of("<i8", &[3, 0, 0, 0, 0, 0, 0, 0]), 3);
    }
}
