//! Which files make up a set: everything below its folder, links followed, except what medft and the operating system
//! leave there. `data-manifests/README.md` tells users the same rules.

use super::hash::Sha;
use super::list::RelPath;
use super::stat::{Stat, StatFile};
use crate::error::BadInput;
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Dir, DirEntry, FileType, Mode, OFlags, fstat, openat, statat};
use rustix::path::Arg;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// One file of a set.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub path: RelPath,
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
    /// The folders that were listed, from the set's own (whose path is empty), as they were just before; in no order.
    pub folders: Vec<(Vec<u8>, Stat)>,
}

impl Walk {
    fn join(mut self, other: Self) -> Self {
        self.add(other);
        self
    }

    pub(super) fn add(&mut self, other: Self) {
        self.files.extend(other.files);
        self.odd.extend(other.odd);
        self.litter.extend(other.litter);
        self.folders.extend(other.folders);
    }

    fn odd(&mut self, path: RelPath, why: impl ToString) {
        let why = why.to_string();
        self.odd.push(Odd { path, why });
    }

    fn regular(&mut self, path: RelPath, m: &rustix::fs::Stat) {
        // Opening a pipe would wait for a writer for ever.
        let kind = match FileType::from_raw_mode(m.st_mode) {
            FileType::RegularFile => {
                let stat = Stat::of_raw(m);
                self.files.push(Found { path, stat });
                return;
            }
            FileType::Directory => "folder",
            FileType::Fifo => "pipe",
            FileType::Socket => "socket",
            _ => "device",
        };
        self.odd(path, format!("a {kind}, not a file"));
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
        None => Folder { root, rel: b"" }.walk(open_dir(CWD, root)),
        Some(names) => names
            .iter()
            .filter_map(|n| RelPath::new(n.as_bytes()).ok())
            .filter(|p| p.below(root).symlink_metadata().is_ok())
            .map(|p| one(root, p))
            .fold(Walk::default(), Walk::join),
    };
    all.files.par_sort_unstable_by(|a, b| a.path.cmp(&b.path));
    all.odd.sort_by(|a, b| a.path.cmp(&b.path));
    all.litter.sort();
    Ok(all)
}

/// The files that [`walk`] would find where `known` has the stamps of all folders, held against this list, and all files that lay in
/// them; `None` where a folder has changed since, was never stamped or cannot be asked. No folder is listed, which is most of a walk.
pub(crate) fn unchanged(root: &Path, known: &StatFile, list: &Sha) -> Option<Walk> {
    let root = open_dir(CWD, root).ok()?;
    let stat = |path: &[u8]| match path {
        b"" => fstat(&root),
        _ => statat(&root, path, AtFlags::empty()),
    };
    let as_it_was =
        |(path, then): &(Vec<u8>, Stat)| stat(path).is_ok_and(|m| is_folder(&m) && Stat::of_raw(&m) == *then);
    if !known.folders(list)?.par_iter().all(as_it_was) {
        return None;
    }
    let paths: Vec<&[u8]> = known.iter().map(|(path, _)| path).collect();
    let some = |paths: &[&[u8]]| {
        let mut out = Walk::default();
        for path in paths {
            match stat(path) {
                Ok(m) => out.regular(RelPath::new(path).ok()?, &m),
                // It had gone before the folders were listed, and its entry stayed.
                Err(rustix::io::Errno::NOENT) => {}
                Err(_) => return None,
            }
        }
        Some(out)
    };
    let parts: Option<Vec<Walk>> = paths.par_chunks(TOGETHER).map(some).collect();
    // In the order of the paths, which is that of the entries.
    Some(parts?.into_iter().fold(Walk::default(), Walk::join)).filter(|w| w.odd.is_empty())
}

/// One named file below `root`.
pub(crate) fn one(root: &Path, path: RelPath) -> Walk {
    let mut out = Walk::default();
    match statat(CWD, path.below(root), AtFlags::empty()) {
        Ok(m) => out.regular(path, &m),
        Err(e) => out.odd(path, io::Error::from(e)),
    }
    out
}

fn open_dir(at: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(at, name, flags, Mode::empty())?)
}

fn is_folder(m: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(m.st_mode) == FileType::Directory
}

