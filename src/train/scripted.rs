//! A trainer whose results are written down beforehand, for tests of scheduling, crashes and reports.

use super::{EpochStats, Fitted, Job, Outcome, Progress, Tested, Timing, Trainer};
use crate::rng::{Purpose, Stream};
use crate::train::evaluate::{Rule, metrics};
use anyhow::Result;
use std::collections::BTreeMap;
use std::time::Duration;

/// Makes logits from the seed and the labels alone: no model, no image.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scripted {
    /// Time an epoch takes, so that a test can kill the process in the middle.
    pub epoch: Duration,
}

impl Trainer for Scripted {
    fn fit(&self, job: &Job<'_>, progress: &mut dyn FnMut(Progress)) -> Result<Outcome> {
        let p = &job.spec.protocol;
        let task = job.data.info.task;
        let labels: Vec<_> = job
            .data
            .test
            .iter()
            .map(|&i| job.data.samples[i as usize].label.clone())
            .collect();
        let k = task.outputs();
        let mut s = Stream::new(job.spec.seed, Purpose::Test, 0, 0);
        let logits: Vec<f32> = (0..labels.len() * k).map(|_| s.normal() as f32).collect();
        let test = Tested {
            metrics: metrics(task, p, &logits, &labels)?,
            logits,
        };
        let mut epochs = Vec::new();
        for epoch in 1..=p.epochs {
            std::thread::sleep(self.epoch);
            if super::stop_requested() {
                return Ok(Outcome::Interrupted);
            }
            epochs.push(EpochStats {
                epoch,
                lr: p.lr,
                train_loss: 1.0 / f64::from(epoch),
                val_loss: 1.0 / f64::from(epoch),
                val: BTreeMap::from([(job.data.info.target.to_owned(), s.uniform())]),
            });
            progress(Progress::Step {
                epoch,
                epochs: p.epochs,
                step: u64::from(epoch),
                steps: u64::from(p.epochs),
                loss: 1.0,
            });
        }
        let metric = job.data.info.target;
        Ok(Outcome::Done(Box::new(Fitted {
            selected: Rule::of(p).select(&epochs, metric),
            selected_faithful: Rule {
                rounding: true,
                start: 0.0,
            }
            .select(&epochs, metric),
            selected_corrected: Rule {
                rounding: false,
                start: f64::NEG_INFINITY,
            }
            .select(&epochs, metric),
            epochs,
            best: test.clone(),
            last: test,
            backbone_params: 0,
            trainable_params: 0,
            total_params: 0,
            timing: Timing::default(),
        })))
    }
}
