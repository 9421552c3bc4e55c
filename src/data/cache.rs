//! Prepared images on disk, so that a large data set is decoded once and not in every run.
//!
//! **What identifies a cache**: the bucket's version, the [`Preparation`] (decoding switches, sizes, aspect, order of passes) and
//! the list of images; their hash names the folder. The location of the data set is left out, so it may be moved.
//! **What identifies a record**: the SHA-256 of the image file's bytes, as the verified list says it (a PNG twin's where one is
//! read). Neither size nor time of a file is asked: a file that was replaced and listed anew is prepared anew, whatever it
//! looks like. Without a list the files are hashed on opening.
//!
//! The records lie in shards of about [`SHARD_BYTES`], each written atomically, so that a killed or failed build (a full disk)
//! loses at most one shard and goes on from there. A shard ends with an index and a footer that hashes it; every record has a
//! digest that is compared each time it is read. A torn shard is written again, a damaged record is prepared from its source;
//! neither is ever handed out. Shards are read, not mapped: what a map shows may change after it was compared.
//!
//! Shard: records | index (digest, source hash for each) | footer (magic, key, shard number, count, record bytes, SHA-256 of index
//! and footer so far). Numbers are little-endian.

use super::transform::Preparation;
use super::{Dataset, ImageArray, Pixels};
use crate::cache::{Bucket, Cache, Held};
use crate::error::BadInput;
use crate::lease::Lease;
use crate::{fsio, limits, stop};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Between two looks at shards that other processes are building.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// In place of the hash of an image that cannot be read, which preparing it will explain.
const UNKNOWN: Key = [0; 32];
/// Records are put into files of about this size.
const SHARD_BYTES: usize = 128 << 20;
const MAGIC: &[u8; 8] = b"medftpx3";
const FOOTER: usize = 8 + 32 + 4 + 4 + 8 + 32;
/// Bytes of an image in the index.
const ENTRY: usize = 64;

type Key = [u8; 32];

/// Where a record came from and what it holds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct CachedImage {
    /// SHA-256 of the record.
    digest: [u8; 32],
    /// SHA-256 of the image file, or of an array's values.
    source: [u8; 32],
}

/// A complete cache of some images of a data set.
pub struct DiskCache {
    preparation: Preparation,
    shards: Vec<Shard>,
    per_shard: usize,
    /// Images that were decoded on opening.
    prepared: usize,
    /// The entry stays while this lives.
    _held: Held,
}

/// One file of records.
struct Shard {
    path: PathBuf,
    entries: Vec<CachedImage>,
}

/// What a build works on.
struct CacheBuild<'a> {
    data: &'a Dataset,
    used: &'a [u32],
    preparation: &'a Preparation,
    key: Key,
    held: Held,
    folder: PathBuf,
    per_shard: usize,
    prepared: AtomicUsize,
}

impl DiskCache {
    /// Opens the cache of the images `used` (indices into the samples), after building what is missing, torn or made from
    /// other bytes on the current rayon pool. `progress` is called with (images ready, images in all).
    ///
    /// # Errors
    /// [`crate::error::BadInput`] naming the image that cannot be decoded or is not the verified one, or the shard that cannot
    /// be written (disk full, folder not writable); shards that are complete are kept.
    pub fn open(
        cache: &Cache,
        data: &Dataset,
        used: &[u32],
        preparation: &Preparation,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        Self::open_sharded(cache, data, used, preparation, SHARD_BYTES, progress)
    }

    fn open_sharded(
        cache: &Cache,
        data: &Dataset,
        used: &[u32],
        preparation: &Preparation,
        shard_bytes: usize,
        progress: &(dyn Fn(usize, usize) + Sync),
    ) -> Result<Self> {
        let key = key(data, used, preparation);
        let name = format!("{}-{}", data.info.name, fsio::hex(&key[..8]));
        let folder = cache.entry(Bucket::Images, &name);
        let source = CacheBuild {
            data,
            used,
            preparation,
            key,
            held: cache.hold(&folder),
            folder,
            per_shard: (shard_bytes / preparation.bytes()).max(1),
            prepared: AtomicUsize::new(0),
        };
        let hashes: Vec<Key> = used.par_iter().map(|&i| source.hash(i).unwrap_or(UNKNOWN)).collect();
        let shards = source.shards(&hashes, progress)?;
        Ok(Self {
            preparation: preparation.clone(),
            shards,
            per_shard: source.per_shard,
            prepared: source.prepared.into_inner(),
            _held: source.held,
        })
    }

