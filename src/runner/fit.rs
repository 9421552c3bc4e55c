//! Fits runs that go together and writes what became of each.

use super::inventory::{Inventory, RunInputs};
use super::plan::{Plan, PlanEntry};
use super::tensorboard::Curves;
use super::{Context, memory, products, selfcheck};
use crate::data::loader::{Images, LoaderOptions};
use crate::data::transform::Transform;
use crate::data::{Dataset, DatasetInfo, Labels, fraction, registry};
use crate::device::{self, Opened};
use crate::model;
use crate::model::about::About;
use crate::model::kept::write_model;
use crate::progress::Bar;
use crate::results::{
    Claim, Divergence, Epoch, LAST_WEIGHTS, ModelFacts, Predictions, Provenance, RunOutput, Selected, Spec, Steps,
    Store, Taken, Truth, WEIGHTS, WhichWeights,
};
use crate::spec::protocol::{Normalisation, TestWeights};
use crate::stop::Stopped;
use crate::study::{PROTOCOL_REVISION, RunId, RunSpec};
use crate::text::duration;
use crate::train::{Failure, FeatureCache, FitOutcome, Fitted, Job, Progress, Snapshot, Tested};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A run that is to be fitted.
#[derive(Clone, Copy)]
pub(super) struct FitTask<'a> {
    pub entry: &'a PlanEntry,
    pub id: &'a RunId,
    pub inputs: &'a RunInputs,
}

/// How a run that was to be fitted has ended.
pub(super) enum RunOutcome {
    /// With a result, in these words.
    Done(String),
    /// Without a result, for this reason.
    Failed(String),
    /// Another process is at it, or took it over.
    Claimed(String),
    /// Another process has finished it meanwhile.
    Finished,
    /// Its checkpoint is written; it goes on when it is asked for again.
    Interrupted,
    /// It was ended by the end of another run of its group; nothing is wrong with it.
    Again,
}

/// The device does not answer any more: no run can go on there.
#[derive(Debug, thiserror::Error)]
#[error("{device} does not answer any more ({why}); run the same command again where it does: checkpoints are kept")]
pub(super) struct DeviceLost {
    device: String,
    why: String,
}

/// A data set with its images prepared; kept while the runs that follow need the same.
pub(super) struct PreparedDataset {
    pub key: String,
    data: Dataset,
    images: Images,
}

impl PreparedDataset {
    /// Reads labels and prepares images for the runs whose images have this key.
    pub(super) fn load(c: &Context, inventory: &Inventory, spec: &RunSpec, key: String) -> Result<Self> {
        let source = registry::find(&spec.dataset)?;
        let data = fraction::read(source, &inventory.folder(spec)?, &spec.protocol)?;
        let bar = c.progress.items(&format!("{} images", spec.dataset), 0);
        let options = LoaderOptions::cached(c.workers(), c.cache());
        let (mean, std) = statistics(spec, &data.info)?;
        let transform = Transform::new(&spec.protocol, &mean, &std)?;
        let images = Images::with_transform(&data, transform, &options, &bar.counted())?;
        Ok(Self { key, data, images })
    }
}

/// A run whose folder this process holds until its record is written.
pub(super) struct Begun<'a> {
    task: FitTask<'a>,
    spec: Spec,
    claim: Claim,
}

/// What became of runs.
type Outcomes<'a> = Vec<(FitTask<'a>, RunOutcome)>;

/// Claims the runs of a group; those that another process has are told as outcomes.
///
/// # Errors
/// Where records cannot be written: nothing that is computed could be kept.
pub(super) fn claim<'a>(store: &Store, group: &[FitTask<'a>]) -> Result<(Vec<Begun<'a>>, Outcomes<'a>)> {
    let (mut begun, mut taken) = (Vec::new(), Vec::new());
    for &task in group {
        let spec = Spec {
            id: task.id.full().to_owned(),
            run: task.entry.spec.clone(),
            data_sha256: task.inputs.data_root.clone(),
            weights: task.inputs.weights.clone(),
            protocol_revision: PROTOCOL_REVISION,
        };
        match store.begin(&spec) {
            Ok(claim) => begun.push(Begun { task, spec, claim }),
            Err(e) => match e.downcast::<Taken>()? {
                Taken::Finished(_) => taken.push((task, RunOutcome::Finished)),
                busy @ Taken::Busy(..) => taken.push((task, RunOutcome::Claimed(busy.to_string()))),
            },
        }
    }
    Ok((begun, taken))
}

