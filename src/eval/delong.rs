//! Variance and paired test of areas under ROC curves on one set of images (DeLong, DeLong and Clarke-Pearson 1988), by
//! mid-ranks in O(n log n) (Sun and Xu 2014), and for images that come in groups (patients, lesions, cases) by Obuchowski (1997).
//! Where every image is a group of its own the two are the same number.

use std::collections::{BTreeMap, BTreeSet};

use super::auc::{ascending, ties};
use super::confusion::mean;
use super::error::{EvalError, Result, argument, finite, length};
use super::interval::{Interval, level};
use super::student::{normal_quantile, normal_two_sided};

/// Areas of k score columns over the same images, with their covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct Delong {
    pub auc: Vec<f64>,
    /// (k, k), row-major.
    pub covariance: Vec<f64>,
}

/// A paired comparison of two areas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DelongTest {
    pub difference: f64,
    pub standard_error: f64,
    pub z: f64,
    /// Two-sided.
    pub p: f64,
    pub interval: Interval,
}

/// The structural components of one area: for every positive the share of negatives it beats, for every negative the share
/// of positives that beat it (ties ½), each in image order. Their means are the area; their spread is its variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    pub auc: f64,
    pub of_positives: Vec<f64>,
    pub of_negatives: Vec<f64>,
    /// Group of every positive and of every negative image.
    pub groups: (Vec<u32>, Vec<u32>),
}

impl Components {
    /// Of one score column.
    ///
    /// Errors unless there are at least two images of either class: the variance needs both.
    ///
    /// # Errors
    /// [`EvalError`] for lists of different lengths, scores that are not finite, or fewer than two images of a class.
    pub fn new(scores: &[f64], truth: &[bool]) -> Result<Self> {
        let each: Vec<u32> = (0u32..).take(truth.len()).collect();
        Self::grouped(scores, truth, &each)
    }

    /// Of one score column whose images come in groups.
    ///
    /// # Errors
    /// As [`Components::new`], and unless images of either class are of at least two groups.
    pub fn grouped(scores: &[f64], truth: &[bool], groups: &[u32]) -> Result<Self> {
        let positives = truth.iter().filter(|&&t| t).count();
        for (what, found) in [
            ("positive images", positives),
            ("negative images", truth.len() - positives),
        ] {
            if found < 2 {
                return Err(EvalError::TooFew { what, needed: 2, found });
            }
        }
        finite("scores", scores)?;
        length("scores", truth.len(), scores.len())?;
        length("groups", truth.len(), groups.len())?;
        let of = |wanted: bool| -> Vec<u32> {
            let all = groups.iter().zip(truth);
            all.filter(|(_, t)| **t == wanted).map(|(g, _)| *g).collect()
        };
        let groups = (of(true), of(false));
        for (what, list) in [
            ("groups with positive images", &groups.0),
            ("groups with negative images", &groups.1),
        ] {
            let found = BTreeSet::from_iter(list).len();
            if found < 2 {
                return Err(EvalError::TooFew { what, needed: 2, found });
            }
        }
        Ok(Self {
            groups,
            ..components(scores, truth, positives as f64, (truth.len() - positives) as f64)
        })
    }

    /// Of the mean of several areas over the same images (the seeds of a cell): a mean of areas is linear in the components.
    ///
    /// # Errors
    /// [`EvalError`] for no models, or models of different images.
    pub fn mean(all: &[&Self]) -> Result<Self> {
        let Some(first) = all.first() else {
            return Err(EvalError::Empty { what: "models" });
        };
        for c in all {
            length("positive images", first.of_positives.len(), c.of_positives.len())?;
            length("negative images", first.of_negatives.len(), c.of_negatives.len())?;
        }
        let over =
            |pick: fn(&Self) -> &[f64], len: usize| (0..len).map(|i| mean(all.iter().map(|c| pick(c)[i]))).collect();
        Ok(Self {
            auc: mean(all.iter().map(|c| c.auc)),
            of_positives: over(|c| &c.of_positives, first.of_positives.len()),
            of_negatives: over(|c| &c.of_negatives, first.of_negatives.len()),
            groups: first.groups.clone(),
        })
    }
}

/// Areas and covariance of `scores` (one slice a model) against the same truth.
///
/// Errors unless there are at least two images of either class.
///
/// # Errors
/// [`EvalError`] for lists of different lengths, scores that are not finite, or fewer than two images of a class.
pub fn delong(scores: &[&[f64]], truth: &[bool]) -> Result<Delong> {
    let all = scores
        .iter()
        .map(|s| Components::new(s, truth))
        .collect::<Result<Vec<_>>>()?;
    Delong::of(&all.iter().collect::<Vec<_>>())
}

/// The components of checked input with `m` positives and `n` negatives.
fn components(scores: &[f64], truth: &[bool], m: f64, n: f64) -> Components {
    let order = ascending(scores);
    let mut share = vec![0.0; scores.len()];
    let (mut negatives, mut positives, mut twice_won) = (0u64, 0u64, 0u64);
    for run in ties(scores, &order) {
        let p = run.iter().filter(|&&i| truth[i as usize]).count() as u64;
        let q = run.len() as u64 - p;
        for &i in run {
            share[i as usize] = if truth[i as usize] {
                (2 * negatives + q) as f64 / (2.0 * n)
            } else {
                1.0 - (2 * positives + p) as f64 / (2.0 * m)
            };
        }
        twice_won += p * (2 * negatives + q);
        negatives += q;
        positives += p;
    }
    let pick = |wanted: bool| {
        let both = share.iter().zip(truth);
        both.filter(|&(_, &t)| t == wanted).map(|(&s, _)| s).collect()
    };
    Components {
        auc: twice_won as f64 / (2.0 * m * n),
        of_positives: pick(true),
        of_negatives: pick(false),
        groups: (Vec::new(), Vec::new()),
    }
}

