//! Unpacks archives of strangers: zip and tar.gz, into a folder of their own, all of it or nothing.
//!
//! An archive is refused as a whole when one entry is no plain file or folder below the folder it is unpacked into:
//! absolute and `..` paths, drive letters, backslashes, control characters, links, devices, sparse and encrypted
//! entries, a name that occurs twice or differs from another in case only (one file would overwrite the other on some
//! disks), a file that is also a folder. Numbers of entries and bytes, and the ratio of unpacked to packed bytes, have
//! caps that are counted while unpacking, whatever the headers say. Files are created, never opened: nothing that is
//! there is overwritten or followed.

mod names;
mod tar;
#[cfg(test)]
mod tests;
mod zip;

use super::error::{ErrorKind, FetchError};
use super::progress::{Event, OnEvent};
use super::room::room_for;
use crate::fsio;
use crate::guarantee::{self, Guarantee};
use names::Names;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// What an archive may hold at most.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    pub entries: u64,
    /// Unpacked.
    pub bytes: u64,
    /// Unpacked bytes for each packed one, counted above 16 MiB unpacked.
    pub ratio: u64,
}

impl Default for Caps {
    /// Far above every set that medft knows (CheXpert: 223,650 files, 11 GB; images hardly shrink), far below a bomb.
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 200 << 30,
            ratio: 50,
        }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    pub files: u64,
    pub bytes: u64,
}

/// Unpacks `archive` into `dir`, which must not exist. On any error `dir` does not exist afterwards.
///
/// # Errors
/// [`ErrorKind::Archive`] naming archive and entry for everything that is refused or damaged; [`ErrorKind::NoSpace`], [`ErrorKind::Disk`].
pub fn unpack(archive: &Path, dir: &Path, caps: Caps, on: OnEvent) -> Result<Unpacked, FetchError> {
    fs::create_dir(dir).map_err(|e| FetchError::disk(dir, "to create this folder", &e))?;
    let run = || -> Result<Unpacked, FetchError> {
        let read = |e: &io::Error| FetchError::disk(archive, "to read this archive", e);
        let mut file = fsio::open_file(archive).map_err(|e| read(&e))?;
        let packed = file.metadata().map_err(|e| read(&e))?.len();
        let mut magic = Vec::new();
        Read::by_ref(&mut file)
            .take(4)
            .read_to_end(&mut magic)
            .map_err(|e| read(&e))?;
        file.seek(SeekFrom::Start(0)).map_err(|e| read(&e))?;
        let mut out = Out::new(archive, dir, caps, packed, on);
        match &magic[..] {
            [0x1f, 0x8b, ..] => tar::unpack(file, &mut out)?,
            // A zip is known by its end: there may be other bytes before it.
            b"PK\x03\x04" | b"PK\x05\x06" => zip::unpack(file, &mut out)?,
            _ if crate::zipfile::open(io::BufReader::new(&file)).is_ok() => zip::unpack(file, &mut out)?,
            _ => return Err(out.refuse("a zip or gzip archive", "other bytes at its beginning")),
        }
        if out.done.files == 0 {
            return Err(out.refuse("an archive with files", "none in it"));
        }
        out.sync()?;
        Ok(out.done)
    };
    run().inspect_err(|_| {
        let _ = fs::remove_dir_all(dir);
    })
}

/// Where the entries of one archive go.
struct Out<'a> {
    archive: &'a Path,
    dir: &'a Path,
    caps: Caps,
    packed: u64,
    names: Names,
    done: Unpacked,
    entries: u64,
    on: OnEvent<'a>,
}

impl<'a> Out<'a> {
    fn new(archive: &'a Path, dir: &'a Path, caps: Caps, packed: u64, on: OnEvent<'a>) -> Self {
        Self {
            archive,
            dir,
            caps,
            packed,
            names: Names::default(),
            done: Unpacked::default(),
            entries: 0,
            on,
        }
    }

    /// An error about the archive as a whole.
    fn refuse(&self, expected: &str, found: impl Into<String>) -> FetchError {
        let remedy = "Nothing was unpacked. Get the archive again from its publisher; if it stays so, do not use it.";
        FetchError::new(ErrorKind::Archive, self.archive.display(), expected, found, remedy)
    }

