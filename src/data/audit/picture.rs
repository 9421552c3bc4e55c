//! Reads every image of a data set as a run would, and says what there is to say of the files and pixels.

use super::fingerprint::{self, Looks};
use super::parts;
use super::twins::{self, Twins};
use crate::data::decode::{self, Fault, Stored};
use crate::data::types::{Dataset, ImageArray, Pixels};
use crate::error::BadInput;
use crate::spec::Protocol;
use crate::spec::protocol::{ImageLoading, PngTwin};
use anyhow::Result;
use rayon::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An image that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    pub image: String,
    pub why: String,
}

/// Something that decoding left out or changed, and the images it did so to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    pub what: String,
    pub images: Vec<String>,
}

/// Width × height of the images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub distinct: usize,
    /// By area.
    pub smallest: (usize, usize),
    pub largest: (usize, usize),
}

/// What the images show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureAudit {
    /// Images that were read.
    pub read: usize,
    pub failed: Vec<Failed>,
    /// Images with damage that Pillow reads over.
    pub damaged: usize,
    pub sizes: Sizes,
    pub warnings: Vec<Warning>,
    /// Files with the same bytes; empty where images lie in one archive.
    pub same_files: Twins,
    /// Images with the same pixels after decoding, the same files included.
    pub same_pixels: Twins,
    /// Images that look the same ([`super::fingerprint`]), those with the same pixels included.
    pub same_looks: Twins,
}

/// What is kept of one image.
struct Picture {
    file: Option<[u8; 32]>,
    pixels: [u8; 32],
    size: (usize, usize),
    looks: Looks,
    warnings: Vec<&'static str>,
    damaged: bool,
}

/// Reads the images of all parts and compares each with each; `on` is called with (done, of all) from any thread.
///
/// An image that cannot be read is in the report, by name.
///
/// # Errors
/// [`BadInput`] when not a single image is there.
pub fn pictures(d: &Dataset, p: &Protocol, on: &(dyn Fn(usize, usize) + Sync)) -> Result<PictureAudit> {
    let used: BTreeSet<u32> = parts(d).into_iter().flatten().copied().collect();
    let used: Vec<u32> = used.into_iter().collect();
    let done = AtomicUsize::new(0);
    let read: Vec<(u32, Result<Picture, String>)> = used
        .par_iter()
        .map(|&i| {
            let picture = read(d, i, p);
            on(done.fetch_add(1, Ordering::Relaxed) + 1, used.len());
            (i, picture)
        })
        .collect();
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for (i, picture) in read {
        match picture {
            Ok(picture) => found.push((i, picture)),
            Err(why) => failed.push(Failed {
                image: d.samples[i as usize].id.clone(),
                why,
            }),
        }
    }
    if found.is_empty() {
        let why = failed
            .first()
            .map_or_else(|| "none".to_owned(), |f| format!("{}: {}", f.image, f.why));
        let remedy = "Bring the images, or audit what the label files show alone with --labels-only.";
        return Err(BadInput::new(d.root.display(), "the images of the data set", why, remedy).into());
    }
    let indices: Vec<u32> = found.iter().map(|f| f.0).collect();
    let by = |key: &dyn Fn(&Picture) -> Option<[u8; 32]>| same(&found.iter().map(|f| key(&f.1)).collect::<Vec<_>>());
    let same_pixels = by(&|p| Some(p.pixels));
    let alike = looking_alike(&found, &same_pixels);
    Ok(PictureAudit {
        read: found.len(),
        failed,
        damaged: found.iter().filter(|f| f.1.damaged).count(),
        sizes: sizes(&found),
        warnings: warnings(d, &found),
        same_files: twins::of(d, &indices, &by(&|p| p.file)),
        same_pixels: twins::of(d, &indices, &same_pixels),
        same_looks: twins::of(d, &indices, &alike),
    })
}

fn read(d: &Dataset, i: u32, p: &Protocol) -> Result<Picture, String> {
    match &d.samples[i as usize].pixels {
        Pixels::Array(image) => Ok(picture(image, None, Vec::new())),
        Pixels::File(below) => {
            let file = decode::resolve(&d.root, below, p.png_twin);
            let bytes = decode::read(&d.root, below, p.png_twin).map_err(|e| e.to_string())?;
            let (image, stored) =
                decode::examine(&bytes, d.info.channels, p.image_loading).map_err(|e: Fault| e.to_string())?;
            let warnings = warn(below, &file, stored, d.info.channels, p);
            let mut picture = picture(&image, Some(Sha256::digest(&bytes).into()), warnings);
            picture.damaged = !stored.damage.descriptions().is_empty();
            Ok(picture)
        }
    }
}

