//! When two pictures look the same: a perceptual hash finds candidates, small grey copies decide.
//!
//! * Hash: the difference hash in both directions, 128 bits. The picture as Pillow's L, resized by Pillow's bilinear filter
//!   to 9 × 8 pixels: a bit for each pixel that is brighter than its left neighbour; resized to 8 × 9: a bit for each that is
//!   brighter than the one above. (imagehash's `dhash` and `dhash_vertical` of size 8, with that filter.)
//! * Candidates: hashes that differ in at most [`MAX_BITS`] bits.
//! * Same: 16 × 16 grey copies (same filter) whose brightness, each less its own mean, differs by at most [`MAX_MEAN_DIFFERENCE`]
//!   grey levels on the average.
//!
//! The second step is what makes the first one usable on medical images: chest films and retinas are alike in outline, and
//! among the 5,856 of PneumoniaMNIST 4,203 pairs are within ten bits while 31 are the same picture. Saving as JPEG of
//! quality 75 or in half size moves 98 dermoscopy photographs by at most 8 bits and 0.2 levels. Turned, mirrored or
//! cropped copies are not found.

use crate::data::ImageArray;
use crate::data::pil::{resize, to_channels};
use crate::spec::protocol::ResizeOrder;
use rayon::prelude::*;

/// Bits of 128 in which candidates may differ.
pub const MAX_BITS: u32 = 10;
/// Grey levels by which the small copies of the same picture may differ on the average.
pub const MAX_MEAN_DIFFERENCE: i64 = 2;

const SIDE: usize = 16;
const PIXELS: i64 = (SIDE * SIDE) as i64;

/// What is kept of a picture's looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks {
    pub hash: u128,
    small: [u8; SIDE * SIDE],
    sum: i64,
}

impl Looks {
    /// Of decoded pixels.
    pub fn of(image: &ImageArray) -> Self {
        let grey = to_channels(image.clone(), 1);
        let sized = |width, height| resize(&grey, width, height, ResizeOrder::WidthFirst).data;
        let bits = |pixels: &[u8], width: usize, height: usize, step: usize| {
            let brighter = |i: usize| pixels[i] > pixels[i - step];
            let inside = (0..width * height).filter(|i| if step == 1 { i % width > 0 } else { *i >= width });
            inside.fold(0u64, |hash, i| hash << 1 | u64::from(brighter(i)))
        };
        let (across, down) = (bits(&sized(9, 8), 9, 8, 1), bits(&sized(8, 9), 8, 9, 8));
        let mut small = [0; SIDE * SIDE];
        small.copy_from_slice(&sized(SIDE, SIDE));
        Self {
            hash: u128::from(across) << 64 | u128::from(down),
            small,
            sum: small.iter().map(|&v| i64::from(v)).sum(),
        }
    }

    /// Whether both are the same picture, as the head of this file says.
    pub fn same(&self, other: &Self) -> bool {
        candidates(self.hash, other.hash) && self.as_bright(other)
    }

    fn as_bright(&self, other: &Self) -> bool {
        // Everything times 256, so that the mean needs no fraction.
        let shift = self.sum - other.sum;
        let difference: i64 = self
            .small
            .iter()
            .zip(&other.small)
            .map(|(&a, &b)| (PIXELS * (i64::from(a) - i64::from(b)) - shift).abs())
            .sum();
        difference <= MAX_MEAN_DIFFERENCE * PIXELS * PIXELS
    }
}

fn candidates(a: u128, b: u128) -> bool {
    (a ^ b).count_ones() <= MAX_BITS
}

/// Pairs (earlier, later) of positions of `looks` that are the same picture, sorted: each is compared with each.
pub fn pairs(looks: &[&Looks]) -> Vec<(u32, u32)> {
    // The hashes by themselves stay in the processor's cache; the copies are read for candidates only.
    let hashes: Vec<u128> = looks.iter().map(|l| l.hash).collect();
    let of = |a: usize| {
        let hash = hashes[a];
        let later = hashes[a + 1..].iter().enumerate();
        let near = later
            .filter(move |(_, h)| candidates(hash, **h))
            .map(move |(k, _)| a + 1 + k);
        near.filter(move |&b| looks[a].as_bright(looks[b]))
            .map(move |b| (a as u32, b as u32))
    };
    (0..looks.len()).into_par_iter().flat_map_iter(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::decode;
    use crate::spec::protocol::ImageLoading;
    use std::path::Path;

    fn vectors() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
    }

    fn open(file: &str) -> ImageArray {
        let bytes = std::fs::read(vectors().join("pillow").join(file)).unwrap();
        decode(&bytes, 3, ImageLoading::Authors).unwrap()
    }

    /// Hashes by the imagehash package, distances by NumPy (`make/looks.py`).
    #[test]
    fn hashes_and_distances_are_those_of_imagehash_and_numpy() {
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(vectors().join("looks.json")).unwrap()).unwrap();
        let files = json["files"].as_object().unwrap();
        assert!(files.len() > 20);
        let looks: Vec<Looks> = files.keys().map(|f| Looks::of(&open(f))).collect();
        for (look, (file, want)) in looks.iter().zip(files) {
            assert_eq!(format!("{:032x}", look.hash), want["hash"].as_str().unwrap(), "{file}");
        }
        let names: Vec<&String> = files.keys().collect();
        let same = |a: &str, b: &str| {
            let at = |n: &str| names.iter().position(|m| *m == n).unwrap();
            looks[at(a)].same(&looks[at(b)])
        };
        let pairs = json["pairs"].as_array().unwrap();
        for p in pairs {
            let (a, b) = (p["a"].as_str().unwrap(), p["b"].as_str().unwrap());
            assert_eq!(same(a, b), p["same"].as_bool().unwrap(), "{p}");
        }
        let all: Vec<&Looks> = looks.iter().collect();
        let found: Vec<(u32, u32)> = super::pairs(&all);
        let expected = pairs.iter().filter(|p| p["same"] == true).count();
        assert_eq!(found.len(), expected);
        assert!(pairs.iter().any(|p| p["same"] == true) && pairs.iter().any(|p| p["same"] == false));
    }

    #[test]
    fn a_lighter_copy_is_the_same_and_a_mirrored_one_is_not() {
        let image = open("420.jpg");
        let mut lighter = image.clone();
        lighter.data.iter_mut().for_each(|v| *v = (*v).clamp(0, 250) + 5);
        let mut dark = image.clone();
        dark.data.iter_mut().for_each(|v| *v = (*v).clamp(0, 250));
        assert!(Looks::of(&dark).same(&Looks::of(&lighter)));
        let mut mirrored = image.clone();
        crate::data::pil::flip_horizontal(&mut mirrored);
        assert!(!Looks::of(&image).same(&Looks::of(&mirrored)));
    }
}
