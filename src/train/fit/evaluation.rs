//! Validation, and the test at the end.

use super::{Fit, compute, evaluator, set_weights, snapshot, weights, weights_hash};
use crate::data::Labels;
use crate::data::loader::ViewMode;
use crate::eval::round3;
use crate::model::Classifier;
use crate::rng::{Purpose, Stream};
use crate::spec::protocol::{Divergence, TestWeights, ValidationSet};
use crate::train::evaluate::{SelectionRule, direction, metrics};
use crate::train::features::FeatureTable;
use crate::train::loss::Target;
use crate::train::{Epoch, FitOutcome, Fitted, Progress, Selection, Tested};
use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use medft_nn::precision::scope;
use std::sync::Arc;
use std::time::Instant;

impl Fit<'_> {
    /// Validates, notes the epoch and keeps the weights where they are the best so far.
    pub(super) fn validate(&mut self, epoch: u32, lr: f64, train_loss: f64) -> Result<()> {
        let start = Instant::now();
        let (job, p) = (self.job, &self.job.spec.protocol);
        let batch = p.batch as usize;
        let mut rows: Vec<u32> = (0..job.data.val.len() as u32).collect();
        if p.validation_set == ValidationSet::ShuffledDropLast && rows.len() >= batch {
            Stream::new(job.spec.seed, Purpose::ValidationSubset, epoch, 0).shuffle(&mut rows);
            rows.truncate(rows.len() / batch * batch);
        }
        let table = self.tables.as_ref().map(|t| &t.val);
        let of_validation = match p.validation_batch {
            0 => batch,
            n => n as usize,
        };
        // Validation in the precision of training, the test in float32 (PROTOCOL 6.4).
        let (mut logits, val_loss) = scope(compute(job.spec), || {
            self.predict(&job.data.val, &rows, (table, of_validation), &mut |_| {})
        })?;
        self.require_finite(&logits, "validation", epoch)?;
        if p.val_logits_f16 {
            let rounded = Tensor::from_vec(logits.clone(), logits.len(), &Device::Cpu)?;
            logits = rounded.to_dtype(DType::F16)?.to_dtype(DType::F32)?.to_vec1()?;
        }
        let labels = self.labels(rows.iter().map(|&i| job.data.val[i as usize]));
        let val = metrics(job.data.info.task, p, &logits, &labels)?;
        let ended = Epoch {
            epoch,
            lr,
            train_loss,
            val_loss,
            val,
        };
        let direction = direction(&self.metric);
        let v = direction.oriented(ended.value(&self.metric));
        let mut chosen = false;
        for (rule, best) in self.rules.iter().zip(&mut self.position.best) {
            let v = if rule.rounding { round3(v) } else { v };
            if v > best.map_or(rule.start_of(direction), |b| b.0) {
                *best = Some((v, epoch));
                chosen = true;
            }
        }
        if chosen {
            self.kept.insert(epoch, Arc::new(weights(&self.model)?));
            let best = &self.position.best;
            self.kept.retain(|e, _| best.iter().flatten().any(|b| b.1 == *e));
        }
        (job.on_epoch)(&ended);
        self.position.epochs.push(ended);
        *self.position.timing.phases.entry("validate".into()).or_default() += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Logits (n, outputs) of `rows` (positions in `list`), in that order, and the mean of the losses of batches of `batch`.
    fn predict(
        &self,
        list: &[u32],
        rows: &[u32],
        (table, batch): (Option<&FeatureTable>, usize),
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Vec<f32>, f64)> {
        let job = self.job;
        let mut logits = Vec::with_capacity(rows.len() * job.data.info.task.outputs());
        let (mut loss_sum, mut batches) = (0.0, 0);
        let wanted = if table.is_some() { &[][..] } else { rows };
        let indices: Vec<u32> = wanted.iter().map(|&i| list[i as usize]).collect();
        let mut images = job
            .images
            .batches(&indices, ViewMode::Val, batch, false)
            .onto(job.device);
        for (i, rows) in rows.chunks(batch).enumerate() {
            let features = match table {
                Some(t) => t.batch(rows, job.device)?,
                None => {
                    let Some(b) = images.next() else {
                        bail!("the loader ended early")
                    };
                    self.evaluator.features(&b?.images)?
                }
            };
            let y = self.evaluator.classify(&features)?;
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

    /// Ends a run that stops where it diverges, when logits are no numbers.
    fn require_finite(&mut self, logits: &[f32], part: &str, epoch: u32) -> Result<()> {
        let stops = self.job.spec.protocol.divergence == Divergence::Stop;
        if !stops || self.outcome.is_some() || logits.iter().all(|l| l.is_finite()) {
            return Ok(());
        }
        let step = self.position.steps;
        let reason = format!("logits of {part} images are not finite after step {step}");
        self.fail(epoch, step, &[], self.schedule.lr(step), reason)
    }

    pub(super) fn labels(&self, indices: impl Iterator<Item = u32>) -> Labels {
        self.job.data.labels.pick(indices)
    }

    fn test(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Tested> {
        let start = Instant::now();
        let job = self.job;
        let rows: Vec<u32> = (0..job.data.test.len() as u32).collect();
        let table = self.tables.as_ref().map(|t| &t.test);
        let batch = job.spec.protocol.batch as usize;
        let (logits, _) = self.predict(&job.data.test, &rows, (table, batch), progress)?;
        self.require_finite(&logits, "test", self.position.epochs_done)?;
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
    pub(super) fn finish(mut self, progress: &mut dyn FnMut(Progress)) -> Result<FitOutcome> {
        let job = self.job;
        let last_epoch = self.position.epochs_done;
        let last = self.test(progress)?;
        let keeps = |set: TestWeights| job.keep.sets().contains(&set);
        let mut kept = Vec::new();
        if keeps(TestWeights::Last) {
            kept.push(snapshot(&self.model, TestWeights::Last)?);
        }
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
                        self.evaluator = evaluator(job, &self.model)?;
                        self.test(progress)?
                    }
                };
                // The protocol's own rule is the first, so the model holds what it selects.
                if tested.is_empty() && keeps(TestWeights::Best) {
                    kept.push(snapshot(&self.model, TestWeights::Best)?);
                }
                tested.push((epoch, t));
            }
            picks.push((best.map(|b| b.1), epoch));
        }
        let of = |rule: SelectionRule| -> Result<Selection> {
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
        let (best, faithful, corrected) = (
            of(self.rules[0])?,
            of(SelectionRule::FAITHFUL)?,
            of(SelectionRule::CORRECTED)?,
        );
        let count = |f: &dyn Fn(&str) -> bool| -> u64 {
            let of = self.model.params.0.iter().filter(|p| f(&p.name));
            of.map(|p| p.tensor.elem_count() as u64).sum()
        };
        if let Some(failed) = self.outcome.take() {
            return Ok(failed);
        }
        Ok(FitOutcome::Done(Box::new(Fitted {
            best,
            faithful,
            corrected,
            last,
            kept,
            backbone_params: count(&|n| n.starts_with("backbone.") || n.starts_with("foundation_model.")),
            divergence: self.position.divergence,
            trainable_params: self.model.params.trainable().map(|(_, v)| v.elem_count() as u64).sum(),
            total_params: count(&|_| true),
            timing: self.position.timing,
            epochs: self.position.epochs,
        })))
    }
}
