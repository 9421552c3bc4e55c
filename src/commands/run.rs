//! `medft run`: fits what is missing of a study.

use super::inputs::{self, RunInputs};
use super::plan::{Entry, Plan, State};
use super::ui::{Unit, bar, duration, terminal};
use super::{Context, INCOMPLETE, INTERRUPTED, OK};
use crate::cli::StudyArgs;
use crate::data::loader::{Images, Options};
use crate::data::transform::Transform;
use crate::data::{Dataset, Label, registry};
use crate::error::BadInput;
use crate::model;
use crate::results::{
    Epoch, Failure, ModelFacts, Predictions, Provenance, RunOutput, Selected, Spec, Taken, Truth, WhichWeights,
};
use crate::study::protocol::{Normalisation, TestWeights};
use crate::study::{Freeze, PROTOCOL_REVISION, RunId, RunSpec, Scale};
use crate::train::{self, EpochStats, FeatureCache, Fitted, Job, Outcome, Progress, Tested};
use anyhow::{Context as _, Result};
use candle_core::Device;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What became of the runs that were started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub done: usize,
    pub failed: usize,
    /// Left to another process.
    pub elsewhere: usize,
    pub interrupted: bool,
}

/// Runs what is missing; exit code 1 where a run failed or is blocked, 130 after SIGINT.
pub fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    if study.scale == Scale::Tiny {
        inputs::synthesise_missing(c, &runs)?;
    }
    let plan = Plan::make(c, study, runs)?;
    eprintln!("{}", plan.summary());
    let tally = fit_all(c, &plan)?;
    if tally.interrupted {
        return Ok(INTERRUPTED);
    }
    if let Some(t) = plan.missing() {
        println!("{t}");
        return Ok(plan.code(false));
    }
    Ok(if tally.failed + tally.elsewhere > 0 {
        INCOMPLETE
    } else {
        OK
    })
}

/// A data set with its images prepared; kept while the runs that follow need the same.
struct Loaded {
    key: String,
    data: Dataset,
    images: Images,
}

/// Fits every run of the plan that is neither done nor blocked.
pub fn fit_all(c: &Context, plan: &Plan) -> Result<Tally> {
    for note in plan.inventory.notes() {
        eprintln!("note: {note}");
    }
    for e in plan.entries.iter().filter(|e| e.state == State::Done) {
        if let Some(id) = &e.id {
            plan.store.tidy(id.full())?;
        }
    }
    let groups = groups(&plan.entries);
    let mut tally = Tally::default();
    if groups.is_empty() {
        return Ok(tally);
    }
    // A second SIGINT ends the process at once.
    ctrlc::set_handler(|| {
        if train::stop_requested() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        train::request_stop();
        eprintln!("stopping after this step; again to stop at once");
    })
    .context("cannot listen for SIGINT")?;
    let device = c.device()?;
    if !device.is_cpu() {
        return Err(BadInput::new(
            "--device",
            "cpu",
            "a CUDA device",
            "Training on CUDA is not there yet: use --device cpu.",
        )
        .into());
    }
    let all = bar(groups.iter().map(Vec::len).sum::<usize>() as u64, Unit::Items);
    all.set_prefix(plan.study.name.clone());
    let mut loaded: Option<Loaded> = None;
    for group in groups {
        let first = &group[0];
        let key = image_key(&first.entry.spec, &first.inputs.data_root)?;
        if loaded.as_ref().is_none_or(|l| l.key != key) {
            drop(loaded.take());
            loaded = Some(load(c, plan, &first.entry.spec, key)?);
        }
        let Some(l) = &loaded else { continue };
        all.set_message(format!("{}", first.entry.spec));
        for ended in fit(c, plan, &group, l, &device)? {
            match ended {
                Ended::Done(text) => {
                    tally.done += 1;
                    say(c, &all, &text);
                }
                Ended::Failed(text) => {
                    tally.failed += 1;
                    all.suspend(|| eprintln!("{text}"));
                }
                Ended::Elsewhere(text) => {
                    tally.elsewhere += 1;
                    all.suspend(|| eprintln!("{text}"));
                }
                Ended::Interrupted => tally.interrupted = true,
            }
            all.inc(1);
        }
        if tally.interrupted {
            break;
        }
    }
    all.finish_and_clear();
    Ok(tally)
}

/// A run that is to be fitted.
struct Todo<'a> {
    entry: &'a Entry,
    id: &'a RunId,
    inputs: &'a RunInputs,
}

