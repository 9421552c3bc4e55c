//! Why a file could not be got: a kind for programs, a [`BadInput`] for people.

use crate::error::BadInput;
use serde::Serialize;
use std::io;
use std::path::Path;

/// The kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// No usable answer after all attempts: network, time-outs, 429 and 5xx.
    Unreachable,
    /// 401 or 403: no credential, a wrong one, or terms that were not accepted.
    Refused,
    /// 404 or 410: the file, revision or repository is not there (any more).
    Gone,
    /// The bytes are not the pinned ones; nothing was published.
    WrongBytes,
    /// The disk is full or a quota is used up.
    NoSpace,
    /// The user asked for no network (`HF_HUB_OFFLINE`).
    Offline,
    /// A file could not be read or written.
    Disk,
    /// An archive that is refused or damaged.
    Archive,
    /// Something else is wrong with the request; trying again does not help.
    Input,
}

/// A file that was not got. Displayed as its [`BadInput`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("{bad}")]
pub struct FetchError {
    pub kind: ErrorKind,
    pub bad: BadInput,
}

impl FetchError {
    pub fn new(
        kind: ErrorKind,
        at: impl ToString,
        expected: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            bad: BadInput::new(at, expected, found, remedy),
        }
    }

    /// An error of the file system, with what was about to be done (`"to write"`).
    pub fn disk(path: &Path, what: &str, e: &io::Error) -> Self {
        let (kind, remedy) = match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => (
                ErrorKind::NoSpace,
                "Free some space and run the same command again; what was downloaded is kept and continued.",
            ),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => (
                ErrorKind::Disk,
                "Make the folder writable or choose another one, then run the same command again.",
            ),
            _ => (
                ErrorKind::Disk,
                "Check the folder and the disk, then run the same command again.",
            ),
        };
        Self::new(kind, path.display(), what, e.to_string(), remedy)
    }
}

impl From<BadInput> for FetchError {
    fn from(bad: BadInput) -> Self {
        Self {
            kind: ErrorKind::Input,
            bad,
        }
    }
}
