//! What is computed once and may be thrown away at any time: prepared images, frozen features, resampled metrics, benchmarks.
//!
//! One folder beside the results, one folder in it for each [`Bucket`], and in that one entry (a folder or a file) for each
//! key. A key is a hash over everything that its entry was made from, so an entry is never out of date; the bucket's version
//! is raised when the form or the meaning of its entries changes. What is read from an entry is held against hashes stored
//! when it was made, and an entry that does not fit is made again. Whoever can write the folder can forge both.
//!
//! With a limit (`--cache-bytes`) the entries used least recently go before another is made; without one they go where
//! the disk would be full. An entry that this process uses stays while it does, and no longer: what is [`Held`] counts with
//! all that is still to be written to it. Removing any entry, or the whole folder, costs time and nothing else.

use crate::canonical::canonical_json;
use crate::fsio;
use anyhow::Result;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, utimensat};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The folder of all caches, below that of the results.
pub const FOLDER: &str = ".cache";

/// A kind of cached things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Prepared images of a data set.
    Images,
    /// Features of a frozen backbone.
    Features,
    /// Resampled metrics of runs.
    Evidence,
    /// Benchmarks of this machine: the rates that estimates use.
    Rates,
    /// Self-checks of devices.
    Checks,
}

impl Bucket {
    pub const ALL: [Self; 5] = [Self::Images, Self::Features, Self::Evidence, Self::Rates, Self::Checks];

    /// Its name and the version of what lies in it.
    const fn about(self) -> (&'static str, u32) {
        match self {
            Self::Images => ("images", 3),
            Self::Features => ("features", 6),
            Self::Evidence => ("evidence", 3),
            Self::Rates => ("rates", 2),
            Self::Checks => ("checks", 1),
        }
    }

    /// Name and version: `images-3`.
    pub fn name(self) -> String {
        let (name, version) = self.about();
        format!("{name}-{version}")
    }

    /// Its folder below a folder of results.
    pub fn dir(self, results: &Path) -> PathBuf {
        results.join(FOLDER).join(self.name())
    }

    /// The key of what depends on `parts`: 64 hex digits.
    ///
    /// # Errors
    /// Where the parts cannot be written as JSON.
    pub fn key(self, parts: &impl Serialize) -> Result<String> {
        let text = canonical_json(&json!([self.name(), serde_json::to_value(parts)?]));
        Ok(fsio::sha256_hex(text.as_bytes()))
    }
}

/// Bytes of the disk that are left to others where no limit is set.
const SPARE: u64 = 1 << 30;

/// The caches below one results folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// Bytes of all entries that can go.
    limit: Option<u64>,
}

/// Entries that this process uses: how many hold each, and the bytes that it will have.
static IN_USE: Mutex<BTreeMap<PathBuf, (usize, u64)>> = Mutex::new(BTreeMap::new());

fn in_use() -> MutexGuard<'static, BTreeMap<PathBuf, (usize, u64)>> {
    IN_USE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry in use: it stays until this is dropped.
#[derive(Debug)]
pub struct Held {
    cache: Cache,
    entry: PathBuf,
}