/// What is to be fitted, in the plan's order: runs that differ in nothing but the head of a frozen backbone come together,
/// so that the backbone runs once for both.
fn groups(entries: &[Entry]) -> Vec<Vec<Todo<'_>>> {
    let mut groups: Vec<Vec<Todo<'_>>> = Vec::new();
    for e in entries {
        let (Some(id), Some(inputs)) = (&e.id, &e.inputs) else {
            continue;
        };
        if matches!(e.state, State::Done | State::Blocked(_)) {
            continue;
        }
        let todo = Todo { entry: e, id, inputs };
        let fits = |g: &&mut Vec<Todo<'_>>| {
            let first = &g[0];
            let same_head = RunSpec {
                head: first.entry.spec.head,
                ..e.spec.clone()
            };
            e.spec.freeze == Freeze::Frozen
                && same_head == first.entry.spec
                && inputs.pretrained.backbone == first.inputs.pretrained.backbone
        };
        match groups.iter_mut().find(fits) {
            Some(g) => g.push(todo),
            None => groups.push(vec![todo]),
        }
    }
    groups
}

fn say(c: &Context, bar: &indicatif::ProgressBar, text: &str) {
    if c.global.verbose > 0 || !terminal() {
        bar.suspend(|| eprintln!("{text}"));
    }
}

/// The switches that decide which images a run sees and how.
const IMAGE_SWITCHES: [&str; 17] = [
    "aptos_csv",
    "ddsm_task",
    "ddsm_split",
    "duplicates",
    "chexpert_split",
    "chexpert_test",
    "chexpert_no_finding",
    "isic_split",
    "val_ids_file",
    "png_twin",
    "image_loading",
    "resize",
    "crop",
    "aspect",
    "resize_order",
    "crop_scale",
    "normalisation",
];

/// What the images of a run depend on.
fn image_key(spec: &RunSpec, data_root: &str) -> Result<String> {
    let mut p = serde_json::to_value(&spec.protocol)?;
    if let Some(o) = p.as_object_mut() {
        o.retain(|k, _| k == "augment" || IMAGE_SWITCHES.contains(&k.as_str()));
    }
    // The backbone's own statistics make the images hang on the backbone.
    let backbone = match spec.protocol.normalisation {
        Normalisation::Dataset => "",
        Normalisation::Backbone => &spec.backbone,
    };
    Ok(format!(
        "{} {data_root} {backbone} {} {p}",
        spec.dataset, spec.protocol.grey_stem
    ))
}

fn load(c: &Context, plan: &Plan, spec: &RunSpec, key: String) -> Result<Loaded> {
    let source = registry::find(&spec.dataset)?;
    let root = plan.inventory.data_dir.join(source.info(&spec.protocol).folder);
    let data = source.load(&root, &spec.protocol)?;
    let cache = c.global.results_dir.join(".cache").join("images");
    let bar = bar(0, Unit::Items);
    bar.set_prefix(format!("{} images", spec.dataset));
    let options = Options::cached(c.workers(), &cache);
    let progress = |done: usize, of: usize| {
        bar.set_length(of as u64);
        bar.set_position(done as u64);
    };
    let images = match spec.protocol.normalisation {
        Normalisation::Dataset => Images::prepare(&data, &spec.protocol, &options, &progress)?,
        Normalisation::Backbone => {
            let (mean, std) =
                model::facts::input_statistics(&spec.backbone, data.info.channels, spec.protocol.grey_stem);
            let transform = Transform::new(&spec.protocol, &mean, &std)?;
            Images::with_transform(&data, transform, &options, &progress)?
        }
    };
    bar.finish_and_clear();
    Ok(Loaded { key, data, images })
}

enum Ended {
    Done(String),
    Failed(String),
    /// Another process has it or has finished it meanwhile.
    Elsewhere(String),
    Interrupted,
}