/// What each group adds to an area: the sums of its components less their share of the area.
struct Sums {
    of_positives: Vec<f64>,
    of_negatives: Vec<f64>,
}

/// Groups numbered from 0 without gaps, and which of them hold positive and negative images.
struct Clusters {
    number: BTreeMap<u32, usize>,
    with_positives: f64,
    with_negatives: f64,
}

impl Clusters {
    fn of(groups: &(Vec<u32>, Vec<u32>)) -> Self {
        let count = |list: &[u32]| BTreeSet::from_iter(list).len() as f64;
        let all: BTreeSet<u32> = groups.0.iter().chain(&groups.1).copied().collect();
        Self {
            number: all.into_iter().zip(0..).collect(),
            with_positives: count(&groups.0),
            with_negatives: count(&groups.1),
        }
    }

    fn sums(&self, c: &Components) -> Sums {
        let add = |values: &[f64], groups: &[u32]| {
            let mut sums = vec![0.0; self.number.len()];
            for (v, g) in values.iter().zip(groups) {
                if let Some(&i) = self.number.get(g) {
                    sums[i] += v - c.auc;
                }
            }
            sums
        };
        Sums {
            of_positives: add(&c.of_positives, &c.groups.0),
            of_negatives: add(&c.of_negatives, &c.groups.1),
        }
    }

    /// Obuchowski's covariance of two areas with `m` positives and `n` negatives.
    fn covariance(&self, a: &Sums, b: &Sums, m: f64, n: f64) -> f64 {
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(p, q)| p * q).sum::<f64>();
        let small = |groups: f64| groups / (groups - 1.0);
        small(self.with_positives) * dot(&a.of_positives, &b.of_positives) / (m * m)
            + small(self.with_negatives) * dot(&a.of_negatives, &b.of_negatives) / (n * n)
            + small(self.number.len() as f64)
                * (dot(&a.of_positives, &b.of_negatives) + dot(&a.of_negatives, &b.of_positives))
                / (m * n)
    }
}

impl Delong {
    /// Areas and covariance from components over the same images.
    ///
    /// # Errors
    /// [`EvalError`] for no models, or models of different images.
    pub fn of(models: &[&Components]) -> Result<Self> {
        let Some(first) = models.first() else {
            return Err(EvalError::Empty { what: "models" });
        };
        let (m, n) = (first.of_positives.len(), first.of_negatives.len());
        for c in models {
            length("positive images", m, c.of_positives.len())?;
            length("negative images", n, c.of_negatives.len())?;
        }
        let clusters = Clusters::of(&first.groups);
        let sums: Vec<Sums> = models.iter().map(|c| clusters.sums(c)).collect();
        let pairs = sums.iter().flat_map(|a| sums.iter().map(move |b| (a, b)));
        let covariance = pairs
            .map(|(a, b)| clusters.covariance(a, b, m as f64, n as f64))
            .collect();
        Ok(Self {
            auc: models.iter().map(|c| c.auc).collect(),
            covariance,
        })
    }

    fn cov(&self, i: usize, j: usize) -> f64 {
        self.covariance[i * self.auc.len() + j]
    }

    /// Normal interval of one area, not cut at 0 or 1.
    ///
    /// # Errors
    /// [`EvalError`] for a model that is not there, or a coverage outside 0 to 1.
    pub fn interval(&self, i: usize, coverage: f64) -> Result<Interval> {
        level(coverage)?;
        self.model(i)?;
        around(self.auc[i], self.cov(i, i).sqrt(), coverage)
    }

    /// Paired test of area `i` against area `j`. Models that rank all images alike give z = 0, p = 1.
    ///
    /// # Errors
    /// [`EvalError`] for a model that is not there, or a coverage outside 0 to 1.
    pub fn compare(&self, i: usize, j: usize, coverage: f64) -> Result<DelongTest> {
        level(coverage)?;
        self.model(i)?;
        self.model(j)?;
        let difference = self.auc[i] - self.auc[j];
        let variance = self.cov(i, i) + self.cov(j, j) - 2.0 * self.cov(i, j);
        let standard_error = variance.max(0.0).sqrt();
        let z = if difference == 0.0 {
            0.0
        } else {
            difference / standard_error
        };
        Ok(DelongTest {
            difference,
            standard_error,
            z,
            p: normal_two_sided(z),
            interval: around(difference, standard_error, coverage)?,
        })
    }

    fn model(&self, i: usize) -> Result<()> {
        argument("model", "an index of the models compared", i as f64, i < self.auc.len())
    }
}

fn around(centre: f64, se: f64, coverage: f64) -> Result<Interval> {
    let half = normal_quantile((1.0 + coverage) / 2.0)? * se;
    Ok(Interval {
        low: centre - half,
        high: centre + half,
        level: coverage,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variance_needs_two_of_either_class() {
        let s: &[f64] = &[0.1, 0.2, 0.3];
        assert!(matches!(
            delong(&[s], &[true, false, false]),
            Err(EvalError::TooFew { .. })
        ));
        assert!(matches!(delong(&[s], &[true; 3]), Err(EvalError::TooFew { .. })));
        assert!(matches!(delong(&[], &[true, false]), Err(EvalError::Empty { .. })));
        let d = delong(&[&[0.1, 0.2, 0.3, 0.4]], &[true, false, true, false]).unwrap();
        assert!(d.compare(0, 1, 0.95).is_err());
    }
}
