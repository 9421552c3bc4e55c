//! Counts of a multi-label prediction and everything that is a function of them alone.

use super::confusion::mean;

/// Hits, false alarms and misses of every label, and the images whose labels are all right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelCounts {
    /// (true positives, false positives, false negatives) of every label.
    pub labels: Vec<[u64; 3]>,
    /// Images with every label right.
    pub exact: u64,
    pub images: u64,
}

/// The authors' threshold: a label is predicted when its probability exceeds one half.
pub(super) const THRESHOLD: f64 = 0.5;

impl LabelCounts {
    /// Counts an (n, labels) table; lengths are checked by the callers.
    pub fn new(probs: &[f64], labels: usize, truth: &[u8]) -> Self {
        let mut out = Self {
            labels: vec![[0; 3]; labels],
            exact: 0,
            images: 0,
        };
        for (p, t) in probs.chunks_exact(labels).zip(truth.chunks_exact(labels)) {
            let mut exact = true;
            for (k, (&p, &t)) in p.iter().zip(t).enumerate() {
                if let Some(which) = outcome(p, t) {
                    out.labels[k][which] += 1;
                    exact &= which == 0;
                }
            }
            out.exact += u64::from(exact);
            out.images += 1;
        }
        out
    }

    /// Mean over all labels, 0/0 counting 0.
    fn macro_mean(&self, ratio: impl Fn([u64; 3]) -> (u64, u64)) -> f64 {
        mean(self.labels.iter().map(|&c| {
            let (numerator, denominator) = ratio(c);
            if denominator == 0 {
                0.0
            } else {
                numerator as f64 / denominator as f64
            }
        }))
    }

    /// The share of images with every label right.
    pub fn exact_match(&self) -> f64 {
        self.exact as f64 / self.images as f64
    }

    pub fn precision(&self) -> f64 {
        self.macro_mean(|[tp, fp, _]| (tp, tp + fp))
    }

    pub fn recall(&self) -> f64 {
        self.macro_mean(|[tp, _, miss]| (tp, tp + miss))
    }

    pub fn f1(&self) -> f64 {
        self.macro_mean(|[tp, fp, miss]| (2 * tp, 2 * tp + fp + miss))
    }
}

/// Which of the three counts an image adds to; `None` for a true negative.
pub(super) fn outcome(prob: f64, truth: u8) -> Option<usize> {
    match (prob > THRESHOLD, truth == 1) {
        (true, true) => Some(0),
        (true, false) => Some(1),
        (false, true) => Some(2),
        (false, false) => None,
    }
}