/// Ends claimed runs by an error that is none of their own numbers': unreadable data, memory, a full disk.
///
/// # Errors
/// Where that cannot be written either.
pub(super) fn fail<'a>(
    store: &Store,
    begun: Vec<Begun<'a>>,
    error: &anyhow::Error,
) -> Result<Vec<(FitTask<'a>, RunOutcome)>> {
    let ends = begun.into_iter().map(|b| {
        let id = b.task.id.full();
        if error.is::<Stopped>() {
            return Ok((b.task, RunOutcome::Interrupted));
        }
        if b.claim.check().is_err() {
            return Ok((
                b.task,
                RunOutcome::Claimed(format!("{}: another process took it over", b.claim.display())),
            ));
        }
        if error.is::<crate::lease::Lost>() {
            return Ok((b.task, RunOutcome::Again));
        }
        let reason = format!("{error:#}");
        store.fail(id, &Failure::by_error(reason.clone()))?;
        Ok((b.task, RunOutcome::Failed(reason)))
    });
    ends.collect()
}

/// Fits claimed runs that go together; one outcome a run.
///
/// # Errors
/// [`DeviceLost`], and where records cannot be written.
pub(super) fn fit<'a>(
    c: &Context,
    plan: &Plan,
    begun: Vec<Begun<'a>>,
    prepared: &PreparedDataset,
    device: &Opened,
    bar: Option<&Bar>,
) -> Result<Vec<(FitTask<'a>, RunOutcome)>> {
    let store = &plan.store;
    let start = Instant::now();
    let threads = rayon::current_num_threads() as u32;
    let checked = selfcheck::kept(c, device).map(|r| r.text());
    let provenances: Vec<Provenance> = begun
        .iter()
        .map(|b| Provenance {
            self_check: checked.clone(),
            products: products::described(&device.device),
            ..Provenance::start(&b.spec, &device.name, threads)
        })
        .collect();
    // A panic ends the runs it came from, as an error does.
    let attempt = |recompute: bool| {
        catch_unwind(AssertUnwindSafe(|| {
            train(c, plan, &begun, prepared, device, recompute, bar)
        }))
        .unwrap_or_else(|_| Err(anyhow::anyhow!("medft panicked in it; the message stands above")))
    };
    let of: Vec<&RunSpec> = begun.iter().map(|b| &b.task.entry.spec).collect();
    let recompute = memory::recomputes(&of, &prepared.data.info, device.memory);
    let mut outcomes = attempt(recompute);
    if !recompute && outcomes.as_ref().is_err_and(is_out_of_memory) && device.answers().is_ok() {
        c.progress.say(&format!(
            "note: the memory of {} ran out in {}; it goes on with activations recomputed: slower, the same numbers",
            device.name, of[0]
        ));
        outcomes = attempt(true);
    }
    let outcomes = match outcomes {
        Ok(outcomes) => outcomes,
        Err(e) => {
            if let Err(why) = device.answers() {
                let device = device.name.clone();
                return Err(anyhow::Error::from(DeviceLost { device, why }).context(format!("{:#}", explained(e))));
            }
            if is_out_of_memory(&e) {
                if begun.len() > 1 {
                    // Together they need more than each alone.
                    return Ok(begun.into_iter().map(|b| (b.task, RunOutcome::Again)).collect());
                }
                let e = memory::ran_out(of[0], &prepared.data.info, device, &e);
                return fail(store, begun, &e);
            }
            return fail(store, begun, &explained(e));
        }
    };
    let mut ends = Vec::new();
    for ((b, provenance), outcome) in begun.into_iter().zip(provenances).zip(outcomes) {
        let task = b.task;
        match record(store, &b, prepared, provenance, outcome, start) {
            Ok(end) => ends.push((task, end)),
            Err(e) => ends.extend(fail(store, vec![b], &e)?),
        }
    }
    Ok(ends)
}

fn is_out_of_memory(e: &anyhow::Error) -> bool {
    device::is_out_of_memory(&format!("{e:#}"))
}

/// A GPU's error with what helps to find its cause.
fn explained(e: anyhow::Error) -> anyhow::Error {
    let text = format!("{e:#}");
    match device::is_late(&text) {
        true => anyhow::anyhow!(
            "{text} (a GPU tells of an error at a later op; CUDA_LAUNCH_BLOCKING=1 makes it tell at once)"
        ),
        false => e,
    }
}

