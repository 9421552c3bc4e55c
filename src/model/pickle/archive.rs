//! The zip archive around a pickle: which entry holds which storage, and that it holds what the pickle says.

use super::value::{ElementType, Id, Pickle, Storage, Value, View};
use super::vm;
use crate::error::BadInput;
use crate::fsio::{HashedFile, HashedReader};
use crate::zipfile;
use anyhow::{Context, Result};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use zip::{CompressionMethod, ZipArchive};

/// How the format before torch 1.6 begins: a pickled magic number.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
/// Keys of a checkpoint under which the weights are, where they are not its top.
const NESTED: [&str; 2] = ["model", "state_dict"];
pub(super) const REMEDY: &str =
    "Use the published file named in data-manifests/weights and verify it with `medft weights verify`.";

/// An open checkpoint: names, shapes, and values on demand.
pub struct PickleFile {
    pub(super) at: String,
    file: HashedFile,
    storages: Vec<StorageLocation>,
    views: BTreeMap<String, View>,
    /// Storages whose checksum was found right.
    checked: RefCell<BTreeSet<usize>>,
}

/// Where a storage lies in the file.
struct StorageLocation {
    kind: ElementType,
    start: u64,
    /// Bytes.
    len: u64,
    /// The archive's checksum of them.
    crc32: u32,
}

impl PickleFile {
    /// Opens a checkpoint, which must hash to `sha256` where that is given: reads the pickle, finds its state dict (the top, or under `model` or `state_dict`) and holds every
    /// storage against the archive.
    ///
    /// # Errors
    /// [`BadInput`] for another or a damaged format, another file than the verified one, and for a pickle that does anything but
    /// describe tensors.
    pub fn open(path: &Path, sha256: Option<&str>) -> Result<Self> {
        let at = path.display().to_string();
        let bad = |expected: &str, found: String| BadInput::new(&at, expected, found, REMEDY);
        let file = HashedFile::open(path, sha256).map_err(|e| bad("a PyTorch checkpoint", e.to_string()))?;
        let start = file.read(0..file.len().min(LEGACY.len() as u64));
        if start.map_err(|e| bad("a PyTorch checkpoint", e.to_string()))? == LEGACY {
            return Err(BadInput::new(
                &at,
                "the zip format of torch 1.6 and later",
                "the format before it",
                "Take another published file of this backbone (`medft weights list` names them, --pin takes one): a file that you \
                 convert yourself can never have the published hash.",
            )
            .into());
        }
        let mut zip =
            zipfile::open(file.reader()).map_err(|e| bad("a PyTorch checkpoint (a zip archive)", e.to_string()))?;
        if zip.has_duplicate_names() {
            return Err(bad("names that occur once in the archive", "one that occurs twice".into()).into());
        }
        match zip.has_overlapping_entries() {
            Ok(false) => {}
            Ok(true) => return Err(bad("entries that do not overlap", "some that do".into()).into()),
            Err(e) => return Err(bad("a readable archive", e.to_string()).into()),
        }
        let root = archive_root(&at, &zip)?;
        let pickle = read_pickle(&at, &mut zip, &root)?;
        let views = state_dict(&at, &pickle)?;
        let storages = pickle
            .storages
            .iter()
            .map(|s| place(&at, &mut zip, &root, s, file.len()))
            .collect::<Result<_>>()?;
        Ok(Self {
            at,
            file,
            storages,
            views,
            checked: RefCell::default(),
        })
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.views.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.views.get(name).map(|v| v.size.as_slice())
    }

    /// The element type of a tensor.
    pub fn kind(&self, name: &str) -> Option<ElementType> {
        self.views.get(name).map(|v| self.storages[v.storage].kind)
    }

