//! Fitting: the loop, the optimiser, the schedule, checkpoints, selection. Knows nothing of tables or result files.

pub mod evaluate;
pub mod features;
pub mod fit;
pub mod loss;
pub mod loss_scale;
pub mod optim;
pub mod outcome;
pub mod schedule;
pub mod scripted;
pub mod state;

pub use outcome::{Epoch, Failure};

use crate::cache::Cache;
use crate::data::Dataset;
use crate::data::loader::Images;
use crate::model::Pretrained;
use crate::spec::protocol::TestWeights;
use crate::spec::{KeepWeights, RunSpec};
use anyhow::Result;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// One run to fit.
pub struct Job<'a> {
    /// The whole run id, which its checkpoints carry.
    pub id: &'a str,
    pub spec: &'a RunSpec,
    pub data: &'a Dataset,
    /// The data set's images, prepared by the protocol's transform.
    pub images: &'a Images,
    pub pretrained: &'a Pretrained,
    pub device: &'a Device,
    /// Activations are computed again in the backward pass whatever the protocol says, to save memory: the same numbers.
    pub recompute: bool,
    /// Where checkpoints of this run live.
    pub checkpoint_dir: &'a Path,
    /// Time between checkpoints; a stop always writes one.
    pub checkpoint_every: Duration,
    /// Asked before a checkpoint is written: whether this process still has the run.
    pub may_write: &'a (dyn Fn() -> Result<()> + Sync),
    /// Where frozen features may be cached, and the hashes of everything outside the spec that they depend on.
    pub feature_cache: Option<FeatureCache>,
    /// The trained weights that are handed over at the end.
    pub keep: KeepWeights,
    /// Hears every epoch when it ends; those before a resumption at once.
    pub on_epoch: &'a (dyn Fn(&Epoch) + Sync),
}

/// The parameters of a trained model, on the CPU, in order.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub set: TestWeights,
    /// By their full names in the model.
    pub params: Vec<(String, Tensor)>,
}

/// Where frozen features are kept, and what their key covers besides the spec.
#[derive(Debug, Clone)]
pub struct FeatureCache {
    pub cache: Cache,
    /// Root hash of the data and hashes of the weights.
    pub inputs: String,
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
    pub epochs: Vec<Epoch>,
    /// By the protocol's own rule of selection.
    pub best: Selection,
    /// By the rules of the two presets.
    pub faithful: Selection,
    pub corrected: Selection,
    /// After the last step.
    pub last: Tested,
    /// Those that were asked for.
    pub kept: Vec<Snapshot>,
    pub backbone_params: u64,
    pub trainable_params: u64,
    pub total_params: u64,
    pub divergence: Divergence,
    pub timing: Timing,
}

/// Steps at which a run went astray that was not stopped, each list as first and last step of every unbroken stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Divergence {
    /// A gradient was not finite: nothing was updated.
    pub skipped: Vec<[u64; 2]>,
    /// The loss was finite and had exploded; the step was made.
    pub exploded: Vec<[u64; 2]>,
}

impl Divergence {
    /// Adds a step, later than all of the list, to one of the lists.
    fn note(list: &mut Vec<[u64; 2]>, step: u64) {
        match list.last_mut() {
            Some(last) if last[1] + 1 == step => last[1] = step,
            _ => list.push([step, step]),
        }
    }
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
pub enum FitOutcome {
    Done(Box<Fitted>),
    /// The loss exploded or stopped being a number, and the protocol stops there.
    Failed(Box<Failure>),
    /// Stopped on request after a checkpoint.
    Interrupted,
}

/// What a progress bar is told.
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
    /// An epoch of the job of this number has ended.
    Epoch {
        job: usize,
        epoch: u32,
        epochs: u32,
        train_loss: f64,
        val_loss: f64,
        /// Of the metric by which epochs are chosen; NaN where it is not defined.
        val: f64,
    },
}

/// Fits runs; the real one uses candle, the scripted one lets scheduling, crash and report tests run in milliseconds.
pub trait Trainer: Sync {
    /// Fits one run, or several that differ in nothing but the head of a frozen backbone; one outcome a job, in order. The
    /// results are the same bytes as when each is fitted alone.
    ///
    /// # Errors
    /// For inputs that cannot be read or do not fit; nothing computed before is lost.
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>>;
}