    /// An error about an entry; its name is shown escaped.
    fn refuse_entry(&self, name: &[u8], expected: &str, found: impl AsRef<str>) -> FetchError {
        self.refuse(expected, format!("entry {}: {}", names::shown(name), found.as_ref()))
    }

    fn damaged(&self, e: &dyn std::fmt::Display) -> FetchError {
        self.refuse("an undamaged archive", e.to_string())
    }

    /// Counts an entry and checks its name. `None` for the folder that the archive is unpacked into.
    fn entry(&mut self, name: &[u8], folder: bool) -> Result<Option<PathBuf>, FetchError> {
        self.entries += 1;
        if self.entries > self.caps.entries {
            return Err(self.refuse(&format!("at most {} entries", self.caps.entries), "more"));
        }
        match self.names.take(name, folder) {
            Ok(path) => Ok(path.map(|p| self.dir.join(p))),
            Err(found) => Err(self.refuse_entry(name, "a name of a new file below the folder", found)),
        }
    }

    fn folder(&mut self, name: &[u8]) -> Result<(), FetchError> {
        match self.entry(name, true)? {
            Some(path) => fs::create_dir_all(&path).map_err(|e| FetchError::disk(&path, "to create this folder", &e)),
            None => Ok(()),
        }
    }

    /// Writes a file; `size` is what the header promises.
    fn file(&mut self, name: &[u8], size: u64, from: &mut dyn Read) -> Result<(), FetchError> {
        let Some(path) = self.entry(name, false)? else {
            return Err(self.refuse_entry(name, "a name of a new file below the folder", "no name"));
        };
        self.within(name, size)?;
        let disk = |e: &io::Error| FetchError::disk(&path, "to write this file", e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| disk(&e))?;
        }
        let mut to = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| disk(&e))?;
        let mut piece = vec![0; 128 << 10];
        let mut have = 0;
        loop {
            let n = match from.read(&mut piece) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.refuse_entry(name, "an undamaged archive", e.to_string())),
            };
            if n == 0 {
                break;
            }
            have += n as u64;
            if have > size {
                return Err(self.refuse_entry(name, &format!("the {size} bytes of its header"), "more"));
            }
            self.within(name, have)?;
            to.write_all(&piece[..n]).map_err(|e| disk(&e))?;
        }
        if have != size {
            return Err(self.refuse_entry(name, &format!("the {size} bytes of its header"), format!("{have}")));
        }
        self.done.files += 1;
        self.done.bytes += size;
        Ok(())
    }

    /// Whether so many more bytes are still within the caps.
    fn within(&self, name: &[u8], more: u64) -> Result<(), FetchError> {
        let all = self.done.bytes.saturating_add(more);
        if all > self.caps.bytes {
            return Err(self.refuse_entry(name, &format!("at most {} bytes unpacked", self.caps.bytes), "more"));
        }
        self.ratio(all).map_err(|found| {
            let expected = format!("at most {} bytes unpacked for each packed one", self.caps.ratio);
            self.refuse_entry(name, &expected, found)
        })
    }

    fn ratio(&self, unpacked: u64) -> Result<(), &'static str> {
        const SMALL: u64 = 16 << 20;
        match unpacked > SMALL && unpacked / self.packed.max(1) > self.caps.ratio {
            true => Err("more, as of an archive made to fill the disk"),
            false => Ok(()),
        }
    }

    fn room(&self, bytes: u64) -> Result<(), FetchError> {
        room_for(self.dir, Some(bytes))
    }

    /// Tells how many packed bytes were taken in.
    fn tell(&self, taken: u64) {
        (self.on)(Event::At {
            bytes: taken,
            of: Some(self.packed),
            before: false,
        });
    }

    /// Makes everything survive a power cut: one call for the disk (Linux; elsewhere for all disks) instead of one a file.
    fn sync(&self) -> Result<(), FetchError> {
        let run = || -> io::Result<()> {
            let dir = guarantee::open_folder(self.dir)?;
            #[cfg(target_os = "linux")]
            rustix::fs::syncfs(dir)?;
            #[cfg(not(target_os = "linux"))]
            {
                rustix::fs::sync();
                dir.sync_all()?;
            }
            Ok(())
        };
        guarantee::forgive(run(), Guarantee::DurableFiles, self.dir)
            .map_err(|e| FetchError::disk(self.dir, "to write out these files", &e))
    }
}