    /// How many images were decoded on opening; all others were there.
    pub fn prepared(&self) -> usize {
        self.prepared
    }

    /// The record at `position` of the `used` list; `None` when it is damaged or gone and must be prepared from its source.
    pub fn get(&self, position: usize) -> Option<ImageArray> {
        let side = self.preparation.side();
        let data = self.shards[position / self.per_shard].read(position % self.per_shard, self.preparation.bytes())?;
        Some(ImageArray {
            width: side,
            height: side,
            channels: self.preparation.channels(),
            data,
        })
    }
}

impl Shard {
    /// A record, if it is the one that was written.
    fn read(&self, slot: usize, bytes: usize) -> Option<Vec<u8>> {
        let mut data = vec![0; bytes];
        // Opened for each record: a large set has more shards than a process may keep open.
        let file = fsio::open_file(&self.path).ok()?;
        file.read_exact_at(&mut data, (slot * bytes) as u64).ok()?;
        (Sha256::digest(&data)[..] == self.entries[slot].digest).then_some(data)
    }
}

impl CacheBuild<'_> {
    /// The hash of what the record is made from.
    fn hash(&self, index: u32) -> Result<Key> {
        match &self.data.samples[index as usize].pixels {
            Pixels::Array(img) => Ok(Sha256::digest(&img.data).into()),
            Pixels::File(file) => {
                let root = &self.data.root;
                let read = self.preparation.resolve(root, file);
                Ok(root.hash(&read, "an image", limits::IMAGE_FILE)?.0)
            }
        }
    }

    /// Every shard, after building what is missing or out of date. Processes that start cold on one folder share the work: each
    /// takes a shard that nobody is at, and waits only for those that others are at. A file that cannot be decoded costs its own
    /// shard; all of them are told at once.
    fn shards(&self, hashes: &[Key], progress: &(dyn Fn(usize, usize) + Sync)) -> Result<Vec<Shard>> {
        let done = AtomicUsize::new(0);
        let ready = |n: usize| progress(done.fetch_add(n, Ordering::Relaxed) + n, hashes.len());
        let chunks: Vec<&[Key]> = hashes.chunks(self.per_shard).collect();
        let mut found: Vec<Option<Shard>> = chunks.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..chunks.len()).collect();
        let mut unreadable = Unreadable::default();
        while !open.is_empty() {
            let mut elsewhere = Vec::new();
            for &number in &open {
                stop::check()?;
                let hashes = chunks[number];
                let fresh = |s: &Shard| s.entries.iter().zip(hashes).all(|(e, hash)| e.source == *hash);
                let mut old = self.open_shard(number, hashes.len());
                if let Some(shard) = old.take_if(|s| fresh(s)) {
                    ready(hashes.len());
                    found[number] = Some(shard);
                    continue;
                }
                fsio::create_dir(&self.folder)?;
                let Ok(_lease) = Lease::take(&self.folder.join(format!("{number:04}.lease")))? else {
                    elsewhere.push(number);
                    continue;
                };
                // It may have been finished between the look and the lease.
                old = self.open_shard(number, hashes.len());
                if let Some(shard) = old.take_if(|s| fresh(s)) {
                    ready(hashes.len());
                    found[number] = Some(shard);
                    continue;
                }
                found[number] = self.build(number, hashes, old.as_ref(), &ready, &mut unreadable)?;
            }
            if elsewhere.len() == open.len() {
                std::thread::sleep(LOOK_AGAIN);
            }
            open = elsewhere;
        }
        unreadable.none()?;
        Ok(found.into_iter().flatten().collect())
    }

    fn path(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{number:04}.px"))
    }

    /// The shard, if its footer and index are whole and meant for this place; its records may be of other bytes.
    fn open_shard(&self, number: usize, count: usize) -> Option<Shard> {
        let path = self.path(number);
        let file = fsio::open_file(&path).ok()?;
        let records = count * self.preparation.bytes();
        if file.metadata().ok()?.len() != (records + count * ENTRY + FOOTER) as u64 {
            return None;
        }
        let mut tail = vec![0; count * ENTRY + FOOTER];
        file.read_exact_at(&mut tail, records as u64).ok()?;
        let (body, hash) = tail.split_at(count * ENTRY + FOOTER - 32);
        let (index, footer) = body.split_at(count * ENTRY);
        if footer != self.footer(number, count) || hash != Sha256::digest(body).as_slice() {
            return None;
        }
        let entry = |e: &[u8; ENTRY]| {
            let (mut digest, mut source) = ([0; 32], [0; 32]);
            digest.copy_from_slice(&e[..32]);
            source.copy_from_slice(&e[32..]);
            CachedImage { digest, source }
        };
        Some(Shard {
            path,
            entries: index.as_chunks::<ENTRY>().0.iter().map(entry).collect(),
        })
    }

    /// The footer without its hash.
    fn footer(&self, number: usize, count: usize) -> Vec<u8> {
        let mut f = MAGIC.to_vec();
        f.extend(self.key);
        f.extend((number as u32).to_le_bytes());
        f.extend((count as u32).to_le_bytes());
        f.extend((self.preparation.bytes() as u64).to_le_bytes());
        f
    }

    /// Writes a shard; records of `old` that were made from the same bytes are copied, all others are prepared. `None` where an
    /// image cannot be: it is among the unreadable ones then.
    fn build(
        &self,
        number: usize,
        hashes: &[Key],
        old: Option<&Shard>,
        ready: &(dyn Fn(usize) + Sync),
        unreadable: &mut Unreadable,
    ) -> Result<Option<Shard>> {
        let first = number * self.per_shard;
        let bytes = self.preparation.bytes();
        let record = |slot: usize| -> Result<Vec<u8>> {
            if let Some(old) = old.filter(|o| o.entries[slot].source == hashes[slot])
                && let Some(data) = old.read(slot, bytes)
            {
                return Ok(data);
            }
            self.prepared.fetch_add(1, Ordering::Relaxed);
            let index = self.used[first + slot];
            if hashes[slot] == UNKNOWN {
                // Where it can be read now, it was changed meanwhile.
                self.hash(index)?;
            }
            let sample = &self.data.samples[index as usize];
            ensure!(hashes[slot] != UNKNOWN, "{}: it changed while it was read", sample.id);
            Ok(self.preparation.open(&self.data.root, sample)?.data)
        };
        let before = unreadable.files.len();
        self.held.make_room((self.used.len() * (bytes + ENTRY)) as u64);
        let written = fsio::write_atomic_with(&self.path(number), |w| {
            let mut tail = Vec::with_capacity(hashes.len() * ENTRY + FOOTER);
            // A few images at a time: enough to keep all threads busy, few enough to hold.
            let slots: Vec<usize> = (0..hashes.len()).collect();
            for slots in slots.chunks(64) {
                let records: Vec<Result<Vec<u8>>> = slots.par_iter().map(|&slot| record(slot)).collect();
                for (&slot, data) in slots.iter().zip(records) {
                    match data {
                        Ok(data) => {
                            w.write_all(&data)?;
                            tail.extend(Sha256::digest(&data));
                            tail.extend(hashes[slot]);
                        }
                        Err(e) => unreadable.files.push(e),
                    }
                }
                ready(slots.len());
                if stop::requested() {
                    return Err(io::Error::other(stop::Stopped));
                }
            }
            if unreadable.files.len() > before {
                return Err(io::Error::other("an image could not be prepared"));
            }
            tail.extend(self.footer(number, hashes.len()));
            let hash = Sha256::digest(&tail);
            w.write_all(&tail)?;
            w.write_all(&hash)
        });
        if unreadable.files.len() > before {
            return Ok(None);
        }
        if written.is_err() {
            stop::check()?;
        }
        written?;
        let path = self.path(number);
        self.open_shard(number, hashes.len())
            .with_context(|| format!("{} changed while it was being written", path.display()))
            .map(Some)
    }
}

