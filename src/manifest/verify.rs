//! Locking a set (writing its list) and verifying it against a list.
//!
//! A verification names every file that is missing, extra, changed or unreadable, and says where it can what happened:
//! two files swapped, a file renamed, a file with another's content. Nothing is taken for granted from the side file of
//! sizes and times unless [`VerifyMode::SinceLock`] asks for it, and then only for files whose recorded hash is the list's.

use super::hash::{OnProgress, Sha, hash_many};
use super::list::{HashList, RelPath};
use super::report::{Changed, LockReport, Moved, Unreadable, VerifyMode, VerifyReport};
use super::stat::{Stat, StatFile};
use super::walk::{Found, Walk, one, unchanged, walk};
use crate::error::BadInput;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

/// The set that is meant: its name, its folder, and its files where it shares the folder.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub set: &'a str,
    pub root: &'a Path,
    pub only: Option<&'a [String]>,
    /// Where sizes and times are kept for [`VerifyMode::SinceLock`]; `None` keeps none.
    pub stat_file: Option<&'a Path>,
}

/// Hashes every file of the set and writes the list to `out`.
///
/// # Errors
/// [`BadInput`] when there is no file, when something in the folder is no readable file, when a file changes meanwhile,
/// when `out` lies in the folder (the list would list itself), or when it cannot be written.
pub fn lock(target: &Target, out: &Path, on: OnProgress) -> Result<LockReport> {
    let (start, began) = (Instant::now(), SystemTime::now());
    refuse_inside(target, out)?;
    let found = walk(target.root, target.only)?;
    if !found.odd.is_empty() {
        let bad: Vec<_> = found.odd.iter().map(|o| format!("{} ({})", o.path, o.why)).collect();
        let remedy = "Make them readable, restore or remove them, then lock the set again.";
        return Err(many(target.root, "readable files", "unreadable", &bad, remedy).into());
    }
    if found.files.is_empty() {
        let remedy = format!("Put the files of {} into the folder, then lock it again.", target.set);
        return Err(BadInput::new(target.root.display(), "the files of a data set", "none", remedy).into());
    }
    let places: Vec<PathBuf> = found.files.iter().map(|f| f.path.below(target.root)).collect();
    let jobs: Vec<_> = (places.iter().zip(&found.files))
        .map(|(place, f)| (place.as_path(), f.stat.size))
        .collect();
    let mut list = HashList::default();
    let mut stats = StatFile::default();
    let (mut unstable, mut unreadable) = (Vec::new(), Vec::new());
    for ((f, place), sha) in found.files.iter().zip(&places).zip(hash_many(&jobs, on)) {
        let now = std::fs::metadata(place).map(|m| Stat::of(&m));
        let sha = sha.and_then(|s| now.map(|n| (s, n)));
        match sha {
            Ok((sha, now)) if now == f.stat => {
                stats.put(f.path.as_bytes(), f.stat, sha, began);
                list.entries.insert(f.path.clone(), sha);
            }
            Ok(_) => unstable.push(f.path.to_string()),
            Err(e) => unreadable.push(format!("{} ({e})", f.path)),
        }
    }
    if !unreadable.is_empty() {
        let remedy = "Make them readable or restore them, then lock the set again.";
        return Err(many(target.root, "readable files", "unreadable", &unreadable, remedy).into());
    }
    if !unstable.is_empty() {
        let remedy = "Wait until nothing writes into the folder, then lock the set again.";
        let expected = "files that stay the same while they are hashed";
        return Err(many(target.root, expected, "changed", &unstable, remedy).into());
    }
    list.write(out)?;
    stats.put_folders(
        list.root(),
        found.folders,
        found.files.iter().map(|f| f.path.as_bytes()),
        began,
    );
    keep(&stats, target);
    Ok(LockReport {
        set: target.set.into(),
        folder: target.root.into(),
        list: out.into(),
        files: list.entries.len(),
        bytes: found.files.iter().map(|f| f.stat.size).sum(),
        left_out: found.litter.len(),
        root: list.root(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The complaint about files below `root`, with their number and the first twenty names.
fn many(root: &Path, expected: &str, state: &str, names: &[String], remedy: &str) -> BadInput {
    let shown = names.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    let more = match names.len().saturating_sub(20) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let found = format!("{} {state}: {shown}{more}", names.len());
    BadInput::new(root.display(), expected, found, remedy)
}

fn refuse_inside(target: &Target, out: &Path) -> Result<(), BadInput> {
    let dir = match out.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    };
    let inside = match (target.root.canonicalize(), dir.canonicalize()) {
        (Ok(root), Ok(dir)) => dir.starts_with(root),
        _ => false,
    };
    if inside && target.only.is_none() {
        let found = format!("a place below {}", target.root.display());
        return Err(BadInput::new(
            out.display(),
            "a place outside of the folder",
            found,
            "Write the list beside the folder.",
        ));
    }
    Ok(())
}

/// The side file is a convenience: where it cannot be written (data on a read-only disk), the next check hashes again.
fn keep(stats: &StatFile, target: &Target) {
    if let Some(p) = target.stat_file {
        let _ = stats.save(p);
    }
}

/// Holds a list, called `list_name` in messages, against the folder.
///
/// # Errors
/// [`BadInput`] when the folder is not there or the list is empty. Differences are in the report, not errors.
pub fn verify(
    target: &Target,
    list: &HashList,
    list_name: &str,
    mode: VerifyMode,
    on: OnProgress,
) -> Result<VerifyReport> {
    let (start, began) = (Instant::now(), SystemTime::now());
    if list.entries.is_empty() {
        let remedy = format!("Write the list with `medft data lock {}`.", target.set);
        return Err(BadInput::new(list_name, "a list of files", "no file in it", remedy).into());
    }
    let mut stats = match (mode, target.stat_file) {
        (VerifyMode::SinceLock | VerifyMode::NoRead, Some(p)) => StatFile::load(p),
        _ => StatFile::default(),
    };
    let root = list.root();
    let seen = Seen::new(target, (list, &root), &stats)?;
    let listed = beside(
        &seen.files,
        list.entries.iter().map(|(path, sha)| (path.as_bytes(), sha)),
    );
    let known = beside(&seen.files, stats.iter());
    // Extra files are hashed only where one of them may be a missing file under another name.
    let todo: Vec<&Found> = (seen.files.iter().zip(&listed).zip(&known))
        .filter(|((f, listed), known)| match (listed, known) {
            (Some(sha), Some((then, stat))) => then != *sha || *stat != f.stat,
            (Some(_), None) => true,
            (None, _) => seen.any_missing,
        })
        .map(|((f, _), _)| f)
        .collect();
    if mode == VerifyMode::NoRead && !todo.is_empty() {
        return Err(not_hashed(target, todo.len()).into());
    }
    let places: Vec<PathBuf> = todo.iter().map(|f| f.path.below(target.root)).collect();
    let jobs: Vec<_> = (places.iter().zip(&todo))
        .map(|(place, f)| (place.as_path(), f.stat.size))
        .collect();
    let mut hashes: BTreeMap<&RelPath, Sha> = BTreeMap::new();
    let mut unreadable = seen.odd;
    for (f, sha) in todo.iter().zip(hash_many(&jobs, on)) {
        match sha {
            Ok(sha) => {
                hashes.insert(&f.path, sha);
                if list.entries.get(&f.path) == Some(&sha) {
                    stats.put(f.path.as_bytes(), f.stat, sha, began);
                }
            }
            Err(e) => unreadable.push(Unreadable {
                path: f.path.clone(),
                why: e.to_string(),
            }),
        }
    }
    if mode == VerifyMode::SinceLock {
        let anew = seen.listed_anew.is_some_and(|folders| {
            let files = seen.files.iter().map(|f| f.path.as_bytes());
            stats.put_folders(
                root,
                if unreadable.is_empty() { folders } else { Vec::new() },
                files,
                began,
            )
        });
        if anew || !todo.is_empty() {
            keep(&stats, target);
        }
    }
    let bad: BTreeSet<&RelPath> = unreadable.iter().map(|u| &u.path).collect();
    let missing: Vec<RelPath> = not_among(list.entries.keys(), &seen.files)
        .filter(|p| !bad.contains(p))
        .cloned()
        .collect();
    let extra: Vec<RelPath> = (seen.files.iter().zip(&listed))
        .filter(|(_, listed)| listed.is_none())
        .map(|(f, _)| f.path.clone())
        .collect();
    let changed = changes(list, &hashes);
    let moved = moves(list, &hashes, &missing, &extra);
    Ok(VerifyReport {
        set: target.set.into(),
        folder: target.root.into(),
        list: list_name.into(),
        mode,
        ok: missing.is_empty() && extra.is_empty() && changed.is_empty() && unreadable.is_empty(),
        root,
        files: seen.files.len(),
        bytes: seen.files.iter().map(|f| f.stat.size).sum(),
        hashed: todo.len(),
        unchanged_since_lock: seen.files.len()
            - extra.len()
            - todo.iter().filter(|f| list.entries.contains_key(&f.path)).count(),
        missing,
        extra,
        changed,
        moved,
        unreadable,
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// The complaint about files whose hash is not known, where none may be computed.
fn not_hashed(target: &Target, files: usize) -> BadInput {
    let found = format!("{files} that were never hashed, or have changed since");
    let remedy = format!("Run `medft data verify {} --since-lock` in a job.", target.set);
    BadInput::new(target.root.display(), "files that were hashed before", found, remedy)
}

/// What lies in the folder, listed files that the walk leaves out included; sorted by path.
struct Seen {
    files: Vec<Found>,
    odd: Vec<Unreadable>,
    any_missing: bool,
    /// The folders, where they had to be listed.
    listed_anew: Option<Vec<(Vec<u8>, Stat)>>,
}

impl Seen {
    /// `known`, held against the list with its root hash, spares listing the folder again.
    fn new(target: &Target, (list, root): (&HashList, &Sha), known: &StatFile) -> Result<Self, BadInput> {
        let all = target.only.is_none();
        let (walked, anew) = match all.then(|| unchanged(target.root, known, root)).flatten() {
            Some(walked) => (walked, false),
            None => (walk(target.root, target.only)?, all),
        };
        let Walk {
            mut files,
            odd,
            folders,
            litter: _,
        } = walked;
        let mut odd: BTreeMap<_, _> = odd.into_iter().map(|o| (o.path, o.why)).collect();
        let mut any_missing = false;
        let mut more = Walk::default();
        for path in not_among(list.entries.keys(), &files).filter(|p| !odd.contains_key(p)) {
            // A list of other origin may name what the walk skips, `.DS_Store` for instance.
            match path.below(target.root).symlink_metadata() {
                Ok(_) => more.add(one(target.root, path.clone())),
                Err(_) => any_missing = true,
            }
        }
        if !more.files.is_empty() {
            files.extend(more.files);
            files.sort_by(|a, b| a.path.cmp(&b.path));
        }
        odd.extend(more.odd.into_iter().map(|o| (o.path, o.why)));
        let odd = odd.into_iter().map(|(path, why)| Unreadable { path, why }).collect();
        Ok(Self {
            files,
            odd,
            any_missing,
            listed_anew: anew.then_some(folders),
        })
    }
}

/// Those of the sorted `paths` that are not among `files`, which are sorted too: both are walked along once.
fn not_among<'a>(paths: impl Iterator<Item = &'a RelPath>, files: &[Found]) -> impl Iterator<Item = &'a RelPath> {
    let mut rest = files.iter().map(|f| &f.path).peekable();
    paths.filter(move |&p| {
        while rest.next_if(|f| *f < p).is_some() {}
        rest.peek().is_none_or(|f| *f != p)
    })
}

/// What `sorted` holds under the path of each of the sorted `files`: both are walked along once.
fn beside<'a, T>(files: &[Found], sorted: impl Iterator<Item = (&'a [u8], T)>) -> Vec<Option<T>> {
    let mut rest = sorted.peekable();
    let value = |f: &Found| {
        while rest.next_if(|(path, _)| *path < f.path.as_bytes()).is_some() {}
        rest.next_if(|(path, _)| *path == f.path.as_bytes())
            .map(|(_, value)| value)
    };
    files.iter().map(value).collect()
}

fn changes(list: &HashList, hashes: &BTreeMap<&RelPath, Sha>) -> Vec<Changed> {
    let differing: BTreeMap<&RelPath, (Sha, Sha)> = hashes
        .iter()
        .filter_map(|(p, found)| list.entries.get(p).filter(|e| *e != found).map(|e| (*p, (*e, *found))))
        .collect();
    let wanted: BTreeSet<Sha> = differing.values().map(|d| d.1).collect();
    let mut owners: BTreeMap<Sha, Vec<&RelPath>> = BTreeMap::new();
    for (path, sha) in list.entries.iter().filter(|e| wanted.contains(e.1)) {
        owners.entry(*sha).or_default().push(path);
    }
    differing
        .iter()
        .map(|(path, &(expected, found))| {
            let owners = owners.get(&found).map_or(&[][..], Vec::as_slice);
            let swap = owners
                .iter()
                .find(|o| differing.get(*o).is_some_and(|d| d.1 == expected));
            Changed {
                path: (*path).clone(),
                expected,
                found,
                content_of: swap.or(owners.first()).map(|o| (*o).clone()),
                swapped: swap.is_some(),
            }
        })
        .collect()
}

/// Pairs missing files with extra files of the same content, each at most once, in path order.
fn moves(list: &HashList, hashes: &BTreeMap<&RelPath, Sha>, missing: &[RelPath], extra: &[RelPath]) -> Vec<Moved> {
    let mut places: BTreeMap<Sha, Vec<&RelPath>> = BTreeMap::new();
    for path in extra.iter().rev() {
        if let Some(sha) = hashes.get(path) {
            places.entry(*sha).or_default().push(path);
        }
    }
    missing
        .iter()
        .filter_map(|from| {
            let to = places.get_mut(list.entries.get(from)?)?.pop()?;
            Some(Moved {
                from: from.clone(),
                to: to.clone(),
            })
        })
        .collect()
}
