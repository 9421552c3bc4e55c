//! The one way medft writes files: temp file in the same folder, write, fsync, rename, fsync the folder.
//! A reader therefore sees the old content or the new one, never a torn one, and a full disk leaves the old file.

mod hashed;
pub mod host;
pub(crate) mod read;

pub use hashed::{HashedFile, HashedReader};
pub use read::{open_file, open_file_to_write, read, read_at_most, read_system, read_text_at_most, read_to_string};

use crate::error::BadInput;
use crate::guarantee::{self, Guarantee};
use anyhow::{Context, Result};
use host::Process;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tempfile::NamedTempFile;

const TEMP_PREFIX: &str = ".medft-";
const TEMP_SUFFIX: &str = ".tmp";
/// The age at which another computer's temp file counts as left: long enough for any clock that is wrong by hours.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// Writes `bytes` to `path` atomically; creates missing parent folders.
///
/// # Errors
/// [`BadInput`] with a remedy when the disk is full or the folder is not writable; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |w| w.write_all(bytes))
}

/// As [`write_atomic`], for content that is produced piece by piece.
///
/// # Errors
/// As [`write_atomic`], and what `fill` returns.
pub fn write_atomic_with(path: &Path, fill: impl FnOnce(&mut Pending) -> io::Result<()>) -> Result<()> {
    let mut file = Pending::create(path)?;
    fill(&mut file).map_err(|e| describe(path, &e))?;
    file.publish()
}

/// A file that nobody sees before it is published; dropped unpublished, it leaves nothing.
pub struct Pending {
    path: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl Pending {
    /// Opens a temp file beside `path`; creates missing parent folders.
    ///
    /// # Errors
    /// [`BadInput`] with a remedy when the folder is not writable.
    pub fn create(path: &Path) -> Result<Self> {
        let open = || -> io::Result<NamedTempFile> {
            fs::create_dir_all(folder(path))?;
            sweep_once(folder(path));
            temp_beside(path)
        };
        let tmp = open().map_err(|e| describe(path, &e))?;
        Ok(Self {
            path: path.into(),
            out: BufWriter::with_capacity(1 << 16, tmp),
        })
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`BadInput`] with a remedy when the disk is full.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|e| describe(&self.path, &e))
    }

    /// Makes the content durable and gives it its name.
    ///
    /// # Errors
    /// [`BadInput`] with a remedy when the disk is full; the old file is then untouched.
    pub fn publish(self) -> Result<()> {
        let path = self.path.clone();
        self.publish_as(path)
    }

    /// As [`Self::publish`], under another name in the same folder: one that was not known when the file was begun.
    ///
    /// # Errors
    /// As there.
    pub fn publish_as(self, path: PathBuf) -> Result<()> {
        let out = self.out;
        let run = || -> io::Result<()> {
            let tmp = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            guarantee::sync_file(tmp.as_file(), &path)?;
            // By the standard library, whose calls tests can make fail: tempfile's own rename is none of the C library's.
            let (_, temp) = tmp.into_parts();
            fs::rename(&temp, &path)?;
            // The temp file's name is nobody's any more: nothing is left to remove.
            let _ = temp.keep();
            guarantee::sync_folder(folder(&path))
        };
        run().map_err(|e| describe(&path, &e))
    }
}

/// A [`Pending`] file that is hashed while it is written.
pub struct HashedPending {
    out: Pending,
    hash: Sha256,
}

impl HashedPending {
    /// As [`Pending::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            out: Pending::create(path)?,
            hash: Sha256::new(),
        })
    }

    /// As [`Pending::put`].
    ///
    /// # Errors
    /// As there.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.out.put(bytes)
    }

    /// Publishes the file under the name that `name` makes of its SHA-256, which is returned.
    ///
    /// # Errors
    /// As [`Pending::publish`].
    pub fn publish_as(self, name: impl FnOnce(&str) -> PathBuf) -> Result<String> {
        let hash = hex(&self.hash.finalize());
        self.out.publish_as(name(&hash))?;
        Ok(hash)
    }
}

impl Write for HashedPending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hash.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Write for Pending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A temp file in the folder of `path`, which is there; signed with this process, so that [`sweep`] finds what a killed one left.
///
/// # Errors
/// What the system says where the folder is not writable.
pub fn temp_beside(path: &Path) -> io::Result<NamedTempFile> {
    let this = Process::this();
    tempfile::Builder::new()
        .prefix(&format!("{TEMP_PREFIX}{}-{}-", this.space(), this.pid))
        .suffix(TEMP_SUFFIX)
        // What the user's umask leaves of it, as for any file that a program creates.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(folder(path))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

fn describe(path: &Path, e: &io::Error) -> anyhow::Error {
    let remedy = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "Free some space and run the same command again; finished work is kept."
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Make the folder writable or choose another one, then run the same command again."
        }
        _ => "Check the folder, then run the same command again; finished work is kept.",
    };
    BadInput::new(path.display(), "to write this file", e.to_string(), remedy).into()
}

