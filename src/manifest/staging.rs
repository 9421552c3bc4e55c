//! From the archives of a data set to its folder: everything happens aside, below `<data-dir>/.medft-fetch/<set>/`, and
//! the finished folder gets its name by one rename.
//!
//! Downloads lie in `archives/` and survive every failure; what is unpacked lies in `files/` and is thrown away unless
//! all of it is right. `complete` is written when it is, so that a process killed between there and the end goes on.

use super::dataset::{Archive, DataManifest, Unpack};
use crate::error::BadInput;
use crate::fetch::archive::{Caps, unpack};
use crate::fetch::{ErrorKind, Event, FetchError, OnEvent};
use crate::fsio;
use crate::guarantee;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// The place of one set's acquisition, locked for this process.
pub struct Staging<'a> {
    m: &'a DataManifest,
    data_dir: &'a Path,
    dir: PathBuf,
    _lock: File,
}

impl<'a> Staging<'a> {
    /// Opens the place; waits for another process that works on the same set.
    ///
    /// # Errors
    /// [`FetchError`] where the folder cannot be written.
    pub fn open(m: &'a DataManifest, data_dir: &'a Path, on: OnEvent) -> Result<Self, FetchError> {
        let dir = data_dir.join(".medft-fetch").join(&m.set);
        fs::create_dir_all(&dir).map_err(|e| disk(&dir, "to create this folder", &e))?;
        let path = dir.join("lock");
        let wait = || {
            on(Event::Note(format!(
                "another process is fetching {}; waiting for it",
                m.set
            )))
        };
        // Whoever had the lock may have removed the folder: once more in that case.
        let lock = fsio::lock_exclusive(&path, wait).or_else(|_| {
            fs::create_dir_all(&dir)?;
            fsio::lock_exclusive(&path, wait)
        });
        let lock = lock.map_err(|e| disk(&path, "to lock this file", &e))?;
        Ok(Self {
            m,
            data_dir,
            dir,
            _lock: lock,
        })
    }

    /// Where a download goes.
    pub fn archive(&self, a: &Archive) -> PathBuf {
        self.dir.join("archives").join(&a.file)
    }

    /// The unfinished file of a download.
    pub fn part(&self, a: &Archive) -> PathBuf {
        self.dir.join("archives").join(format!(".{}.part", a.file))
    }

    /// The set's folder while it is put together; a data directory of its own lies above it.
    pub fn root(&self) -> PathBuf {
        self.dir.join("files").join(&self.m.folder)
    }

    fn marker(&self) -> PathBuf {
        self.dir.join("complete")
    }

    /// Whether an earlier process put everything together, published or not.
    pub fn is_complete(&self) -> bool {
        self.marker().is_file()
    }

    /// Puts the set together from its archives, anew.
    ///
    /// `linked`: whether plain files may share their bytes with the archive's path (own downloads), or are copied.
    ///
    /// # Errors
    /// [`ErrorKind::Archive`] naming the archive that is refused, damaged or without the expected content.
    pub fn assemble(&self, archives: &[(&Archive, PathBuf)], linked: bool, on: OnEvent) -> Result<(), FetchError> {
        let files = self.dir.join("files");
        let run = || -> Result<(), FetchError> {
            remove(&files)?;
            let root = self.root();
            fs::create_dir_all(&root).map_err(|e| disk(&root, "to create this folder", &e))?;
            for (a, path) in archives {
                match &a.unpack {
                    Some(u) => self.unpack_one(a, u, path, &root, on)?,
                    None => place_file(path, &root.join(&a.file), linked)?,
                }
            }
            Ok(())
        };
        run().inspect_err(|_| {
            let _ = fs::remove_dir_all(&files);
            let _ = fs::remove_dir_all(self.dir.join("unpacking"));
        })
    }

