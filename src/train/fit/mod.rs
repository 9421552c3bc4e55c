//! The training loop. PROTOCOL sections 5–7.

mod evaluation;
mod group;
mod saver;

use super::evaluate::{SelectionRule, trained};
use super::features::FeatureTable;
use super::loss::Target;
use super::loss_scale::LossScale;
use super::optim::{AdamW, AdamWConfig};
use super::schedule::Schedule;
use super::state::{self, HostCopy, Kept, Position, Weights};
use super::{Divergence, Failure, FitOutcome, Job, Progress, Snapshot};
use crate::fsio;
use crate::model::Classifier;
use crate::model::backbone::Features;
use crate::model::params::Param;
use crate::model::safetensors::as_bytes;
use crate::spec::protocol::{Decayed, Divergence as OnDivergence, LastBatch, Precision, TestWeights};
use crate::spec::{Protocol, RunSpec};
use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use medft_nn::backward;
use medft_nn::precision::{Compute, scope};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Instant;

pub use group::CandleTrainer;

/// A loss above this has exploded: cross-entropy of a uniform guess is below 3 for every task here.
const EXPLODED: f64 = 1e4;

/// How many of the latest losses are kept as evidence.
const RECENT: usize = 32;

/// A run under way.
struct Fit<'a> {
    job: &'a Job<'a>,
    model: Classifier,
    /// The model's memory without a graph, for validation and test.
    evaluator: Classifier,
    optim: AdamW,
    schedule: Schedule,
    /// The protocol's own rule of selection, then those of the presets that differ from it.
    rules: Vec<SelectionRule>,
    metric: String,
    steps_per_epoch: u64,
    position: Position,
    /// Weights of every epoch that one of the rules would select now.
    kept: Kept,
    /// Features of the images, where the backbone is frozen.
    tables: Option<Tables>,
    /// Whether no epoch is left to train.
    ended: bool,
    /// How it ended.
    outcome: Option<FitOutcome>,
}

struct Tables {
    /// Of the training images, one table a view; none where every epoch has views of its own.
    train: Vec<FeatureTable>,
    val: FeatureTable,
    test: FeatureTable,
}

impl Tables {
    /// What `epoch` (from 1) reads.
    fn train(&self, epoch: u32) -> Option<&FeatureTable> {
        let view = (epoch as usize - 1).checked_rem(self.train.len())?;
        self.train.get(view)
    }
}

impl<'a> Fit<'a> {
    /// Builds the run's model, on the backbone of `shared` where there is one, and takes up its checkpoint.
    fn new(job: &'a Job<'a>, shared: Option<&Classifier>) -> Result<Self> {
        let p = &job.spec.protocol;
        let info = &job.data.info;
        if !compute(job.spec).runs_on(job.device) {
            bail!(
                "precision {} needs a CUDA device; use a study in f32 on the CPU",
                p.precision
            );
        }
        let outputs = info.task.outputs();
        let spec = RunSpec {
            protocol: Protocol {
                checkpointing: p.checkpointing || job.recompute,
                ..p.clone()
            },
            ..job.spec.clone()
        };
        let model = match shared {
            Some(other) => Classifier::sharing(other, &spec, outputs, job.pretrained, job.device)?,
            None => Classifier::new(&spec, info.channels, outputs, job.pretrained, job.device)?,
        };
        let evaluator = evaluator(job, &model)?;
        let optim = AdamW::new(
            &model.params,
            AdamWConfig {
                weight_decay: p.weight_decay,
                layer_decay: p.layer_decay,
                clip: p.clip,
            },
        )?;
        let optim = match p.decayed {
            Decayed::Matrices => optim,
            Decayed::All => optim.decaying_all(),
        };
        let (batch, images) = (p.batch as usize, job.data.train.len());
        ensure!(
            images >= batch || (p.last_batch == LastBatch::Kept && images > 0),
            "{} has {} training images, fewer than a batch of {batch}; lower `batch` in the study",
            info.name,
            images
        );
        let steps_per_epoch = match p.last_batch {
            LastBatch::Dropped => images / batch,
            LastBatch::Kept => images.div_ceil(batch),
        } as u64;
        let metric = p.selection_metric.clone().unwrap_or_else(|| info.target.to_owned());
        let mut fit = Self {
            job,
            schedule: Schedule::new(p, info.warmup, steps_per_epoch),
            rules: SelectionRule::all(p),
            metric,
            steps_per_epoch,
            model,
            evaluator,
            optim,
            position: Position::default(),
            kept: Kept::new(),
            tables: None,
            ended: false,
            outcome: None,
        };
        fit.position.best = vec![None; fit.rules.len()];
        fit.position.loss_scale = (job.spec.precision() == Precision::F16).then(LossScale::default);
        if let Some(r) = state::load(job.checkpoint_dir, job.id, &mut fit.optim, fit.rules.len())? {
            set_weights(&fit.model, &r.weights)?;
            fit.position = r.position;
            fit.kept = r.kept;
            let done = fit.position.epochs_done;
            fit.position.timing.resumed_after.push(done);
            fit.position.epochs.iter().for_each(job.on_epoch);
        }
        fit.note_end();
        fit.position.timing.on(crate::device::name(job.device));
        Ok(fit)
    }

