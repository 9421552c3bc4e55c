//! A trainer whose results are written down beforehand, for tests of scheduling, crashes and reports.

use super::evaluate::{SelectionRule, metrics};
use super::optim::{AdamW, AdamWConfig};
use super::state::{self, Position};
use super::{Divergence, Epoch, FitOutcome, Fitted, Job, Progress, Selection, Tested, Trainer};
use crate::model::params::Params;
use crate::model::safetensors::as_bytes;
use crate::rng::{Purpose, Stream};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

/// Makes metrics and logits from the seed and the labels alone: no model, no image. Writes a checkpoint after every epoch,
/// as the real trainer does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripted {
    /// Time an epoch takes, so that a test can kill the process in the middle.
    pub epoch: Duration,
}

impl Trainer for Scripted {
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>> {
        let one = |(number, job)| self.one(number, job, progress);
        jobs.iter().enumerate().map(one).collect()
    }
}

impl Scripted {
    fn one(&self, number: usize, job: &Job<'_>, progress: &mut dyn FnMut(Progress)) -> Result<FitOutcome> {
        let p = &job.spec.protocol;
        let config = AdamWConfig {
            weight_decay: 0.0,
            layer_decay: 1.0,
            clip: 0.0,
        };
        let mut optim = AdamW::new(&Params::default(), config)?;
        let metric = job.data.info.target;
        let mut position = match state::load(job.checkpoint_dir, job.id, &mut optim, 0)? {
            Some(r) => {
                r.position.epochs.iter().for_each(job.on_epoch);
                r.position
            }
            None => Position::default(),
        };
        while position.epochs_done < p.epochs {
            std::thread::sleep(self.epoch);
            if crate::stop::requested() {
                return Ok(FitOutcome::Interrupted);
            }
            let epoch = position.epochs_done + 1;
            let value = Stream::new(job.spec.seed, Purpose::Test, epoch, 0).uniform();
            position.epochs.push(Epoch {
                epoch,
                lr: p.lr,
                train_loss: 1.0 / f64::from(epoch),
                val_loss: 1.0 / f64::from(epoch),
                val: BTreeMap::from([(metric.to_owned(), value)]),
            });
            position.epochs.iter().last().into_iter().for_each(job.on_epoch);
            position.epochs_done = epoch;
            position.steps = u64::from(epoch);
            (job.may_write)()?;
            state::save(
                job.checkpoint_dir,
                job.id,
                &position,
                &optim,
                Vec::new(),
                &BTreeMap::new(),
            )?;
            progress(Progress::Step {
                epoch,
                epochs: p.epochs,
                step: u64::from(epoch),
                steps: u64::from(p.epochs),
                loss: 1.0,
            });
            progress(Progress::Epoch {
                job: number,
                epoch,
                epochs: p.epochs,
                train_loss: 1.0 / f64::from(epoch),
                val_loss: 1.0 / f64::from(epoch),
                val: value,
            });
        }
        let test = |epoch: Option<u32>| tested(job, epoch);
        let select = |rule: SelectionRule| -> Result<Selection> {
            let epoch = rule.select(&position.epochs, metric);
            Ok(Selection {
                epoch,
                tested: test(epoch)?,
            })
        };
        Ok(FitOutcome::Done(Box::new(Fitted {
            best: select(SelectionRule::of(p))?,
            faithful: select(SelectionRule::FAITHFUL)?,
            corrected: select(SelectionRule::CORRECTED)?,
            last: test(Some(p.epochs))?,
            kept: Vec::new(),
            epochs: position.epochs.clone(),
            backbone_params: 0,
            trainable_params: 0,
            total_params: 0,
            divergence: Divergence::default(),
            timing: position.timing.clone(),
        })))
    }
}

/// Logits of an epoch, drawn for the seed.
fn tested(job: &Job<'_>, epoch: Option<u32>) -> Result<Tested> {
    let task = job.data.info.task;
    let labels = job.data.labels.pick(job.data.test.iter().copied());
    let mut s = Stream::new(job.spec.seed, Purpose::Test, epoch.unwrap_or(0), 1);
    let logits: Vec<f32> = (0..labels.len() * task.outputs()).map(|_| s.normal() as f32).collect();
    Ok(Tested {
        metrics: metrics(task, &job.spec.protocol, &logits, &labels)?,
        weights_sha256: crate::fsio::sha256_hex(as_bytes(&logits)),
        logits,
    })
}