impl Held {
    /// Makes room for the `bytes` that the entry will have: removes others, least recently used first, until the limit (or,
    /// without one, the free space of the disk) holds them and all that other entries in use will have. Where nothing more can
    /// go the entry is made all the same: a run that needs it cannot do without.
    pub fn make_room(&self, bytes: u64) {
        let promised = {
            let mut held = in_use();
            if let Some(of) = held.get_mut(&self.entry) {
                of.1 = of.1.max(bytes);
            }
            held.clone()
        };
        let mut all = self.cache.entries();
        let there: BTreeMap<&Path, u64> = all.iter().map(|e| (e.path.as_path(), e.bytes)).collect();
        let to_come: u64 = promised
            .iter()
            .filter(|(path, _)| path.starts_with(&self.cache.root))
            .map(|(path, of)| of.1.saturating_sub(there.get(path.as_path()).copied().unwrap_or(0)))
            .sum();
        let mut total: u64 = all.iter().map(|e| e.bytes).sum();
        all.retain(|e| !promised.contains_key(&e.path));
        all.sort_by_key(|e| e.used);
        for e in all {
            let full = match self.cache.limit {
                Some(limit) => total.saturating_add(to_come) > limit,
                None => fsio::free_space(&self.cache.root).is_some_and(|free| free < to_come.saturating_add(SPARE)),
            };
            if !full {
                return;
            }
            if e.remove().is_ok() {
                total -= e.bytes;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = in_use();
        if let Some(of) = held.get_mut(&self.entry) {
            of.0 -= 1;
            if of.0 == 0 {
                held.remove(&self.entry);
            }
        }
    }
}

impl Cache {
    /// The caches of a results folder; nothing is touched.
    pub fn below(results: &Path, limit: Option<u64>) -> Self {
        Self {
            root: results.join(FOLDER),
            limit,
        }
    }

    /// The folder of a bucket.
    pub fn bucket(&self, bucket: Bucket) -> PathBuf {
        self.root.join(bucket.name())
    }

    /// Where the entry of that key lies, or would.
    pub fn entry(&self, bucket: Bucket, key: &str) -> PathBuf {
        self.bucket(bucket).join(key)
    }

    /// Says that an entry is used: it counts as used now, and stays while what is returned lives.
    #[must_use]
    pub fn hold(&self, entry: &Path) -> Held {
        in_use().entry(entry.to_owned()).or_default().0 += 1;
        // Of a folder that may not be written to the order of use is not kept, and nothing depends on it. Nothing is opened:
        // whatever lies there under the entry's name, this does not wait for it.
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        let _ = utimensat(CWD, entry, &times, AtFlags::SYMLINK_NOFOLLOW);
        Held {
            cache: self.clone(),
            entry: entry.to_owned(),
        }
    }

    /// Bytes of the entries that can go, those in use included.
    pub fn bytes(&self) -> u64 {
        self.entries().iter().map(|e| e.bytes).sum()
    }

    /// The limit, where one is set.
    pub fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// Entries that can go, of this version's buckets and of those that earlier versions left.
    fn entries(&self) -> Vec<CacheEntry> {
        // These are small, and what was measured cannot be computed again.
        let kept = [Bucket::Rates, Bucket::Checks].map(Bucket::name);
        let below = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
        below(&self.root)
            .filter(|bucket| !kept.iter().any(|k| bucket.ends_with(k)))
            .flat_map(|bucket| below(&bucket).collect::<Vec<_>>())
            .filter_map(CacheEntry::of)
            .collect()
    }
}

/// An entry as it lies on disk.
struct CacheEntry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl CacheEntry {
    fn of(path: PathBuf) -> Option<Self> {
        let used = fs::symlink_metadata(&path).ok()?.modified().ok()?;
        Some(Self {
            bytes: size(&path),
            used,
            path,
        })
    }

    fn remove(&self) -> std::io::Result<()> {
        // Asked again while nobody can begin to use it.
        let held = in_use();
        if held.contains_key(&self.path) {
            return Err(std::io::ErrorKind::ResourceBusy.into());
        }
        match fs::symlink_metadata(&self.path)?.is_dir() {
            true => fs::remove_dir_all(&self.path),
            false => fs::remove_file(&self.path),
        }
    }
}

/// Bytes of the files at or below `path`; links count as nothing.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(m) if m.is_dir() => {
            let below = fs::read_dir(path).into_iter().flatten().flatten();
            below.map(|e| size(&e.path())).sum()
        }
        Ok(m) if m.is_file() => m.len(),
        _ => 0,
    }
}

/// Reads a size as people write it: `500M`, `20G`, `1.5T`, or plain bytes; powers of 1000, with `i` of 1024 (`20GiB`).
///
/// # Errors
/// Says what may be written.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{text}` is no size: write 500M, 20G, 1.5T, 20GiB or a number of bytes");
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim().trim_end_matches(['B', 'b']);
    let (letter, base) = match unit.strip_suffix('i') {
        Some(letter) if !letter.is_empty() => (letter, 1024f64),
        _ => (unit, 1000f64),
    };
    let power = match letter.to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 1,
        "M" => 2,
        "G" => 3,
        "T" => 4,
        _ => return Err(bad()),
    };
    let bytes = number * base.powi(power);
    match bytes.is_finite() && bytes < 1e18 {
        true => Ok(bytes as u64),
        false => Err(bad()),
    }
}

