//! Which files make up a set: everything below its folder, links followed, except what medft and the operating system
//! leave there. `data-manifests/README.md` tells users the same rules.

use super::list::RelPath;
use super::stat::Stat;
use crate::error::BadInput;
use rayon::prelude::*;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One file of a set.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub path: RelPath,
    pub file: PathBuf,
    pub stat: Stat,
}

/// Something below the folder that cannot be hashed, and why.
#[derive(Debug, Clone)]
pub(crate) struct Odd {
    pub path: RelPath,
    pub why: String,
}

/// All of it, sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub files: Vec<Found>,
    pub odd: Vec<Odd>,
    /// What medft or a system left there and is no part of the set; a folder stands for all that is in it.
    pub litter: Vec<RelPath>,
}

impl Walk {
    fn join(mut self, other: Self) -> Self {
        self.files.extend(other.files);
        self.odd.extend(other.odd);
        self.litter.extend(other.litter);
        self
    }

    fn odd(path: RelPath, why: impl ToString) -> Self {
        let why = why.to_string();
        Self {
            odd: vec![Odd { path, why }],
            ..Self::default()
        }
    }
}

/// Lists the files of the set in `root`: all, or those of `only` that are there.
///
/// # Errors
/// [`BadInput`] when `root` is not a folder. Single entries that cannot be read are returned as [`Odd`].
pub(crate) fn walk(root: &Path, only: Option<&[String]>) -> Result<Walk, BadInput> {
    let bad = |found: String| {
        BadInput::new(
            root.display(),
            "the folder of a data set",
            found,
            "Put the data set there or pass another --data-dir.",
        )
    };
    let meta = fs::metadata(root).map_err(|e| bad(e.to_string()))?;
    if !meta.is_dir() {
        return Err(bad("a file".into()));
    }
    let mut all = match only {
        None => folder(root, &[], root),
        Some(names) => names
            .iter()
            .filter_map(|n| RelPath::new(n.as_bytes()).ok())
            .filter(|p| p.below(root).symlink_metadata().is_ok())
            .map(|p| one(root, p))
            .fold(Walk::default(), Walk::join),
    };
    all.files.sort_by(|a, b| a.path.cmp(&b.path));
    all.odd.sort_by(|a, b| a.path.cmp(&b.path));
    all.litter.sort();
    Ok(all)
}

/// One named file below `root`.
pub(crate) fn one(root: &Path, path: RelPath) -> Walk {
    let file = path.below(root);
    match fs::metadata(&file) {
        Ok(m) => regular(path, file, &m),
        Err(e) => Walk::odd(path, e),
    }
}

/// Whether a folder is one of those from `dir` up to `root`: a link to it leads back.
fn leads_back(folder: &Metadata, dir: &Path, root: &Path) -> bool {
    let depth = dir.components().count().saturating_sub(root.components().count());
    let mut above = dir.ancestors().take(depth + 1).filter_map(|d| fs::metadata(d).ok());
    above.any(|m| (m.dev(), m.ino()) == (folder.dev(), folder.ino()))
}

fn folder(dir: &Path, rel: &[u8], root: &Path) -> Walk {
    let entries: Result<Vec<_>, _> = fs::read_dir(dir).and_then(Iterator::collect);
    let entries = match entries {
        Ok(e) => e,
        Err(e) => return Walk::odd(RelPath::child(b"", if rel.is_empty() { b"." } else { rel }), e),
    };
    entries
        .par_iter()
        .map(|entry| {
            let name = entry.file_name();
            let path = RelPath::child(rel, name.as_bytes());
            if is_own(name.as_bytes()) {
                return Walk {
                    litter: vec![path],
                    ..Walk::default()
                };
            }
            let file = entry.path();
            // What is itself a folder cannot lead back, and the listing says that it is one.
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                return folder(&file, path.as_bytes(), root);
            }
            // Follows links, so that data may lie on another disk.
            match fs::metadata(&file) {
                Ok(m) if m.is_dir() => {
                    if leads_back(&m, dir, root) {
                        return Walk::odd(path, "a link that leads back to a folder above it");
                    }
                    folder(&file, path.as_bytes(), root)
                }
                Ok(m) => regular(path, file, &m),
                Err(e) if entry.file_type().is_ok_and(|t| t.is_symlink()) => {
                    Walk::odd(path, format!("a link to nothing ({e})"))
                }
                Err(e) => Walk::odd(path, e),
            }
        })
        .reduce(Walk::default, Walk::join)
}

fn regular(path: RelPath, file: PathBuf, m: &Metadata) -> Walk {
    let t = m.file_type();
    if t.is_file() {
        let stat = Stat::of(m);
        return Walk {
            files: vec![Found { path, file, stat }],
            ..Walk::default()
        };
    }
    // Opening a pipe would wait for a writer for ever.
    let kind = [(t.is_dir(), "folder"), (t.is_fifo(), "pipe"), (t.is_socket(), "socket")];
    let kind = kind.iter().find(|k| k.0).map_or("device", |k| k.1);
    Walk::odd(path, format!("a {kind}, not a file"))
}

/// Names that medft or the operating system leave in a folder.
fn is_own(name: &[u8]) -> bool {
    let hidden_temp =
        |n: &[u8]| n.starts_with(b".") && [&b".tmp"[..], b".part", b".swp", b"~"].iter().any(|e| n.ends_with(e));
    name.starts_with(b".medft")
        || name.starts_with(b"._")
        || name.starts_with(b".nfs")
        || matches!(
            name,
            b".DS_Store" | b"__MACOSX" | b".AppleDouble" | b".Spotlight-V100" | b".Trashes" | b".fseventsd" | b"Icon\r"
        )
        || matches!(
            name,
            b"Thumbs.db" | b"desktop.ini" | b"@eaDir" | b"lost+found" | b".ipynb_checkpoints"
        )
        || hidden_temp(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_loops_and_odd_things_reported_and_litter_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("set");
        let other = dir.path().join("other disk");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::create_dir_all(&other).unwrap();
        for f in [
            "set/b",
            "set/sub/a",
            "other disk/x",
            "set/.medft-abc.tmp",
            "set/.DS_Store",
            "set/._b",
            "set/.b.part",
        ] {
            fs::write(dir.path().join(f), f).unwrap();
        }
        fs::write(root.join(".hidden"), "counts").unwrap();
        symlink(&other, root.join("linked")).unwrap();
        symlink(other.join("x"), root.join("link-to-file")).unwrap();
        symlink(&root, root.join("sub/loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        let w = walk(&root, None).unwrap();
        let names: Vec<String> = w.files.iter().map(|f| f.path.to_string()).collect();
        assert_eq!(names, [".hidden", "b", "link-to-file", "linked/x", "sub/a"]);
        let odd: Vec<String> = w.odd.iter().map(|o| format!("{}: {}", o.path, o.why)).collect();
        assert!(odd[0].starts_with("dangling: a link to nothing"), "{odd:?}");
        assert_eq!(odd[1], "sub/loop: a link that leads back to a folder above it");
        let some = walk(&root, Some(&["b".into(), "absent".into()])).unwrap();
        assert_eq!(some.files.len(), 1);
        assert!(walk(&root.join("b"), None).is_err());
    }
}
