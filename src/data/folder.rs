//! The folder of a data set, and what its files must hash to.
//!
//! A study verifies its data when it starts and decodes them for days after. Whatever is read of a data set (label files,
//! archives, images) is read here, once: the bytes that are hashed are the bytes that are parsed or decoded, and where a list
//! was verified they must be the listed ones at that moment. A file that is not in the list is not there.

use crate::error::BadInput;
use crate::fsio::{self, HashedFile};
use crate::manifest::{HashList, RelPath, Sha};
use anyhow::Result;
use std::io;
use std::ops::Deref;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const BRING: &str =
    "Bring the data set's own files (`medft data list` says from where) or name their place with --data-dir.";

/// A folder; as a path, the place where it lies.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
    list: Option<Arc<HashList>>,
}

impl Folder {
    /// A folder of which only what `list` names may be used.
    pub fn verified(root: impl Into<PathBuf>, list: Arc<HashList>) -> Self {
        Self {
            root: root.into(),
            list: Some(list),
        }
    }

    /// A folder that nobody vouches for: to look at, not to run on.
    pub fn unverified(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            list: None,
        }
    }

    /// Whether a list says what is here.
    pub fn is_verified(&self) -> bool {
        self.list.is_some()
    }

    /// What the list says that `file` hashes to.
    pub fn listed(&self, file: &Path) -> Option<Sha> {
        self.list.as_ref().and_then(|list| listed(list, file))
    }

    /// Whether `file` is there: listed, where there is a list.
    pub fn has(&self, file: &Path) -> bool {
        match self.is_verified() {
            true => self.listed(file).is_some(),
            false => self.root.join(file).is_file(),
        }
    }

    /// The SHA-256 that `file` must have; `None` where there is no list.
    ///
    /// # Errors
    /// [`BadInput`] for a file that is not in the list.
    pub fn expected(&self, file: &Path) -> Result<Option<Sha>> {
        if !self.is_verified() {
            return Ok(None);
        }
        self.listed(file).map(Some).ok_or_else(|| {
            BadInput::new(
                self.root.join(file).display(),
                "a file of the verified list",
                "one that is not in it",
                CHANGED,
            )
            .into()
        })
    }

    /// The SHA-256 of `file`: the list's, else that of the bytes there.
    ///
    /// # Errors
    /// As [`Folder::expected`] and [`Folder::read`].
    pub fn hash(&self, file: &Path, what: &str, most: u64) -> Result<Sha> {
        match self.expected(file)? {
            Some(sha) => Ok(sha),
            None => Ok(Sha::of(&self.read(file, what, most)?)),
        }
    }

    /// The bytes of `file`, at most `most`; `what` says in errors what was expected.
    ///
    /// # Errors
    /// [`BadInput`] for a file that is missing, no regular file, too large, unreadable, or not the verified one.
    pub fn read(&self, file: &Path, what: &str, most: u64) -> Result<Vec<u8>> {
        let path = self.root.join(file);
        let bytes = fsio::read_at_most(&path, most).map_err(|e| missing(&path, what, &e))?;
        match self.expected(file)? {
            Some(sha) if Sha::of(&bytes) != sha => Err(changed(&path, &sha.to_string(), &Sha::of(&bytes).to_string())),
            _ => Ok(bytes),
        }
    }

    /// Opens `file` to be read in parts.
    ///
    /// # Errors
    /// As [`Folder::read`].
    pub fn open(&self, file: &Path, what: &str) -> Result<HashedFile> {
        let path = self.root.join(file);
        let expected = self.expected(file)?.map(|s| s.to_string());
        let opened = HashedFile::open(&path, expected.as_deref());
        opened.map_err(|e| match (e.kind(), expected) {
            (io::ErrorKind::InvalidData, Some(sha)) => changed(&path, &sha, &e.to_string()),
            _ => missing(&path, what, &e),
        })
    }
}

impl Deref for Folder {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.root
    }
}

impl<T: Into<PathBuf>> From<T> for Folder {
    fn from(root: T) -> Self {
        Self::unverified(root)
    }
}

const CHANGED: &str = "It was changed while the study ran: restore it, or verify the data set again (`medft data verify`) and lock it where the change is meant; then run again.";

/// The complaint about a file that is not the verified one.
pub fn changed(path: &Path, expected: &str, found: &str) -> anyhow::Error {
    let expected = format!("the verified file, which hashes to {expected}");
    BadInput::new(path.display(), expected, format!("other bytes: {found}"), CHANGED).into()
}

fn listed(list: &HashList, file: &Path) -> Option<Sha> {
    let path = RelPath::new(file.as_os_str().as_bytes()).ok()?;
    list.entries.get(&path).copied()
}

/// The complaint about a file that cannot be opened; says so when the whole folder is missing.
fn missing(path: &Path, what: &str, e: &io::Error) -> anyhow::Error {
    let found = match path.parent() {
        _ if e.kind() != io::ErrorKind::NotFound => e.to_string(),
        Some(dir) if !dir.as_os_str().is_empty() && !dir.is_dir() => {
            format!("no such file; the folder {} is missing as well", dir.display())
        }
        _ => "no such file".to_string(),
    };
    BadInput::new(path.display(), what, found, BRING).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_not_there_and_what_differs_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("x")).unwrap();
        std::fs::write(dir.path().join("x/a"), b"one").unwrap();
        std::fs::write(dir.path().join("x/b"), b"more").unwrap();
        let (a, b) = (Path::new("x/a"), Path::new("x/b"));
        let list = HashList::parse(format!("{}  x/a\n", Sha::of(b"one")).as_bytes(), "").unwrap();
        let folder = Folder::verified(dir.path(), Arc::new(list));
        assert!(folder.has(a) && !folder.has(b) && Folder::unverified(dir.path()).has(b));
        assert_eq!(folder.read(a, "a file", 9).unwrap(), b"one");
        assert_eq!(folder.open(a, "a file").unwrap().read(0..3).unwrap(), b"one");
        let says = |e: anyhow::Error, text: &str| {
            let e = e.downcast::<BadInput>().unwrap().to_string();
            assert!(e.contains(text), "{e}");
        };
        says(folder.read(b, "a file", 9).unwrap_err(), "one that is not in it");
        says(folder.hash(b, "a file", 9).unwrap_err(), "x/b");
        std::fs::write(dir.path().join("x/a"), b"two").unwrap();
        says(
            folder.read(a, "a file", 9).unwrap_err(),
            "x/a: expected the verified file",
        );
        assert_eq!(folder.hash(a, "a file", 9).unwrap(), Sha::of(b"one"));
        std::fs::remove_file(dir.path().join("x/a")).unwrap();
        says(folder.read(a, "a file", 9).unwrap_err(), "no such file");
        assert!(folder.has(a), "it is listed, and reading it says what is wrong");
    }
}
