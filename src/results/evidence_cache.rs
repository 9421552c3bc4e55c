//! Computed evidence on disk: an entry of [`crate::cache::Cache`] a run, so that a second report computes nothing.
//!
//! A file is its own hash, a description in JSON, and the numbers as they are in memory (little-endian doubles). What does not
//! fit its hash counts as absent: a cache holds nothing that cannot be computed again.

use super::evidence::Evidence;
use crate::eval::Components;
use crate::fsio;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Head {
    images: String,
    count: usize,
    groups: Option<usize>,
    replicates: usize,
    /// Positive and negative images with components; none where there are none.
    classes: Option<(usize, usize)>,
}

/// What is in the entry; nothing where it is absent or torn.
pub(super) fn read(entry: &Path) -> Option<Evidence> {
    parse(&fsio::read(entry).ok()?)
}

/// Writes the entry.
pub(super) fn write(entry: &Path, evidence: &Evidence) -> Result<()> {
    fsio::write_atomic(entry, &to_bytes(evidence)?)
}

fn parse(bytes: &[u8]) -> Option<Evidence> {
    let (hash, body) = split_line(bytes)?;
    if fsio::sha256_hex(body).as_bytes() != hash {
        return None;
    }
    let (head, numbers) = split_line(body)?;
    let head: Head = serde_json::from_slice(head).ok()?;
    let mut numbers = numbers.chunks_exact(8).map(|c| {
        let mut b = [0; 8];
        b.copy_from_slice(c);
        f64::from_le_bytes(b)
    });
    let mut take = |n: usize| -> Option<Vec<f64>> {
        let v: Vec<f64> = numbers.by_ref().take(n).collect();
        (v.len() == n).then_some(v)
    };
    Some(Evidence {
        images: head.images,
        count: head.count,
        groups: head.groups,
        replicates: take(head.replicates)?,
        components: match head.classes {
            None => None,
            Some((m, n)) => Some(Components {
                auc: take(1)?[0],
                of_positives: take(m)?,
                of_negatives: take(n)?,
                groups: (whole(&take(m)?), whole(&take(n)?)),
            }),
        },
    })
}

fn to_bytes(e: &Evidence) -> Result<Vec<u8>> {
    let components = e.components.iter();
    let head = Head {
        images: e.images.clone(),
        count: e.count,
        groups: e.groups,
        replicates: e.replicates.len(),
        classes: e
            .components
            .as_ref()
            .map(|c| (c.of_positives.len(), c.of_negatives.len())),
    };
    let mut body = serde_json::to_vec(&head)?;
    body.push(b'\n');
    let groups = components.clone().flat_map(|c| c.groups.0.iter().chain(&c.groups.1));
    let components = components.flat_map(|c| std::iter::once(&c.auc).chain(&c.of_positives).chain(&c.of_negatives));
    let all = e.replicates.iter().chain(components).copied();
    for v in all.chain(groups.map(|&g| f64::from(g))) {
        body.extend_from_slice(&v.to_le_bytes());
    }
    let mut bytes = fsio::sha256_hex(&body).into_bytes();
    bytes.push(b'\n');
    bytes.extend(body);
    Ok(bytes)
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

    #[test]
    fn what_is_written_is_read_to_the_bit_and_what_is_torn_is_not_there() {
        let with = Components {
            auc: 0.5,
            of_positives: vec![1.0],
            of_negatives: vec![0.25, 0.75],
            groups: (vec![1], vec![0, 1]),
        };
        for components in [None, Some(with)] {
            let e = Evidence {
                images: "a".into(),
                count: 3,
                groups: Some(2),
                replicates: vec![0.1, f64::INFINITY, -0.0],
                components,
            };
            let bytes = to_bytes(&e).unwrap();
            assert_eq!(parse(&bytes).unwrap(), e);
            for at in [0, 70, bytes.len() - 1] {
                let mut torn = bytes.clone();
                torn[at] ^= 1;
                assert!(parse(&torn).is_none(), "byte {at}");
            }
            assert!(parse(&bytes[..bytes.len() - 8]).is_none() && parse(b"").is_none());
        }
    }
}
