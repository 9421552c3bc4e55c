//! The one way medft opens files: it waits for none, and reads no more than was meant.

use crate::limits;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file to read it. A pipe would wait for a writer for ever and a device may never end: both are refused
/// by their type before a byte is read, and before they are opened.
///
/// # Errors
/// Those of opening; [`io::ErrorKind::InvalidInput`] for anything that is no regular file.
pub fn open_file(path: &Path) -> io::Result<File> {
    open_with(path, fs::OpenOptions::new().read(true))
}

/// As [`open_file`], to write to it as well; it is neither created nor cut.
///
/// # Errors
/// As [`open_file`].
pub fn open_file_to_write(path: &Path) -> io::Result<File> {
    open_with(path, fs::OpenOptions::new().read(true).write(true))
}

fn open_with(path: &Path, how: &mut fs::OpenOptions) -> io::Result<File> {
    let regular = |t: fs::FileType| {
        let kinds = [
            (t.is_dir(), "folder"),
            (t.is_fifo(), "pipe"),
            (t.is_socket(), "socket"),
            (!t.is_file(), "device"),
        ];
        match kinds.iter().find(|k| k.0) {
            None => Ok(()),
            Some((_, kind)) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("a {kind}, not a file"),
            )),
        }
    };
    regular(fs::metadata(path)?.file_type())?;
    // It may have become another thing meanwhile: opening never waits, and what was opened is looked at again.
    let file = how
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file of at most `most` bytes whole.
///
/// # Errors
/// As [`open_file`]; [`io::ErrorKind::FileTooLarge`] where there is more, of which nothing is kept.
pub fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_file(path)?;
    let size = file.metadata()?.len();
    let mut bytes = Vec::new();
    if size <= most {
        bytes.reserve_exact(usize::try_from(size).map_or(0, |n| n + 1));
        // A file that grows while it is read ends here as well.
        file.take(most + 1).read_to_end(&mut bytes)?;
    }
    if size.max(bytes.len() as u64) > most {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {most} bytes, the most that is read of such a file"),
        ));
    }
    Ok(bytes)
}

/// As [`read_at_most`], of a UTF-8 text.
///
/// # Errors
/// As [`read_at_most`]; [`io::ErrorKind::InvalidData`] for other bytes.
pub fn read_text_at_most(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read_at_most(path, most)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A file of the kernel below `/proc` or `/sys`; `None` where there is none.
pub fn read_system(path: impl AsRef<Path>) -> Option<String> {
    read_text_at_most(path.as_ref(), limits::SYSTEM_FILE).ok()
}

/// Reads a whole file of at most [`limits::WHOLE_FILE`]; the error names it.
///
/// # Errors
/// As [`read_at_most`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    read_at_most(path, limits::WHOLE_FILE).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a whole UTF-8 file of at most [`limits::WHOLE_FILE`]; the error names it.
///
/// # Errors
/// As [`read_at_most`]; for bytes that are no UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?).with_context(|| format!("cannot read {}", path.display()))
}
