//! Whether the images that the label files list are in the folder, and are what they should be.
//!
//! Where one is not there the folder is looked through once for what became of it: a name of another case (`.JPG`), another
//! ending, a folder too many, an archive that was not unpacked, what macOS leaves beside files.

use super::decode::{self, Fault};
use super::format::{Cure, Format, HEAD};
use super::types::{Dataset, Pixels};
use crate::fsio;
use crate::limits;
use crate::manifest::{AbsentImage, ImageFault, ImageReport, Sha, walk};
use crate::spec::Protocol;
use crate::spec::protocol::ImageLoading;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How far images are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Names and sizes.
    Names,
    /// The first bytes as well.
    Heads,
    /// Every image is decoded.
    Decode,
}

/// What became of one image.
enum Found {
    Here,
    Decoded(Vec<&'static str>),
    Absent,
    Unreadable(String, Cure),
}

/// Looks at every image file of `d`, each once; `on` is called with (done, of all) from any thread. Images in archives are none of its
/// business: their reader reads them all.
pub fn of(d: &Dataset, p: &Protocol, depth: Depth, on: &(dyn Fn(usize, usize) + Sync)) -> ImageReport {
    let mut listed: Vec<&Path> = d
        .samples
        .iter()
        .filter_map(|s| match &s.pixels {
            Pixels::File(f) => Some(f.as_path()),
            Pixels::Array(_) => None,
        })
        .collect();
    // By bytes: to compare paths part by part takes longer than all that follows. What is told is sorted as paths are.
    listed.par_sort_unstable_by_key(|f| f.as_os_str());
    listed.dedup_by_key(|f| f.as_os_str());
    let (done, empty) = (AtomicUsize::new(0), Sha::of(b""));
    let found: Vec<Found> = listed
        .par_iter()
        .map(|f| {
            let file = decode::resolve(&d.root, f, p.png_twin);
            // Whoever verified the folder has just seen the bytes that are listed.
            let verified = depth == Depth::Names && d.root.listed(&file).is_some_and(|sha| sha != empty);
            let found = match verified {
                true => Found::Here,
                false => look(&d.root.join(file), d.info.channels, depth),
            };
            on(done.fetch_add(1, Ordering::Relaxed) + 1, listed.len());
            found
        })
        .collect();
    let mut report = ImageReport {
        listed: listed.len(),
        ..ImageReport::default()
    };
    let (mut absent, mut cures) = (Vec::new(), BTreeSet::new());
    for (path, found) in listed.iter().zip(found) {
        let name = path.display().to_string();
        match found {
            Found::Here => {}
            Found::Decoded(remarks) => {
                report.decoded += 1;
                if !remarks.is_empty() {
                    report.remarks.push(ImageFault {
                        path: name,
                        why: remarks.join(", "),
                    });
                }
            }
            Found::Absent => absent.push(*path),
            Found::Unreadable(why, cure) => {
                cures.insert(cure);
                report.unreadable.push(ImageFault { path: name, why });
            }
        }
    }
    absent.sort_unstable();
    report
        .unreadable
        .sort_by(|a, b| Path::new(&a.path).cmp(Path::new(&b.path)));
    report
        .remarks
        .sort_by(|a, b| Path::new(&a.path).cmp(Path::new(&b.path)));
    report.remedies = cures.iter().map(|c| c.sentence().to_owned()).collect();
    if !absent.is_empty() {
        let traces = Traces::of(&d.root);
        for path in absent {
            let trace = traces.of_image(path);
            if let Some((_, remedy)) = &trace
                && !report.remedies.iter().any(|r| r == remedy)
            {
                report.remedies.push((*remedy).to_owned());
            }
            report.absent.push(AbsentImage {
                path: path.display().to_string(),
                instead: trace.map(|t| t.0),
            });
        }
    }
    report
}

fn look(path: &Path, channels: usize, depth: Depth) -> Found {
    let unreadable = |e: &std::io::Error| Found::Unreadable(e.to_string(), Cure::GetAgain);
    let meta = match std::fs::metadata(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Found::Absent,
        Err(e) => return unreadable(&e),
        Ok(meta) => meta,
    };
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no regular file" };
        return Found::Unreadable(what.into(), Cure::GetAgain);
    }
    let of_format = |format: Format| Found::Unreadable(format.as_found(), format.cure());
    if meta.len() == 0 {
        return of_format(Format::Empty);
    }
    if depth == Depth::Decode {
        return match fsio::read_at_most(path, limits::IMAGE_FILE) {
            Err(e) => unreadable(&e),
            Ok(bytes) => match decode::examine(&bytes, channels, ImageLoading::Authors) {
                Ok((_, stored)) => Found::Decoded(stored.damage.descriptions()),
                Err(fault) => Found::Unreadable(fault.to_string(), Fault::cure(&fault)),
            },
        };
    }
    if depth == Depth::Heads {
        let mut head = Vec::new();
        if let Err(e) = fsio::open_file(path).and_then(|f| f.take(HEAD as u64).read_to_end(&mut head)) {
            return unreadable(&e);
        }
        let format = Format::of(&head);
        if !format.is_read() {
            return of_format(format);
        }
    }
    Found::Here
}