    /// The elements of a tensor, little-endian, in row-major order of its shape.
    ///
    /// # Errors
    /// [`BadInput`] where the bytes do not have the archive's checksum, or the file was changed since it was opened.
    pub fn elements(&self, name: &str) -> Result<Vec<u8>> {
        let view = self.views.get(name).context("no such tensor")?;
        let place = &self.storages[view.storage];
        let bad = |expected: &str, found: String| {
            let remedy = "Fetch the file again and verify it with `medft weights verify`.";
            BadInput::new(&self.at, expected, found, remedy)
        };
        let read = |part: Range<u64>| {
            let bytes = self.file.read(place.start + part.start..place.start + part.end);
            bytes.map_err(|e| bad("tensor data as they were when the file was opened", e.to_string()))
        };
        let size = place.kind.size() as u64;
        let part = contiguous(view).map(|count| view.offset * size..(view.offset + count as u64) * size);
        let mut checked = self.checked.borrow_mut();
        if let (Some(part), true) = (&part, checked.contains(&view.storage)) {
            // One of many views of a storage: only its own bytes are read.
            return Ok(read(part.clone())?);
        }
        let bytes = read(0..place.len)?;
        let found = crc32fast::hash(&bytes);
        if found != place.crc32 {
            let found = format!("data with the checksum {found:08x}");
            return Err(bad(
                &format!("tensor data with the archive's checksum {:08x}", place.crc32),
                found,
            )
            .into());
        }
        checked.insert(view.storage);
        Ok(match part {
            Some(part) if part == (0..place.len) => bytes,
            Some(part) => bytes[part.start as usize..part.end as usize].to_vec(),
            None => gather(&bytes, view, size as usize),
        })
    }
}

/// The folder in which everything lies: the one with `data.pkl`.
fn archive_root(at: &str, zip: &ZipArchive<HashedReader>) -> Result<String> {
    let names: Vec<&str> = zip
        .file_names_raw()
        .filter_map(|n| std::str::from_utf8(n).ok())
        .collect();
    let roots: Vec<&str> = names
        .iter()
        .filter_map(|n| n.strip_suffix("/data.pkl").filter(|r| !r.contains('/')))
        .collect();
    let [root] = roots.as_slice() else {
        let found = format!("{} files of that name in {} entries", roots.len(), names.len());
        return Err(BadInput::new(at, "a PyTorch checkpoint with one data.pkl", found, REMEDY).into());
    };
    if names.contains(&format!("{root}/constants.pkl").as_str()) {
        return Err(BadInput::new(
            at,
            "a state dict",
            "a TorchScript program",
            "Use the Hugging Face or open_clip file of these weights.",
        )
        .into());
    }
    Ok((*root).to_owned())
}

fn read_pickle(at: &str, zip: &mut ZipArchive<HashedReader>, root: &str) -> Result<Pickle> {
    if let Some(order) = small_entry(at, zip, &format!("{root}/byteorder"), 16)? {
        let order = String::from_utf8_lossy(&order).into_owned();
        if order != "little" {
            return Err(BadInput::new(at, "little-endian tensors", format!("byte order {order:?}"), REMEDY).into());
        }
    }
    let bytes =
        small_entry(at, zip, &format!("{root}/data.pkl"), crate::limits::PICKLE)?.context("data.pkl was listed")?;
    vm::run(&bytes).map_err(|e| BadInput::new(format!("{at}:data.pkl"), e.expected, e.found, REMEDY).into())
}

/// Reads a small entry whole; `None` where the archive has none of that name.
fn small_entry(at: &str, zip: &mut ZipArchive<HashedReader>, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let Some(index) = zip.index_for_name_raw(name.as_bytes()) else {
        return Ok(None);
    };
    let bad = |found: String| {
        let expected = format!("a stored entry {name} of at most {most} bytes");
        BadInput::new(at, expected, found, REMEDY)
    };
    let entry = zip.by_index(index).map_err(|e| bad(e.to_string()))?;
    if entry.compression() != CompressionMethod::Stored {
        return Err(bad(format!("{} compression", entry.compression())).into());
    }
    if entry.size() > most {
        return Err(bad(format!("{} bytes", entry.size())).into());
    }
    let mut bytes = Vec::new();
    entry
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| bad(e.to_string()))?;
    Ok(Some(bytes))
}

