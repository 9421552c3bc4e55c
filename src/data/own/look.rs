//! Every image of a user's set is opened once: whether it can be read, what its pixels add up to, which others are the same.

use super::types::{Image, Listing, Origin};
use crate::data::decode::{self, Stored};
use crate::data::format::{Cure, Format, HEAD};
use crate::data::pil::to_channels;
use crate::data::types::ImageArray;
use crate::spec::protocol::ImageLoading;
use crate::{fsio, limits};
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is kept of an image.
#[derive(Debug)]
pub(super) struct Seen {
    /// Over the pixels, by channel.
    sum: [u64; 3],
    squares: [u64; 3],
    pixels: u64,
    /// Of shape and pixels.
    pub hash: String,
    pub format: Option<Format>,
    pub stored: Option<Stored>,
    /// The brightest value.
    pub most: u8,
}

/// Opens all images; one that cannot be read is a problem and has nothing here.
pub(super) fn all(l: &mut Listing, channels: usize, on: &(dyn Fn(usize, usize) + Sync)) -> Vec<Option<Seen>> {
    let (done, of) = (AtomicUsize::new(0), l.images.len());
    let look = |i: &Image| {
        let seen = one(i, channels);
        on(done.fetch_add(1, Ordering::Relaxed) + 1, of);
        seen
    };
    let found: Vec<Result<Seen, String>> = l.images.par_iter().map(look).collect();
    let mut out = Vec::with_capacity(of);
    for (i, seen) in found.into_iter().enumerate() {
        match seen {
            Ok(seen) => out.push(Some(seen)),
            Err(why) => {
                let at = l.images[i].at.clone();
                l.bad(at, why);
                out.push(None);
            }
        }
    }
    out
}

fn one(i: &Image, channels: usize) -> Result<Seen, String> {
    let path = match &i.origin {
        Origin::Array(img) => return Ok(sums(to_channels(ImageArray::clone(img), channels), None, None)),
        Origin::File(path) => path,
    };
    let bad = |why: String| format!("{} is unreadable: {why}", path.display());
    let bytes = fsio::read_at_most(path, limits::IMAGE_FILE).map_err(|e| bad(e.to_string()))?;
    let format = Format::of(&bytes[..bytes.len().min(HEAD)]);
    let (img, stored) = decode::examine(&bytes, channels, ImageLoading::Sane)
        .map_err(|e| bad(format!("it is {e}{}", remedy(e.cure()))))?;
    Ok(sums(img, Some(format), Some(stored)))
}

/// What a user does about a file of his own.
fn remedy(cure: Cure) -> String {
    match cure {
        Cure::GetAgain => String::new(),
        Cure::Convert => "; convert it to PNG".to_owned(),
        Cure::Shrink => "; scale it down".to_owned(),
        other => format!(". {}", other.sentence()),
    }
}

fn sums(img: ImageArray, format: Option<Format>, stored: Option<Stored>) -> Seen {
    let mut s = Seen {
        sum: [0; 3],
        squares: [0; 3],
        pixels: (img.width * img.height) as u64,
        hash: fsio::sha256_hex(&[&(img.width as u64).to_le_bytes()[..], &img.data].concat()),
        format,
        stored,
        most: img.data.iter().copied().max().unwrap_or(0),
    };
    for px in img.data.chunks_exact(img.channels) {
        for (k, &v) in px.iter().enumerate() {
            s.sum[k] += u64::from(v);
            s.squares[k] += u64::from(v) * u64::from(v);
        }
    }
    s
}

/// Mean and standard deviation by channel over the pixels of the training images, of values in 0..1, from exact sums.
pub(super) fn moments(images: &[Image], seen: &[Option<Seen>], channels: usize) -> (Vec<f32>, Vec<f32>) {
    let train = || {
        images
            .iter()
            .zip(seen)
            .filter(|(i, _)| i.part == Some(0))
            .filter_map(|(_, s)| s.as_ref())
    };
    let n = train().map(|s| s.pixels).sum::<u64>() as f64;
    let one = |k: usize| {
        let mean = train().map(|s| s.sum[k]).sum::<u64>() as f64 / n;
        let square = train().map(|s| s.squares[k]).sum::<u64>() as f64 / n;
        (
            (mean / 255.0) as f32,
            ((square - mean * mean).max(0.0).sqrt() / 255.0) as f32,
        )
    };
    (0..channels).map(one).unzip()
}
