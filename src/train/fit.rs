//! The training loop. PROTOCOL sections 5–7.

use super::evaluate::{Rule, metrics};
use super::features::{self, FeatureTable};
use super::loss::Target;
use super::optim::{AdamW, AdamWConfig};
use super::schedule::Schedule;
use super::state::{self, Position, Weights};
use super::{EpochStats, Fitted, Job, Outcome, Progress, Tested, Trainer, stop_requested};
use crate::data::Label;
use crate::data::loader::Mode;
use crate::eval::round3;
use crate::model::Classifier;
use crate::model::layers::backward;
use crate::rng::{Purpose, Stream};
use crate::study::Freeze;
use crate::study::protocol::{Augment, Precision, ValidationSet};
use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Seconds between checkpoints inside a run; a stop always writes one.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Fits with candle.
#[derive(Debug, Clone, Copy, Default)]
pub struct CandleTrainer;

impl Trainer for CandleTrainer {
    fn fit(&self, job: &Job<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Outcome> {
        Fit::new(job)?.run(progress)
    }
}

/// A run under way.
struct Fit<'a> {
    job: &'a Job<'a>,
    model: Classifier,
    optim: AdamW,
    schedule: Schedule,
    rule: Rule,
    metric: String,
    steps_per_epoch: u64,
    position: Position,
    best: Option<Weights>,
    /// Features of train (where nothing is augmented), validation and test images, where the backbone is frozen.
    train_table: Option<FeatureTable>,
    val_table: Option<FeatureTable>,
    test_table: Option<FeatureTable>,
}

enum Stop {
    No,
    Interrupted,
    NotANumber { step: u64, reason: String },
}

impl<'a> Fit<'a> {
    fn new(job: &'a Job<'a>) -> Result<Self> {
        let p = &job.spec.protocol;
        let info = &job.data.info;
        if p.precision != Precision::F32 && job.device.is_cpu() {
            bail!("precision {:?} needs a CUDA device; use f32 on the CPU", p.precision);
        }
        let model = Classifier::new(job.spec, info.channels, info.task.outputs(), job.pretrained, job.device)?;
        let optim = AdamW::new(
            &model.params,
            AdamWConfig {
                weight_decay: p.weight_decay,
                layer_decay: p.layer_decay,
                clip: p.clip,
            },
        );
        let batch = p.batch as usize;
        ensure!(
            job.data.train.len() >= batch,
            "{} has {} training images, fewer than a batch of {batch}; lower `batch` in the study",
            info.name,
            job.data.train.len()
        );
        let steps_per_epoch = (job.data.train.len() / batch) as u64;
        let metric = p.selection_metric.clone().unwrap_or_else(|| info.target.to_owned());
        let mut fit = Self {
            job,
            schedule: Schedule::new(p, info.warmup, steps_per_epoch),
            rule: Rule::of(p),
            metric,
            steps_per_epoch,
            model,
            optim,
            position: Position::default(),
            best: None,
            train_table: None,
            val_table: None,
            test_table: None,
        };
        if let Some(r) = state::load(job.checkpoint_dir, &mut fit.optim)? {
            set_weights(&fit.model, &r.weights)?;
            fit.position = r.position;
            fit.best = r.best;
            let done = fit.position.epochs_done;
            fit.position.timing.resumed_after.push(done);
        }
        Ok(fit)
    }

    fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Outcome> {
        let p = &self.job.spec.protocol;
        self.tables(progress)?;
        let mut saved = Instant::now();
        while self.position.epochs_done < p.epochs {
            let start = Instant::now();
            match self.epoch(&mut saved, progress)? {
                Stop::No => {}
                Stop::Interrupted => return Ok(Outcome::Interrupted),
                Stop::NotANumber { step, reason } => {
                    return Ok(Outcome::Failed {
                        epoch: self.position.epochs_done + 1,
                        step,
                        reason,
                    });
                }
            }
            self.position.timing.epoch_seconds.push(start.elapsed().as_secs_f64());
            if saved.elapsed() > CHECKPOINT_EVERY && self.position.epochs_done < p.epochs {
                self.save()?;
                saved = Instant::now();
            }
        }
        if p.extra_validation && self.position.epochs.len() == p.epochs as usize {
            let lr = self.schedule.lr(self.position.steps);
            self.validate(p.epochs + 1, lr, f64::NAN)?;
        }
        self.finish(progress).map(|f| Outcome::Done(Box::new(f)))
    }

