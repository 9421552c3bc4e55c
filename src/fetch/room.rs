//! Whether the disk has room.

use super::error::{ErrorKind, FetchError};
use std::path::Path;

/// Refuses to begin what cannot end.
pub(super) fn room_for(path: &Path, needed: Option<u64>) -> Result<(), FetchError> {
    let (Some(needed), Some(free)) = (needed, free_space(path)) else {
        return Ok(());
    };
    if needed <= free {
        return Ok(());
    }
    Err(FetchError::new(
        ErrorKind::NoSpace,
        path.display(),
        format!("room for {needed} more bytes ({})", indicatif::HumanBytes(needed)),
        format!("{free} bytes free ({})", indicatif::HumanBytes(free)),
        "Free some space or choose a folder on another disk, then run the same command again.",
    ))
}

/// Bytes free for this user on the disk of `path`, where the system tells.
pub(crate) fn free_space(path: &Path) -> Option<u64> {
    let mut dir = path;
    while !dir.exists() {
        dir = dir.parent()?;
    }
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let s = rustix::fs::statvfs(dir).ok()?;
    Some(s.f_bavail.saturating_mul(s.f_frsize))
}
