//! Runs side by side: the loop over epochs and batches.

use super::saver::Saver;
use super::{Fit, Tables, compute};
use crate::data::loader::{Images, ViewMode};
use crate::model::Classifier;
use crate::rng::{Purpose, Stream};
use crate::spec::{Freeze, RunSpec};
use crate::stop;
use crate::train::{FitOutcome, Job, Progress, Trainer, features};
use anyhow::{Result, bail, ensure};
use medft_nn::precision::{Compute, scope};
use std::time::{Duration, Instant};

/// Fits with candle.
#[derive(Debug, Clone, Copy, Default)]
pub struct CandleTrainer;

impl Trainer for CandleTrainer {
    fn fit(&self, jobs: &[Job<'_>], progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>> {
        Group::new(jobs)?.run(progress)
    }
}

/// Runs that are trained side by side: one, or the heads of one frozen backbone, which is then run once an image.
///
/// Every member draws its own numbers and keeps its own position, so its bytes are those of a run alone; one that is ahead
/// (because it was resumed later) waits for the others.
pub(super) struct Group<'a> {
    fits: Vec<Fit<'a>>,
    /// The members' images under their own training views: runs that differ in those share what is prepared.
    images: Option<Images>,
}

impl<'a> Group<'a> {
    pub(super) fn new(jobs: &'a [Job<'a>]) -> Result<Self> {
        let mut fits: Vec<Fit<'a>> = Vec::with_capacity(jobs.len());
        for job in jobs {
            let first = fits.first();
            if let Some(first) = first {
                let apart = RunSpec {
                    head: first.job.spec.head,
                    ..job.spec.clone()
                };
                ensure!(
                    apart == *first.job.spec && first.job.spec.precision() == job.spec.precision(),
                    "runs trained side by side may differ in the head alone"
                );
            }
            let fit = Fit::new(job, first.map(|f| &f.model))?;
            fits.push(fit);
        }
        let views = |j: &Job<'_>| j.images.viewed_by(&j.spec.protocol);
        Ok(Self {
            fits,
            images: jobs.first().map(views).transpose()?,
        })
    }

    pub(super) fn run(self, progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>> {
        std::thread::scope(|scope| {
            let every = self.fits.first().map_or(Duration::ZERO, |f| f.job.checkpoint_every);
            let bytes = self.fits.iter().map(Fit::checkpoint_bytes).sum();
            self.fit(&mut Saver::new(scope, every, bytes), progress)
        })
    }

    fn fit<'s>(mut self, saver: &mut Saver<'s, '_>, progress: &mut dyn FnMut(Progress)) -> Result<Vec<FitOutcome>>
    where
        'a: 's,
    {
        let Some(job) = self.fits.first().map(|f| f.job) else {
            return Ok(Vec::new());
        };
        let p = &job.spec.protocol;
        self.tables(progress)?;
        while let Some(epoch) = self.next_epoch() {
            self.epoch(epoch, saver, progress)?;
            if epoch < p.epochs {
                self.save_in_time(saver)?;
            }
        }
        saver.wait()?;
        self.fits.into_iter().map(|f| f.end(progress)).collect()
    }

    /// The least epoch that a member still has to train.
    fn next_epoch(&self) -> Option<u32> {
        let open = self.fits.iter().filter(|f| f.goes_on());
        open.map(|f| f.position.epochs_done + 1).min()
    }

    /// Features that are the same in every epoch; one pass over the images serves all members.
    fn tables(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<()> {
        let job = self.fits[0].job;
        if job.spec.freeze != Freeze::Frozen {
            return Ok(());
        }
        let start = Instant::now();
        let members: Vec<(&Job<'_>, &Classifier)> = self.fits.iter().map(|f| (f.job, &f.model)).collect();
        let precision = compute(job.spec);
        let images = self.images.as_ref().unwrap_or(job.images);
        let mut of = |list: &[u32], mode: ViewMode, precision: Compute| {
            scope(precision, || features::tables(&members, images, (list, mode), progress)).map(Vec::into_iter)
        };
        let views = ViewMode::of_all_seeds(&job.spec.protocol);
        let train = views.into_iter().map(|view| of(&job.data.train, view, precision));
        let mut train = train.collect::<Result<Vec<_>>>()?;
        let (val, test) = (
            of(&job.data.val, ViewMode::Val, precision)?,
            of(&job.data.test, ViewMode::Val, Compute::Float32)?,
        );
        let share = start.elapsed().as_secs_f64() / self.fits.len() as f64;
        for ((f, val), test) in self.fits.iter_mut().zip(val).zip(test) {
            f.tables = Some(Tables {
                train: train.iter_mut().filter_map(Iterator::next).collect(),
                val,
                test,
            });
            *f.position.timing.phases.entry("features".into()).or_default() += share;
        }
        Ok(())
    }

    /// Trains the members that are in `epoch` to its end, validation included.
    fn epoch<'s>(&mut self, epoch: u32, saver: &mut Saver<'s, '_>, progress: &mut dyn FnMut(Progress)) -> Result<()>
    where
        'a: 's,
    {
        let job = self.fits[0].job;
        let p = &job.spec.protocol;
        let steps_per_epoch = self.fits[0].steps_per_epoch;
        let here = |f: &Fit<'_>| f.goes_on() && f.position.epochs_done + 1 == epoch;
        // Positions in the training list, so that a table row and an image are found by the same number.
        let mut order: Vec<u32> = (0..job.data.train.len() as u32).collect();
        Stream::new(job.spec.seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        let batch = p.batch as usize;
        let steps = self.fits.iter().filter(|f| here(f)).map(|f| f.position.step_in_epoch);
        let from = steps.min().unwrap_or(0);
        let seen = order.len().min(steps_per_epoch as usize * batch);
        let left = &order[(from as usize * batch).min(seen)..seen];
        let mode = ViewMode::training(p, job.spec.seed, epoch);
        let cached = self.fits[0].tables.as_ref().is_some_and(|t| t.train(epoch).is_some());
        // The loader works ahead, so it is only asked for what is read from it.
        let wanted = if cached { &[][..] } else { left };
        let indices: Vec<u32> = wanted.iter().map(|&i| job.data.train[i as usize]).collect();
        let images = self.images.as_ref().unwrap_or(job.images);
        let mut images = images.batches(&indices, mode, batch, false).onto(job.device);
        for (step, rows) in (from..).zip(left.chunks(batch)) {
            let start = Instant::now();
            let features = if cached {
                None
            } else {
                let Some(b) = images.next() else {
                    bail!("the loader ended early")
                };
                let x = b?.images;
                let backbone = &self.fits[0].model.backbone;
                Some(scope(compute(job.spec), || backbone.forward(&x))?)
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
            if stop::requested() {
                saver.wait()?;
                self.fits
                    .iter()
                    .filter(|f| f.outcome.is_none())
                    .try_for_each(Fit::save)?;
                for f in self.fits.iter_mut().filter(|f| f.outcome.is_none()) {
                    f.outcome = Some(FitOutcome::Interrupted);
                }
                return Ok(());
            }
            self.save_in_time(saver)?;
        }
        for (job, f) in self.fits.iter_mut().enumerate().filter(|(_, f)| here(f)) {
            f.end_epoch()?;
            if let Some(e) = f.position.epochs.last() {
                progress(Progress::Epoch {
                    job,
                    epoch,
                    epochs: p.epochs,
                    train_loss: e.train_loss,
                    val_loss: e.val_loss,
                    val: e.value(&f.metric),
                });
            }
        }
        Ok(())
    }

    /// Begins a checkpoint where one is due.
    fn save_in_time<'s>(&mut self, saver: &mut Saver<'s, '_>) -> Result<()>
    where
        'a: 's,
    {
        if !saver.due()? {
            return Ok(());
        }
        let start = Instant::now();
        let open = || self.fits.iter().filter(|f| f.outcome.is_none());
        let copies = open().map(|f| Ok((f.copy()?, f.job))).collect::<Result<Vec<_>>>()?;
        let seconds = start.elapsed();
        saver.begin(copies, seconds)?;
        let n = self.fits.iter().filter(|f| f.outcome.is_none()).count();
        for f in self.fits.iter_mut().filter(|f| f.outcome.is_none()) {
            *f.position.timing.phases.entry("checkpoint".into()).or_default() += seconds.as_secs_f64() / n as f64;
        }
        Ok(())
    }
}
