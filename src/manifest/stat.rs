//! What was known of a file when it was last hashed, so that an unchanged one need not be hashed again.
//!
//! An entry holds size, times of modification and of status change, inode and hash. It is believed only where all four
//! still agree, and it is a convenience: a missing, old or torn file of them means hashing again, never an error, and a
//! full check does not read it at all. A file touched within two seconds before it was hashed is not entered: a later
//! change in the same tick of the file system's clock would go unseen (git's "racy" entries).
//!
//! Where every file below a folder is entered, the stamps of the folders are too, with the list that they were held against. A folder's
//! times change when a name in it comes or goes, so that folders which kept theirs hold the names that they held and need not be
//! listed again; the files are still asked one by one, since an edit in place leaves no trace in their folder. Some file systems
//! that stand for an object store do not change a folder's times: there a file that is not in the list can go unseen until a full
//! check, which lists every folder. It is never used either way.

use super::hash::Sha;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HEADER: &str = "medft-stat 1";
const SETTLE: Duration = Duration::from_secs(2);

/// Size and identity of a file at one moment; times in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub size: u64,
    pub mtime: i128,
    pub ctime: i128,
    pub inode: u64,
}

impl Stat {
    pub(crate) fn of(m: &Metadata) -> Self {
        let nanos = |s: i64, n: i64| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            size: m.len(),
            mtime: nanos(m.mtime(), m.mtime_nsec()),
            ctime: nanos(m.ctime(), m.ctime_nsec()),
            inode: m.ino(),
        }
    }

    /// As [`Stat::of`], from the system's own answer.
    pub(crate) fn of_raw(m: &rustix::fs::Stat) -> Self {
        let nanos = |s, n| i128::from(s) * 1_000_000_000 + i128::from(n);
        Self {
            size: m.st_size.cast_unsigned(),
            mtime: nanos(m.st_mtime, m.st_mtime_nsec),
            ctime: nanos(m.st_ctime, m.st_ctime_nsec),
            inode: m.st_ino,
        }
    }

    /// Whether the file had come to rest when hashing began.
    fn settled(&self, began: SystemTime) -> bool {
        let limit = began
            .checked_sub(SETTLE)
            .and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        limit.is_some_and(|l| self.mtime.max(self.ctime) < l.as_nanos() as i128)
    }
}

/// The side file: keys are paths, relative to whatever its owner says.
#[derive(Debug, Default)]
pub(crate) struct StatFile {
    entries: BTreeMap<Vec<u8>, (Sha, Stat)>,
    folders: Option<KnownFolders>,
}

/// Folders whose listings are known: the entered files are all that lies in them.
#[derive(Debug, PartialEq)]
struct KnownFolders {
    /// Root hash of the list that they were held against.
    list: Sha,
    /// Every folder from the set's own (whose path is empty) down.
    stamps: Vec<(Vec<u8>, Stat)>,
}

/// Begin the records of folders, the list's first: no hash reads so.
const LIST: &[u8] = b"list ";
const FOLDER: &[u8] = b"folder ";

impl StatFile {
    /// Reads a side file; an absent or unreadable one is empty.
    pub(crate) fn load(path: &Path) -> Self {
        let read = || {
            let bytes = crate::fsio::read(path).ok()?;
            let body = bytes.strip_prefix(HEADER.as_bytes())?.strip_prefix(b"\0")?;
            let records: Vec<&[u8]> = body.split(|&b| b == 0).filter(|r| !r.is_empty()).collect();
            // Collected first and in the order of the file, which is that of the map: it is then built without searching.
            let at = records.iter().position(|r| r.starts_with(LIST));
            let (files, folders) = records.split_at(at.unwrap_or(records.len()));
            let entries: Vec<_> = files.par_iter().map(|r| entry(r)).collect::<Option<_>>()?;
            let folders = match folders.split_first() {
                None => None,
                Some((list, stamps)) => Some(KnownFolders {
                    list: Sha::parse(std::str::from_utf8(list.strip_prefix(LIST)?).ok()?)?,
                    stamps: stamps.par_iter().map(|r| folder(r)).collect::<Option<_>>()?,
                }),
            };
            Some(Self {
                entries: entries.into_iter().collect(),
                folders,
            })
        };
        read().unwrap_or_default()
    }

    /// The hash of a file that has not changed since it was entered.
    pub(crate) fn get(&self, key: &[u8], now: &Stat) -> Option<Sha> {
        self.entries.get(key).filter(|(_, then)| then == now).map(|e| e.0)
    }