/// Files that could not be prepared, in the order of the images.
#[derive(Default)]
pub(super) struct Unreadable {
    pub(super) files: Vec<anyhow::Error>,
}

impl Unreadable {
    /// How many are named.
    const NAMED: usize = 20;

    /// # Errors
    /// [`BadInput`] that names them, where there are any.
    pub(super) fn none(mut self) -> Result<()> {
        if self.files.len() < 2 {
            return self.files.pop().map_or(Ok(()), Err);
        }
        let whole = |e: &anyhow::Error| {
            e.downcast_ref::<BadInput>()
                .map(|b| (b.at.clone(), b.found.clone(), b.remedy.clone()))
        };
        let named = self.files.iter().take(Self::NAMED).map(|e| match whole(e) {
            Some((at, found, _)) => format!("{at}: {found}"),
            None => format!("{e:#}"),
        });
        let mut list: Vec<String> = named.collect();
        if self.files.len() > list.len() {
            list.push(format!("and {} more", self.files.len() - list.len()));
        }
        // What is to be done about each kind of fault, once.
        let mut remedies: Vec<String> = Vec::new();
        for (.., remedy) in self.files.iter().filter_map(whole) {
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        if remedies.is_empty() {
            remedies.push("Get these files again.".to_owned());
        }
        let at = format!("{} images", self.files.len());
        Err(BadInput::new(at, "files that can be decoded", list.join("; "), remedies.join(" ")).into())
    }
}

fn key(data: &Dataset, used: &[u32], preparation: &Preparation) -> Key {
    let mut h = Sha256::new();
    h.update(Bucket::Images.name());
    h.update(serde_json::to_vec(preparation).unwrap_or_default());
    for &i in used {
        let sample = &data.samples[i as usize];
        match &sample.pixels {
            Pixels::File(file) => h.update(file.as_os_str().as_encoded_bytes()),
            Pixels::Array(_) => h.update(sample.id.as_bytes()),
        }
        h.update([0]);
    }
    h.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Folder;
    use crate::data::loader::tests::{files, set};
    use crate::error::BadInput;
    use crate::manifest::{HashList, RelPath, Sha};
    use crate::spec::Protocol;
    use std::fs;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::{Duration, SystemTime};

    /// A cache of 3 images a shard over the test set in `root`.
    fn open(dir: &Path, data: &Dataset, heard: &Mutex<Vec<usize>>) -> Result<DiskCache> {
        let preparation = preparation(data);
        let used: Vec<u32> = (0..data.samples.len() as u32).collect();
        let bytes = preparation.bytes() * 3;
        DiskCache::open_sharded(
            &Cache::below(dir, None),
            data,
            &used,
            &preparation,
            bytes,
            &|done, _| {
                heard.lock().unwrap().push(done);
            },
        )
    }

    fn preparation(data: &Dataset) -> Preparation {
        let p = Protocol {
            resize: 32,
            crop: 28,
            ..Protocol::faithful()
        };
        Preparation::new(&p, data.info.channels).unwrap()
    }

    fn assert_complete(cache: &DiskCache, data: &Dataset) {
        for (i, sample) in data.samples.iter().enumerate() {
            let expected = preparation(data).open(&data.root, sample).unwrap();
            assert_eq!(cache.get(i).unwrap(), expected, "{}", sample.id);
        }
    }

    /// Shard files with their inode numbers: a file that is written again is another one. (Modification times are too coarse.)
    fn shards(dir: &Path) -> Vec<(PathBuf, u64)> {
        let mut found = Vec::new();
        let mut folders = vec![dir.to_path_buf()];
        while let Some(f) = folders.pop() {
            for e in fs::read_dir(f).unwrap().flatten() {
                if e.path().is_dir() {
                    folders.push(e.path());
                } else {
                    found.push((e.path(), std::os::unix::fs::MetadataExt::ino(&e.metadata().unwrap())));
                }
            }
        }
        found.sort();
        found
    }

    fn rewritten(before: &[(PathBuf, u64)], after: &[(PathBuf, u64)]) -> Vec<usize> {
        assert_eq!(before.len(), after.len());
        (0..after.len()).filter(|&i| before[i] != after[i]).collect()
    }

    #[test]
    fn it_is_built_once_and_only_what_changed_is_built_again() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 8);
        let heard = Mutex::default();
        assert_complete(&open(dir.path(), &data, &heard).unwrap(), &data);
        assert_eq!(*heard.lock().unwrap(), [3, 6, 8]);
        let built = shards(dir.path());
        assert_eq!(built.len(), 3);

