//! A file that is read in parts, every part being the very bytes that were hashed when it was opened.
//!
//! Opening reads the file once and keeps the SHA-256 of each of its blocks; every later read takes whole blocks and holds
//! them against those. So a file that is exchanged, edited or cut short after it was verified gives an error, never other
//! bytes, whatever its size, times and inode say. A memory map proves nothing: what it shows may change after it was
//! hashed, and a file cut short while it is mapped kills the process.
//!
//! The cost is a second pass of SHA-256 over the parts that are read. The hashes of a file that was held against an expected
//! SHA-256 are kept for the life of the process: opening it again reads nothing.

use super::read::open_file;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are hashed and compared at a time.
const BLOCK: usize = 128 << 10;

/// What the blocks of a file hash to.
struct Blocks {
    /// Bytes of a block.
    size: usize,
    len: u64,
    sha256: String,
    hashes: Vec<[u8; 32]>,
}

/// See the module.
#[derive(Clone)]
pub struct HashedFile {
    file: Arc<File>,
    blocks: Arc<Blocks>,
}

type Known = Mutex<BTreeMap<(PathBuf, String), Arc<Blocks>>>;

/// Files that were held against an expected hash.
static KNOWN: Known = Mutex::new(BTreeMap::new());

impl HashedFile {
    /// Opens and hashes a regular file, which must hash to `expected` where that is given (lower-case hex).
    ///
    /// # Errors
    /// Those of opening and reading; [`io::ErrorKind::InvalidData`] where the file hashes to something else.
    pub fn open(path: &Path, expected: Option<&str>) -> io::Result<Self> {
        let file = open_file(path)?;
        let known = |key: &(PathBuf, String)| KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned();
        let key = expected.map(|e| (path.to_owned(), e.to_owned()));
        if let Some(blocks) = key.as_ref().and_then(known) {
            return Ok(Self {
                file: Arc::new(file),
                blocks,
            });
        }
        let blocks = Arc::new(Blocks::of(&file, BLOCK)?);
        if let Some(key) = key {
            if key.1 != blocks.sha256 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "a file that hashes to {}; the verified one hashes to {}",
                        blocks.sha256, key.1
                    ),
                ));
            }
            let mut all = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(key, blocks.clone());
        }
        Ok(Self {
            file: Arc::new(file),
            blocks,
        })
    }

    /// As [`Self::open`], for a file that is read in rows of `size` bytes: each is a block, so that no more is read and hashed
    /// than is asked for.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_rows(path: &Path, size: usize) -> io::Result<Self> {
        let file = open_file(path)?;
        // A row that is longer than the file is as good as one of its length.
        let longest = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let blocks = Arc::new(Blocks::of(&file, size.min(longest).max(1))?);
        Ok(Self {
            file: Arc::new(file),
            blocks,
        })
    }

    /// Bytes of the file.
    pub fn len(&self) -> u64 {
        self.blocks.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SHA-256 of the whole file in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.blocks.sha256
    }

    /// A part of the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where these are not the bytes that were hashed, [`io::ErrorKind::UnexpectedEof`] for a
    /// part beyond the end.
    pub fn read(&self, part: Range<u64>) -> io::Result<Vec<u8>> {
        if part.start > part.end || part.end > self.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if part.is_empty() {
            return Ok(Vec::new());
        }
        let size = self.blocks.size as u64;
        let (first, last) = (part.start / size, (part.end - 1) / size);
        let from = first * size;
        let to = ((last + 1) * size).min(self.len());
        let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
        let changed = || io::Error::new(io::ErrorKind::InvalidData, "the file was changed while it was in use");
        self.file.read_exact_at(&mut bytes, from).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => e,
        })?;
        let hashes = &self.blocks.hashes[first as usize..];
        if bytes
            .chunks(self.blocks.size)
            .zip(hashes)
            .any(|(b, h)| Sha256::digest(b)[..] != h[..])
        {
            return Err(changed());
        }
        bytes.truncate((part.end - from) as usize);
        bytes.drain(..(part.start - from) as usize);
        Ok(bytes)
    }

    /// A reader from the beginning.
    pub fn reader(&self) -> HashedReader {
        HashedReader {
            file: self.clone(),
            at: 0,
            block: Vec::new(),
            start: 0,
        }
    }
}

impl Blocks {
    fn of(file: &File, size: usize) -> io::Result<Self> {
        let (mut whole, mut hashes, mut len) = (Sha256::new(), Vec::new(), 0u64);
        // Whole blocks, and enough of them for a call.
        let mut block = vec![0; size * (BLOCK / size).max(1)];
        loop {
            let n = fill(file, &mut block, len)?;
            if n == 0 {
                break;
            }
            whole.update(&block[..n]);
            hashes.extend(block[..n].chunks(size).map(|b| <[u8; 32]>::from(Sha256::digest(b))));
            len += n as u64;
            if n < block.len() {
                break;
            }
        }
        Ok(Self {
            size,
            len,
            sha256: super::hex(&whole.finalize()),
            hashes,
        })
    }
}