fn picture(image: &ImageArray, file: Option<[u8; 32]>, warnings: Vec<&'static str>) -> Picture {
    let mut pixels = Sha256::new();
    for n in [image.width, image.height, image.channels] {
        pixels.update((n as u64).to_le_bytes());
    }
    pixels.update(&image.data);
    Picture {
        file,
        pixels: pixels.finalize().into(),
        size: (image.width, image.height),
        looks: Looks::of(image),
        warnings,
        damaged: false,
    }
}

/// What the pixels no longer show of the file.
fn warn(listed: &Path, path: &Path, stored: Stored, channels: usize, p: &Protocol) -> Vec<&'static str> {
    let sane = p.image_loading == ImageLoading::Sane;
    let turned = stored.orientation.is_some_and(|o| o != 1);
    let cases = [
        (
            turned && !sane,
            "EXIF or XMP ask to turn the image; the protocol does not",
        ),
        (turned && sane, "turned as EXIF or XMP ask"),
        (stored.alpha, "transparency dropped"),
        (stored.deep && !sane && stored.channels == 1, "16 bits clipped at 255"),
        (
            stored.deep && !sane && stored.channels != 1,
            "16 bits cut to the upper 8",
        ),
        (stored.deep && sane, "16 bits scaled to 8"),
        (stored.channels == 4, "CMYK converted to RGB"),
        (channels == 1 && stored.channels != 1, "colour file read as grey"),
        (channels == 3 && stored.channels == 1, "grey file read as colour"),
        (
            p.png_twin == PngTwin::Prefer && path != listed,
            "a .png beside the listed file read in its place",
        ),
    ];
    let cases = cases.into_iter().filter(|c| c.0).map(|c| c.1);
    cases.chain(stored.damage.descriptions()).collect()
}

fn warnings(d: &Dataset, found: &[(u32, Picture)]) -> Vec<Warning> {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (i, p) in found {
        for w in &p.warnings {
            all.entry(w).or_default().push(d.samples[*i as usize].id.clone());
        }
    }
    let warning = |(what, images): (&str, Vec<String>)| Warning {
        what: what.to_owned(),
        images,
    };
    all.into_iter().map(warning).collect()
}

fn sizes(found: &[(u32, Picture)]) -> Sizes {
    let distinct: BTreeSet<(usize, usize)> = found.iter().map(|f| f.1.size).collect();
    let area = |s: &&(usize, usize)| (s.0 * s.1, s.0);
    Sizes {
        distinct: distinct.len(),
        smallest: distinct.iter().min_by_key(area).copied().unwrap_or_default(),
        largest: distinct.iter().max_by_key(area).copied().unwrap_or_default(),
    }
}

/// Pairs (first, later) of positions with equal keys.
fn same(keys: &[Option<[u8; 32]>]) -> Vec<(u32, u32)> {
    let mut first: HashMap<[u8; 32], u32> = HashMap::new();
    let mut pairs = Vec::new();
    for (i, key) in (0..).zip(keys) {
        if let Some(key) = key {
            let f = *first.entry(*key).or_insert(i);
            if f != i {
                pairs.push((f, i));
            }
        }
    }
    pairs
}

/// Pairs that look the same: each with each, but of images with the same pixels only the first.
fn looking_alike(found: &[(u32, Picture)], same_pixels: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let repeated: BTreeSet<u32> = same_pixels.iter().map(|p| p.1).collect();
    let firsts: Vec<u32> = (0..found.len() as u32).filter(|i| !repeated.contains(i)).collect();
    let looks: Vec<&Looks> = firsts.iter().map(|&i| &found[i as usize].1.looks).collect();
    let mut pairs: Vec<(u32, u32)> = fingerprint::pairs(&looks)
        .into_iter()
        .map(|(a, b)| (firsts[a as usize], firsts[b as usize]))
        .collect();
    pairs.extend(same_pixels);
    pairs.sort_unstable();
    pairs
}
