//! The training loop. PROTOCOL sections 5–7.

use super::evaluate::{Rule, metrics};
use super::features::{self, FeatureTable};
use super::loss::Target;
use super::loss_scale::LossScale;
use super::optim::{AdamW, AdamWConfig};
use super::schedule::Schedule;
use super::state::{self, Position, Weights};
use super::{EpochStats, Failed, Fitted, Job, Outcome, Progress, Selection, Tested, Trainer, stop_requested};
use crate::data::Label;
use crate::data::loader::Mode;
use crate::eval::round3;
use crate::fsio;
use crate::model::Classifier;
use crate::model::backbone::Features;
use crate::model::layers::precision::{Compute, scope};
use crate::model::layers::{backward, cuda};
use crate::rng::{Purpose, Stream};
use crate::study::protocol::{Augment, Precision, ValidationSet};
use crate::study::{Freeze, RunSpec};
use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::time::Instant;

/// A loss above this has exploded: cross-entropy of a uniform guess is below 3 for every task here.
const EXPLODED: f64 = 1e4;

/// How many of the latest losses are kept as evidence.
const RECENT: usize = 32;

/// Fits with candle.
#[derive(Debug, Clone, Copy, Default)]
pub struct CandleTrainer;

impl Trainer for CandleTrainer {
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<Outcome>> {
        Group::new(jobs)?.run(progress)
    }
}

/// A run under way.
struct Fit<'a> {
    job: &'a Job<'a>,
    model: Classifier,
    optim: AdamW,
    schedule: Schedule,
    /// The protocol's own rule of selection, then those of the presets that differ from it.
    rules: Vec<Rule>,
    metric: String,
    steps_per_epoch: u64,
    position: Position,
    /// Weights of every epoch that one of the rules would select now.
    kept: BTreeMap<u32, Weights>,
    /// Features of train (where nothing is augmented), validation and test images, where the backbone is frozen.
    tables: Option<Tables>,
    /// How it ended.
    outcome: Option<Outcome>,
}

struct Tables {
    train: Option<FeatureTable>,
    val: FeatureTable,
    test: FeatureTable,
}

/// Runs that are trained side by side: one, or the heads of one frozen backbone, which is then run once an image.
///
/// Every member draws its own numbers and keeps its own position, so its bytes are those of a run alone; one that is ahead
/// (because it was resumed later) waits for the others.
struct Group<'a> {
    fits: Vec<Fit<'a>>,
    saved: Instant,
}

