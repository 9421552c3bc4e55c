//! What a careful reader wants to know of a data set before believing a number on it.
//!
//! [`labels`] asks the label files alone: class counts of each part, groups (patient, lesion, case), what the parts share,
//! groups whose images carry different labels. [`pictures`] reads every image as a run would: files and pixels that are
//! the same, pictures that look the same ([`fingerprint`]), duplicates whose labels differ, what the decoder left out, and
//! files it could not read. Both only report; whether a finding matters is for the reader to say.

pub mod fingerprint;
mod picture;
mod twins;

pub use picture::{Failed, PictureAudit, Sizes, Warning, pictures};
pub use twins::{Across, Cluster, Member, Twins, Within};

use super::leaks::{Leaks, leaks};
use super::types::{Dataset, Task};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Names of the parts, in the order in which everything here lists them.
pub const PARTS: [&str; 3] = ["train", "val", "test"];

/// Images of one part, by class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// `train`, `val`, `test` or, for what no part has, `unused`.
    pub part: &'static str,
    pub images: usize,
    /// In class order; positives where labels are many.
    pub classes: Vec<usize>,
    /// Groups that are named in the part, and its images that name none.
    pub groups: usize,
    pub without_group: usize,
}

/// A group whose images do not all carry the same label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Divided {
    pub group: String,
    /// Label → images.
    pub labels: BTreeMap<String, usize>,
}

/// The groups of a whole data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Groups {
    pub known: usize,
    /// Groups of more than one image, and the images in them.
    pub shared: usize,
    pub images_of_shared: usize,
    pub images_without: usize,
    /// Empty for a set of many labels, where the images of one patient differ by right.
    pub divided: Vec<Divided>,
}

/// What the label files alone can show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LabelAudit {
    pub images: usize,
    pub classes: Vec<String>,
    /// Whether an image has any number of labels; counts of classes are then of positives.
    pub many_labels: bool,
    /// train, val, test, and unused where images are in no part.
    pub parts: Vec<Balance>,
    pub groups: Groups,
    pub leaks: Leaks,
}

/// Audits labels, groups and parts; opens no file.
pub fn labels(d: &Dataset) -> LabelAudit {
    let used: BTreeSet<u32> = parts(d).into_iter().flatten().copied().collect();
    let unused: Vec<u32> = (0..d.samples.len() as u32).filter(|i| !used.contains(i)).collect();
    let mut all: Vec<Balance> = PARTS
        .iter()
        .zip(parts(d))
        .map(|(name, part)| balance(d, name, part))
        .collect();
    if !unused.is_empty() {
        all.push(balance(d, "unused", &unused));
    }
    LabelAudit {
        images: d.samples.len(),
        classes: d.info.classes.clone(),
        many_labels: matches!(d.info.task, Task::MultiLabel(_)),
        parts: all,
        groups: groups(d),
        leaks: leaks(d),
    }
}

/// Images and classes of a list of samples; the `whole` set where it is called for all.
pub fn balance(d: &Dataset, part: &'static str, list: &[u32]) -> Balance {
    let mut classes = vec![0; d.info.task.outputs()];
    let mut groups = BTreeSet::new();
    let mut without_group = 0;
    for &i in list {
        d.labels.of(i).iter().for_each(|&c| classes[c as usize] += 1);
        match &d.samples[i as usize].group {
            Some(g) => drop(groups.insert(g)),
            None => without_group += 1,
        }
    }
    Balance {
        part,
        images: list.len(),
        classes,
        groups: groups.len(),
        without_group,
    }
}

fn groups(d: &Dataset) -> Groups {
    let mut members: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for (i, s) in (0u32..).zip(&d.samples) {
        if let Some(g) = &s.group {
            *members.entry(g).or_default().entry(label_text(d, i)).or_default() += 1;
        }
    }
    let sizes = || {
        members
            .values()
            .map(|labels| labels.values().sum::<usize>())
            .filter(|&n| n > 1)
    };
    let divided = members.iter().filter(|(_, labels)| labels.len() > 1);
    Groups {
        known: members.len(),
        shared: sizes().count(),
        images_of_shared: sizes().sum(),
        images_without: d.samples.iter().filter(|s| s.group.is_none()).count(),
        divided: match d.info.task {
            Task::MultiLabel(_) => Vec::new(),
            Task::MultiClass(_) => divided
                .map(|(g, labels)| Divided {
                    group: (*g).to_owned(),
                    labels: labels.clone(),
                })
                .collect(),
        },
    }
}

/// The label of an image in words: the class, or the positive labels.
pub(crate) fn label_text(d: &Dataset, image: u32) -> String {
    let names: Vec<&str> = d
        .labels
        .of(image)
        .iter()
        .map(|&c| d.info.classes[c as usize].as_str())
        .collect();
    match names.is_empty() {
        true => "none".into(),
        false => names.join(" + "),
    }
}

fn parts(d: &Dataset) -> [&[u32]; 3] {
    [&d.train, &d.val, &d.test]
}
