//! Phantoms: small made-up data sets in the layouts of the real ones, so that the whole way from files to tables runs
//! and is tested without a download, a licence or a GPU. Their numbers say nothing about medicine.
//!
//! **What they keep of the real sets**: folders, file names, headers, line ends, the forms of values (CheXpert's empty
//! and −1.0), several images of a case, patient or lesion, unbalanced classes, images of several sizes and shapes.
//! **What they change**: a few hundred images; rare classes are raised so that every class is in every part at the
//! default size; a finding shows in every image that is labelled with it, and beside its own place and shape it shows in
//! the exposure of the whole picture (the light of it, where it has colours). That coarse side is what a model of random
//! weights learns in the 27 steps of the demo: it is there so that the demo can show that models learn, not only that they
//! run (docs/USING.md holds what was measured). The phantoms of MedMNIST go without.
//!
//! **Same bytes on every machine**, since a manifest with their hashes is committed. Random numbers are counter-based,
//! a stream for each image, so neither order nor threads matter. Pixels are strict IEEE arithmetic ([`draw`] argues
//! it). The encoders are `image`'s JPEG (integer transform; each quantised value is one rounded f32 division) and PNG
//! with fdeflate (integers; CPU features speed up only the Adler and CRC sums, whose values are defined). The npz files
//! are stored, not deflated, with fixed dates and system byte. The golden hashes of the tests hold on x86-64 (baseline,
//! and compiled for AVX-512 with FMA) and on aarch64; should an upgrade of an encoder change bytes, they say so.
//!
//! **Nothing is overwritten**: a file that is already there with other bytes is an error, so a phantom can never
//! replace real data; one with the same bytes is left alone, so writing twice costs only the drawing.

pub mod aptos2019;
mod chest;
pub mod chexpert;
pub mod ddsm;
mod draw;
pub mod isic2019;
pub mod medmnist;

use crate::error::BadInput;
use crate::fsio;
use crate::limits;
use crate::rng::{Purpose, Stream};
use anyhow::Result;
use draw::Canvas;
use rayon::prelude::*;
use std::path::Path;

/// Writers at a time. Files are small and each waits for the disk to confirm it, so more than there are cores.
const WRITERS: usize = 8;

/// The first half of a stream's key: which phantom.
#[derive(Clone, Copy)]
#[repr(u32)]
enum Set {
    Ddsm = 1,
    CheXpert = 2,
    Isic2019 = 3,
    Aptos2019 = 4,
    /// Plus the position in [`medmnist::NAMES`].
    MedMnist = 16,
}

/// The second half: what is drawn.
#[derive(Clone, Copy)]
enum Of {
    /// Tables: who has what. The number picks one deal among many.
    Table(usize),
    /// What all images of a case, patient or lesion share.
    Subject(usize),
    /// What the tables say about it besides.
    Facts(usize),
    /// One image.
    Image(usize),
}

fn stream(set: Set, of: Of) -> Stream {
    numbered_stream(set as u32, of)
}

fn numbered_stream(set: u32, of: Of) -> Stream {
    let index = match of {
        Of::Table(i) => u32::MAX - i as u32,
        Of::Subject(i) => 3 * i as u32,
        Of::Facts(i) => 3 * i as u32 + 1,
        Of::Image(i) => 3 * i as u32 + 2,
    };
    Stream::new(250_519_779, Purpose::Phantom, set, index)
}

/// A file name below the data set's folder and the drawing that goes there, as JPEG or PNG by the name's extension.
struct Picture {
    name: String,
    paint: Box<dyn Fn() -> Canvas + Send + Sync>,
}

impl Picture {
    fn new(name: String, paint: impl Fn() -> Canvas + Send + Sync + 'static) -> Self {
        Self {
            name,
            paint: Box::new(paint),
        }
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let canvas = (self.paint)();
        if self.name.ends_with(".png") {
            canvas.png()
        } else {
            canvas.jpeg()
        }
    }
}

/// A data set that could be written.
struct Phantom {
    /// Label files: name below the data set's folder, content.
    labels: Vec<(String, Vec<u8>)>,
    pictures: Vec<Picture>,
}

impl Phantom {
    /// Writes the files that are not there yet; the label files last, so that an interrupted phantom is not a data set.
    fn write(&self, root: &Path, writers: usize) -> Result<()> {
        for (name, bytes) in &self.labels {
            is_there(&root.join(name), bytes)?;
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(writers).build()?;
        pool.install(|| {
            let write = |p: &Picture| put(&root.join(&p.name), &p.encode()?);
            self.pictures.par_iter().try_for_each(write)
        })?;
        self.labels
            .iter()
            .try_for_each(|(name, bytes)| put(&root.join(name), bytes))
    }
}

fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if is_there(path, bytes)? {
        return Ok(());
    }
    fsio::write_atomic(path, bytes)
}

/// Whether the file is there with these bytes.
///
/// # Errors
/// [`BadInput`] when it is there with others.
fn is_there(path: &Path, bytes: &[u8]) -> Result<bool> {
    match fsio::read_at_most(path, limits::WHOLE_FILE) {
        Ok(found) if found == bytes => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        other => Err(BadInput::new(
            path.display(),
            "no file, or the phantom's own",
            match other {
                Ok(_) => "a file with other content".to_owned(),
                Err(e) => e.to_string(),
            },
            "Choose an empty folder with --data-dir, or delete this one if nothing in it is needed; a phantom overwrites nothing.",
        )
        .into()),
    }
}

/// Refuses a number of images that would leave parts without classes, whatever the deal.
fn at_least(title: &str, images: usize, least: usize) -> Result<()> {
    if images >= least {
        return Ok(());
    }
    Err(BadInput::new(
        format!("the phantom of {title}"),
        format!("at least {least} images, for every part to have some of each class"),
        images.to_string(),
        "Ask for more images, or leave the number out.",
    )
    .into())
}

/// `n` class numbers in random order, as many of each as its weight says (largest remainders), at least one of each
/// while there is room.
fn deal(rng: &mut Stream, weights: &[usize], n: usize) -> Vec<usize> {
    let total: usize = weights.iter().sum();
    let least = usize::from(n >= weights.len());
    let mut count: Vec<usize> = weights.iter().map(|w| (n * w / total).max(least)).collect();
    let mut by_rest: Vec<usize> = (0..weights.len()).collect();
    by_rest.sort_by_key(|&c| std::cmp::Reverse(n * weights[c] % total));
    for &c in by_rest.iter().cycle() {
        if count.iter().sum::<usize>() >= n {
            break;
        }
        count[c] += 1;
    }
    while count.iter().sum::<usize>() > n {
        let most = (0..count.len()).max_by_key(|&c| (count[c], std::cmp::Reverse(c)));
        count[most.unwrap_or(0)] -= 1;
    }
    let mut dealt: Vec<usize> = (0..count.len()).flat_map(|c| vec![c; count[c]]).collect();
    rng.shuffle(&mut dealt);
    dealt
}

#[cfg(test)]
mod tests;
