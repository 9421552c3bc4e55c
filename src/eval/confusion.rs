//! The confusion matrix and everything that is a function of it alone.

/// Counts of (truth, prediction), row-major (classes, classes): row = truth, column = prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<u64>,
}

impl Confusion {
    /// Counts pairs. Labels and predictions must be below `classes` and equally many; the callers check them.
    pub fn new(classes: usize, truth: &[u32], predicted: &[u32]) -> Self {
        debug_assert_eq!(truth.len(), predicted.len());
        let mut counts = vec![0; classes * classes];
        for (&t, &p) in truth.iter().zip(predicted) {
            counts[t as usize * classes + p as usize] += 1;
        }
        Self { classes, counts }
    }

    /// Wraps counts that are already there, row-major (classes, classes).
    pub fn from_counts(classes: usize, counts: Vec<u64>) -> Self {
        debug_assert_eq!(counts.len(), classes * classes);
        Self { classes, counts }
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The rows, one for each true class.
    pub fn rows(&self) -> impl Iterator<Item = &[u64]> {
        self.counts.chunks_exact(self.classes)
    }

    fn hits(&self, k: usize) -> u64 {
        self.counts[k * self.classes + k]
    }

    fn actual(&self, k: usize) -> u64 {
        self.counts[k * self.classes..(k + 1) * self.classes].iter().sum()
    }

    fn predicted(&self, k: usize) -> u64 {
        self.counts.iter().skip(k).step_by(self.classes).sum()
    }

    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn accuracy(&self) -> f64 {
        let hits: u64 = (0..self.classes).map(|k| self.hits(k)).sum();
        hits as f64 / self.total() as f64
    }

    /// Recall of every class; NaN for a class that truth does not hold.
    pub fn per_class_recall(&self) -> Vec<f64> {
        (0..self.classes)
            .map(|k| self.hits(k) as f64 / self.actual(k) as f64)
            .collect()
    }

    /// Mean recall over the classes that truth holds.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.per_class_recall().into_iter().filter(|r| !r.is_nan()))
    }

    /// Mean of `numerator / denominator` over classes, 0/0 counting 0 (`zero_division=0`).
    ///
    /// The classes are those that occur in truth or prediction, or all of them (Q46).
    fn macro_mean(&self, all_classes: bool, ratio: impl Fn(u64, u64, u64) -> (u64, u64)) -> f64 {
        mean((0..self.classes).filter_map(|k| {
            let (hits, actual, predicted) = (self.hits(k), self.actual(k), self.predicted(k));
            if actual + predicted == 0 && !all_classes {
                return None;
            }
            let (numerator, denominator) = ratio(hits, actual, predicted);
            Some(if denominator == 0 {
                0.0
            } else {
                numerator as f64 / denominator as f64
            })
        }))
    }

    pub fn macro_precision(&self, all_classes: bool) -> f64 {
        self.macro_mean(all_classes, |hits, _, predicted| (hits, predicted))
    }

    pub fn macro_recall(&self, all_classes: bool) -> f64 {
        self.macro_mean(all_classes, |hits, actual, _| (hits, actual))
    }

    pub fn macro_f1(&self, all_classes: bool) -> f64 {
        self.macro_mean(all_classes, |hits, actual, predicted| (2 * hits, actual + predicted))
    }

    /// 1 − Σ wᵢⱼ Oᵢⱼ / Σ wᵢⱼ Eᵢⱼ with E the outer product of the marginals over N; NaN when the denominator is 0.
    fn kappa(&self, weight: impl Fn(usize, usize) -> u128) -> f64 {
        let (mut observed, mut expected) = (0u128, 0u128);
        for (i, row) in self.rows().enumerate() {
            for (j, &o) in row.iter().enumerate() {
                let w = weight(i, j);
                observed += w * u128::from(o);
                expected += w * u128::from(self.actual(i)) * u128::from(self.predicted(j));
            }
        }
        1.0 - (observed * u128::from(self.total())) as f64 / expected as f64
    }

    /// Cohen's kappa.
    pub fn cohen_kappa(&self) -> f64 {
        self.kappa(|i, j| u128::from(i != j))
    }

    /// Cohen's kappa with weights (i−j)² over the full class list.
    pub fn quadratic_kappa(&self) -> f64 {
        self.kappa(|i, j| (i.abs_diff(j) as u128).pow(2))
    }
}

/// Plain mean; NaN of nothing.
pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0u64), |(s, n), v| (s + v, n + 1));
    sum / n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: truth 0,0,1,3; prediction 0,1,1,1; class 2 in neither.
    #[test]
    fn macro_means_by_hand() {
        let c = Confusion::new(4, &[0, 0, 1, 3], &[0, 1, 1, 1]);
        assert_eq!(c.accuracy(), 0.5);
        assert_eq!(c.macro_recall(false), (0.5 + 1.0 + 0.0) / 3.0);
        assert_eq!(c.macro_recall(true), (0.5 + 1.0 + 0.0 + 0.0) / 4.0);
        assert_eq!(c.macro_precision(false), (1.0 + 1.0 / 3.0 + 0.0) / 3.0);
        assert_eq!(c.macro_f1(false), (2.0 / 3.0 + 0.5 + 0.0) / 3.0);
        assert!(c.per_class_recall()[2].is_nan());
    }

    #[test]
    fn kappa_of_one_constant_class_is_undefined() {
        let c = Confusion::new(3, &[1, 1], &[1, 1]);
        assert!(c.cohen_kappa().is_nan() && c.quadratic_kappa().is_nan());
    }
}