    fn unpack_one(&self, a: &Archive, u: &Unpack, path: &Path, root: &Path, on: OnEvent) -> Result<(), FetchError> {
        let aside = self.dir.join("unpacking");
        remove(&aside)?;
        unpack(path, &aside, Caps::default(), on)?;
        let io = |e: &io::Error| disk(&aside, "to sort these files", e);
        let top = find_beside(&aside, &u.beside).map_err(|e| io(&e))?;
        let top = top.map_err(|found| {
            let copies = match self.m.copies().len() {
                0 | 1 => String::new(),
                _ => format!(
                    " If it is another copy of the set, name it: --copy {}.",
                    self.m.copies().join(" or ")
                ),
            };
            FetchError::new(
                ErrorKind::Archive,
                path.display(),
                format!("`{}` in the archive {} of {}", u.beside, a.file, self.m.title),
                found,
                format!("Nothing was kept of it. Bring the archive that the manifest names.{copies}"),
            )
        })?;
        let into = if u.into.is_empty() {
            root.to_owned()
        } else {
            root.join(&u.into)
        };
        fs::create_dir_all(&into).map_err(|e| io(&e))?;
        let there = names(&into).map_err(|e| io(&e))?;
        for name in names(&top).map_err(|e| io(&e))? {
            let lower = |n: &OsString| n.to_string_lossy().to_lowercase();
            if there.iter().any(|t| lower(t) == lower(&name)) {
                return Err(FetchError::new(
                    ErrorKind::Archive,
                    path.display(),
                    "files that no other archive of the set brings",
                    format!("`{}` again", name.display()),
                    "Bring each archive of the set once.",
                ));
            }
            fs::rename(top.join(&name), into.join(&name)).map_err(|e| io(&e))?;
        }
        let left = count_files(&aside);
        if left > 0 {
            on(Event::Note(format!(
                "{}: {left} files outside of the set's folder were left out",
                a.file
            )));
        }
        remove(&aside)
    }

    /// Notes that everything is together and right.
    ///
    /// # Errors
    /// Where the note cannot be written.
    pub fn mark_complete(&self) -> anyhow::Result<()> {
        fsio::write_atomic(&self.marker(), b"")
    }

    /// Forgets an earlier process' work but its downloads.
    ///
    /// # Errors
    /// [`ErrorKind::Disk`].
    pub fn reset(&self) -> Result<(), FetchError> {
        remove(&self.dir.join("files"))?;
        let _ = fs::remove_file(self.marker());
        Ok(())
    }

    /// Gives the set its place: one rename of its folder, or one a file where several sets share the folder.
    ///
    /// # Errors
    /// [`ErrorKind::Disk`]; a folder or file that is there already is never replaced.
    pub fn publish(&self) -> Result<(), FetchError> {
        let (from, to) = (self.root(), self.data_dir.join(&self.m.folder));
        if !from.exists() {
            return Ok(());
        }
        let occupied = |path: &Path| {
            FetchError::new(
                ErrorKind::Input,
                path.display(),
                "nothing, so that no file is mixed with older ones",
                "something",
                "Remove it or name another --data-dir, then run the same command again; the downloads are kept.",
            )
        };
        let run = || -> io::Result<Result<(), FetchError>> {
            if self.m.files.is_none() {
                if to.exists() {
                    return Ok(Err(occupied(&to)));
                }
                fs::rename(&from, &to)?;
                guarantee::sync_folder(self.data_dir)?;
                return Ok(Ok(()));
            }
            fs::create_dir_all(&to)?;
            for name in names(&from)? {
                let dest = to.join(&name);
                if dest.exists() {
                    return Ok(Err(occupied(&dest)));
                }
                fs::rename(from.join(&name), &dest)?;
            }
            guarantee::sync_folder(&to)?;
            Ok(Ok(()))
        };
        run().map_err(|e| disk(&to, "to publish the data set", &e))?
    }

    /// Removes the place with its downloads.
    ///
    /// # Errors
    /// [`ErrorKind::Disk`].
    pub fn clear(self) -> Result<(), FetchError> {
        remove(&self.dir)
    }
}

impl Drop for Staging<'_> {
    /// Leaves no empty place behind.
    fn drop(&mut self) {
        if names(&self.dir).is_ok_and(|n| n == ["lock"]) {
            let _ = fs::remove_file(self.dir.join("lock"));
            let _ = fs::remove_dir(&self.dir);
        }
        // Goes where no other set is on its way.
        let _ = fs::remove_dir(self.data_dir.join(".medft-fetch"));
    }
}

/// Which of a set's files stand in the way of a new copy.
///
/// # Errors
/// [`BadInput`] naming the folder or file that is there.
pub fn refuse_occupied(m: &DataManifest, data_dir: &Path) -> Result<(), BadInput> {
    let folder = data_dir.join(&m.folder);
    let there = match &m.files {
        None => Some(folder).filter(|f| f.exists()),
        Some(files) => files.iter().map(|f| folder.join(f)).find(|f| f.exists()),
    };
    let Some(there) = there else { return Ok(()) };
    Err(BadInput::new(
        there.display(),
        format!("no {} here, so that no file is mixed with older ones", m.title),
        "something that does not verify",
        format!(
            "See `medft data verify {set}`. If it is the set you mean to use, run `medft data lock {set}`; else remove it \
             or name another --data-dir.",
            set = m.set
        ),
    ))
}

