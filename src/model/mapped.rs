//! Weights files mapped into memory.
//!
//! A tensor is copied once, out of the mapping, and its pages are handed back at once: while a model is loaded, the file is not
//! resident beside it.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// A file mapped read-only; copies share the mapping.
#[derive(Clone)]
pub struct MappedFile(Arc<Mmap>);

impl MappedFile {
    /// # Errors
    /// Those of opening and mapping.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is opened read-only; weights are verified against their hash before, and medft never writes them.
        Ok(Self(Arc::new(unsafe { Mmap::map(&file) }?)))
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
