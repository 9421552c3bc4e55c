//! What a run leaves behind. Plain structs; each of [`Spec`], [`Epochs`], [`Metrics`], [`Failure`] and
//! [`super::Provenance`] is one JSON file of the run's folder.

use super::predictions::Predictions;
use super::provenance::Provenance;
use super::record::Content;
use super::spec::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a trainer says of an epoch and of a failure is stored as it is.
pub use crate::train::{Epoch, Failure};

/// Which of the two stored sets of weights a number comes from.
pub use crate::spec::protocol::TestWeights as WhichWeights;

/// `epochs.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epochs(pub Vec<Epoch>);

/// The epoch that each selection rule picks from `epochs.json` (PROTOCOL 7.1); `None` is the untrained model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selected {
    pub faithful: Option<u32>,
    pub corrected: Option<u32>,
}

/// What the tables say about the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFacts {
    /// As printed: `DINOv2`.
    pub family: String,
    /// Parameters of the backbone.
    pub backbone_params: u64,
    /// Parameters that were trained.
    pub trainable_params: u64,
    /// Parameters of backbone and head.
    pub total_params: u64,
}

/// Steps of a run, by number; the first is 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    pub count: u64,
    /// First and last step of every unbroken stretch.
    pub ranges: Vec<[u64; 2]>,
}

impl Steps {
    /// The steps of these stretches.
    pub fn new(ranges: Vec<[u64; 2]>) -> Self {
        Self {
            count: ranges.iter().map(|r| r[1] - r[0] + 1).sum(),
            ranges,
        }
    }
}

/// What a run went through that went astray and was not stopped (switch `divergence`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Divergence {
    /// Steps that updated nothing, since a gradient was not finite.
    pub skipped: Steps,
    /// Steps that were made on a finite loss that had exploded.
    pub exploded: Steps,
}

impl Divergence {
    /// `None` where no step went astray.
    pub fn some(self) -> Option<Self> {
        (self.skipped.count + self.exploded.count > 0).then_some(self)
    }
}

/// `predictions.parquet` as `metrics.json` knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionFile {
    pub sha256: String,
    pub bytes: u64,
    /// Test images; the file has a row for each set of weights and image.
    pub images: u64,
}

/// `metrics.json`: the numbers that tables and figures read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// Name of the metric that counts for this data set.
    pub target: String,
    /// Its value on the test set with the headline weights.
    #[serde(with = "crate::nan::value")]
    pub value: f64,
    pub headline: WhichWeights,
    /// All test metrics of the best weights, unrounded.
    #[serde(with = "crate::nan::map")]
    pub best: BTreeMap<String, f64>,
    /// All test metrics of the last weights, unrounded.
    #[serde(with = "crate::nan::map")]
    pub last: BTreeMap<String, f64>,
    pub selected: Selected,
    /// All test metrics of the weights that a preset's rule selects where the best weights are others.
    pub rules: BTreeMap<String, RuleMetrics>,
    /// Name of a set of weights (`best`, `last`, a rule) → SHA-256 over the trained parameters.
    pub weights_sha256: BTreeMap<String, String>,
    pub model: ModelFacts,
    /// Not there where no step went astray.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divergence: Option<Divergence>,
    pub predictions: PredictionFile,
}

/// Test metrics by name, unrounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleMetrics(#[serde(with = "crate::nan::map")] pub BTreeMap<String, f64>);

/// Everything that the trainer hands over when a run is finished.
#[derive(Debug, Clone)]
pub struct RunOutput {
    pub epochs: Vec<Epoch>,
    /// Name of the metric that counts.
    pub target: String,
    pub headline: WhichWeights,
    /// Test metrics of the best weights.
    pub best: BTreeMap<String, f64>,
    /// Test metrics of the last weights.
    pub last: BTreeMap<String, f64>,
    pub selected: Selected,
    /// Test metrics by the preset's rule that selects other weights; each has its logits in `predictions.others`.
    pub rules: BTreeMap<String, BTreeMap<String, f64>>,
    /// Name of a set of weights → SHA-256 over the trained parameters.
    pub weights_sha256: BTreeMap<String, String>,
    pub model: ModelFacts,
    pub divergence: Option<Divergence>,
    pub predictions: Predictions,
    /// Files of trained weights that [`super::Store::keep`] wrote, and their hashes.
    pub kept: BTreeMap<String, String>,
    pub provenance: Provenance,
}

/// A finished run as read back. Epochs and predictions are larger and are read on demand from the store.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    pub spec: Spec,
    pub metrics: Metrics,
    pub provenance: Provenance,
}

impl RunRecord {
    /// The whole run id.
    pub fn id(&self) -> &str {
        &self.spec.id
    }
}

macro_rules! content {
    ($($t:ty => $name:literal, $version:literal);+ $(;)?) => {
        $(impl Content for $t {
            const NAME: &'static str = $name;
            const VERSION: u32 = $version;
        })+
    };
}
content! {
    Spec => "spec", 1;
    Epochs => "epochs", 1;
    Metrics => "metrics", 2;
    Provenance => "provenance", 1;
    Failure => "failed", 2;
}
