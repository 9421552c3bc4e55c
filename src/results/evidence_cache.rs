//! Computed evidence on disk: one file a study and data set, so that a second report computes nothing.
//!
//! A file is its own hash, an index in JSON, and the numbers as they are in memory (little-endian doubles). What does not
//! fit its hash, or another version's file, counts as absent: a cache holds nothing that cannot be computed again.

use crate::eval::Components;
use crate::fsio;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One run's target metric on resampled test sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// SHA-256 over ids, truth and groups of the test images, in order. Only runs that share it may be compared replicate by replicate.
    pub images: String,
    /// Number of test images.
    pub count: usize,
    /// Number of groups that were drawn; `None` where no group is known and images were.
    pub groups: Option<usize>,
    /// The metric on every resample; NaN where it is not defined.
    pub replicates: Vec<f64>,
    /// DeLong's components, where the metric is the area under a two-class ROC curve.
    pub components: Option<Components>,
}

#[derive(Default)]
pub(super) struct Cache(BTreeMap<String, Evidence>);

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    images: String,
    count: usize,
    groups: Option<usize>,
    replicates: usize,
    /// Positive and negative images with components; none where there are none.
    classes: Option<(usize, usize)>,
}

impl Cache {
    /// What is in the file; nothing where it is absent, torn or of another version.
    pub fn read(path: &Path) -> Self {
        fsio::read(path).ok().and_then(|b| Self::parse(&b)).unwrap_or_default()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (hash, body) = split_line(bytes)?;
        if fsio::sha256_hex(body).as_bytes() != hash {
            return None;
        }
        let (index, numbers) = split_line(body)?;
        let index: Vec<Entry> = serde_json::from_slice(index).ok()?;
        let mut numbers = numbers.chunks_exact(8).map(|c| {
            let mut b = [0; 8];
            b.copy_from_slice(c);
            f64::from_le_bytes(b)
        });
        let mut take = |n: usize| -> Option<Vec<f64>> {
            let v: Vec<f64> = numbers.by_ref().take(n).collect();
            (v.len() == n).then_some(v)
        };
        let mut all = BTreeMap::new();
        for e in index {
            let replicates = take(e.replicates)?;
            let components = match e.classes {
                None => None,
                Some((m, n)) => Some(Components {
                    auc: take(1)?[0],
                    of_positives: take(m)?,
                    of_negatives: take(n)?,
                    groups: (whole(&take(m)?), whole(&take(n)?)),
                }),
            };
            let evidence = Evidence {
                images: e.images,
                count: e.count,
                groups: e.groups,
                replicates,
                components,
            };
            all.insert(e.key, evidence);
        }
        Some(Self(all))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let index: Vec<Entry> = self
            .0
            .iter()
            .map(|(key, e)| Entry {
                key: key.clone(),
                images: e.images.clone(),
                count: e.count,
                groups: e.groups,
                replicates: e.replicates.len(),
                classes: e
                    .components
                    .as_ref()
                    .map(|c| (c.of_positives.len(), c.of_negatives.len())),
            })
            .collect();
        let mut body = serde_json::to_vec(&index)?;
        body.push(b'\n');
        for e in self.0.values() {
            let components = e
                .components
                .iter()
                .flat_map(|c| std::iter::once(&c.auc).chain(&c.of_positives).chain(&c.of_negatives));
            let groups = e.components.iter().flat_map(|c| c.groups.0.iter().chain(&c.groups.1));
            for v in e
                .replicates
                .iter()
                .chain(components)
                .copied()
                .chain(groups.map(|&g| f64::from(g)))
            {
                body.extend_from_slice(&v.to_le_bytes());
            }
        }
        let mut bytes = fsio::sha256_hex(&body).into_bytes();
        bytes.push(b'\n');
        bytes.extend(body);
        Ok(bytes)
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fsio::write_atomic(path, &self.to_bytes()?)
    }

    pub fn insert(&mut self, key: String, evidence: Evidence) {
        self.0.insert(key, evidence);
    }

    pub fn get(&self, key: &str) -> Option<&Evidence> {
        self.0.get(key)
    }

    /// Forgets everything else.
    pub fn keep(&mut self, keys: &BTreeSet<String>) {
        self.0.retain(|k, _| keys.contains(k));
    }
}

/// Numbers of groups, which a double holds to the last one.
fn whole(numbers: &[f64]) -> Vec<u32> {
    numbers.iter().map(|&v| v as u32).collect()
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&b| b == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        let mut c = Cache::default();
        let e = |values: &[f64], components| Evidence {
            images: "a".into(),
            count: 3,
            groups: Some(2),
            replicates: values.to_vec(),
            components,
        };
        c.insert("one".into(), e(&[0.1, f64::INFINITY, -0.0], None));
        let with = Components {
            auc: 0.5,
            of_positives: vec![1.0],
            of_negatives: vec![0.25, 0.75],
            groups: (vec![1], vec![0, 1]),
        };
        c.insert("two".into(), e(&[0.3], Some(with)));
        c
    }

    #[test]
    fn what_is_written_is_read_to_the_bit_and_what_is_torn_is_not_there() {
        let c = cache();
        let bytes = c.to_bytes().unwrap();
        assert_eq!(Cache::parse(&bytes).unwrap().0, c.0);
        for at in [0, 70, bytes.len() - 1] {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            assert!(Cache::parse(&torn).is_none(), "byte {at}");
        }
        assert!(Cache::parse(&bytes[..bytes.len() - 8]).is_none() && Cache::parse(b"").is_none());
    }
}