fn fill(file: &File, block: &mut [u8], from: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < block.len() {
        match file.read_at(&mut block[have..], from + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// Reads a [`HashedFile`] block by block.
#[derive(Clone)]
pub struct HashedReader {
    file: HashedFile,
    at: u64,
    /// The block that was read last, and where it begins.
    block: Vec<u8>,
    start: u64,
}

impl Read for HashedReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let here = self.start..self.start + self.block.len() as u64;
        if !here.contains(&self.at) {
            let size = self.file.blocks.size as u64;
            let start = self.at / size * size;
            if self.at >= self.file.len() {
                return Ok(0);
            }
            self.block = self.file.read(start..(start + size).min(self.file.len()))?;
            self.start = start;
        }
        let there = &self.block[(self.at - self.start) as usize..];
        let n = there.len().min(out.len());
        out[..n].copy_from_slice(&there[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for HashedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.file.len().checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(n: usize) -> Vec<u8> {
        (0..n as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect()
    }

    #[test]
    fn parts_are_those_of_the_file_wherever_they_begin_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        for n in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7] {
            let bytes = drawn(n);
            std::fs::write(&path, &bytes).unwrap();
            let f = HashedFile::open(&path, None).unwrap();
            assert_eq!((f.len(), f.sha256()), (n as u64, &*super::super::sha256_hex(&bytes)));
            for from in [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK + 3, n] {
                for to in [from, from + 1, BLOCK, 2 * BLOCK, n] {
                    let part = f.read(from as u64..to as u64);
                    match from <= to && to <= n {
                        true => assert_eq!(part.unwrap(), bytes[from..to]),
                        false => assert!(part.is_err()),
                    }
                }
            }
            let mut all = Vec::new();
            f.reader().read_to_end(&mut all).unwrap();
            assert_eq!(all, bytes);
            // In rows: those of 7 bytes do not fill a block, those of 3 blocks are more than one.
            for size in [7, 1000, 3 * BLOCK] {
                let f = HashedFile::open_rows(&path, size).unwrap();
                assert_eq!((f.len(), f.sha256()), (n as u64, &*super::super::sha256_hex(&bytes)));
                for row in 0..n.div_ceil(size).min(30) {
                    let part = row * size..((row + 1) * size).min(n);
                    assert_eq!(f.read(part.start as u64..part.end as u64).unwrap(), bytes[part]);
                }
                let mut all = Vec::new();
                f.reader().read_to_end(&mut all).unwrap();
                assert_eq!(all, bytes);
            }
        }
    }

    /// A row is its own block: the edit of another one is none of its business, and its own is found.
    #[test]
    fn an_edited_row_is_an_error_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, drawn(30_000)).unwrap();
        let f = HashedFile::open_rows(&path, 3000).unwrap();
        let edit = File::options().write(true).open(&path).unwrap();
        edit.write_all_at(b"!!", 3000).unwrap();
        assert!(f.read(0..3000).is_ok() && f.read(6000..9000).is_ok());
        assert_eq!(f.read(3000..6000).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn bytes_that_are_not_those_that_were_hashed_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes = drawn(3 * BLOCK);
        std::fs::write(&path, &bytes).unwrap();
        let sha = super::super::sha256_hex(&bytes);
        let f = HashedFile::open(&path, Some(&sha)).unwrap();
        let whole = || 0..3 * BLOCK as u64;
        // In place: another byte, then cut short; the untouched blocks still read.
        let edit = File::options().write(true).open(&path).unwrap();
        edit.write_all_at(&[bytes[BLOCK + 5] ^ 1], BLOCK as u64 + 5).unwrap();
        assert_eq!(f.read(whole()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(f.read(0..BLOCK as u64).unwrap(), bytes[..BLOCK]);
        edit.set_len(BLOCK as u64).unwrap();
        let e = f.read(whole()).unwrap_err();
        assert!(e.to_string().contains("changed while it was in use"), "{e}");
        // Exchanged: the file that was opened is still the verified one, and opening it anew is not enough.
        std::fs::write(&path, &bytes).unwrap();
        let f = HashedFile::open(&path, Some(&sha)).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, drawn(3 * BLOCK + 1)).unwrap();
        assert_eq!(f.read(whole()).unwrap(), bytes);
        let again = HashedFile::open(&path, Some(&sha)).unwrap();
        std::fs::write(&path, vec![7; 3 * BLOCK]).unwrap();
        assert_eq!(again.read(0..9).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let e = HashedFile::open(&path, Some(&"0".repeat(64))).err().unwrap();
        assert_eq!(e.kind(), io::ErrorKind::InvalidData);
    }
}
