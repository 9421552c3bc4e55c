//! A file that is not whole yet: what is there, its running hashes, and under which conditions it may be continued.
//!
//! It lies in the folder of the final file, is locked while a process works on it, and becomes the final file by a
//! rename. Beside it lies `<part>.from` with the server's validator, so that a later process does not join two versions.

use super::error::{ErrorKind, FetchError};
use crate::fsio;
use crate::guarantee;
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// SHA-256 and MD5 of a whole file, lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    pub sha256: [u8; 32],
    pub md5: String,
    pub bytes: u64,
}

/// The digests of a file that is whole.
pub(super) fn digest_file(path: &Path) -> std::io::Result<Digests> {
    let mut file = fsio::open_file(path)?;
    let (mut sha256, mut md5, mut bytes, mut piece) = (Sha256::new(), Md5::new(), 0, vec![0; 256 << 10]);
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        sha256.update(&piece[..n]);
        md5.update(&piece[..n]);
        bytes += n as u64;
    }
    Ok(Digests {
        sha256: sha256.finalize().into(),
        md5: crate::fsio::hex(&md5.finalize()),
        bytes,
    })
}

/// Where the bytes of a part are from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Origin {
    /// Without query.
    pub url: String,
    /// A strong ETag or a date, for `If-Range`.
    pub validator: Option<String>,
}

pub(super) struct Part {
    path: PathBuf,
    file: File,
    pub len: u64,
    sha256: Sha256,
    md5: Md5,
    pub origin: Option<Origin>,
}

impl Part {
    /// Opens or creates the part and takes its lock; waits for another process that has it (`on_wait` is told once).
    /// `None` where that process has finished the file meanwhile. Reads what is there; `on_bytes` is told how far.
    pub fn open(
        path: &Path,
        dest: &Path,
        on_wait: &dyn Fn(),
        on_bytes: &dyn Fn(u64),
    ) -> Result<Option<Self>, FetchError> {
        let disk = |e: &std::io::Error| FetchError::disk(path, "to write the download", e);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|e| FetchError::disk(dir, "to create this folder", &e))?;
        }
        let waited = Cell::new(false);
        let file = fsio::lock_exclusive(path, || {
            waited.set(true);
            on_wait();
        });
        let file = file.map_err(|e| disk(&e))?;
        if waited.get() && dest.exists() {
            let _ = fs::remove_file(path);
            return Ok(None);
        }
        // A device has no bytes to continue (a test's /dev/full would never end).
        let is_file = file.metadata().map_err(|e| disk(&e))?.is_file();
        let mut part = Self {
            origin: fsio::read(&side(path))
                .ok()
                .and_then(|b| serde_json::from_slice(&b).ok()),
            path: path.to_owned(),
            file,
            len: 0,
            sha256: Sha256::new(),
            md5: Md5::new(),
        };
        if is_file {
            part.take_in(on_bytes)?;
        }
        Ok(Some(part))
    }

    fn take_in(&mut self, on_bytes: &dyn Fn(u64)) -> Result<(), FetchError> {
        let mut piece = vec![0; 256 << 10];
        loop {
            let n = self
                .file
                .read(&mut piece)
                .map_err(|e| FetchError::disk(&self.path, "to read what was downloaded before", &e))?;
            if n == 0 {
                return Ok(());
            }
            self.sha256.update(&piece[..n]);
            self.md5.update(&piece[..n]);
            self.len += n as u64;
            on_bytes(self.len);
        }
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<(), FetchError> {
        let run = |p: &mut Self| -> std::io::Result<()> {
            if p.file.metadata()?.is_file() {
                p.file.set_len(0)?;
                p.file.seek(SeekFrom::Start(0))?;
            }
            Ok(())
        };
        run(self).map_err(|e| FetchError::disk(&self.path, "to empty the download", &e))?;
        let _ = fs::remove_file(side(&self.path));
        (self.len, self.sha256, self.md5, self.origin) = (0, Sha256::new(), Md5::new(), None);
        Ok(())
    }

    /// Notes where the bytes are from, before the first of them is written.
    pub fn begin(&mut self, origin: Origin) -> Result<(), FetchError> {
        if self.origin.as_ref() != Some(&origin) {
            let text = serde_json::to_vec(&origin).unwrap_or_default();
            // Without the note a later process starts this file anew unless its hash is known: no reason to stop.
            let _ = fsio::write_atomic(&side(&self.path), &text);
            self.origin = Some(origin);
        }
        Ok(())
    }

    /// Appends; `left` is how many bytes the file still needs, for the error of a full disk.
    pub fn append(&mut self, bytes: &[u8], left: Option<u64>) -> Result<(), FetchError> {
        self.file.write_all(bytes).map_err(|e| {
            let mut error = FetchError::disk(&self.path, "to write the download", &e);
            if let (ErrorKind::NoSpace, Some(left)) = (error.kind, left) {
                error.bad.expected = format!("room for {left} more bytes ({})", indicatif::HumanBytes(left));
            }
            error
        })?;
        self.sha256.update(bytes);
        self.md5.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Makes what is there survive a power cut; a failure shows up at publication.
    pub fn settle(&self) {
        let _ = self.file.sync_data();
    }

    pub fn digests(&self) -> Digests {
        Digests {
            sha256: self.sha256.clone().finalize().into(),
            md5: fsio::hex(&self.md5.clone().finalize()),
            bytes: self.len,
        }
    }

    /// Deletes the part: its bytes are wrong.
    pub fn discard(self) {
        let _ = fs::remove_file(side(&self.path));
        let _ = fs::remove_file(&self.path);
    }

    /// Turns the part into the final file: fsync, rename, fsync of the folder.
    pub fn publish(self, dest: &Path) -> Result<(), FetchError> {
        let run = || -> std::io::Result<()> {
            guarantee::sync_file(&self.file, dest)?;
            if let Some(dir) = dest.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::rename(&self.path, dest)?;
            let _ = fs::remove_file(side(&self.path));
            guarantee::sync_folder(dest.parent().unwrap_or(Path::new("")))
        };
        run().map_err(|e| FetchError::disk(dest, "to publish the download", &e))
    }
}

fn side(part: &Path) -> PathBuf {
    let mut name = part.as_os_str().to_owned();
    name.push(".from");
    name.into()
}
