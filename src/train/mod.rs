//! Fitting: the loop, the optimiser, the schedule, checkpoints, selection. Knows nothing of tables or result files.

pub mod evaluate;
pub mod features;
pub mod fit;
pub mod loss;
pub mod loss_scale;
pub mod optim;
pub mod schedule;
pub mod scripted;
pub mod state;

use crate::data::Dataset;
use crate::data::loader::Images;
use crate::model::Pretrained;
use crate::study::RunSpec;
use anyhow::Result;
use candle_core::Device;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One run to fit.
pub struct Job<'a> {
    pub spec: &'a RunSpec,
    pub data: &'a Dataset,
    /// The data set's images, prepared by the protocol's transform.
    pub images: &'a Images,
    pub pretrained: &'a Pretrained,
    pub device: &'a Device,
    /// Where checkpoints of this run live.
    pub checkpoint_dir: &'a Path,
    /// Time between checkpoints; a stop always writes one.
    pub checkpoint_every: Duration,
    /// Asked before a checkpoint is written: whether this process still has the run.
    pub may_write: &'a (dyn Fn() -> Result<()> + Sync),
    /// Where frozen features may be cached, and the hashes of everything outside the spec that they depend on.
    pub feature_cache: Option<FeatureCache>,
}

/// A folder for frozen features and what their key covers besides the spec.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    pub dir: PathBuf,
    /// Root hash of the data and hashes of the weights.
    pub inputs: String,
}

/// What one epoch measured.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochStats {
    /// 1 for the first; an extra validation (Q15) has the next number.
    pub epoch: u32,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Mean over batches; NaN where nothing was trained.
    #[serde(with = "nan")]
    pub train_loss: f64,
    #[serde(with = "nan")]
    pub val_loss: f64,
    #[serde(with = "nan_map")]
    pub val: BTreeMap<String, f64>,
}

/// Test logits (n, outputs), row-major, and their metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    pub logits: Vec<f32>,
    pub metrics: BTreeMap<String, f64>,
    /// Over the trained parameters: equal hashes are equal weights.
    pub weights_sha256: String,
}

/// What a rule selects.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// `None` is the initial weights.
    pub epoch: Option<u32>,
    pub tested: Tested,
}

/// A finished fit.
#[derive(Debug, Clone)]
pub struct Fitted {
    pub epochs: Vec<EpochStats>,
    /// By the protocol's own rule of selection.
    pub best: Selection,
    /// By the rules of the two presets.
    pub faithful: Selection,
    pub corrected: Selection,
    /// After the last step.
    pub last: Tested,
    pub backbone_params: u64,
    pub trainable_params: u64,
    pub total_params: u64,
    pub timing: Timing,
}

/// Where the seconds went; kept over resumptions.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Timing {
    pub phases: BTreeMap<String, f64>,
    pub epoch_seconds: Vec<f64>,
    pub resumed_after: Vec<u32>,
    /// What computed, one entry a change: more than one where a run was taken up on another device.
    #[serde(default)]
    pub devices: Vec<String>,
}

impl Timing {
    /// Notes what computes from here on.
    pub fn on(&mut self, device: String) {
        if self.devices.last() != Some(&device) {
            self.devices.push(device);
        }
    }

    /// Adds the seconds of `f` to a phase.
    pub fn time<T>(&mut self, phase: &str, f: impl FnOnce() -> T) -> T {
        let start = std::time::Instant::now();
        let out = f();
        *self.phases.entry(phase.to_owned()).or_default() += start.elapsed().as_secs_f64();
        out
    }
}

/// How a fit ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    Done(Box<Fitted>),
    /// The loss exploded or stopped being a number.
    Failed(Box<Failed>),
    /// Stopped on request after a checkpoint.
    Interrupted,
}

/// Where a run failed, and what was seen there. Its checkpoint holds the weights before the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub epoch: u32,
    pub step: u64,
    pub reason: String,
    pub lr: f64,
    /// The latest losses, the failing one last.
    pub losses: Vec<f64>,
    /// Ids of the images in the failing batch.
    pub images: Vec<String>,
    pub epochs: Vec<EpochStats>,
}

/// What a progress bar hears.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Progress {
    /// Features or predictions of frozen or test images.
    Images { done: usize, of: usize },
    /// A training step.
    Step {
        epoch: u32,
        epochs: u32,
        step: u64,
        steps: u64,
        loss: f64,
    },
}

/// Fits runs; the real one uses candle, the scripted one lets scheduling, crash and report tests run in milliseconds.
pub trait Trainer: Sync {
    /// Fits one run, or several that differ in nothing but the head of a frozen backbone; one outcome a job, in order. The
    /// results are the same bytes as when each is fitted alone.
    ///
    /// # Errors
    /// For inputs that cannot be read or do not fit; nothing computed before is lost.
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<Outcome>>;
}

/// NaN ↔ null in JSON.
mod nan {
    use serde::{Deserialize, Deserializer, Serializer};
    pub fn serialize<S: Serializer>(x: &f64, s: S) -> Result<S::Ok, S::Error> {
        if x.is_finite() {
            s.serialize_f64(*x)
        } else {
            s.serialize_none()
        }
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        Ok(Option::<f64>::deserialize(d)?.unwrap_or(f64::NAN))
    }
}

/// As `nan`, for a map of metrics.
mod nan_map {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::BTreeMap;
    pub fn serialize<S: Serializer>(m: &BTreeMap<String, f64>, s: S) -> Result<S::Ok, S::Error> {
        let m: BTreeMap<&str, Option<f64>> = m
            .iter()
            .map(|(k, v)| (k.as_str(), v.is_finite().then_some(*v)))
            .collect();
        m.serialize(s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
        let m = BTreeMap::<String, Option<f64>>::deserialize(d)?;
        Ok(m.into_iter().map(|(k, v)| (k, v.unwrap_or(f64::NAN))).collect())
    }
}

/// As `nan`, for a list.
mod nan_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::collections::VecDeque;
    pub fn serialize<S: Serializer>(v: &VecDeque<f64>, s: S) -> Result<S::Ok, S::Error> {
        let v: Vec<Option<f64>> = v.iter().map(|x| x.is_finite().then_some(*x)).collect();
        v.serialize(s)
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<VecDeque<f64>, D::Error> {
        let v = Vec::<Option<f64>>::deserialize(d)?;
        Ok(v.into_iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }
}