const RENAME: &str = "Rename the files to the names that the label file has.";
const MOVE: &str = "Move the images to the place that the label file and `medft data list` say.";
const UNPACK: &str = "Unpack the archive in the set's folder, then delete it.";
const WHOLE: &str = "The folder was unpacked in part: unpack it again, over what is there.";

/// What is in a folder, by name.
struct Traces {
    /// Lower-case file name → paths.
    by_name: BTreeMap<String, Vec<PathBuf>>,
    /// Lower-case file name without its ending → paths.
    by_stem: BTreeMap<String, Vec<PathBuf>>,
    archives: Vec<PathBuf>,
    litter: BTreeSet<String>,
}

impl Traces {
    fn of(root: &Path) -> Self {
        let mut out = Self {
            by_name: BTreeMap::new(),
            by_stem: BTreeMap::new(),
            archives: Vec::new(),
            litter: BTreeSet::new(),
        };
        let Ok(found) = walk(root, None) else { return out };
        for f in found.files {
            let path = f.path.below(Path::new(""));
            let lower = |s: Option<&std::ffi::OsStr>| s.unwrap_or_default().to_string_lossy().to_lowercase();
            let name = lower(path.file_name());
            if [".zip", ".tar", ".tar.gz", ".tgz", ".7z", ".rar"]
                .iter()
                .any(|e| name.ends_with(e))
            {
                out.archives.push(path.clone());
            }
            out.by_stem
                .entry(lower(path.file_stem()))
                .or_default()
                .push(path.clone());
            out.by_name.entry(name).or_default().push(path);
        }
        out.litter = found
            .litter
            .iter()
            .map(|p| p.to_string().rsplit('/').next().unwrap_or_default().to_lowercase())
            .collect();
        out
    }

    /// What is there in place of an image, and what to do about it.
    fn of_image(&self, path: &Path) -> Option<(String, &'static str)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let nearest = |all: Option<&Vec<PathBuf>>| -> Option<PathBuf> {
            let all = all?;
            let beside = all.iter().find(|p| p.parent() == path.parent());
            beside.or(all.first()).cloned()
        };
        let image = |p: &PathBuf| {
            let ending = p.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            !matches!(ending.as_str(), "csv" | "txt" | "json" | "xml")
        };
        if let Some(other) = nearest(self.by_name.get(&name)) {
            let same_name = other.file_name() == path.file_name();
            return Some(match (same_name, other.parent() == path.parent()) {
                (false, true) => (
                    format!("{} is here: upper and lower case differ", other.display()),
                    RENAME,
                ),
                (false, false) => (
                    format!(
                        "{} is here: another folder, and upper and lower case differ",
                        other.display()
                    ),
                    MOVE,
                ),
                (true, _) => (format!("it lies at {}", other.display()), MOVE),
            });
        }
        if let Some(other) = nearest(self.by_stem.get(&stem)).filter(image) {
            return Some((format!("{} is here: another ending", other.display()), RENAME));
        }
        if self.litter.contains(&format!("._{name}")) {
            return Some((
                "only ._x of it is here, which macOS keeps beside a file".to_owned(),
                WHOLE,
            ));
        }
        let archive = self.archives.first()?;
        Some((format!("{} is here and not unpacked", archive.display()), UNPACK))
    }
}
