//! Pairs of equal images as clusters, with the parts they stand in and the labels they carry.

use super::{PARTS, label_text, parts};
use crate::data::types::Dataset;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// One image of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    pub image: String,
    /// The parts that hold it; more than one only under CheXpert's label slices.
    pub parts: Vec<&'static str>,
    pub label: String,
}

/// Images that are the same, directly or through others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    pub images: Vec<Member>,
    /// Whether its images carry different labels.
    pub conflicting: bool,
}

/// Images of one part beyond the first of their cluster in that part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Within {
    pub part: &'static str,
    pub images: usize,
}

/// Images of the later part whose cluster has another image in the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Across {
    pub earlier: &'static str,
    pub later: &'static str,
    pub images: usize,
}

/// Everything that is there more than once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Twins {
    /// Images in all clusters.
    pub images: usize,
    pub within: Vec<Within>,
    pub across: Vec<Across>,
    /// Clusters whose images carry different labels, and their images.
    pub conflicting: usize,
    pub conflicting_images: usize,
    pub clusters: Vec<Cluster>,
}

/// Clusters of `pairs`, which are positions in `indices`, which are samples of `d`.
pub(super) fn of(d: &Dataset, indices: &[u32], pairs: &[(u32, u32)]) -> Twins {
    let members: Vec<HashSet<u32>> = parts(d).iter().map(|p| p.iter().copied().collect()).collect();
    let is_in = |part: usize, i: u32| members[part].contains(&i);
    let clusters: Vec<Vec<u32>> = connected(pairs)
        .into_iter()
        .map(|c| c.into_iter().map(|at| indices[at as usize]).collect())
        .collect();
    let within = |part: usize| Within {
        part: PARTS[part],
        images: clusters
            .iter()
            .map(|c| c.iter().filter(|&&i| is_in(part, i)).count().saturating_sub(1))
            .sum(),
    };
    let across = |(earlier, later): (usize, usize)| {
        let of = |c: &Vec<u32>| {
            let other = |i: u32| c.iter().any(|&j| j != i && is_in(earlier, j));
            c.iter().filter(|&&i| is_in(later, i) && other(i)).count()
        };
        Across {
            earlier: PARTS[earlier],
            later: PARTS[later],
            images: clusters.iter().map(of).sum(),
        }
    };
    let named: Vec<Cluster> = clusters.iter().map(|c| cluster(d, c, &is_in)).collect();
    let conflicting = || named.iter().filter(|c| c.conflicting);
    Twins {
        images: clusters.iter().map(Vec::len).sum(),
        within: (0..PARTS.len()).map(within).collect(),
        across: [(0, 1), (0, 2), (1, 2)].into_iter().map(across).collect(),
        conflicting: conflicting().count(),
        conflicting_images: conflicting().map(|c| c.images.len()).sum(),
        clusters: named,
    }
}

fn cluster(d: &Dataset, images: &[u32], is_in: &dyn Fn(usize, u32) -> bool) -> Cluster {
    let member = |&i: &u32| Member {
        image: d.samples[i as usize].id.clone(),
        parts: (0..PARTS.len()).filter(|&p| is_in(p, i)).map(|p| PARTS[p]).collect(),
        label: label_text(d, i),
    };
    let images: Vec<Member> = images.iter().map(member).collect();
    let labels: BTreeSet<&str> = images.iter().map(|m| m.label.as_str()).collect();
    Cluster {
        conflicting: labels.len() > 1,
        images,
    }
}

/// The connected components of a graph given by its edges, each sorted, in order of their first members.
fn connected(pairs: &[(u32, u32)]) -> Vec<Vec<u32>> {
    let mut root: BTreeMap<u32, u32> = BTreeMap::new();
    fn find(root: &mut BTreeMap<u32, u32>, i: u32) -> u32 {
        let mut top = *root.entry(i).or_insert(i);
        while root[&top] != top {
            top = root[&top];
        }
        root.insert(i, top);
        top
    }
    for &(a, b) in pairs {
        let (a, b) = (find(&mut root, a), find(&mut root, b));
        root.insert(a.max(b), a.min(b));
    }
    let all: Vec<u32> = root.keys().copied().collect();
    let mut components: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for i in all {
        components.entry(find(&mut root, i)).or_default().push(i);
    }
    components.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::connected;

    #[test]
    fn components_of_a_graph() {
        assert_eq!(connected(&[]), Vec::<Vec<u32>>::new());
        let pairs = [(7, 9), (1, 2), (3, 4), (2, 3), (9, 7)];
        assert_eq!(connected(&pairs), [vec![1, 2, 3, 4], vec![7, 9]]);
    }
}
