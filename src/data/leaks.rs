//! What two parts of a split share: images, groups (patient, lesion, case), equal pixels.
//!
//! A number measured on images whose patient or lesion was trained on is an optimistic one; the authors' splits of
//! CheXpert and ISIC2019 have such images (Q10, Q41), so the overlap is counted and shown, not assumed.

use super::types::{Dataset, Pixels};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the later part shares with the earlier one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Groups with images in both, sorted.
    pub groups: Vec<String>,
    /// Images of the later part whose group has an image in the earlier one.
    pub images_of_shared_groups: usize,
    /// Images that are in both lists.
    pub images: usize,
    /// Images of the later part that equal another image of the earlier one pixel for pixel. Counted where pixels are
    /// at hand (npz); files are not opened.
    pub twins: usize,
}

/// The overlaps of a data set's three parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Leaks {
    pub val_in_train: Overlap,
    pub test_in_train: Overlap,
    pub test_in_val: Overlap,
}

impl Leaks {
    /// Whether no part shares an image, a known group or an equal picture with another.
    pub fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// Counts what the parts of `d` share; images without a group count by themselves.
pub fn leaks(d: &Dataset) -> Leaks {
    Leaks {
        val_in_train: overlap(d, &d.train, &d.val),
        test_in_train: overlap(d, &d.train, &d.test),
        test_in_val: overlap(d, &d.val, &d.test),
    }
}

fn overlap(d: &Dataset, earlier: &[u32], later: &[u32]) -> Overlap {
    let group = |&i: &u32| d.samples[i as usize].group.as_deref();
    let pixels = |&i: &u32| match &d.samples[i as usize].pixels {
        Pixels::Array(a) => Some((a.width, a.channels, a.data.as_slice())),
        Pixels::File(_) => None,
    };
    let images: HashSet<u32> = earlier.iter().copied().collect();
    let groups: HashSet<&str> = earlier.iter().filter_map(group).collect();
    let mut pictures: HashMap<_, Vec<u32>> = HashMap::new();
    for i in earlier {
        if let Some(p) = pixels(i) {
            pictures.entry(p).or_default().push(*i);
        }
    }
    let mut shared = BTreeSet::new();
    let mut out = Overlap::default();
    for i in later {
        out.images += usize::from(images.contains(i));
        if let Some(g) = group(i).filter(|g| groups.contains(g)) {
            out.images_of_shared_groups += 1;
            shared.insert(g);
        }
        let twin = |p| pictures.get(&p).is_some_and(|same| same.iter().any(|j| j != i));
        out.twins += usize::from(pixels(i).is_some_and(twin));
    }
    out.groups = shared.into_iter().map(str::to_owned).collect();
    out
}