/// Takes an exclusive lock on `path`, which is created where it is missing; `on_wait` is told once where another process
/// has it. The lock ends with the returned file. Whoever had it may delete the file: the next one locks a new one.
///
/// # Errors
/// Where the file cannot be opened or locked, or is a pipe.
pub fn lock_exclusive(path: &Path, on_wait: impl Fn()) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;
    let mut told = false;
    loop {
        let mut open = fs::OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false);
        let file = open
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
            .open(path)?;
        if file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a pipe, not a file"));
        }
        match file.try_lock() {
            Ok(()) => {}
            // Without locks the file is still written under a name of its own and published whole.
            Err(TryLockError::Error(e)) if guarantee::is_unsupported(&e) => {
                Guarantee::Locks.missing(path);
                return Ok(file);
            }
            Err(TryLockError::Error(e)) => return Err(e),
            Err(TryLockError::WouldBlock) => {
                if !std::mem::replace(&mut told, true) {
                    on_wait();
                }
                file.lock()?;
            }
        }
        let here = file.metadata()?;
        if fs::metadata(path).is_ok_and(|m| (m.dev(), m.ino()) == (here.dev(), here.ino())) {
            return Ok(file);
        }
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// [`BadInput`] with a remedy, as [`write_atomic`].
pub fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| describe(path, &e))
}

/// Removes the temp files that killed writers left in `dir`: those of ended processes of this computer at once, all others when
/// nothing was written to them for a day. Locks are not asked: on shared file systems they hold within a node only.
///
/// # Errors
/// Where the folder cannot be listed or a file not removed.
pub fn sweep(dir: &Path) -> Result<()> {
    sweep_if(dir, &is_left)
}

/// As [`sweep`], also of other computers' temp files to which nothing was written for `age`: for a folder that is this process's
/// own by a lease which others lose after that time.
///
/// # Errors
/// As [`sweep`].
pub fn sweep_after(dir: &Path, age: Duration) -> Result<()> {
    sweep_if(dir, &|name, path| {
        is_left(name, path) || untouched(path).is_some_and(|a| a > age)
    })
}

fn sweep_if(dir: &Path, left: &dyn Fn(&str, &Path) -> bool) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        // Where no folder can be, the write that follows says so with its remedy.
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        other => other.with_context(|| format!("cannot list {}", dir.display()))?,
    };
    for e in entries {
        let path = e.with_context(|| format!("cannot list {}", dir.display()))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(TEMP_PREFIX) && name.ends_with(TEMP_SUFFIX) && left(&name, &path) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("cannot remove {}", path.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether the writer of a temp file is gone.
fn is_left(name: &str, path: &Path) -> bool {
    let mut parts = name[TEMP_PREFIX.len()..].split('-');
    let writer = parts.next().zip(parts.next().and_then(|pid| pid.parse().ok()));
    match writer {
        Some((space, pid)) if space == Process::this().space() => !host::alive(pid),
        _ => untouched(path).is_some_and(|age| age > FORGOTTEN),
    }
}

/// How long nothing was written to a file.
fn untouched(path: &Path) -> Option<Duration> {
    fs::metadata(path).and_then(|m| m.modified()).ok()?.elapsed().ok()
}

/// Bytes that this user can still write to the disk of `path`, or of the nearest folder above it that is there; `None` where the
/// system does not say.
pub fn free_space(path: &Path) -> Option<u64> {
    let there = path.ancestors().map(|p| match p.as_os_str().is_empty() {
        true => Path::new("."),
        false => p,
    });
    let disk = there.into_iter().find_map(|p| rustix::fs::statvfs(p).ok())?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Folders whose temp files of the dead were removed by this process.
static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes what killed writers left in `dir`, the first time that this process writes there: wherever medft can leave a temp
/// file it can also find it. What cannot be removed does no harm, and whoever can write says why not.
fn sweep_once(dir: &Path) {
    let fresh = SWEPT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(dir.to_owned());
    if fresh {
        let _ = sweep(dir);
    }
}

/// As [`sweep`], for `dir` and every folder below it; links are not followed, and what cannot be listed is left alone.
pub fn sweep_below(dir: &Path) {
    let _ = sweep(dir);
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        if e.file_type().is_ok_and(|t| t.is_dir()) {
            sweep_below(&e.path());
        }
    }
}

/// Every file below a folder, sorted; links are not followed, and what cannot be listed is left out.
pub fn below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in fs::read_dir(dir).into_iter().flatten().flatten() {
        match e.file_type() {
            Ok(t) if t.is_dir() => out.extend(below(&e.path())),
            _ => out.push(e.path()),
        }
    }
    out.sort();
    out
}

/// Serialises a path for reports; what of it is not UTF-8 is shown as �.
///
/// # Errors
/// Those of the serialiser.
pub fn lossy_path<S: serde::Serializer>(path: &Path, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&path.display())
}

