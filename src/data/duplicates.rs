//! Images that a data set has twice, as groups that a split can keep together.
//!
//! For data sets that publish no patients, lesions or cases. Twice means: the same bytes of the file, or the same pixels
//! where a set comes as arrays. Of a verified set the list says it and no file is looked at; else files of the same bytes have
//! the same size, and only those whose size occurs twice are read.
//! An image that is not there is in no group; a run never sees one, since it reads verified sets only.

use super::folder::Folder;
use super::split::{self, Parts};
use super::types::{Pixels, Sample};
use crate::fsio;
use crate::limits;
use crate::spec::SplitRule;
use crate::spec::protocol::{Duplicates, Protocol};
use anyhow::Result;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// The parts, and groups in `samples`, as a protocol has the images that a set without groups has twice.
///
/// # Errors
/// As [`group`].
pub fn together(root: &Folder, p: &Protocol, samples: &mut [Sample], parts: Parts) -> Result<Parts> {
    if p.duplicates == Duplicates::Ignored {
        return Ok(parts);
    }
    group(root, samples)?;
    Ok(split::together(&parts, |i| samples[i as usize].group.as_deref()))
}

/// Gives every image that is there twice the group of its first copy, unless it has a group of its own.
///
/// # Errors
/// [`crate::error::BadInput`] naming an image file that is there and cannot be read.
pub fn group(root: &Folder, samples: &mut [Sample]) -> Result<()> {
    let sizes: Vec<u64> = samples.par_iter().map(|s| size(root, s)).collect();
    let mut count: BTreeMap<u64, usize> = BTreeMap::new();
    sizes.iter().for_each(|&n| *count.entry(n).or_default() += 1);
    let hashed = |(s, n): (&Sample, &u64)| match &s.pixels {
        Pixels::File(file) if root.is_verified() => Ok(root.listed(file).map(|sha| sha.to_string())),
        _ if *n > 0 && count[n] > 1 => content(root, s).map(Some),
        _ => Ok(None),
    };
    let hashes: Vec<Option<String>> = samples.par_iter().zip(&sizes).map(hashed).collect::<Result<_>>()?;
    let mut copies: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, hash) in hashes.iter().enumerate() {
        if let Some(hash) = hash {
            copies.entry(hash).or_default().push(i);
        }
    }
    for copies in copies.values().filter(|c| c.len() > 1) {
        let name = format!("copies of {}", samples[copies[0]].id);
        for &i in copies {
            samples[i].group.get_or_insert_with(|| name.clone());
        }
    }
    Ok(())
}

/// Bytes of an image; 0 where it is not there.
fn size(root: &Folder, s: &Sample) -> u64 {
    match &s.pixels {
        Pixels::File(_) if root.is_verified() => 0,
        Pixels::File(file) => std::fs::metadata(root.join(file)).map_or(0, |m| m.len()),
        Pixels::Array(img) => img.data.len() as u64,
    }
}

/// What two copies have in common.
fn content(root: &Folder, s: &Sample) -> Result<String> {
    match &s.pixels {
        Pixels::File(file) => Ok(root.hash(file, "an image", limits::IMAGE_FILE)?.to_string()),
        Pixels::Array(img) => {
            let mut h = Sha256::new();
            for n in [img.width, img.height, img.channels] {
                h.update((n as u64).to_le_bytes());
            }
            h.update(&img.data);
            Ok(fsio::hex(&h.finalize()))
        }
    }
}

/// What split rules mean for a set that names no groups: under `grouped`, images that are there twice stay together.
pub fn cut(rule: SplitRule, p: &mut Protocol) -> bool {
    p.duplicates = match rule {
        SplitRule::Grouped => Duplicates::Together,
        SplitRule::Authors | SplitRule::Official => Duplicates::Ignored,
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageArray;
    use std::sync::Arc;

    fn sample(id: &str, pixels: Pixels) -> Sample {
        Sample {
            id: id.into(),
            group: None,
            pixels,
        }
    }

    fn groups(samples: &[Sample]) -> Vec<Option<&str>> {
        samples.iter().map(|s| s.group.as_deref()).collect()
    }

    #[test]
    fn copies_of_a_file_are_a_group_and_files_of_one_size_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.path().join(name), bytes).unwrap();
            sample(name, Pixels::File(name.into()))
        };
        let mut all = vec![
            write("a", b"one"),
            write("b", b"two"),
            write("c", b"one"),
            write("d", b"three"),
            sample("gone", Pixels::File("gone".into())),
            sample("gone too", Pixels::File("gone too".into())),
            write("e", b"one"),
            write("f", b"two"),
        ];
        all[7].group = Some("its own".into());
        group(&dir.path().into(), &mut all).unwrap();
        let (one, two) = (Some("copies of a"), Some("copies of b"));
        assert_eq!(groups(&all), [one, two, one, None, None, None, one, Some("its own")]);
    }

    #[test]
    fn arrays_are_copies_when_shape_and_pixels_are_the_same() {
        let array = |id: &str, width: usize, data: &[u8]| {
            let img = ImageArray {
                width,
                height: data.len() / width,
                channels: 1,
                data: data.to_vec(),
            };
            sample(id, Pixels::Array(Arc::new(img)))
        };
        let mut all = vec![
            array("0", 2, &[1, 2, 3, 4]),
            array("1", 4, &[1, 2, 3, 4]),
            array("2", 2, &[1, 2, 3, 5]),
            array("3", 2, &[1, 2, 3, 4]),
        ];
        group(&".".into(), &mut all).unwrap();
        let twice = Some("copies of 0");
        assert_eq!(groups(&all), [twice, None, None, twice]);
    }
}