    /// One step on the training images at `rows`; `share` are the seconds that their features took. Returns the loss.
    fn step(&mut self, epoch: u32, rows: &[u32], features: Option<&Features>, share: f64) -> Result<f64> {
        // The backward pass is inside too: it may run layers again.
        let precision = compute(self.job.spec);
        scope(precision, || self.step_in_scope(epoch, rows, features, share))
    }

    fn step_in_scope(&mut self, epoch: u32, rows: &[u32], features: Option<&Features>, share: f64) -> Result<f64> {
        let start = Instant::now();
        let job = self.job;
        let read = match (features, self.tables.as_ref().and_then(|t| t.train(epoch))) {
            (Some(f), _) => self.model.read(f)?,
            (None, Some(t)) => t.batch(rows, job.device)?,
            (None, None) => bail!("neither images nor features"),
        };
        let labels = self.labels(rows.iter().map(|&i| job.data.train[i as usize]));
        let target = Target::new(job.data.info.task, &labels, job.device)?;
        let loss = target.loss(&self.model.classify(&read)?)?;
        let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        let step = self.position.steps + 1;
        let lr = self.schedule.lr(step);
        self.position.recent.push_back(value);
        if self.position.recent.len() > RECENT {
            self.position.recent.pop_front();
        }
        let stops = job.spec.protocol.divergence == OnDivergence::Stop;
        let exploded = value.is_nan() || value.abs() > EXPLODED;
        if exploded && stops {
            let what = if value.is_finite() { "has exploded to" } else { "is" };
            let reason = format!("the loss {what} {value} at step {step} (learning rate {lr:.3e})");
            return self.fail(epoch, step, rows, lr, reason).map(|()| value);
        }
        let factor = self.position.loss_scale.map_or(1.0, |s| s.factor);
        let scaled = if factor == 1.0 { loss } else { (loss * factor)? };
        let report = self.optim.step_scaled(&backward(&scaled)?, lr, factor)?;
        let finite = report.grad_norm.is_finite();
        if let Some(scale) = &mut self.position.loss_scale {
            // A step whose gradients overflow is skipped; the next has half the factor.
            scale.update(finite);
        } else if !finite && stops {
            let reason = format!(
                "the gradient norm is {} at step {step} (loss {value:.4}, learning rate {lr:.3e})",
                report.grad_norm
            );
            return self.fail(epoch, step, rows, lr, reason).map(|()| value);
        }
        // The authors' scaler skips in every precision (PROTOCOL 6.4), and the learning rate moves on (Q27).
        if !finite {
            Divergence::note(&mut self.position.divergence.skipped, step);
        } else if exploded {
            Divergence::note(&mut self.position.divergence.exploded, step);
        }
        self.position.steps = step;
        self.position.step_in_epoch += 1;
        self.position.loss_sum += value;
        let seconds = share + start.elapsed().as_secs_f64();
        *self.position.timing.phases.entry("train".into()).or_default() += seconds;
        self.position.epoch_seconds += seconds;
        Ok(value)
    }

    /// Ends the run without a result; what led there is kept.
    fn fail(&mut self, epoch: u32, step: u64, rows: &[u32], lr: f64, reason: String) -> Result<()> {
        self.save()?;
        let image = |&i: &u32| {
            let sample = self.job.data.train[i as usize];
            self.job.data.samples[sample as usize].id.clone()
        };
        self.outcome = Some(FitOutcome::Failed(Box::new(Failure {
            epoch,
            step,
            reason,
            lr,
            losses: self.position.recent.iter().copied().collect(),
            images: rows.iter().map(image).collect(),
            epochs: self.position.epochs.clone(),
            error: false,
        })));
        Ok(())
    }

    /// Whether an epoch is left to train.
    fn goes_on(&self) -> bool {
        self.outcome.is_none() && !self.ended
    }

    /// Notes whether training is at its end, by number or by patience.
    fn note_end(&mut self) {
        let p = &self.job.spec.protocol;
        self.ended = trained(p, &self.metric, &self.position.epochs).is_some();
    }