/// Finds a storage's entry and checks its size.
fn place(
    at: &str,
    zip: &mut ZipArchive<HashedReader>,
    root: &str,
    s: &Storage,
    file_len: u64,
) -> Result<StorageLocation> {
    let name = format!("{root}/data/{}", s.key);
    let bytes = s.len.checked_mul(s.kind.size() as u64);
    let bad = |found: String| {
        let expected = format!("{name} with {} elements of type {:?}, stored", s.len, s.kind);
        BadInput::new(at, expected, found, REMEDY)
    };
    let Some(entry) = zip.index_for_name_raw(name.as_bytes()) else {
        return Err(bad("no such entry".into()).into());
    };
    let file = zip.by_index(entry).map_err(|e| bad(e.to_string()))?;
    if file.compression() != CompressionMethod::Stored || file.encrypted() {
        return Err(bad(format!("{} compression", file.compression())).into());
    }
    if Some(file.size()) != bytes || file.compressed_size() != file.size() {
        return Err(bad(format!("{} bytes", file.size())).into());
    }
    let range = file.data_start().and_then(|start| {
        let len = file.size();
        (start.checked_add(len)? <= file_len).then_some((start, len))
    });
    let Some((start, len)) = range else {
        return Err(bad("data that reach beyond the end of the file".into()).into());
    };
    Ok(StorageLocation {
        kind: s.kind,
        start,
        len,
        crc32: file.crc32(),
    })
}

/// The tensors of a checkpoint: of its top, or of what it keeps under a usual key.
fn state_dict(at: &str, pickle: &Pickle) -> Result<BTreeMap<String, View>> {
    let bad = |expected: String, found: String| BadInput::new(at, expected, found, REMEDY);
    let Value::Dict(top) = pickle.root() else {
        return Err(bad("a dictionary of tensors".into(), "something else in data.pkl".into()).into());
    };
    let inner = NESTED.iter().find_map(|key| match pickle.lookup(top, key) {
        Some(Value::Dict(d)) => Some(d),
        _ => None,
    });
    let dict: &[(Id, Id)] = inner.unwrap_or(top);
    let mut views = BTreeMap::new();
    for &(key, value) in dict {
        let Value::Str(name) = pickle.get(key) else {
            return Err(bad("names of tensors".into(), format!("{} as a key", pickle.what(key))).into());
        };
        let Value::Tensor(view) = pickle.get(value) else {
            return Err(bad(format!("a tensor under {name:?}"), pickle.what(value).into()).into());
        };
        if views.insert(name.clone(), view.clone()).is_some() {
            return Err(bad(format!("{name:?} once"), "it twice".into()).into());
        }
    }
    if views.is_empty() {
        return Err(bad("tensors".into(), "none".into()).into());
    }
    Ok(views)
}

/// The number of elements of a view whose elements follow each other in row-major order, or `None` for another view (also
/// for an empty one, whose offset means nothing).
fn contiguous(v: &View) -> Option<usize> {
    if v.size.contains(&0) {
        return None;
    }
    let mut step = 1u64;
    for (&n, &stride) in v.size.iter().zip(&v.stride).rev() {
        if n != 1 && stride != step {
            return None;
        }
        step *= n as u64;
    }
    Some(step as usize)
}

/// The elements of a strided view, in row-major order.
fn gather(bytes: &[u8], v: &View, size: usize) -> Vec<u8> {
    if v.size.contains(&0) {
        return Vec::new();
    }
    let count: usize = v.size.iter().product();
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0usize; v.size.len()];
    for _ in 0..count {
        let at = index
            .iter()
            .zip(&v.stride)
            .map(|(&i, &s)| i * s as usize)
            .sum::<usize>()
            + v.offset as usize;
        out.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for (i, &n) in index.iter_mut().zip(&v.size).rev() {
            *i += 1;
            if *i < n {
                break;
            }
            *i = 0;
        }
    }
    out
}
