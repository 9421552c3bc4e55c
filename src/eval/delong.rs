//! Variance and paired test of areas under ROC curves on one set of images (DeLong, DeLong and Clarke-Pearson 1988), by
//! mid-ranks in O(n log n) (Sun and Xu 2014).

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
}

impl Components {
    /// Of one score column.
    ///
    /// Errors unless there are at least two images of either class: the variance needs both.
    pub fn new(scores: &[f64], truth: &[bool]) -> Result<Self> {
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
        Ok(components(
            scores,
            truth,
            positives as f64,
            (truth.len() - positives) as f64,
        ))
    }

    /// Of the mean of several areas over the same images (the seeds of a cell): a mean of areas is linear in the components.
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
        })
    }
}

/// Areas and covariance of `scores` (one slice a model) against the same truth.
///
/// Errors unless there are at least two images of either class.
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
    }
}

fn covariance(a: &[f64], b: &[f64], mean_a: f64, mean_b: f64) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
    sum / (a.len() as f64 - 1.0)
}

impl Delong {
    /// Areas and covariance from components over the same images.
    pub fn of(models: &[&Components]) -> Result<Self> {
        let Some(first) = models.first() else {
            return Err(EvalError::Empty { what: "models" });
        };
        let (m, n) = (first.of_positives.len(), first.of_negatives.len());
        for c in models {
            length("positive images", m, c.of_positives.len())?;
            length("negative images", n, c.of_negatives.len())?;
        }
        let covariance = models
            .iter()
            .flat_map(|a| models.iter().map(move |b| (a, b)))
            .map(|(a, b)| {
                covariance(&a.of_positives, &b.of_positives, a.auc, b.auc) / m as f64
                    + covariance(&a.of_negatives, &b.of_negatives, a.auc, b.auc) / n as f64
            })
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
    pub fn interval(&self, i: usize, coverage: f64) -> Result<Interval> {
        level(coverage)?;
        self.model(i)?;
        around(self.auc[i], self.cov(i, i).sqrt(), coverage)
    }

    /// Paired test of area `i` against area `j`. Models that rank all images alike give z = 0, p = 1.
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