/// Runs the trainer.
fn train(
    c: &Context,
    plan: &Plan,
    begun: &[Begun<'_>],
    prepared: &PreparedDataset,
    device: &Opened,
    recompute: bool,
    bar: Option<&Bar>,
) -> Result<Vec<FitOutcome>> {
    let dirs: Vec<PathBuf> = begun.iter().map(|b| plan.store.checkpoint_dir(&b.spec.id)).collect();
    let (board, study) = (c.fit.tensorboard.as_deref(), &plan.study.name);
    let curves: Vec<Curves> = begun
        .iter()
        .map(|b| Curves::begin(board, study, &b.task.entry.spec, b.task.id))
        .collect();
    let observers: Vec<_> = curves.iter().map(|curves| |epoch: &Epoch| curves.add(epoch)).collect();
    let checks: Vec<_> = begun.iter().map(|b| || b.claim.check()).collect();
    let jobs: Vec<Job> = begun
        .iter()
        .zip(&dirs)
        .zip(checks.iter().zip(&observers))
        .map(|((b, dir), (check, observer))| Job {
            id: &b.spec.id,
            spec: &b.task.entry.spec,
            data: &prepared.data,
            images: &prepared.images,
            pretrained: &b.task.inputs.pretrained,
            device: &device.device,
            recompute,
            checkpoint_dir: dir,
            checkpoint_every: Duration::from_secs(c.global.checkpoint_every),
            may_write: check,
            feature_cache: Some(FeatureCache {
                cache: c.cache(),
                inputs: feature_inputs(b.task.inputs),
            }),
            keep: plan.study.keep_weights,
            on_epoch: observer,
        })
        .collect();
    c.trainer.fit(&jobs, &mut |p| tell(c, &jobs, bar, p))
}

/// What is told while a run is fitted: on its bar, and with -vv every epoch in a line.
fn tell(c: &Context, jobs: &[Job<'_>], bar: Option<&Bar>, p: Progress) {
    if let Progress::Epoch {
        job,
        epoch,
        epochs,
        train_loss,
        val_loss,
        val,
    } = p
        && let Some(job) = jobs.get(job)
        && c.global.verbose > 1
    {
        let run = job.spec;
        let metric = job
            .spec
            .protocol
            .selection_metric
            .as_deref()
            .unwrap_or(job.data.info.target);
        c.progress.say(&format!(
            "epoch    {epoch}/{epochs} {run}: training loss {train_loss:.4}, validation loss {val_loss:.4}, validation {metric} {val:.4}"
        ));
    }
    let Some(bar) = bar else { return };
    match p {
        Progress::Step {
            step,
            steps,
            loss,
            epoch,
            epochs,
        } => {
            bar.at(step, steps);
            bar.message(format!("epoch {epoch}/{epochs}   loss {loss:.2}"));
        }
        Progress::Images { done, of } => {
            bar.at(done as u64, of as u64);
            bar.message(format!("images {done}/{of}"));
        }
        Progress::Epoch { .. } => {}
    }
}

/// What a feature table depends on beside the spec: data and the backbone's weights.
fn feature_inputs(inputs: &RunInputs) -> String {
    let backbone = inputs.weights.get("backbone").map_or("", String::as_str);
    format!("{} {backbone}", inputs.data_root)
}

/// Writes what became of a run.
fn record(
    store: &Store,
    b: &Begun<'_>,
    prepared: &PreparedDataset,
    mut provenance: Provenance,
    outcome: FitOutcome,
    start: Instant,
) -> Result<RunOutcome> {
    let (id, run) = (b.task.id, &b.spec.run);
    match outcome {
        FitOutcome::Interrupted => Ok(RunOutcome::Interrupted),
        FitOutcome::Failed(f) => {
            b.claim.check()?;
            store.fail(id.full(), &f)?;
            Ok(RunOutcome::Failed(f.reason))
        }
        FitOutcome::Done(mut f) => {
            let kept = keep(store, b, prepared, std::mem::take(&mut f.kept))?;
            provenance.ended = crate::results::utc_now();
            provenance.phases.clone_from(&f.timing.phases);
            provenance.epoch_seconds.clone_from(&f.timing.epoch_seconds);
            provenance.resumed_after.clone_from(&f.timing.resumed_after);
            if f.timing.devices.len() > 1 {
                provenance.device = f.timing.devices.join(", then ");
            }
            let output = RunOutput {
                kept,
                ..output(run, &prepared.data, *f, provenance)?
            };
            let record = store.finish_if(id.full(), &output, &|| b.claim.check())?;
            Ok(RunOutcome::Done(format!(
                "done {} {run}: {} {:.4} in {}",
                id.short(),
                record.metrics.target,
                record.metrics.value,
                duration(start.elapsed().as_secs_f64())
            )))
        }
    }
}

/// Writes the trained weights that are kept; the hash of each file.
fn keep(
    store: &Store,
    b: &Begun<'_>,
    prepared: &PreparedDataset,
    kept: Vec<Snapshot>,
) -> Result<BTreeMap<String, String>> {
    let (spec, info, both) = (&b.spec.run, &prepared.data.info, kept.len() > 1);
    let entry = model::registry::find(&spec.backbone)?;
    let (mean, std) = statistics(spec, info)?;
    let mut files = BTreeMap::new();
    // Where another process has finished the run meanwhile, its folder stays as it is.
    for snapshot in kept.into_iter().filter(|_| !store.is_done(&b.spec.id)) {
        let (file, weights) = match snapshot.set {
            TestWeights::Best => (WEIGHTS, "best"),
            TestWeights::Last if both => (LAST_WEIGHTS, "last"),
            TestWeights::Last => (WEIGHTS, "last"),
        };
        let from = b.task.inputs.pretrained.backbone.as_ref();
        let about = About {
            run: b.spec.id.clone(),
            weights: weights.into(),
            backbone: spec.backbone.clone(),
            layout: from.map_or_else(|| entry.own_layout().to_owned(), |f| f.layout.clone()),
            dataset: spec.dataset.clone(),
            task: match info.task {
                crate::data::Task::MultiClass(_) => "classes".into(),
                crate::data::Task::MultiLabel(_) => "labels".into(),
            },
            classes: info.classes.clone(),
            channels: info.channels,
            mean: mean.clone(),
            std: std.clone(),
            resize: spec.protocol.resize,
            crop: spec.protocol.crop,
        };
        b.claim.check()?;
        let hash = store.keep(&b.spec.id, file, &|out| {
            write_model(out, &about, spec, &snapshot.params)
        })?;
        files.insert(file.to_owned(), hash);
    }
    Ok(files)
}

/// What a run's images are normalised by: mean and standard deviation for each channel.
fn statistics(spec: &RunSpec, info: &DatasetInfo) -> Result<(Vec<f32>, Vec<f32>)> {
    match spec.protocol.normalisation {
        Normalisation::Dataset => Ok((info.mean.clone(), info.std.clone())),
        Normalisation::Backbone => {
            model::facts::input_statistics(&spec.backbone, info.channels, spec.protocol.grey_stem)
                .with_context(|| format!("no statistics of {}", spec.backbone))
        }
    }
}

/// A fit as a record.
fn output(spec: &RunSpec, data: &Dataset, f: Fitted, provenance: Provenance) -> Result<RunOutput> {
    let test = || data.test.iter().map(|&i| &data.samples[i as usize]);
    let outputs = data.info.task.outputs();
    let truth = match data.labels.pick(data.test.iter().copied()) {
        Labels::Classes(classes) => Truth::Classes(classes),
        Labels::MultiHot { labels, bits } => Truth::Labels {
            labels,
            values: bits.into_iter().map(u32::from).collect(),
        },
    };
    // A preset's rule is worth its own numbers where it selects weights other than the headline's rule.
    let rules: Vec<(&str, &Tested)> = [("corrected", &f.corrected), ("faithful", &f.faithful)]
        .into_iter()
        .filter(|(_, s)| s.tested.weights_sha256 != f.best.tested.weights_sha256)
        .map(|(name, s)| (name, &s.tested))
        .collect();
    let sets = || {
        [("best", &f.best.tested), ("last", &f.last)]
            .into_iter()
            .chain(rules.iter().copied())
    };
    Ok(RunOutput {
        target: data.info.target.to_owned(),
        headline: match spec.protocol.test_weights {
            TestWeights::Best => WhichWeights::Best,
            TestWeights::Last => WhichWeights::Last,
        },
        best: f.best.tested.metrics.clone(),
        last: f.last.metrics.clone(),
        selected: Selected {
            faithful: f.faithful.epoch,
            corrected: f.corrected.epoch,
        },
        rules: rules
            .iter()
            .map(|(n, t)| ((*n).to_owned(), t.metrics.clone()))
            .collect(),
        weights_sha256: sets().map(|(n, t)| (n.to_owned(), t.weights_sha256.clone())).collect(),
        model: ModelFacts {
            family: model::registry::find(&spec.backbone)?.family.to_owned(),
            backbone_params: f.backbone_params,
            trainable_params: f.trainable_params,
            total_params: f.total_params,
        },
        divergence: Divergence {
            skipped: Steps::new(f.divergence.skipped),
            exploded: Steps::new(f.divergence.exploded),
        }
        .some(),
        predictions: Predictions {
            ids: test().map(|s| s.id.clone()).collect(),
            groups: Some(test().map(|s| s.group.clone()).collect()),
            truth,
            outputs,
            best: f.best.tested.logits.clone(),
            last: f.last.logits.clone(),
            others: rules.iter().map(|(n, t)| ((*n).to_owned(), t.logits.clone())).collect(),
        },
        epochs: f.epochs,
        kept: BTreeMap::new(),
        provenance,
    })
}
