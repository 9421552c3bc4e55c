//! What a fit says of an epoch, and of its failure; stored in records as they are.

use crate::spec::LOSS;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One entry of `epochs.json`. Times are in `provenance.json`, so that the same seed gives the same bytes here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// 1 for the first one. An extra validation after the last epoch (Q15) has the next number and no training loss.
    pub epoch: u32,
    /// Learning rate of the epoch's last step.
    pub lr: f64,
    /// Mean over the epoch's batches; NaN where nothing was trained.
    #[serde(with = "crate::nan::value")]
    pub train_loss: f64,
    #[serde(with = "crate::nan::value")]
    pub val_loss: f64,
    /// Validation metrics, unrounded; NaN where a metric is not defined.
    #[serde(with = "crate::nan::map")]
    pub val: BTreeMap<String, f64>,
}

impl Epoch {
    /// What an epoch is selected by: a validation metric, or under its own name the validation loss; NaN where it is not defined.
    pub fn value(&self, selects: &str) -> f64 {
        match selects {
            LOSS => self.val_loss,
            metric => self.val.get(metric).copied().unwrap_or(f64::NAN),
        }
    }
}

/// `failed.json`: a run that ended without a result, for instance in a loss that is not a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    pub epoch: u32,
    /// The optimiser step that failed; the checkpoint beside this record holds the weights before it.
    pub step: u64,
    /// A sentence without its full stop.
    pub reason: String,
    /// Learning rate of the step; NaN where it failed outside a step.
    #[serde(with = "crate::nan::value")]
    pub lr: f64,
    /// The latest losses, the failing one last; NaN where a loss was no finite number.
    #[serde(with = "crate::nan::list")]
    pub losses: Vec<f64>,
    /// Ids of the images in the failing batch.
    pub images: Vec<String>,
    pub epochs: Vec<Epoch>,
    /// Whether an error from outside its numbers ended it (an image, memory, the disk): its checkpoint is good, and the run goes
    /// on from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
}

impl Failure {
    /// By an error from outside the run's numbers.
    pub fn by_error(reason: String) -> Self {
        Self {
            epoch: 0,
            step: 0,
            reason,
            lr: f64::NAN,
            losses: Vec::new(),
            images: Vec::new(),
            epochs: Vec::new(),
            error: true,
        }
    }
}