/// Whether a folder is one of those from `dir` up to `root`: a link to it leads back.
fn leads_back(folder: &rustix::fs::Stat, dir: &Path, root: &Path) -> bool {
    let depth = dir.components().count().saturating_sub(root.components().count());
    let mut above = dir.ancestors().take(depth + 1).filter_map(|d| fs::metadata(d).ok());
    above.any(|m| (m.dev(), m.ino()) == (folder.st_dev, folder.st_ino))
}

/// Entries of a folder that one thread takes. The many small folders of a data set are one thread's each, so that the number of
/// folders that are open at a time is that of the threads times the depth.
const TOGETHER: usize = 64;

/// A folder below that of the set. What lies in it is named relative to it: a path from the root would be looked up part by part
/// for every file.
#[derive(Clone, Copy)]
struct Folder<'a> {
    root: &'a Path,
    /// From the root.
    rel: &'a [u8],
}

impl Folder<'_> {
    fn walk(self, opened: io::Result<OwnedFd>) -> Walk {
        let read = || -> io::Result<(Stat, Dir, Vec<DirEntry>)> {
            let opened = opened?;
            let stamp = Stat::of_raw(&fstat(&opened)?);
            let mut dir = Dir::new(opened)?;
            let mut all = (&mut dir).collect::<Result<Vec<_>, _>>()?;
            // Nearly the order of the whole, and mostly that in which the files lie on the disk.
            all.sort_unstable_by(|a, b| a.file_name().cmp(b.file_name()));
            Ok((stamp, dir, all))
        };
        let failed = |e: io::Error| {
            let mut out = Walk::default();
            out.odd(
                RelPath::child(b"", if self.rel.is_empty() { b"." } else { self.rel }),
                e,
            );
            out
        };
        let (stamp, dir, entries) = match read() {
            Ok(r) => r,
            Err(e) => return failed(e),
        };
        let dir = match dir.fd() {
            Ok(fd) => fd,
            Err(e) => return failed(e.into()),
        };
        let some = |entries: &[DirEntry]| {
            let mut out = Walk::default();
            for e in entries {
                self.entry(dir, e, &mut out);
            }
            out
        };
        let mut all = match entries.len() <= TOGETHER {
            true => some(&entries),
            false => entries.par_chunks(TOGETHER).map(some).reduce(Walk::default, Walk::join),
        };
        all.folders.push((self.rel.to_vec(), stamp));
        all
    }

    fn entry(self, dir: BorrowedFd<'_>, entry: &DirEntry, out: &mut Walk) {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            return;
        }
        let path = RelPath::child(self.rel, name.to_bytes());
        if is_own(name.to_bytes()) {
            out.litter.push(path);
            return;
        }
        let below = |path: &RelPath| {
            let rel = path.as_bytes();
            Folder { rel, ..self }.walk(open_dir(dir, name))
        };
        // What is itself a folder cannot lead back, and the listing says that it is one.
        if entry.file_type() == FileType::Directory {
            out.add(below(&path));
            return;
        }
        // Follows links, so that data may lie on another disk.
        match statat(dir, name, AtFlags::empty()) {
            Ok(m) if is_folder(&m) => {
                let here = match RelPath::new(self.rel) {
                    Ok(rel) => rel.below(self.root),
                    Err(_) => self.root.to_owned(),
                };
                match leads_back(&m, &here, self.root) {
                    true => out.odd(path, "a link that leads back to a folder above it"),
                    false => out.add(below(&path)),
                }
            }
            Ok(m) => out.regular(path, &m),
            Err(e) if entry.file_type() == FileType::Symlink => {
                out.odd(path, format!("a link to nothing ({})", io::Error::from(e)));
            }
            Err(e) => out.odd(path, io::Error::from(e)),
        }
    }
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
    use std::time::{Duration, SystemTime};

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

    /// Whatever happens to a folder that was listed, what is made of its stamps is what listing it again gives, and only where names
    /// stayed as they were is it made of them.
    #[test]
    fn folders_that_kept_their_times_need_not_be_listed_again() {
        type Change = (&'static str, bool, fn(&Path));
        const CHANGES: &[Change] = &[
            ("nothing", true, |_| {}),
            ("an edit in place", true, |r| {
                fs::write(r.join("sub/deep/b"), "other").unwrap()
            }),
            ("a file more", false, |r| fs::write(r.join("sub/deep/c"), "").unwrap()),
            ("litter", false, |r| fs::write(r.join("sub/.DS_Store"), "").unwrap()),
            ("a file less", false, |r| fs::remove_file(r.join("sub/deep/b")).unwrap()),
            ("another name", false, |r| fs::rename(r.join("a"), r.join("z")).unwrap()),
            ("another case", false, |r| fs::rename(r.join("a"), r.join("A")).unwrap()),
            ("a file that is exchanged", false, |r| {
                fs::write(r.join("new"), "a").unwrap();
                fs::rename(r.join("new"), r.join("a")).unwrap();
            }),
            ("a file more, and the old time", false, |r| {
                let then = fs::metadata(r.join("sub")).unwrap().modified().unwrap();
                fs::write(r.join("sub/more"), "").unwrap();
                fs::File::open(r.join("sub")).unwrap().set_modified(then).unwrap();
            }),
            ("a folder more", false, |r| {
                fs::create_dir(r.join("sub/deep/empty")).unwrap()
            }),
            ("a folder that is exchanged", false, |r| {
                fs::rename(r.join("sub/deep"), r.join("../was")).unwrap();
                fs::create_dir(r.join("sub/deep")).unwrap();
                fs::write(r.join("sub/deep/b"), "b").unwrap();
            }),
            ("a folder that is a link", false, |r| {
                fs::rename(r.join("sub"), r.join("../was")).unwrap();
                symlink(r.join("../was"), r.join("sub")).unwrap();
            }),
            ("a file where a folder was", false, |r| {
                fs::rename(r.join("sub"), r.join("../was")).unwrap();
                fs::write(r.join("sub"), "").unwrap();
            }),
            ("a file behind a linked folder", false, |r| {
                fs::write(r.join("../elsewhere/y"), "").unwrap();
            }),
            ("a link that leads elsewhere", false, |r| {
                fs::remove_file(r.join("link")).unwrap();
                symlink(r.join("a"), r.join("link")).unwrap();
            }),
        ];
        for (what, known, change) in CHANGES {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("set");
            fs::create_dir_all(root.join("sub/deep")).unwrap();
            fs::create_dir(dir.path().join("elsewhere")).unwrap();
            for f in ["a", "sub/deep/b", "../elsewhere/x"] {
                fs::write(root.join(f), f).unwrap();
            }
            symlink(root.join("../elsewhere"), root.join("linked")).unwrap();
            symlink(root.join("sub/deep/b"), root.join("link")).unwrap();
            let names = |w: &Walk| w.files.iter().map(|f| (f.path.to_string(), f.stat)).collect::<Vec<_>>();
            let before = walk(&root, None).unwrap();
            assert_eq!(before.folders.len(), 4, "{what}");
            let later = SystemTime::now() + Duration::from_secs(3);
            let mut stats = StatFile::default();
            for f in &before.files {
                stats.put(f.path.as_bytes(), f.stat, Sha::of(b""), later);
            }
            let files = || before.files.iter().map(|f| f.path.as_bytes());
            let (list, folders) = (Sha::of(b"list"), || before.folders.clone());
            assert!(
                !stats.put_folders(list, folders(), files(), SystemTime::now()),
                "just touched"
            );
            assert!(unchanged(&root, &stats, &list).is_none());
            assert!(!stats.put_folders(list, folders(), files().chain([&b"not hashed"[..]]), later));
            assert!(stats.put_folders(list, folders(), files(), later));
            let kept = dir.path().join("kept");
            stats.save(&kept).unwrap();
            let stats = StatFile::load(&kept);
            assert!(
                unchanged(&root, &stats, &list).is_some() && unchanged(&root, &stats, &Sha::of(b"another")).is_none()
            );
            // The clock of a file system goes in steps.
            std::thread::sleep(Duration::from_millis(20));
            change(&root);
            let now = walk(&root, None).unwrap();
            let found = unchanged(&root, &stats, &list);
            assert_eq!(found.is_some(), *known, "{what}");
            if let Some(found) = found {
                assert_eq!(names(&found), names(&now), "{what}");
            }
        }
    }
}
