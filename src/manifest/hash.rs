//! Hashing files as fast as the machine reads them.
//!
//! One thread a file, files taken from one queue: hashing is bound by the processor (SHA extensions: 1 to 2 GB/s a core)
//! on fast disks and by the disk on slow ones, and a queue in path order keeps slow disks reading forward. Big files
//! go first, so that no worker is left alone with one at the end, and get a second thread that reads ahead: the waits
//! for the disk and the copies out of the page cache then overlap with the arithmetic. Memory maps were decided against:
//! a file that shrinks while it is mapped kills the process.

use md5::Md5;
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;

/// Files of at least this many bytes are read ahead.
const BIG: u64 = 32 << 20;
/// Bytes handed to the hash at a time: fits the second-level cache, so the data is still there when it is hashed.
const PIECE: usize = 256 << 10;

/// A SHA-256. Displays and serialises as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha(pub [u8; 32]);

impl Sha {
    /// Of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Reads 64 hex digits of either case.
    pub fn parse(hex: &str) -> Option<Self> {
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16)?;
            let low = char::from(pair[1]).to_digit(16)?;
            *byte = (high * 16 + low) as u8;
        }
        Some(Self(out))
    }

    /// The first 12 digits, for messages to people.
    pub fn short(&self) -> String {
        crate::fsio::hex(&self.0[..6])
    }
}

impl fmt::Display for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&crate::fsio::hex(&self.0))
    }
}

impl fmt::Debug for Sha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// How far a pass over files has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub files_done: usize,
    pub files_total: usize,
    pub bytes_done: u64,
    pub bytes_total: u64,
}

/// Hears of progress, from any thread, at least once a file.
pub type OnProgress<'a> = &'a (dyn Fn(Progress) + Sync);

/// For callers that show no progress.
pub fn quiet(_: Progress) {}

/// The hashes of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    pub sha256: Sha,
    /// 32 hex digits, when asked for.
    pub md5: Option<String>,
    pub bytes: u64,
}

/// Hashes one file; `on_bytes` is told how many more were read.
pub fn hash_file(path: &Path, want_md5: bool, mut on_bytes: impl FnMut(u64)) -> io::Result<Hashes> {
    let file = crate::fsio::open_file(path)?;
    let size = file.metadata()?.len();
    let mut sha = Sha256::new();
    let mut md5 = want_md5.then(Md5::new);
    let mut bytes = 0;
    let sink = |piece: &[u8]| {
        sha.update(piece);
        if let Some(m) = &mut md5 {
            m.update(piece);
        }
        bytes += piece.len() as u64;
        on_bytes(piece.len() as u64);
    };
    if size >= BIG {
        feed_ahead(file, sink)?;
    } else {
        feed(file, size, sink)?;
    }
    Ok(Hashes {
        sha256: Sha(sha.finalize().into()),
        md5: md5.map(|m| crate::fsio::hex(&m.finalize())),
        bytes,
    })
}

fn feed(mut file: File, size: u64, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    // One byte more than the file, so that a small file costs one read and one that tells the end.
    let room = usize::try_from(size).unwrap_or(PIECE).saturating_add(1).min(PIECE);
    let mut buffer = vec![0; room];
    loop {
        match fill(&mut file, &mut buffer)? {
            0 => return Ok(()),
            n => sink(&buffer[..n]),
        }
    }
}

fn feed_ahead(mut file: File, mut sink: impl FnMut(&[u8])) -> io::Result<()> {
    std::thread::scope(|scope| {
        let (full_out, full_in) = mpsc::sync_channel::<io::Result<Vec<u8>>>(8);
        let (free_out, free_in) = mpsc::channel::<Vec<u8>>();
        for _ in 0..8 {
            let _ = free_out.send(vec![0; PIECE]);
        }
        let ahead = std::thread::Builder::new().spawn_scoped(scope, move || {
            for mut buffer in free_in {
                buffer.resize(PIECE, 0);
                let piece = match fill(&mut file, &mut buffer) {
                    Ok(0) => return,
                    Ok(n) => {
                        buffer.truncate(n);
                        Ok(buffer)
                    }
                    Err(e) => Err(e),
                };
                let last = piece.is_err();
                if full_out.send(piece).is_err() || last {
                    return;
                }
            }
        });
        ahead?;
        for piece in full_in {
            let piece = piece?;
            sink(&piece);
            let _ = free_out.send(piece);
        }
        Ok(())
    })
}

/// Reads until `buffer` is full or the file ends; returns how much there is.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

/// SHA-256 of many files, `(path, size)`, on all threads of the current rayon pool; results in the order of `jobs`.
pub fn hash_many(jobs: &[(&Path, u64)], on: OnProgress) -> Vec<io::Result<Sha>> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|&i| {
        if jobs[i].1 >= BIG {
            (0, u64::MAX - jobs[i].1)
        } else {
            (1, i as u64)
        }
    });
    let bytes_total = jobs.iter().map(|j| j.1).sum();
    let (next, files_done, bytes_done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
    let tell = |files: usize, bytes: u64| {
        on(Progress {
            files_done: files_done.fetch_add(files, Ordering::Relaxed) + files,
            files_total: jobs.len(),
            bytes_done: bytes_done.fetch_add(bytes, Ordering::Relaxed) + bytes,
            bytes_total,
        });
    };
    let results: Mutex<Vec<Option<io::Result<Sha>>>> = Mutex::new(jobs.iter().map(|_| None).collect());
    let worker = || {
        while let Some(&i) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let hashed = hash_file(jobs[i].0, false, |n| tell(0, n)).map(|h| h.sha256);
            tell(1, 0);
            results.lock().expect("no worker panics while it holds the results")[i] = Some(hashed);
        }
    };
    rayon::scope(|s| {
        for _ in 0..rayon::current_num_threads().min(jobs.len()) {
            s.spawn(|_| worker());
        }
    });
    let results = results
        .into_inner()
        .expect("no worker panics while it holds the results");
    results
        .into_iter()
        .map(|r| r.expect("every job was taken from the queue"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_many_pieces_and_read_ahead_agree_with_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, BIG as usize, BIG as usize + 12_345] {
            let bytes: Vec<u8> = (0..size as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
                .collect();
            let path = dir.path().join("f");
            std::fs::write(&path, &bytes).unwrap();
            let mut heard = 0;
            let got = hash_file(&path, true, |n| heard += n).unwrap();
            assert_eq!(got.sha256, Sha::of(&bytes));
            assert_eq!(got.md5.unwrap(), crate::fsio::hex(&Md5::digest(&bytes)));
            assert_eq!((got.bytes, heard), (size as u64, size as u64));
        }
    }

    #[test]
    fn md5_of_abc_is_the_one_in_rfc_1321() {
        assert_eq!(
            crate::fsio::hex(&Md5::digest(b"abc")),
            "900150983cd24fb0d6963f7d28e17f72"
        );
    }

    #[test]
    fn hex_is_read_in_either_case_and_nothing_else_is() {
        let sha = Sha::of(b"x");
        assert_eq!(Sha::parse(&sha.to_string()), Some(sha));
        assert_eq!(Sha::parse(&sha.to_string().to_uppercase()), Some(sha));
        assert_eq!(Sha::parse(&sha.to_string()[1..]), None);
        assert_eq!(Sha::parse(&format!("+{}", &sha.to_string()[1..])), None);
    }
}