/// A number of bytes as people read it.
pub fn show_bytes(bytes: u64) -> String {
    const UNITS: [(&str, f64); 4] = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("KB", 1e3)];
    let n = bytes as f64;
    match UNITS.iter().find(|u| n >= u.1) {
        Some((unit, size)) if n / size < 10.0 => format!("{:.1} {unit}", n / size),
        Some((unit, size)) => format!("{:.0} {unit}", n / size),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("500M", 500_000_000),
            ("1.5T", 1_500_000_000_000),
            ("20GiB", 20 << 30),
            ("2 gb", 2_000_000_000),
            ("3kB", 3000),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1", "1X", "1e400", "99999999T", "i"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(show_bytes(495_000_000_000), "495 GB");
        assert_eq!(
            (show_bytes(12), show_bytes(1_200_000)),
            ("12 bytes".into(), "1.2 MB".into())
        );
    }

    /// Three entries of 100 bytes under a limit of 350: for a fourth of 100 the one used longest ago goes, unless it is in use.
    #[test]
    fn the_least_recently_used_go_first_and_those_in_use_stay() {
        let results = tempfile::tempdir().unwrap();
        let cache = Cache::below(results.path(), Some(350));
        let make = |name: &str, age: u64| {
            let entry = cache.entry(Bucket::Features, name);
            fs::create_dir_all(&entry).unwrap();
            fs::write(entry.join("rows"), [0; 100]).unwrap();
            let then = SystemTime::now() - Duration::from_secs(age);
            fs::File::open(&entry).unwrap().set_modified(then).unwrap();
            entry
        };
        let (old, older, oldest) = (make("a", 10), make("b", 20), make("c", 30));
        let small = cache.entry(Bucket::Rates, "bench.json");
        fs::create_dir_all(small.parent().unwrap()).unwrap();
        fs::write(&small, [0; 1000]).unwrap();
        let new = cache.hold(&cache.entry(Bucket::Features, "new"));
        new.make_room(50);
        assert!(oldest.exists(), "350 bytes fit");
        let used = cache.hold(&oldest);
        new.make_room(100);
        assert!(oldest.exists() && !older.exists() && old.exists());
        new.make_room(1 << 40);
        assert!(oldest.exists() && !old.exists(), "what is in use stays");
        drop(used);
        new.make_room(1 << 40);
        assert!(!oldest.exists(), "and goes when it is not any more");
        drop(new);
        assert!(small.exists(), "what was measured is not thrown away");
        // What earlier versions left goes as well.
        let left = results.path().join(".cache/features/0000.f32");
        fs::create_dir_all(left.parent().unwrap()).unwrap();
        fs::write(&left, [0; 400]).unwrap();
        assert_eq!(cache.bytes(), 400);
        cache.hold(&cache.entry(Bucket::Features, "new")).make_room(100);
        assert!(!left.exists());
    }

    /// What entries in use will have counts before it is written, and an entry that several use is in use until the last is done.
    #[test]
    fn what_is_still_to_be_written_counts() {
        let results = tempfile::tempdir().unwrap();
        let cache = Cache::below(results.path(), Some(350));
        let old = cache.entry(Bucket::Features, "old");
        fs::create_dir_all(&old).unwrap();
        fs::write(old.join("rows"), [0; 100]).unwrap();
        let first = cache.hold(&cache.entry(Bucket::Features, "first"));
        first.make_room(150);
        assert!(old.exists());
        let second = cache.hold(&cache.entry(Bucket::Features, "second"));
        second.make_room(100);
        assert!(old.exists(), "350 bytes fit");
        let both = (cache.hold(&old), cache.hold(&old));
        second.make_room(150);
        drop(both.0);
        second.make_room(150);
        assert!(old.exists(), "another still uses it");
        drop(both.1);
        second.make_room(150);
        assert!(
            !old.exists(),
            "400 bytes do not fit although none of the 300 is written"
        );
    }

    #[test]
    fn no_two_buckets_share_a_folder_or_a_key() {
        let keys: BTreeSet<String> = Bucket::ALL.iter().map(|b| b.key(&("a", 1)).unwrap()).collect();
        let dirs: BTreeSet<PathBuf> = Bucket::ALL.iter().map(|b| b.dir(Path::new("r"))).collect();
        assert_eq!((keys.len(), dirs.len()), (Bucket::ALL.len(), Bucket::ALL.len()));
        assert_ne!(
            Bucket::Rates.key(&("a", 1)).unwrap(),
            Bucket::Rates.key(&("a", 2)).unwrap()
        );
    }
}
