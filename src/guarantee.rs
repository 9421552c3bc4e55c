//! What a file system may refuse without harm to a result, and the note to the user, once, of what is weaker for it.
//!
//! Shares of other systems (CIFS, DrvFs, VirtualBox, many FUSE file systems, Lustre and NFS without locks) lack single
//! operations. Nothing that is computed depends on them: they guard against power cuts and second processes. Full disks, I/O
//! errors and missing permissions are errors as ever.

use crate::tell;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A guarantee that a file system may not give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarantee {
    /// That written data survive a power cut.
    DurableFiles,
    /// That a new name survives a power cut.
    DurableNames,
    /// That a second process waits.
    Locks,
}

impl Guarantee {
    fn consequence(self) -> &'static str {
        match self {
            Self::DurableFiles => {
                "files cannot be forced to the disk (fsync): after a power cut the last of them may have to be made again"
            }
            Self::DurableNames => {
                "folders cannot be forced to the disk (fsync): after a power cut the last files may have to be made again"
            }
            Self::Locks => {
                "files cannot be locked (flock): do not start two processes that fetch or write the same thing here"
            }
        }
    }

    /// Says, once a process, that the file system of `path` does not give this.
    pub(crate) fn missing(self, path: &Path) {
        static SAID: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];
        if !SAID[self as usize].swap(true, Ordering::Relaxed) {
            tell!("note: on the file system of {} {}", path.display(), self.consequence());
        }
    }
}

/// Whether an error says that the file system does not know the operation, rather than that it failed.
pub(crate) fn is_unsupported(e: &io::Error) -> bool {
    let Some(code) = e.raw_os_error() else {
        return e.kind() == io::ErrorKind::Unsupported;
    };
    let unknown = [
        Errno::INVAL,
        Errno::NOSYS,
        Errno::NOTSUP,
        Errno::OPNOTSUPP,
        Errno::NOTTY,
        // NFS says so of a lock, and of a folder that is forced to the disk.
        Errno::BADF,
        Errno::NOLCK,
        Errno::PERM,
        Errno::ISDIR,
    ];
    unknown.iter().any(|u| u.raw_os_error() == code)
}

/// Forces a file to the disk, where the file system can.
///
/// # Errors
/// What the disk says, but that it cannot.
pub(crate) fn sync_file(file: &File, path: &Path) -> io::Result<()> {
    forgive(file.sync_all(), Guarantee::DurableFiles, path)
}

/// Forces the names in a folder to the disk, where the file system can.
///
/// # Errors
/// As [`sync_file`].
pub(crate) fn sync_folder(dir: &Path) -> io::Result<()> {
    let dir = match dir.as_os_str().is_empty() {
        true => Path::new("."),
        false => dir,
    };
    let run = || open_folder(dir)?.sync_all();
    match run() {
        // A folder that may be written but not read: its names cannot be forced, and nothing else follows.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Guarantee::DurableNames.missing(dir);
            Ok(())
        }
        done => forgive(done, Guarantee::DurableNames, dir),
    }
}

/// Opens a folder; anything else is refused without waiting for it.
///
/// # Errors
/// Those of opening.
pub(crate) fn open_folder(dir: &Path) -> io::Result<File> {
    let mut open = File::options();
    let flags = OFlags::DIRECTORY.bits().cast_signed();
    open.read(true).custom_flags(flags).open(dir)
}

/// Turns "not supported" into a note to the user.
///
/// # Errors
/// Every other error of `done`.
pub(crate) fn forgive(done: io::Result<()>, guarantee: Guarantee, path: &Path) -> io::Result<()> {
    match done {
        Err(e) if is_unsupported(&e) => {
            guarantee.missing(path);
            Ok(())
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of Linux's errno.h.
    #[test]
    fn what_fails_is_not_taken_for_what_is_unknown() {
        for unknown in [1, 9, 21, 22, 25, 37, 38, 95] {
            assert!(is_unsupported(&io::Error::from_raw_os_error(unknown)), "{unknown}");
        }
        for fails in [5, 13, 28, 30, 122] {
            assert!(!is_unsupported(&io::Error::from_raw_os_error(fails)), "{fails}");
        }
    }
}