        assert_complete(&open(dir.path(), &data, &heard).unwrap(), &data);
        assert_eq!(rewritten(&built, &shards(dir.path())), [0usize; 0]);

        // A new time alone decodes nothing.
        let touched = fs::File::options().write(true).open(root.path().join("7.png")).unwrap();
        touched
            .set_modified(SystemTime::now() + Duration::from_secs(9))
            .unwrap();
        let cache = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(cache.prepared(), 0);
        assert_complete(&cache, &data);
        let built = shards(dir.path());

        // Another picture under the name of image 4 changes shard 1 only.
        fs::copy(root.path().join("0.png"), root.path().join("4.png")).unwrap();
        let again = fs::File::options().write(true).open(root.path().join("4.png")).unwrap();
        again.set_modified(SystemTime::now() + Duration::from_secs(5)).unwrap();
        let cache = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(cache.prepared(), 1);
        assert_complete(&cache, &data);
        assert_eq!(rewritten(&built, &shards(dir.path())), [1]);

        // Another transform is another cache.
        let p = Protocol::corrected();
        let used = [0, 1];
        DiskCache::open(
            &Cache::below(dir.path(), None),
            &data,
            &used,
            &Preparation::new(&p, 3).unwrap(),
            &|_, _| {},
        )
        .unwrap();
        assert_eq!(shards(dir.path()).len(), 4);
    }

    /// Tasks that start cold at once, here as threads: every image is decoded once between them.
    #[test]
    fn cold_tasks_share_the_work() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 24);
        let prepared: Vec<usize> = std::thread::scope(|s| {
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    s.spawn(|| {
                        let cache = open(dir.path(), &data, &Mutex::default()).unwrap();
                        assert_complete(&cache, &data);
                        cache.prepared()
                    })
                })
                .collect();
            tasks.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(prepared.iter().sum::<usize>(), 24, "{prepared:?}");
        assert!(
            shards(dir.path())
                .iter()
                .all(|s| s.0.extension().is_some_and(|e| e == "px"))
        );
    }

    /// Images replaced with size and time kept, and listed anew: rsync -a, cp -p, archives with fixed times. The new list is
    /// another data set, and gets other pixels.
    #[test]
    fn a_file_is_known_by_the_hash_in_the_list_and_not_by_size_and_time() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut data = files(root.path(), 8);
        let list = || {
            let one = |i: u32| {
                let name = format!("{i}.png");
                let bytes = fs::read(root.path().join(&name)).unwrap();
                (RelPath::new(name.as_bytes()).unwrap(), Sha::of(&bytes))
            };
            let entries = (0..8).map(one).collect();
            Folder::verified(root.path(), Arc::new(HashList { entries }))
        };
        data.root = list();
        let heard = Mutex::default();
        let before = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(before.prepared(), 8);
        // The smallest image under the name of the largest, made as long, with its time.
        let length = |i: &usize| root.path().join(format!("{i}.png")).metadata().unwrap().len();
        let (small, large) = ((0..8).min_by_key(length).unwrap(), (0..8).max_by_key(length).unwrap());
        let path = root.path().join(format!("{large}.png"));
        let (old, time) = (fs::read(&path).unwrap(), path.metadata().unwrap().modified().unwrap());
        let mut new = fs::read(root.path().join(format!("{small}.png"))).unwrap();
        assert!(new.len() < old.len());
        new.resize(old.len(), 0);
        fs::write(&path, &new).unwrap();
        let kept = fs::File::options().write(true).open(&path).unwrap();
        kept.set_modified(time).unwrap();
        // By the old list nothing is read of it: the record is that of the listed bytes.
        let same = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(same.prepared(), 0);
        assert_eq!(same.get(large).unwrap(), before.get(large).unwrap());
        let e = preparation(&data)
            .open(&data.root, &data.samples[large])
            .unwrap_err()
            .to_string();
        assert!(e.contains(&format!("{large}.png: expected the verified file")), "{e}");
        // By a new list it is another image.
        data.root = list();
        let after = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(after.prepared(), 1);
        assert_eq!(after.get(large).unwrap(), after.get(small).unwrap());
        assert_complete(&after, &data);
    }

    #[test]
    fn torn_and_damaged_shards_are_never_read() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 8);
        let heard = Mutex::default();
        open(dir.path(), &data, &heard).unwrap();
        let built = shards(dir.path());

        // Shard 0 is cut, a bit in the index of shard 1 and in a record of shard 2 is turned.
        let cut = fs::File::options().write(true).open(&built[0].0).unwrap();
        cut.set_len(built[0].0.metadata().unwrap().len() - 1).unwrap();
        for (shard, from_end) in [(1, FOOTER + 5), (2, FOOTER + ENTRY * 2 + 100)] {
            let mut bytes = fs::read(&built[shard].0).unwrap();
            let at = bytes.len() - from_end;
            bytes[at] ^= 1;
            fs::write(&built[shard].0, bytes).unwrap();
        }
        let damaged = shards(dir.path());
        let cache = open(dir.path(), &data, &heard).unwrap();
        assert_eq!(rewritten(&damaged, &shards(dir.path())), [0, 1]);
        let bad: Vec<usize> = (0..8).filter(|&i| cache.get(i).is_none()).collect();
        assert_eq!(bad, [7], "the damaged record is refused");
        // Damaged, cut short or removed after it was opened: refused as well, and no signal.
        let open = fs::File::options().write(true).open(&built[0].0).unwrap();
        open.write_all_at(&[0xff; 9], 40).unwrap();
        assert_eq!((cache.get(0), cache.get(1).is_some()), (None, true));
        open.set_len(10).unwrap();
        fs::remove_file(&built[1].0).unwrap();
        assert!((0..6).all(|i| cache.get(i).is_none()));
    }

    #[test]
    fn a_build_goes_on_after_a_failure() {
        let root = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let data = files(root.path(), 8);
        let whole = fs::read(root.path().join("7.png")).unwrap();
        fs::write(root.path().join("7.png"), &whole[..whole.len() / 2]).unwrap();
        let heard = Mutex::default();
        let e = open(dir.path(), &data, &heard)
            .err()
            .unwrap()
            .downcast::<BadInput>()
            .unwrap();
        assert!(
            e.to_string().contains("7.png") && e.to_string().contains("ends early"),
            "{e}"
        );
        let kept = shards(dir.path());
        assert_eq!(
            kept.len(),
            2,
            "two shards are complete, no temporary file is left: {kept:?}"
        );

        fs::write(root.path().join("7.png"), &whole).unwrap();
        assert_complete(&open(dir.path(), &data, &heard).unwrap(), &data);
        let after = shards(dir.path());
        assert_eq!(rewritten(&kept, &after[..2]), [0usize; 0]);
        assert_eq!(after.len(), 3);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let data = files(root.path(), 2);
        let in_the_way = root.path().join("cache");
        fs::write(&in_the_way, b"a file").unwrap();
        let e = open(&in_the_way, &data, &Mutex::default()).err().unwrap();
        let e = e.downcast::<BadInput>().unwrap();
        assert!(e.at.contains("cache") && !e.remedy.is_empty(), "{e}");
    }

    /// Needs a file system with room for one or two shards of 7 KB, but not three, in `MEDFT_FULL_DISK`
    /// (`mount -t tmpfs -o size=20k tmpfs …`).
    #[test]
    #[ignore = "needs a small file system"]
    fn a_full_disk_keeps_what_is_complete() {
        let dir =
            PathBuf::from(std::env::var_os("MEDFT_FULL_DISK").expect("MEDFT_FULL_DISK names a small file system"));
        let root = tempfile::tempdir().unwrap();
        let data = files(root.path(), 8);
        let heard = Mutex::default();
        let e = open(&dir, &data, &heard).err().unwrap().downcast::<BadInput>().unwrap();
        assert!(e.remedy.contains("Free some space") && e.at.contains(".px"), "{e}");
        let kept = shards(&dir);
        assert!((1..3).contains(&kept.len()), "{kept:?}");
        assert!(open(&dir, &data, &heard).is_err());
        assert_eq!(rewritten(&kept, &shards(&dir)), [0usize; 0]);
        // Where there is room, the same call goes through.
        let roomy = tempfile::tempdir().unwrap();
        assert_complete(&open(roomy.path(), &data, &heard).unwrap(), &data);
    }

    #[test]
    fn arrays_are_cached_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let heard = Mutex::default();
        let data = set(5, 1);
        assert_complete(&open(dir.path(), &data, &heard).unwrap(), &data);
        let other = set(5, 2);
        assert_complete(&open(dir.path(), &other, &heard).unwrap(), &other);
    }
}
