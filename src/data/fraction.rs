//! A part of the training images, for the question what the size of a data set does when nothing else changes
//! (`train_fraction`).
//!
//! * Nested: a smaller part is in every larger one, so two sizes differ by added images alone.
//! * By group: a patient, lesion or case is in it whole or not at all.
//! * Stratified: a group belongs to the rarest class (or positive label) that occurs in it, and of each class the part has the
//!   asked share of its images, to within half a group; no class loses its last group.
//! * Seeded: groups are drawn in the order of a hash of their names, the same on every machine, whatever the order of the files.
//!   The seed is that of the authors' split and not the run's: the part is a property of the data, and what differs between
//!   seeds stays what it is with all images.

use super::folder::Folder;
use super::labels::Labels;
use super::split::SEED;
use super::types::{Dataset, DatasetReader, Sample};
use crate::spec::Protocol;
use anyhow::Result;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// A group in the order of drawing: the hash of its name, then the name.
type Drawn<'a> = ([u8; 32], &'a str);

/// A data set as [`DatasetReader::load_from`] reads it, with the part of the training images that the protocol asks for.
///
/// # Errors
/// As [`DatasetReader::load_from`].
pub fn read(source: &dyn DatasetReader, root: &Folder, p: &Protocol) -> Result<Dataset> {
    let mut data = source.load_from(root, p)?;
    keep(&mut data, p.train_fraction);
    Ok(data)
}

/// Leaves the training list with `fraction` of its images (above 0 and at most 1), in their order.
pub fn keep(data: &mut Dataset, fraction: f64) {
    if fraction >= 1.0 {
        return;
    }
    let kept: HashSet<u32> = chosen((&data.samples, &data.labels), &data.train, fraction);
    data.train.retain(|i| kept.contains(i));
}

/// Which of the images `train` are in the part.
fn chosen((samples, labels): (&[Sample], &Labels), train: &[u32], fraction: f64) -> HashSet<u32> {
    // By class or positive label.
    let mut images: BTreeMap<u32, usize> = BTreeMap::new();
    for class in train.iter().flat_map(|&i| labels.of(i)) {
        *images.entry(class).or_default() += 1;
    }
    // Class, then drawing order, so that what follows depends on names alone.
    let mut groups: BTreeMap<Drawn, Vec<u32>> = BTreeMap::new();
    for &i in train {
        groups.entry(drawn(&samples[i as usize])).or_default().push(i);
    }
    let mut strata: BTreeMap<Option<u32>, Vec<&[u32]>> = BTreeMap::new();
    for rows in groups.values() {
        let rarest = rows.iter().flat_map(|&i| labels.of(i)).min_by_key(|c| (images[c], *c));
        strata.entry(rarest).or_default().push(rows);
    }
    let mut kept = HashSet::new();
    for groups in strata.values() {
        let all: usize = groups.iter().map(|g| g.len()).sum();
        let (goal, mut before) = (fraction * all as f64, 0);
        for (k, group) in groups.iter().enumerate() {
            // The middle of the group must lie below the goal: a rule that a larger goal never breaks.
            if k > 0 && before as f64 + group.len() as f64 / 2.0 >= goal {
                break;
            }
            before += group.len();
            kept.extend(group.iter().copied());
        }
    }
    kept
}

