//! Files mapped into memory: the only unsafe code of this crate.
//!
//! A mapping is sound as long as nobody changes or shortens the file meanwhile, which no program can promise for another. medft
//! maps only files that it does not change: weights, verified against their hash, and its own caches, which are written once,
//! under a name of their own, and replaced by renaming.
//!
//! Weights: a tensor is copied once, out of the mapping, and its pages are handed back at once: while a model is loaded, the file is not
//! resident beside it.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Maps a file read-only.
///
/// # Errors
/// Those of mapping.
pub fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the file is one of those that nobody changes, see above.
    unsafe { Mmap::map(file) }
}

/// A file mapped read-only; copies share the mapping.
#[derive(Clone)]
pub struct MappedFile(Arc<Mmap>);

impl MappedFile {
    /// # Errors
    /// Those of opening and mapping.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(map(&File::open(path)?)?)))
    }

    /// Hands back the pages of a part; they are read again when they are asked for.
    pub fn forget(&self, part: Range<usize>) {
        #[cfg(unix)]
        {
            // SAFETY: the mapping is read-only and backed by the file, so a dropped page loses nothing.
            let advised = unsafe {
                self.0
                    .unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, part.start, part.len())
            };
            // Advice may be declined; nothing depends on it.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = part;
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
