//! `medft run`: fits what is missing of a study.

use super::Context;
use super::inventory::{self, RunInputs};
use super::plan::Plan;
use super::schedule::{Floor, Loaded, Todo, fit_all};
use crate::cli::StudyArgs;
use crate::cli::exit::{INCOMPLETE, INTERRUPTED, OK};
use crate::data::{Dataset, Label};
use crate::device;
use crate::model;
use crate::results::{
    Divergence, ModelFacts, Predictions, Provenance, RunOutput, Selected, Spec, Steps, Taken, Truth, WhichWeights,
};
use crate::study::protocol::TestWeights;
use crate::study::{PROTOCOL_REVISION, RunSpec, Scale};
use crate::text::{Unit, bar, duration};
use crate::train::{FeatureCache, Fitted, Job, Outcome, Progress, Tested};
use anyhow::{Context as _, Result};
use candle_core::Device;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runs what is missing; exit code 1 where a run failed or is blocked, 130 after SIGINT.
pub fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
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

/// How a run that was started has ended.
pub(super) enum Ended {
    Done(String),
    Failed(String),
    /// Another process has it or has finished it meanwhile.
    Elsewhere(String),
    Interrupted,
}

/// Fits runs that go together; one end a run.
pub(super) fn fit(floor: &Floor<'_>, group: &[Todo<'_>], l: &Loaded, device: &Device) -> Result<Vec<Ended>> {
    let (c, plan) = (floor.c, floor.plan);
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
                cache: c.cache(),
                inputs: feature_inputs(todo.inputs),
            }),
        })
        .collect();
    let provenances: Vec<Provenance> = begun
        .iter()
        .map(|b| Provenance::start(&b.1, &device::name(device), threads))
        .collect();
    let start = Instant::now();
    let steps = if floor.alone {
        bar(0, Unit::Items)
    } else {
        indicatif::ProgressBar::hidden()
    };
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
            plan.store.fail(id.full(), &f)?;
            Ok(Ended::Failed(text))
        }
        Outcome::Done(f) => {
            provenance.ended = crate::results::utc_now();
            provenance.phases.clone_from(&f.timing.phases);
            provenance.epoch_seconds.clone_from(&f.timing.epoch_seconds);
            provenance.resumed_after.clone_from(&f.timing.resumed_after);
            if f.timing.devices.len() > 1 {
                provenance.device = f.timing.devices.join(", then ");
            }
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
        provenance,
    })
}
