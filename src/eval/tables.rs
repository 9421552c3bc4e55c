//! What a metric is measured on: predictions beside the truth, with what several metrics ask of them computed once.

use super::auc::{AucRule, label_aucs, roc_auc_ovo};
use super::confusion::Confusion;
use super::error::{Result, label_table, table};
use super::labels::LabelCounts;
use super::scores::argmax;
use std::cell::OnceCell;

/// (n, classes) probabilities, row-major, with one class an image.
pub struct ClassTable<'a> {
    pub probs: &'a [f64],
    pub classes: usize,
    pub truth: &'a [u32],
    /// Macro means run over all classes, not only over those in truth or prediction (Q46).
    pub all_classes: bool,
    predicted: OnceCell<Vec<u32>>,
    strict: OnceCell<f64>,
}

impl<'a> ClassTable<'a> {
    /// # Errors
    /// No images, lengths that do not fit, a label out of range, a probability that is not finite.
    pub fn new(probs: &'a [f64], classes: usize, truth: &'a [u32], all_classes: bool) -> Result<Self> {
        table(probs, classes, truth)?;
        Ok(Self {
            probs,
            classes,
            truth,
            all_classes,
            predicted: OnceCell::new(),
            strict: OnceCell::new(),
        })
    }

    /// The most probable class of every image.
    pub fn predicted(&self) -> &[u32] {
        self.predicted.get_or_init(|| argmax(self.probs, self.classes))
    }

    pub fn confusion(&self) -> Confusion {
        Confusion::new(self.classes, self.truth, self.predicted())
    }

    /// Whether an image is of class 1.
    pub(super) fn positive(&self) -> Vec<bool> {
        self.truth.iter().map(|&t| t == 1).collect()
    }

    pub(super) fn strict(&self) -> Result<f64> {
        if let Some(&area) = self.strict.get() {
            return Ok(area);
        }
        let area = roc_auc_ovo(self.probs, self.classes, self.truth, AucRule::Strict)?;
        Ok(*self.strict.get_or_init(|| area))
    }

    /// The authors' 0.5 where scikit-learn raises.
    pub(super) fn authors(&self) -> Result<f64> {
        let strict = self.strict()?;
        if strict.is_nan() {
            return roc_auc_ovo(self.probs, self.classes, self.truth, AucRule::Authors);
        }
        Ok(strict)
    }
}

/// (n, labels) probabilities and 0/1 labels, both row-major.
pub struct LabelTable<'a> {
    pub probs: &'a [f64],
    pub labels: usize,
    pub truth: &'a [u8],
    counts: OnceCell<LabelCounts>,
    areas: OnceCell<Vec<f64>>,
}

impl<'a> LabelTable<'a> {
    /// # Errors
    /// No images, lengths that do not fit, a label that is neither 0 nor 1, a probability that is not finite.
    pub fn new(probs: &'a [f64], labels: usize, truth: &'a [u8]) -> Result<Self> {
        label_table(probs, labels, truth)?;
        Ok(Self {
            probs,
            labels,
            truth,
            counts: OnceCell::new(),
            areas: OnceCell::new(),
        })
    }

    pub fn counts(&self) -> &LabelCounts {
        self.counts
            .get_or_init(|| LabelCounts::new(self.probs, self.labels, self.truth))
    }

    /// Whether an image has label `k`.
    pub(super) fn positive(&self, k: usize) -> Vec<bool> {
        self.truth
            .iter()
            .skip(k)
            .step_by(self.labels)
            .map(|&t| t == 1)
            .collect()
    }

    pub(super) fn areas(&self) -> Result<&[f64]> {
        if let Some(areas) = self.areas.get() {
            return Ok(areas);
        }
        let areas = label_aucs(self.probs, self.labels, self.truth)?;
        Ok(self.areas.get_or_init(|| areas))
    }
}