impl<'a> Group<'a> {
    fn new(jobs: &'a [Job<'a>]) -> Result<Self> {
        let mut fits: Vec<Fit<'a>> = Vec::with_capacity(jobs.len());
        for job in jobs {
            let first = fits.first();
            if let Some(first) = first {
                let apart = RunSpec {
                    head: first.job.spec.head,
                    ..job.spec.clone()
                };
                ensure!(
                    apart == *first.job.spec,
                    "runs trained side by side may differ in the head alone"
                );
            }
            let fit = Fit::new(job, first.map(|f| &f.model))?;
            fits.push(fit);
        }
        Ok(Self {
            fits,
            saved: Instant::now(),
        })
    }

    fn run(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Vec<Outcome>> {
        let Some(job) = self.fits.first().map(|f| f.job) else {
            return Ok(Vec::new());
        };
        let p = &job.spec.protocol;
        self.tables(progress)?;
        while let Some(epoch) = self.next_epoch(p.epochs) {
            self.epoch(epoch, progress)?;
            if epoch < p.epochs {
                self.save_in_time()?;
            }
        }
        self.fits.into_iter().map(|f| f.end(progress)).collect()
    }

    /// The least epoch that a member still has to train.
    fn next_epoch(&self, epochs: u32) -> Option<u32> {
        let open = self.fits.iter().filter(|f| f.outcome.is_none());
        open.map(|f| f.position.epochs_done + 1).filter(|&e| e <= epochs).min()
    }

    /// Features that are the same in every epoch; one pass over the images serves all members.
    fn tables(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let job = self.fits[0].job;
        if job.spec.freeze != Freeze::Frozen {
            return Ok(());
        }
        let start = Instant::now();
        let members: Vec<(&Job<'_>, &Classifier)> = self.fits.iter().map(|f| (f.job, &f.model)).collect();
        let precision = compute(job.spec.protocol.precision);
        let mut of = |list: &[u32], precision: Compute| {
            scope(precision, || features::tables(&members, list, progress)).map(Vec::into_iter)
        };
        let train = match job.spec.protocol.augment {
            Augment::None => Some(of(&job.data.train, precision)?),
            _ => None,
        };
        let (val, test) = (of(&job.data.val, precision)?, of(&job.data.test, Compute::Float32)?);
        let mut train = train.into_iter().flatten();
        let share = start.elapsed().as_secs_f64() / self.fits.len() as f64;
        for ((f, val), test) in self.fits.iter_mut().zip(val).zip(test) {
            f.tables = Some(Tables {
                train: train.next(),
                val,
                test,
            });
            *f.position.timing.phases.entry("features".into()).or_default() += share;
        }
        Ok(())
    }

    /// Trains the members that are in `epoch` to its end, validation included.
    fn epoch(&mut self, epoch: u32, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let job = self.fits[0].job;
        let p = &job.spec.protocol;
        let steps_per_epoch = self.fits[0].steps_per_epoch;
        let here = |f: &Fit<'_>| f.outcome.is_none() && f.position.epochs_done + 1 == epoch;
        // Positions in the training list, so that a table row and an image are found by the same number.
        let mut order: Vec<u32> = (0..job.data.train.len() as u32).collect();
        Stream::new(job.spec.seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        let batch = p.batch as usize;
        let steps = self.fits.iter().filter(|f| here(f)).map(|f| f.position.step_in_epoch);
        let from = steps.min().unwrap_or(0);
        let left = &order[from as usize * batch..steps_per_epoch as usize * batch];
        let mode = match p.augment {
            Augment::None => Mode::Val,
            _ => Mode::Train {
                seed: job.spec.seed,
                epoch,
            },
        };
        let cached = self.fits[0].tables.as_ref().is_some_and(|t| t.train.is_some());
        // The loader works ahead, so it is only asked for what is read from it.
        let wanted = if cached { &[][..] } else { left };
        let indices: Vec<u32> = wanted.iter().map(|&i| job.data.train[i as usize]).collect();
        let mut images = job.images.batches(&indices, mode, batch, true);
        for (step, rows) in (from..).zip(left.chunks_exact(batch)) {
            let start = Instant::now();
            let features = if cached {
                None
            } else {
                let Some(b) = images.next() else {
                    bail!("the loader ended early")
                };
                let x = b?.tensor(job.device)?;
                let backbone = &self.fits[0].model.backbone;
                Some(scope(compute(p.precision), || backbone.forward(&x))?)
            };
            let members = |f: &&mut Fit<'_>| here(f) && f.position.step_in_epoch == step;
            let n = self.fits.iter_mut().filter(members).count();
            let share = start.elapsed().as_secs_f64() / n.max(1) as f64;
            let mut loss = f64::NAN;
            for f in self.fits.iter_mut().filter(members) {
                loss = f.step(epoch, rows, features.as_ref(), share)?;
            }
            let done = u64::from(epoch - 1) * steps_per_epoch + step + 1;
            progress(Progress::Step {
                epoch,
                epochs: p.epochs,
                step: done,
                steps: steps_per_epoch * u64::from(p.epochs),
                loss,
            });
            if stop_requested() {
                self.save()?;
                for f in self.fits.iter_mut().filter(|f| f.outcome.is_none()) {
                    f.outcome = Some(Outcome::Interrupted);
                }
                return Ok(());
            }
            self.save_in_time()?;
        }
        self.fits.iter_mut().filter(|f| here(f)).try_for_each(Fit::end_epoch)
    }

    fn save_in_time(&mut self) -> Result<()> {
        if self.saved.elapsed() < self.fits[0].job.checkpoint_every {
            return Ok(());
        }
        self.save()
    }

    fn save(&mut self) -> Result<()> {
        self.saved = Instant::now();
        self.fits.iter().filter(|f| f.outcome.is_none()).try_for_each(Fit::save)
    }
}

impl<'a> Fit<'a> {
    /// Builds the run's model, on the backbone of `shared` where there is one, and takes up its checkpoint.
    fn new(job: &'a Job<'a>, shared: Option<&Classifier>) -> Result<Self> {
        let p = &job.spec.protocol;
        let info = &job.data.info;
        if p.precision != Precision::F32 && job.device.is_cpu() && !cuda::emulated() {
            bail!("precision {:?} needs a CUDA device; use f32 on the CPU", p.precision);
        }
        let outputs = info.task.outputs();
        let model = match shared {
            Some(other) => Classifier::sharing(other, job.spec, outputs, job.pretrained, job.device)?,
            None => Classifier::new(job.spec, info.channels, outputs, job.pretrained, job.device)?,
        };
        let optim = AdamW::new(
            &model.params,
            AdamWConfig {
                weight_decay: p.weight_decay,
                layer_decay: p.layer_decay,
                clip: p.clip,
            },
        )?;
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
            rules: Rule::all(p),
            metric,
            steps_per_epoch,
            model,
            optim,
            position: Position::default(),
            kept: BTreeMap::new(),
            tables: None,
            outcome: None,
        };
        fit.position.best = vec![None; fit.rules.len()];
        fit.position.loss_scale = (p.precision == Precision::F16).then(LossScale::default);
        if let Some(r) = state::load(job.checkpoint_dir, &mut fit.optim, fit.rules.len())? {
            set_weights(&fit.model, &r.weights)?;
            fit.position = r.position;
            fit.kept = r.kept;
            let done = fit.position.epochs_done;
            fit.position.timing.resumed_after.push(done);
        }
        Ok(fit)
    }

    /// One step on the training images at `rows`; `share` are the seconds that their features took. Returns the loss.
    fn step(&mut self, epoch: u32, rows: &[u32], features: Option<&Features>, share: f64) -> Result<f64> {
        // The backward pass is inside too: it may run layers again.
        let precision = compute(self.job.spec.protocol.precision);
        scope(precision, || self.step_in_scope(epoch, rows, features, share))
    }

    fn step_in_scope(&mut self, epoch: u32, rows: &[u32], features: Option<&Features>, share: f64) -> Result<f64> {
        let start = Instant::now();
        let job = self.job;
        let read = match (features, self.tables.as_ref().and_then(|t| t.train.as_ref())) {
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
        if value.is_nan() || value.abs() > EXPLODED {
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
        } else if !finite {
            let reason = format!(
                "the gradient norm is {} at step {step} (loss {value:.4}, learning rate {lr:.3e})",
                report.grad_norm
            );
            return self.fail(epoch, step, rows, lr, reason).map(|()| value);
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
        self.outcome = Some(Outcome::Failed(Box::new(Failed {
            epoch,
            step,
            reason,
            lr,
            losses: self.position.recent.iter().copied().collect(),
            images: rows.iter().map(image).collect(),
            epochs: self.position.epochs.clone(),
        })));
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<()> {
        let epoch = self.position.epochs_done + 1;
        let mean = self.position.loss_sum / self.steps_per_epoch as f64;
        let start = Instant::now();
        self.validate(epoch, self.schedule.lr(self.position.steps), mean)?;
        let seconds = self.position.epoch_seconds + start.elapsed().as_secs_f64();
        self.position.timing.epoch_seconds.push(seconds);
        self.position.epochs_done = epoch;
        self.position.step_in_epoch = 0;
        self.position.loss_sum = 0.0;
        self.position.epoch_seconds = 0.0;
        Ok(())
    }

    /// The outcome, once no epoch is left.
    fn end(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Outcome> {
        if let Some(o) = self.outcome.take() {
            return Ok(o);
        }
        let p = &self.job.spec.protocol;
        if p.extra_validation && self.position.epochs.len() == p.epochs as usize {
            let lr = self.schedule.lr(self.position.steps);
            self.validate(p.epochs + 1, lr, f64::NAN)?;
        }
        self.finish(progress).map(|f| Outcome::Done(Box::new(f)))
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
        let table = self.tables.as_ref().map(|t| &t.val);
        // Validation in the precision of training, the test in float32 (PROTOCOL 6.4).
        let (mut logits, val_loss) = scope(compute(p.precision), || {
            self.predict(&job.data.val, &rows, table, &mut |_| {})
        })?;
        if p.val_logits_f16 {
            let rounded = Tensor::from_vec(logits.clone(), logits.len(), &Device::Cpu)?;
            logits = rounded.to_dtype(DType::F16)?.to_dtype(DType::F32)?.to_vec1()?;
        }
        let labels = self.labels(rows.iter().map(|&i| job.data.val[i as usize]));
        let val = metrics(job.data.info.task, p, &logits, &labels)?;
        let v = val.get(&self.metric).copied().unwrap_or(f64::NAN);
        let mut chosen = false;
        for (rule, best) in self.rules.iter().zip(&mut self.position.best) {
            let v = if rule.rounding { round3(v) } else { v };
            if v > best.map_or(rule.start, |b| b.0) {
                *best = Some((v, epoch));
                chosen = true;
            }
        }
        if chosen {
            self.kept.insert(epoch, weights(&self.model)?);
            let best = &self.position.best;
            self.kept.retain(|e, _| best.iter().flatten().any(|b| b.1 == *e));
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
        let table = self.tables.as_ref().map(|t| &t.test);
        let (logits, _) = self.predict(&job.data.test, &rows, table, progress)?;
        let labels = self.labels(job.data.test.iter().copied());
        let metrics = metrics(job.data.info.task, &job.spec.protocol, &logits, &labels)?;
        *self.position.timing.phases.entry("test".into()).or_default() += start.elapsed().as_secs_f64();
        Ok(Tested {
            logits,
            metrics,
            weights_sha256: weights_hash(&self.model)?,
        })
    }

    /// Tests the weights after the last step and those that each rule selects; equal ones once.
    fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Fitted> {
        let job = self.job;
        let last_epoch = job.spec.protocol.epochs;
        let last = self.test(progress)?;
        let mut tested: Vec<(Option<u32>, Tested)> = Vec::new();
        let mut picks = Vec::new();
        for best in self.position.best.clone() {
            // After the last epoch nothing was trained: an extra validation (Q15) sees the same weights.
            let epoch = best.map(|b| b.1.min(last_epoch));
            if !tested.iter().any(|t| t.0 == epoch) {
                let t = match epoch {
                    Some(e) if e == last_epoch => last.clone(),
                    Some(e) => {
                        let w = self.kept.get(&e).context("the selected weights were not kept")?;
                        set_weights(&self.model, w)?;
                        self.test(progress)?
                    }
                    // Nothing was ever selected: the initial weights are tested (Q16).
                    None => {
                        let info = &job.data.info;
                        let outputs = info.task.outputs();
                        self.model = Classifier::new(job.spec, info.channels, outputs, job.pretrained, job.device)?;
                        self.test(progress)?
                    }
                };
                tested.push((epoch, t));
            }
            picks.push((best.map(|b| b.1), epoch));
        }
        let of = |rule: Rule| -> Result<Selection> {
            let i = self
                .rules
                .iter()
                .position(|r| *r == rule)
                .context("a rule was not followed")?;
            let (epoch, key) = picks[i];
            let t = tested.iter().find(|t| t.0 == key).context("a rule was not tested")?;
            Ok(Selection {
                epoch,
                tested: t.1.clone(),
            })
        };
        let (best, faithful, corrected) = (of(self.rules[0])?, of(Rule::FAITHFUL)?, of(Rule::CORRECTED)?);
        let count = |f: &dyn Fn(&str) -> bool| -> u64 {
            let of = self.model.params.0.iter().filter(|p| f(&p.name));
            of.map(|p| p.tensor.elem_count() as u64).sum()
        };
        Ok(Fitted {
            best,
            faithful,
            corrected,
            last,
            backbone_params: count(&|n| n.starts_with("backbone.") || n.starts_with("foundation_model.")),
            trainable_params: self.model.params.trainable().map(|(_, v)| v.elem_count() as u64).sum(),
            total_params: count(&|_| true),
            timing: self.position.timing,
            epochs: self.position.epochs,
        })
    }

    fn save(&self) -> Result<()> {
        state::save(
            self.job.checkpoint_dir,
            &self.position,
            &self.optim,
            &weights(&self.model)?,
            &self.kept,
        )
    }
}

/// How the layers compute in a protocol's precision.
fn compute(p: Precision) -> Compute {
    match p {
        Precision::F32 => Compute::Float32,
        Precision::Tf32 => Compute::Tf32,
        Precision::Bf16 => Compute::Bfloat16,
        Precision::F16 => Compute::Float16,
    }
}

/// SHA-256 over name, shape and float32 values of every trained parameter, in order.
fn weights_hash(model: &Classifier) -> Result<String> {
    let mut h = Sha256::new();
    for ((name, v), w) in model.params.trainable().zip(weights(model)?) {
        h.update(format!("{name} {:?}\n", v.dims()));
        h.update(state::as_bytes(&w));
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
