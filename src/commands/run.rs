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
    Epoch, Failure, ModelFacts, Predictions, Provenance, RunOutput, Selected, Spec, Truth, WhichWeights,
};
use crate::study::protocol::{Normalisation, TestWeights};
use crate::study::{PROTOCOL_REVISION, RunSpec, Scale};
use crate::train::fit::CandleTrainer;
use crate::train::{self, FeatureCache, Fitted, Job, Outcome, Progress, Trainer};
use anyhow::{Context as _, Result};
use candle_core::Device;
use std::time::Instant;

/// What became of the runs that were started.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub done: usize,
    pub failed: usize,
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
    Ok(if tally.failed > 0 { INCOMPLETE } else { OK })
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
    let todo: Vec<&Entry> = plan
        .entries
        .iter()
        .filter(|e| !matches!(e.state, State::Done | State::Blocked(_)))
        .collect();
    let mut tally = Tally::default();
    if todo.is_empty() {
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
    let all = bar(todo.len() as u64, Unit::Items);
    all.set_prefix(plan.study.name.clone());
    let mut loaded: Option<Loaded> = None;
    for e in todo {
        let Some(inputs) = &e.inputs else { continue };
        let key = image_key(&e.spec, &inputs.data_root)?;
        if loaded.as_ref().is_none_or(|l| l.key != key) {
            drop(loaded.take());
            loaded = Some(load(c, plan, &e.spec, key)?);
        }
        let Some(l) = &loaded else { continue };
        all.set_message(format!("{}", e.spec));
        match fit(c, plan, e, inputs, l, &device)? {
            Ended::Done(text) => {
                tally.done += 1;
                say(c, &all, &text);
            }
            Ended::Failed(text) => {
                tally.failed += 1;
                all.suspend(|| eprintln!("{text}"));
            }
            Ended::Interrupted => {
                tally.interrupted = true;
                break;
            }
        }
        all.inc(1);
    }
    all.finish_and_clear();
    Ok(tally)
}

fn say(c: &Context, bar: &indicatif::ProgressBar, text: &str) {
    if c.global.verbose > 0 || !terminal() {
        bar.suspend(|| eprintln!("{text}"));
    }
}

/// The switches that decide which images a run sees and how.
const IMAGE_SWITCHES: [&str; 16] = [
    "aptos_csv",
    "ddsm_task",
    "ddsm_split",
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
    Interrupted,
}

fn fit(c: &Context, plan: &Plan, e: &Entry, inputs: &RunInputs, l: &Loaded, device: &Device) -> Result<Ended> {
    let Some(id) = &e.id else { return Ok(Ended::Interrupted) };
    let spec = Spec {
        id: id.full().to_owned(),
        run: e.spec.clone(),
        data_sha256: inputs.data_root.clone(),
        weights: inputs.weights.clone(),
        protocol_revision: PROTOCOL_REVISION,
    };
    plan.store.begin(&spec)?;
    let checkpoint_dir = plan.store.checkpoint_dir(id.full());
    let threads = rayon::current_num_threads();
    let mut provenance = Provenance::start(&spec, &device_name(device), threads as u32);
    let weights: Vec<&str> = inputs.weights.values().map(String::as_str).collect();
    let job = Job {
        spec: &e.spec,
        data: &l.data,
        images: &l.images,
        pretrained: &inputs.pretrained,
        device,
        checkpoint_dir: &checkpoint_dir,
        feature_cache: Some(FeatureCache {
            dir: train::features::default_dir(&c.global.results_dir),
            inputs: format!("{} {}", inputs.data_root, weights.join(" ")),
        }),
    };
    let start = Instant::now();
    let steps = bar(0, Unit::Items);
    steps.set_prefix(id.short().to_owned());
    let outcome = CandleTrainer
        .fit(&job, &mut |p| match p {
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
        .with_context(|| format!("run {} ({})", id.short(), e.spec))?;
    steps.finish_and_clear();
    match outcome {
        Outcome::Interrupted => Ok(Ended::Interrupted),
        Outcome::Failed { epoch, step, reason } => {
            let text = format!("failed {} {}: {reason}", id.short(), e.spec);
            plan.store.fail(id.full(), &Failure { epoch, step, reason })?;
            Ok(Ended::Failed(text))
        }
        Outcome::Done(f) => {
            provenance.ended = crate::results::utc_now();
            provenance.phases.clone_from(&f.timing.phases);
            provenance.epoch_seconds.clone_from(&f.timing.epoch_seconds);
            provenance.resumed_after.clone_from(&f.timing.resumed_after);
            let record = plan
                .store
                .finish(id.full(), &output(&e.spec, &l.data, *f, provenance)?)?;
            Ok(Ended::Done(format!(
                "done {} {}: {} {:.4} in {}",
                id.short(),
                e.spec,
                record.metrics.target,
                record.metrics.value,
                duration(start.elapsed().as_secs_f64())
            )))
        }
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
    Ok(RunOutput {
        epochs: f
            .epochs
            .into_iter()
            .map(|e| Epoch {
                epoch: e.epoch,
                lr: e.lr,
                train_loss: e.train_loss,
                val_loss: e.val_loss,
                val: e.val,
            })
            .collect(),
        target: data.info.target.to_owned(),
        headline: match spec.protocol.test_weights {
            TestWeights::Best => WhichWeights::Best,
            TestWeights::Last => WhichWeights::Last,
        },
        best: f.best.metrics,
        last: f.last.metrics,
        selected: Selected {
            faithful: f.selected_faithful,
            corrected: f.selected_corrected,
        },
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
            best: f.best.logits,
            last: f.last.logits,
        },
        provenance,
    })
}