    fn end_epoch(&mut self) -> Result<()> {
        let epoch = self.position.epochs_done + 1;
        let mean = self.position.loss_sum / self.steps_per_epoch as f64;
        let start = Instant::now();
        self.validate(epoch, self.schedule.lr(self.position.steps), mean)?;
        let seconds = self.position.epoch_seconds + start.elapsed().as_secs_f64();
        self.position.timing.epoch_seconds.push(seconds);
        self.position.epochs_done = epoch;
        self.note_end();
        self.position.step_in_epoch = 0;
        self.position.loss_sum = 0.0;
        self.position.epoch_seconds = 0.0;
        Ok(())
    }

    /// The outcome, once no epoch is left.
    fn end(mut self, progress: &mut dyn FnMut(Progress)) -> Result<FitOutcome> {
        if let Some(o) = self.outcome.take() {
            return Ok(o);
        }
        let p = &self.job.spec.protocol;
        let done = self.position.epochs_done;
        if p.extra_validation && self.position.epochs.len() == done as usize {
            let lr = self.schedule.lr(self.position.steps);
            self.validate(done + 1, lr, f64::NAN)?;
        }
        self.finish(progress)
    }

    /// All of a checkpoint, where the run is still this process's.
    fn copy(&self) -> Result<HostCopy> {
        (self.job.may_write)()?;
        HostCopy::take(
            self.job.id,
            &self.position,
            &self.optim,
            weights(&self.model)?,
            &self.kept,
        )
    }

    /// The least size of a checkpoint: values and two moments.
    fn checkpoint_bytes(&self) -> u64 {
        let trained: usize = self.model.params.trainable().map(|(_, v)| v.elem_count()).sum();
        (trained * 3 * size_of::<f32>()) as u64
    }

    /// Writes a checkpoint and waits for it.
    fn save(&self) -> Result<()> {
        self.copy()?.write(self.job.checkpoint_dir, self.job.may_write)
    }
}

/// A run's model for validation and test.
fn evaluator(job: &Job<'_>, model: &Classifier) -> Result<Classifier> {
    let info = &job.data.info;
    let file = job.pretrained.backbone.as_ref();
    model.evaluator(job.spec, info.channels, info.task.outputs(), file, job.device)
}

/// How the layers of a run compute.
fn compute(spec: &RunSpec) -> Compute {
    match spec.precision() {
        Precision::F32 | Precision::Authors => Compute::Float32,
        Precision::Tf32 => Compute::Tf32,
        Precision::Bf16 => Compute::Bfloat16,
        Precision::F16 => Compute::Float16,
    }
}

/// SHA-256 over name, shape and float32 values of every trained parameter, in order.
///
/// # Errors
/// Where the weights cannot be copied from the device.
pub fn weights_hash(model: &Classifier) -> Result<String> {
    let mut h = Sha256::new();
    for ((name, v), w) in model.params.trainable().zip(weights(model)?) {
        h.update(format!("{name} {:?}\n", v.dims()));
        h.update(as_bytes(&w));
    }
    Ok(fsio::hex(&h.finalize()))
}

/// Trainable parameters by value, in order.
fn weights(model: &Classifier) -> Result<Weights> {
    let flat = |t: &Tensor| t.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>();
    Ok(model
        .params
        .trainable()
        .map(|(_, v)| flat(v.as_tensor()))
        .collect::<candle_core::Result<_>>()?)
}

/// The model as it is now.
fn snapshot(model: &Classifier, set: TestWeights) -> Result<Snapshot> {
    let of = |p: &Param| {
        let tensor = match &p.var {
            // The same memory is trained on, or given other weights.
            Some(v) => v.as_tensor().copy()?.detach(),
            None => p.tensor.clone(),
        };
        Ok((p.name.clone(), tensor.to_device(&Device::Cpu)?))
    };
    let params = model.params.0.iter().map(of).collect::<candle_core::Result<_>>()?;
    Ok(Snapshot { set, params })
}

fn set_weights(model: &Classifier, weights: &Weights) -> Result<()> {
    for ((_, v), w) in model.params.trainable().zip(weights) {
        v.set(&Tensor::from_slice(w, v.dims(), v.device())?)?;
        medft_nn::optimiser::parameter_changed(v.as_tensor());
    }
    Ok(())
}

/// Names of metrics and values for a log line.
pub fn brief(val: &BTreeMap<String, f64>, metric: &str) -> String {
    val.get(metric)
        .map_or_else(|| format!("{metric} –"), |v| format!("{metric} {v:.4}"))
}