    /// All entries, by path.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &(Sha, Stat))> {
        self.entries.iter().map(|(key, entry)| (key.as_slice(), entry))
    }

    /// Enters a file hashed after `began`, unless it was touched just before.
    pub(crate) fn put(&mut self, key: &[u8], stat: Stat, sha: Sha, began: SystemTime) {
        if stat.settled(began) {
            self.entries.insert(key.to_vec(), (sha, stat));
        } else {
            self.entries.remove(key);
        }
    }

    /// The folders as they were when they held the entered files and what is no part of a set, nothing else, and were held against
    /// `list`.
    pub(crate) fn folders(&self, list: &Sha) -> Option<&[(Vec<u8>, Stat)]> {
        let known = self.folders.as_ref().filter(|f| f.list == *list)?;
        Some(&known.stamps)
    }

    /// Enters the folders that were listed after `began`, held against `list`, and held exactly `files` and what is no part of a set; or
    /// none, where a file is not entered, or a folder was touched just before. Whether there is anything to be written.
    pub(crate) fn put_folders<'a>(
        &mut self,
        list: Sha,
        stamps: Vec<(Vec<u8>, Stat)>,
        mut files: impl Iterator<Item = &'a [u8]>,
        began: SystemTime,
    ) -> bool {
        let settled = !stamps.is_empty() && stamps.iter().all(|(_, s)| s.settled(began));
        let known = settled && files.all(|f| self.entries.contains_key(f));
        let now = known.then_some(KnownFolders { list, stamps });
        let before = std::mem::replace(&mut self.folders, now);
        self.folders != before
    }

    /// Writes the side file atomically, unless its folder is marked read-only: then nothing is written, not even by a
    /// user whom the mark does not bind. Records end with NUL, which no path holds.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        if is_marked_read_only(path) {
            return Ok(());
        }
        let mut out = format!("{HEADER}\0").into_bytes();
        for (key, (sha, s)) in &self.entries {
            record(&mut out, &sha.to_string(), s, key);
        }
        if let Some(KnownFolders { list, stamps }) = &self.folders {
            out.extend(LIST);
            out.extend(format!("{list}\0").as_bytes());
            for (key, s) in stamps {
                record(&mut out, "folder", s, key);
            }
        }
        crate::fsio::write_atomic(path, &out)
    }
}

fn record(out: &mut Vec<u8>, begins: &str, s: &Stat, key: &[u8]) {
    out.extend(format!("{begins} {} {} {} {} ", s.size, s.mtime, s.ctime, s.inode).as_bytes());
    out.extend(key);
    out.push(0);
}

/// The record of a file.
fn entry(record: &[u8]) -> Option<(Vec<u8>, (Sha, Stat))> {
    let (sha, rest) = record.split_at_checked(record.iter().position(|&b| b == b' ')?)?;
    let (key, stat) = stamp(&rest[1..])?;
    Some((key, (Sha::parse(std::str::from_utf8(sha).ok()?)?, stat)))
}

/// The record of a folder.
fn folder(record: &[u8]) -> Option<(Vec<u8>, Stat)> {
    stamp(record.strip_prefix(FOLDER)?)
}

/// What follows the first field of a record.
fn stamp(fields: &[u8]) -> Option<(Vec<u8>, Stat)> {
    let mut fields = fields.splitn(5, |&b| b == b' ');
    let mut next = || fields.next().and_then(|f| std::str::from_utf8(f).ok());
    let stat = Stat {
        size: next()?.parse().ok()?,
        mtime: next()?.parse().ok()?,
        ctime: next()?.parse().ok()?,
        inode: next()?.parse().ok()?,
    };
    Some((fields.next()?.to_vec(), stat))
}

/// Whether the folder of `path` has no write permission for anybody.
pub(crate) fn is_marked_read_only(path: &Path) -> bool {
    path.parent()
        .and_then(|d| d.metadata().ok())
        .is_some_and(|m| m.permissions().readonly())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_rubbish_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let p = dir.path().join("s");
        let stat = Stat {
            size: 3,
            mtime: 5,
            ctime: 7,
            inode: 9,
        };
        let mut s = StatFile::default();
        s.put(b"a b\n\xff", stat, Sha::of(b"abc"), SystemTime::now());
        s.save(&p).unwrap();
        let back = StatFile::load(&p);
        assert_eq!(back.get(b"a b\n\xff", &stat), Some(Sha::of(b"abc")));
        assert_eq!(back.get(b"a b\n\xff", &Stat { ctime: 8, ..stat }), None);
        assert_eq!(back.get(b"other", &stat), None);
        std::fs::write(&p, b"medft-stat 1\0nonsense\0").unwrap();
        assert!(StatFile::load(&p).entries.is_empty());

        let shared = dir.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        let mode = |m| std::fs::set_permissions(&shared, std::os::unix::fs::PermissionsExt::from_mode(m)).unwrap();
        mode(0o555);
        s.save(&shared.join("s")).unwrap();
        assert!(!shared.join("s").exists());
        mode(0o755);
        s.save(&shared.join("s")).unwrap();
        assert!(shared.join("s").exists());
    }

    #[test]
    fn a_file_touched_just_now_is_not_believed() {
        let now = SystemTime::now();
        let nanos = now.duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128;
        let mut s = StatFile::default();
        let fresh = Stat {
            size: 1,
            mtime: nanos - 1_000_000_000,
            ctime: 0,
            inode: 1,
        };
        s.put(b"f", fresh, Sha::of(b"f"), now);
        assert_eq!(s.get(b"f", &fresh), None);
        let rested = Stat {
            mtime: nanos - 3_000_000_000,
            ..fresh
        };
        s.put(b"f", rested, Sha::of(b"f"), now);
        assert!(s.get(b"f", &rested).is_some());
    }
}