/// The place of a sample's group in the order of drawing; a sample without one is its own.
fn drawn(s: &Sample) -> Drawn<'_> {
    let (kind, name) = match &s.group {
        Some(g) => ("group", g.as_str()),
        None => ("image", s.id.as_str()),
    };
    (
        Sha256::digest(format!("medft train_fraction {SEED} {kind} {name}")).into(),
        name,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Pixels;
    use std::collections::BTreeSet;

    const SHARES: [f64; 6] = [0.01, 0.1, 0.25, 0.5, 0.9, 1.0];

    /// 3,000 images of 1,000 cases: case i has images of class 0, every tenth of class 1, every hundredth of class 2.
    fn cases() -> (Vec<Sample>, Labels) {
        let sample = |i: u32| Sample {
            id: format!("image {i}"),
            group: Some(format!("case {}", i / 3)),
            pixels: Pixels::File("none".into()),
        };
        let class = |i: u32| match i / 3 {
            c if c % 100 == 0 => 2,
            c if c % 10 == 0 => 1,
            _ => 0,
        };
        let labels = Labels::Classes((0..3000).map(class).collect());
        ((0..3000).map(sample).collect(), labels)
    }

    fn ids((samples, labels): &(Vec<Sample>, Labels), fraction: f64) -> BTreeSet<String> {
        let train: Vec<u32> = (0..samples.len() as u32).collect();
        let kept = chosen((samples, labels), &train, fraction);
        kept.into_iter().map(|i| samples[i as usize].id.clone()).collect()
    }

    #[test]
    fn parts_are_nested_and_groups_whole() {
        let all = cases();
        let parts: Vec<_> = SHARES.iter().map(|&f| ids(&all, f)).collect();
        for two in parts.windows(2) {
            assert!(two[0].is_subset(&two[1]) && two[0].len() < two[1].len());
        }
        assert_eq!(parts[5].len(), 3000);
        for part in &parts {
            for case in all.0.chunks(3) {
                let inside = case.iter().filter(|s| part.contains(&s.id)).count();
                assert!(inside == 0 || inside == 3, "{}", case[0].id);
            }
        }
    }

    #[test]
    fn classes_keep_their_shares_and_none_is_lost() {
        let all = cases();
        for f in SHARES {
            let part = ids(&all, f);
            for class in 0..3 {
                let of = |inside: bool| {
                    let is = |i: &u32| all.1.of(*i) == [class] && (!inside || part.contains(&all.0[*i as usize].id));
                    (0..3000).filter(is).count() as f64
                };
                let (n, want) = (of(true), f * of(false));
                assert!(
                    (n - want).abs() <= 1.5 || (n == 3.0 && want < 3.0),
                    "{f} {class}: {n} of {want}"
                );
            }
        }
    }

    #[test]
    fn the_order_of_the_files_decides_nothing() {
        let all = cases();
        let turned = (all.0.iter().rev().cloned().collect(), all.1.pick((0..3000).rev()));
        for f in SHARES {
            assert_eq!(ids(&all, f), ids(&turned, f));
        }
    }

    /// Images with several labels, or none, and without groups: the rare label keeps its share.
    #[test]
    fn a_rare_label_keeps_its_share() {
        let sample = |i: u32| Sample {
            id: i.to_string(),
            group: None,
            pixels: Pixels::File("none".into()),
        };
        let row = |i: u32| [u8::from(i.is_multiple_of(2)), u8::from(i.is_multiple_of(40)), 0];
        let labels = Labels::MultiHot {
            labels: 3,
            bits: (0..4000).flat_map(row).collect(),
        };
        let all = ((0..4000).map(sample).collect(), labels);
        let part = ids(&all, 0.2);
        let with = |label: u32| {
            let has = |i: &u32| all.1.of(*i).contains(&label) && part.contains(&i.to_string());
            (0..4000).filter(has).count()
        };
        assert_eq!((part.len(), with(0), with(1)), (800, 400, 20));
    }

    #[test]
    fn the_list_keeps_its_order_and_other_lists_stay() {
        let (samples, labels) = cases();
        let train: Vec<u32> = (0..2000).rev().collect();
        let mut data = Dataset {
            info: DatasetReader::info(&crate::data::ddsm::Ddsm, &Protocol::faithful()),
            root: "none".into(),
            samples,
            labels,
            train: train.clone(),
            val: (2000..2500).collect(),
            test: (2500..3000).collect(),
        };
        keep(&mut data, 1.0);
        assert_eq!(data.train, train);
        keep(&mut data, 0.5);
        assert!(data.train.is_sorted_by(|a, b| a > b));
        assert!(data.train.len().abs_diff(1000) <= 4, "{}", data.train.len());
        assert_eq!((data.val.len(), data.test.len()), (500, 500));
    }
}