/// Pairs the files that a user brought with the archives that are meant: by name, and the last one by elimination.
///
/// # Errors
/// [`BadInput`] naming what is missing or cannot be placed.
pub fn match_archives<'a>(
    m: &'a DataManifest,
    copy: Option<&str>,
    brought: &[PathBuf],
) -> Result<Vec<(&'a Archive, PathBuf)>, BadInput> {
    let name = |p: &PathBuf| {
        p.file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    // A name that only one copy of the set has tells which is meant.
    let told = m
        .archives
        .iter()
        .find(|a| a.copy.is_some() && brought.iter().any(|b| name(b) == a.file));
    let wanted = m.copy(copy.or(told.and_then(|a| a.copy.as_deref())))?;
    let mut out: Vec<(&Archive, PathBuf)> = Vec::new();
    let mut other = Vec::new();
    for b in brought {
        match wanted.iter().find(|a| a.file == name(b)) {
            Some(a) if !out.iter().any(|o| o.0.file == a.file) => out.push((a, b.clone())),
            _ => other.push(b.clone()),
        }
    }
    let missing: Vec<&Archive> = wanted
        .iter()
        .copied()
        .filter(|a| !out.iter().any(|o| o.0.file == a.file))
        .collect();
    let files = |a: &[&Archive]| a.iter().map(|a| a.file.as_str()).collect::<Vec<_>>().join(", ");
    match (&missing[..], &other[..]) {
        ([], []) => {}
        ([one], [b]) => out.push((one, b.clone())),
        ([], [b, ..]) => {
            return Err(BadInput::new(
                b.display(),
                format!("an archive of {}: {}", m.title, files(&wanted)),
                "another file",
                "Leave it out.",
            ));
        }
        _ => {
            return Err(BadInput::new(
                format!("data import {}", m.set),
                format!("the archives {}", files(&wanted)),
                format!("{} file(s), without {}", brought.len(), files(&missing)),
                "Name all of them in one command, under these names.",
            ));
        }
    }
    Ok(out)
}

/// The folder that holds `beside`, nearest to the top; the inner error says what was found instead.
fn find_beside(dir: &Path, beside: &str) -> io::Result<Result<PathBuf, String>> {
    let mut level = vec![dir.to_owned()];
    while !level.is_empty() {
        let mut found = Vec::new();
        let mut next = Vec::new();
        for d in &level {
            for entry in fs::read_dir(d)? {
                let entry = entry?;
                // macOS packs a shadow of every folder.
                if entry.file_name() == "__MACOSX" {
                    continue;
                }
                if entry.file_name() == beside {
                    found.push(d.clone());
                }
                if entry.file_type()?.is_dir() {
                    next.push(entry.path());
                }
            }
        }
        match found.len() {
            0 => level = next,
            1 => return Ok(Ok(found.remove(0))),
            n => return Ok(Err(format!("it {n} times"))),
        }
    }
    let some: Vec<String> = names(dir)?.iter().take(5).map(|n| n.display().to_string()).collect();
    Ok(Err(format!("none; it holds {}", some.join(", "))))
}

fn names(dir: &Path) -> io::Result<Vec<OsString>> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir)? {
        out.push(entry?.file_name());
    }
    out.sort();
    Ok(out)
}

fn count_files(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| if e.path().is_dir() { count_files(&e.path()) } else { 1 })
        .sum()
}

/// Puts a file that is no archive into the set's folder.
fn place_file(from: &Path, to: &Path, linked: bool) -> Result<(), FetchError> {
    let run = || -> io::Result<()> {
        if linked && fs::hard_link(from, to).is_ok() {
            return Ok(());
        }
        // Not `fs::copy`: it copies permissions too, which some shares refuse. The folder is published when all of it is there.
        #[expect(clippy::disallowed_methods)]
        let (mut from, mut file) = (fsio::open_file(from)?, File::create_new(to)?);
        io::copy(&mut from, &mut file)?;
        guarantee::sync_file(&file, to)
    };
    run().map_err(|e| disk(to, "to write this file", &e))
}

fn remove(path: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(disk(path, "to remove this folder", &e)),
        _ => Ok(()),
    }
}

fn disk(path: &Path, what: &str, e: &io::Error) -> FetchError {
    FetchError::disk(path, what, e)
}