/// Fits runs that go together; one end a run.
fn fit(c: &Context, plan: &Plan, group: &[Todo<'_>], l: &Loaded, device: &Device) -> Result<Vec<Ended>> {
    let mut ended = Vec::new();
    // A claim holds the run's folder until its record is written.
    let mut begun = Vec::new();
    for todo in group {
        let spec = Spec {
            id: todo.id.full().to_owned(),
            run: todo.entry.spec.clone(),
            data_sha256: todo.inputs.data_root.clone(),
            weights: todo.inputs.weights.clone(),
            protocol_revision: PROTOCOL_REVISION,
        };
        match plan.store.begin(&spec) {
            Ok(claim) => begun.push((todo, spec, claim)),
            Err(e) => match e.downcast::<Taken>() {
                Ok(taken) => ended.push(Ended::Elsewhere(taken.to_string())),
                Err(e) => return Err(e),
            },
        }
    }
    let threads = rayon::current_num_threads() as u32;
    let dirs: Vec<PathBuf> = begun.iter().map(|b| plan.store.checkpoint_dir(&b.1.id)).collect();
    let jobs: Vec<Job> = begun
        .iter()
        .zip(&dirs)
        .map(|((todo, ..), dir)| Job {
            spec: &todo.entry.spec,
            data: &l.data,
            images: &l.images,
            pretrained: &todo.inputs.pretrained,
            device,
            checkpoint_dir: dir,
            checkpoint_every: Duration::from_secs(c.global.checkpoint_every),
            feature_cache: Some(FeatureCache {
                dir: train::features::default_dir(&c.global.results_dir),
                inputs: feature_inputs(todo.inputs),
            }),
        })
        .collect();
    let provenances: Vec<Provenance> = begun
        .iter()
        .map(|b| Provenance::start(&b.1, &device_name(device), threads))
        .collect();
    let start = Instant::now();
    let steps = bar(0, Unit::Items);
    let names: Vec<&str> = begun.iter().map(|b| b.0.id.short()).collect();
    steps.set_prefix(names.join("+"));
    let outcomes = c
        .trainer
        .fit(&jobs, &mut |p| match p {
            Progress::Step {
                step,
                steps: n,
                loss,
                epoch,
                ..
            } => {
                steps.set_length(n);
                steps.set_position(step);
                steps.set_message(format!("epoch {epoch} loss {loss:.4}"));
            }
            Progress::Images { done, of } => {
                steps.set_length(of as u64);
                steps.set_position(done as u64);
                steps.set_message("images");
            }
        })
        .with_context(|| format!("run {} ({})", names.join(" and "), group[0].entry.spec))?;
    steps.finish_and_clear();
    for (((todo, spec, _claim), provenance), outcome) in begun.iter().zip(provenances).zip(outcomes) {
        ended.push(record(plan, (todo, spec), l, provenance, outcome, start)?);
    }
    Ok(ended)
}

/// What a feature table depends on beside the spec: data and the backbone's weights.
fn feature_inputs(inputs: &RunInputs) -> String {
    let backbone = inputs.weights.get("backbone").map_or("", String::as_str);
    format!("{} {backbone}", inputs.data_root)
}

/// Writes what became of a run.
fn record(
    plan: &Plan,
    (todo, spec): (&Todo<'_>, &Spec),
    l: &Loaded,
    mut provenance: Provenance,
    outcome: Outcome,
    start: Instant,
) -> Result<Ended> {
    let (id, run) = (todo.id, &spec.run);
    match outcome {
        Outcome::Interrupted => Ok(Ended::Interrupted),
        Outcome::Failed(f) => {
            let text = format!("failed {} {run}: {}", id.short(), f.reason);
            let failure = Failure {
                epoch: f.epoch,
                step: f.step,
                reason: f.reason,
                lr: f.lr,
                losses: f.losses,
                images: f.images,
                epochs: f.epochs.into_iter().map(epoch).collect(),
            };
            plan.store.fail(id.full(), &failure)?;
            Ok(Ended::Failed(text))
        }
        Outcome::Done(f) => {
            provenance.ended = crate::results::utc_now();
            provenance.phases.clone_from(&f.timing.phases);
            provenance.epoch_seconds.clone_from(&f.timing.epoch_seconds);
            provenance.resumed_after.clone_from(&f.timing.resumed_after);
            let record = plan.store.finish(id.full(), &output(run, &l.data, *f, provenance)?)?;
            Ok(Ended::Done(format!(
                "done {} {run}: {} {:.4} in {}",
                id.short(),
                record.metrics.target,
                record.metrics.value,
                duration(start.elapsed().as_secs_f64())
            )))
        }
    }
}

fn epoch(e: EpochStats) -> Epoch {
    Epoch {
        epoch: e.epoch,
        lr: e.lr,
        train_loss: e.train_loss,
        val_loss: e.val_loss,
        val: e.val,
    }
}

/// `cpu`, or what the device calls itself.
fn device_name(d: &Device) -> String {
    match d {
        Device::Cpu => "cpu".to_owned(),
        d => format!("{:?}", d.location()),
    }
}

/// A fit as a record.
fn output(spec: &RunSpec, data: &Dataset, f: Fitted, provenance: Provenance) -> Result<RunOutput> {
    let test = || data.test.iter().map(|&i| &data.samples[i as usize]);
    let outputs = data.info.task.outputs();
    let truth = match data.info.task {
        crate::data::Task::MultiClass(_) => Truth::Classes(
            test()
                .map(|s| match s.label {
                    Label::Class(c) => c,
                    Label::Labels(_) => 0,
                })
                .collect(),
        ),
        crate::data::Task::MultiLabel(labels) => Truth::Labels {
            labels,
            values: test()
                .flat_map(|s| match &s.label {
                    Label::Labels(v) => v.iter().map(|&x| u32::from(x)).collect(),
                    Label::Class(_) => Vec::new(),
                })
                .collect(),
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
        predictions: Predictions {
            ids: test().map(|s| s.id.clone()).collect(),
            truth,
            outputs,
            best: f.best.tested.logits.clone(),
            last: f.last.logits.clone(),
            others: rules.iter().map(|(n, t)| ((*n).to_owned(), t.logits.clone())).collect(),
        },
        epochs: f.epochs.into_iter().map(epoch).collect(),
        provenance,
    })
}