    /// Features that are the same in every epoch.
    fn tables(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let job = self.job;
        if job.spec.freeze != Freeze::Frozen {
            return Ok(());
        }
        let start = Instant::now();
        if job.spec.protocol.augment == Augment::None {
            self.train_table = Some(features::table(job, &self.model, &job.data.train, progress)?);
        }
        self.val_table = Some(features::table(job, &self.model, &job.data.val, progress)?);
        self.test_table = Some(features::table(job, &self.model, &job.data.test, progress)?);
        *self.position.timing.phases.entry("features".into()).or_default() += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// One epoch from where the position stands, validation included.
    fn epoch(&mut self, saved: &mut Instant, progress: &mut dyn FnMut(Progress)) -> Result<Stop> {
        let (job, p) = (self.job, &self.job.spec.protocol);
        let epoch = self.position.epochs_done + 1;
        let start = Instant::now();
        // Positions in the training list, so that a table row and an image are found by the same number.
        let mut order: Vec<u32> = (0..job.data.train.len() as u32).collect();
        Stream::new(job.spec.seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        let batch = p.batch as usize;
        let from = self.position.step_in_epoch as usize * batch;
        let left = &order[from..self.steps_per_epoch as usize * batch];
        let mode = match p.augment {
            Augment::None => Mode::Val,
            _ => Mode::Train {
                seed: job.spec.seed,
                epoch,
            },
        };
        // The loader works ahead, so it is only asked for what is read from it.
        let wanted = if self.train_table.is_some() { &[][..] } else { left };
        let indices: Vec<u32> = wanted.iter().map(|&i| job.data.train[i as usize]).collect();
        let mut images = job.images.batches(&indices, mode, batch, true);
        let mut lr = self.schedule.lr(self.position.steps);
        for rows in left.chunks_exact(batch) {
            let features = match &self.train_table {
                Some(t) => t.batch(rows, job.device)?,
                None => {
                    let Some(b) = images.next() else {
                        bail!("the loader ended early")
                    };
                    self.model.features(&b?.tensor(job.device)?)?
                }
            };
            let labels = self.labels(rows.iter().map(|&i| job.data.train[i as usize]));
            let target = Target::new(job.data.info.task, &labels, job.device)?;
            let loss = target.loss(&self.model.classify(&features)?)?;
            let value = f64::from(loss.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            let step = self.position.steps + 1;
            lr = self.schedule.lr(step);
            if !value.is_finite() {
                let reason = format!("the loss is {value} at step {step} (learning rate {lr:.3e})");
                return Ok(Stop::NotANumber { step, reason });
            }
            let report = self.optim.step(&backward(&loss)?, lr)?;
            if !report.grad_norm.is_finite() {
                let reason = format!(
                    "the gradient norm is {} at step {step} (loss {value:.4})",
                    report.grad_norm
                );
                return Ok(Stop::NotANumber { step, reason });
            }
            self.position.steps = step;
            self.position.step_in_epoch += 1;
            self.position.loss_sum += value;
            progress(Progress::Step {
                epoch,
                epochs: p.epochs,
                step,
                steps: self.steps_per_epoch * u64::from(p.epochs),
                loss: value,
            });
            if stop_requested() {
                self.save()?;
                return Ok(Stop::Interrupted);
            }
            if saved.elapsed() > CHECKPOINT_EVERY {
                self.save()?;
                *saved = Instant::now();
            }
        }
        *self.position.timing.phases.entry("train".into()).or_default() += start.elapsed().as_secs_f64();
        let mean = self.position.loss_sum / self.steps_per_epoch as f64;
        self.validate(epoch, lr, mean)?;
        self.position.epochs_done = epoch;
        self.position.step_in_epoch = 0;
        self.position.loss_sum = 0.0;
        Ok(Stop::No)
    }

    /// Validates, notes the epoch and keeps the weights where they are the best so far.
    fn validate(&mut self, epoch: u32, lr: f64, train_loss: f64) -> Result<()> {
        let start = Instant::now();
        let (job, p) = (self.job, &self.job.spec.protocol);
        let batch = p.batch as usize;
        let mut rows: Vec<u32> = (0..job.data.val.len() as u32).collect();
        if p.validation_set == ValidationSet::ShuffledDropLast && rows.len() >= batch {
            Stream::new(job.spec.seed, Purpose::ValidationSubset, epoch, 0).shuffle(&mut rows);
            rows.truncate(rows.len() / batch * batch);
        }
        let (mut logits, val_loss) = self.predict(&job.data.val, &rows, self.val_table.as_ref(), &mut |_| {})?;
        if p.val_logits_f16 {
            let rounded = Tensor::from_vec(logits.clone(), logits.len(), &Device::Cpu)?;
            logits = rounded.to_dtype(DType::F16)?.to_dtype(DType::F32)?.to_vec1()?;
        }
        let labels = self.labels(rows.iter().map(|&i| job.data.val[i as usize]));
        let val = metrics(job.data.info.task, p, &logits, &labels)?;
        let v = val.get(&self.metric).copied().unwrap_or(f64::NAN);
        let v = if self.rule.rounding { round3(v) } else { v };
        if v > self.position.best.map_or(self.rule.start, |b| b.0) {
            self.position.best = Some((v, epoch));
            self.best = Some(weights(&self.model)?);
        }
        self.position.epochs.push(EpochStats {
            epoch,
            lr,
            train_loss,
            val_loss,
            val,
        });
        *self.position.timing.phases.entry("validate".into()).or_default() += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Logits (n, outputs) of `rows` (positions in `list`), in that order, and the mean of the batch losses.
    fn predict(
        &self,
        list: &[u32],
        rows: &[u32],
        table: Option<&FeatureTable>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Vec<f32>, f64)> {
        let job = self.job;
        let batch = job.spec.protocol.batch as usize;
        let mut logits = Vec::with_capacity(rows.len() * job.data.info.task.outputs());
        let (mut loss_sum, mut batches) = (0.0, 0);
        let wanted = if table.is_some() { &[][..] } else { rows };
        let indices: Vec<u32> = wanted.iter().map(|&i| list[i as usize]).collect();
        let mut images = job.images.batches(&indices, Mode::Val, batch, false);
        for (i, rows) in rows.chunks(batch).enumerate() {
            let features = match table {
                Some(t) => t.batch(rows, job.device)?,
                None => {
                    let Some(b) = images.next() else {
                        bail!("the loader ended early")
                    };
                    self.model.features(&b?.tensor(job.device)?)?
                }
            };
            let y = self.model.classify(&features)?.detach();
            let labels = self.labels(rows.iter().map(|&r| list[r as usize]));
            let target = Target::new(job.data.info.task, &labels, job.device)?;
            loss_sum += f64::from(target.loss(&y)?.to_dtype(DType::F32)?.to_scalar::<f32>()?);
            batches += 1;
            logits.extend(y.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
            progress(Progress::Images {
                done: i * batch + rows.len(),
                of: list.len(),
            });
        }
        Ok((logits, loss_sum / f64::from(batches.max(1))))
    }

    fn labels(&self, indices: impl Iterator<Item = u32>) -> Vec<Label> {
        indices
            .map(|i| self.job.data.samples[i as usize].label.clone())
            .collect()
    }

    fn test(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Tested> {
        let start = Instant::now();
        let job = self.job;
        let rows: Vec<u32> = (0..job.data.test.len() as u32).collect();
        let (logits, _) = self.predict(&job.data.test, &rows, self.test_table.as_ref(), progress)?;
        let labels = self.labels(job.data.test.iter().copied());
        let metrics = metrics(job.data.info.task, &job.spec.protocol, &logits, &labels)?;
        *self.position.timing.phases.entry("test".into()).or_default() += start.elapsed().as_secs_f64();
        Ok(Tested { logits, metrics })
    }

    /// Tests the last and the best weights.
    fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Fitted> {
        let job = self.job;
        let last = self.test(progress)?;
        let selected = self.position.best.map(|b| b.1);
        let best = if selected.is_some_and(|e| e >= job.spec.protocol.epochs) {
            last.clone()
        } else {
            match self.best.take() {
                Some(w) => set_weights(&self.model, &w)?,
                // Nothing was ever selected: the initial weights are tested (Q16).
                None => {
                    let info = &job.data.info;
                    let outputs = info.task.outputs();
                    self.model = Classifier::new(job.spec, info.channels, outputs, job.pretrained, job.device)?;
                }
            }
            self.test(progress)?
        };
        let epochs = std::mem::take(&mut self.position.epochs);
        let count = |f: &dyn Fn(&str) -> bool| -> u64 {
            let of = self.model.params.0.iter().filter(|p| f(&p.name));
            of.map(|p| p.tensor.elem_count() as u64).sum()
        };
        let rule = |rounding, start| Rule { rounding, start }.select(&epochs, &self.metric);
        Ok(Fitted {
            selected,
            selected_faithful: rule(true, 0.0),
            selected_corrected: rule(false, f64::NEG_INFINITY),
            best,
            last,
            backbone_params: count(&|n| n.starts_with("backbone.") || n.starts_with("foundation_model.")),
            trainable_params: self.model.params.trainable().map(|(_, v)| v.elem_count() as u64).sum(),
            total_params: count(&|_| true),
            timing: self.position.timing.clone(),
            epochs,
        })
    }

    fn save(&self) -> Result<()> {
        state::save(
            self.job.checkpoint_dir,
            &self.position,
            &self.optim,
            &weights(&self.model)?,
            self.best.as_ref(),
        )
    }
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

fn set_weights(model: &Classifier, weights: &Weights) -> Result<()> {
    for ((_, v), w) in model.params.trainable().zip(weights) {
        v.set(&Tensor::from_slice(w, v.dims(), v.device())?)?;
    }
    Ok(())
}

/// Names of metrics and values for a log line.
pub fn brief(val: &BTreeMap<String, f64>, metric: &str) -> String {
    val.get(metric)
        .map_or_else(|| format!("{metric} –"), |v| format!("{metric} {v:.4}"))
}