/// As [`lossy_path`].
///
/// # Errors
/// Those of the serialiser.
pub fn lossy_path_if_any<S: serde::Serializer>(path: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(p) => s.collect_str(&p.display()),
        None => s.serialize_none(),
    }
}

/// SHA-256 of `bytes` in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file in lower-case hex, streamed in 1 MiB pieces; `on_bytes` is told how many were read (for progress).
///
/// # Errors
/// Where the file cannot be opened or read.
pub fn sha256_file(path: &Path, mut on_bytes: impl FnMut(u64)) -> Result<String> {
    let mut f = open_file(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut h = Sha256::new();
    let mut buf = vec![0u8; 1 << 20];
    loop {
        let n = f
            .read(&mut buf)
            .with_context(|| format!("cannot read {}", path.display()))?;
        if n == 0 {
            return Ok(hex(&h.finalize()));
        }
        h.update(&buf[..n]);
        on_bytes(n as u64);
    }
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = [
        '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f',
    ];
    let digit = |n: u8| DIGITS[usize::from(n)];
    bytes.iter().flat_map(|&b| [digit(b >> 4), digit(b & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temps(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().flatten().count()
    }

    #[test]
    fn the_umask_decides_who_may_read_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        write_atomic(&ours, b"x").unwrap();
        File::create(&theirs).unwrap();
        let mode = |p: &Path| p.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&ours), mode(&theirs));
    }

    /// The first write of a process into a folder removes what the dead left there; what a living writer has stays.
    #[test]
    fn writing_into_a_folder_sweeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let dead = format!("{TEMP_PREFIX}{}-{}-x{TEMP_SUFFIX}", Process::this().space(), u32::MAX);
        fs::write(dir.path().join(dead), b"half").unwrap();
        let living = Pending::create(&dir.path().join("a")).unwrap();
        assert_eq!(temps(dir.path()), 1);
        sweep_below(dir.path());
        assert_eq!(temps(dir.path()), 1, "that of the living stays");
        living.publish().unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"");
    }

    #[test]
    fn only_regular_files_are_opened_and_not_more_is_read_than_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for (path, kind) in [(&*pipe, "pipe"), (&*link, "device"), (dir.path(), "folder")] {
            let e = open_file(path).err().unwrap();
            assert_eq!(e.to_string(), format!("a {kind}, not a file"));
            assert!(read(path).is_err() && sha256_file(path, |_| {}).is_err());
        }
        let big = dir.path().join("big");
        File::create(&big).unwrap().set_len(1 << 40).unwrap();
        let e = read_at_most(&big, 1000).err().unwrap();
        assert!(e.to_string().starts_with("more than 1000 bytes"), "{e}");
        fs::write(&big, [7; 1000]).unwrap();
        assert_eq!(read_at_most(&big, 1000).unwrap(), [7; 1000]);
        assert!(read_at_most(&big, 999).is_err());
    }

    #[test]
    fn sha256_of_abc_is_the_one_in_fips_180() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn a_failed_fill_leaves_the_old_file_and_no_temp() {
        let dir = tempfile::tempdir().unwrap();
        let p = dir.path().join("a/b.txt");
        write_atomic(&p, b"old").unwrap();
        let e = write_atomic_with(&p, |w| {
            w.write_all(b"half of the new")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        })
        .unwrap_err();
        assert!(
            e.to_string().contains("b.txt") && e.to_string().contains("Free some space"),
            "{e}"
        );
        assert_eq!(fs::read(&p).unwrap(), b"old");
        assert_eq!(fs::read_dir(p.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn only_what_nobody_writes_any_more_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let here = Process::this();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let name = |space: &str, pid: u32| format!("{TEMP_PREFIX}{space}-{pid}-x{TEMP_SUFFIX}");
        let (living, dead) = (name(&here.space(), here.pid), name(&here.space(), child.id()));
        let (other, old) = (name("0badcafe", child.id()), name("0badcafe", 7));
        for n in [&living, &dead, &other, &old] {
            fs::write(dir.path().join(n), b"half").unwrap();
        }
        let f = File::options().write(true).open(dir.path().join(&old)).unwrap();
        f.set_modified(std::time::SystemTime::now() - FORGOTTEN * 2).unwrap();
        sweep(dir.path()).unwrap();
        let mut left: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        let mut expected = vec![living, other];
        expected.sort();
        assert_eq!(left, expected);
        // A file under way is signed.
        let p = Pending::create(&dir.path().join("a")).unwrap();
        assert!(fs::read_dir(dir.path()).unwrap().any(|e| {
            let n = e.unwrap().file_name().to_string_lossy().into_owned();
            n.starts_with(&format!("{TEMP_PREFIX}{}-{}-", here.space(), here.pid)) && !n.ends_with("-x.tmp")
        }));
        drop(p);
    }
}
