//! A model card for every trained model: Markdown with a YAML head as the Hugging Face hub reads it
//! (<https://huggingface.co/docs/hub/model-cards>), the metrics as `model-index`.
//!
//! A trained model is a run: one cell with one seed. Its file is named by the cell and the seed.

use super::cell_details::{CellDetails, Run};
use super::input::{ReportInput, head_title};
use super::text::{PLACES, fixed};
use crate::results::{RunRecord, WhichWeights};
use crate::study::Freeze;
use serde::Serialize;

/// What `card.md.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Card<'a> {
    /// `<cell>-seed<seed>`.
    pub(super) name: String,
    warning: Option<&'static str>,
    title: String,
    study: &'a str,
    study_title: &'a str,
    dataset: &'a str,
    dataset_title: &'a str,
    backbone_title: &'a str,
    family: &'a str,
    frozen: bool,
    head: &'static str,
    seed: u64,
    run: &'a str,
    folder: &'a str,
    protocol: String,
    classes: &'a [String],
    metric: &'a str,
    metric_title: &'a str,
    value: f64,
    printed: String,
    /// Of the best or the last weights, whichever count.
    headline: &'static str,
    metrics: Vec<MetricLine>,
    params: [u64; 3],
    images: u64,
    predictions_sha256: &'a str,
    /// Best or last, hash of the trained weights.
    trained: Vec<(&'a str, &'a str)>,
    data_sha256: &'a str,
    data_notes: &'a [String],
    /// Role, hash, notes.
    weights: Vec<Weights<'a>>,
    facts: Vec<(&'static str, String)>,
    rerun: &'a str,
}

/// A metric of the best and of the last weights.
#[derive(Debug, Serialize)]
struct MetricLine {
    key: String,
    best: Option<f64>,
    last: Option<f64>,
    /// Of the weights that count; what `model-index` holds.
    value: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Weights<'a> {
    role: &'a str,
    sha256: &'a str,
    notes: &'a [String],
}

/// The card of every finished run whose record is at hand, cell by cell.
pub(super) fn all<'a>(input: &'a ReportInput, details: &'a [CellDetails<'a>]) -> Vec<Card<'a>> {
    details
        .iter()
        .flat_map(|d| d.runs.iter().filter_map(move |r| Some(card(input, d, r, r.record?))))
        .collect()
}

fn notes<'a>(input: &'a ReportInput, key: &str) -> &'a [String] {
    input.archive.notes.get(key).map_or(&[], Vec::as_slice)
}

fn card<'a>(input: &'a ReportInput, d: &'a CellDetails, r: &'a Run, record: &'a RunRecord) -> Card<'a> {
    let dataset = input.dataset(d.dataset);
    let backbone = input.backbones.iter().find(|b| b.name == d.backbone);
    let m = &record.metrics;
    let finite = |v: Option<&f64>| v.copied().filter(|v| v.is_finite());
    let lines = m.best.keys().map(|k| {
        let (best, last) = (finite(m.best.get(k)), finite(m.last.get(k)));
        let value = match m.headline {
            WhichWeights::Best => best,
            WhichWeights::Last => last,
        };
        MetricLine {
            key: k.clone(),
            best,
            last,
            value,
        }
    });
    let metric = dataset.map_or(m.target.as_str(), |x| &x.metric);
    Card {
        name: format!("{}-seed{}", d.key, r.seed),
        warning: input.warning(),
        title: format!("{}, seed {}", d.title, r.seed),
        study: &input.study,
        study_title: &input.title,
        dataset: d.dataset,
        dataset_title: dataset.map_or(d.dataset, |x| &x.title),
        backbone_title: backbone.map_or(d.backbone, |b| &b.title),
        family: &m.model.family,
        frozen: d.freeze == Freeze::Frozen,
        head: head_title(d.head),
        seed: r.seed,
        run: r.id,
        folder: r.folder,
        protocol: input.protocol.sentence(),
        classes: dataset.map_or(&[], |x| x.classes.as_slice()),
        metric,
        metric_title: dataset.map_or(metric, |x| &x.metric_title),
        value: r.value,
        printed: fixed(r.value, PLACES),
        headline: match m.headline {
            WhichWeights::Best => "best",
            WhichWeights::Last => "last",
        },
        metrics: lines.collect(),
        params: [m.model.backbone_params, m.model.trainable_params, m.model.total_params],
        images: m.predictions.images,
        predictions_sha256: &m.predictions.sha256,
        trained: m.weights_sha256.iter().map(|(w, h)| (w.as_str(), h.as_str())).collect(),
        data_sha256: &record.spec.data_sha256,
        data_notes: notes(input, d.dataset),
        weights: record
            .spec
            .weights
            .iter()
            .map(|(role, sha256)| Weights {
                role,
                sha256,
                notes: notes(input, sha256),
            })
            .collect(),
        facts: facts(record),
        rerun: &r.rerun,
    }
}

/// Where, when and with what a run was made, as (name, value).
pub(super) fn facts(record: &RunRecord) -> Vec<(&'static str, String)> {
    let p = &record.provenance;
    let commit = match (&p.commit, p.dirty) {
        (Some(c), Some(true)) => format!("{c} with uncommitted changes"),
        (Some(c), _) => c.clone(),
        (None, _) => "unknown to the binary".to_owned(),
    };
    let mut all = vec![
        ("medft", p.medft.clone()),
        ("Commit", commit),
        ("Device", p.device.clone()),
        ("Processor", p.cpu.clone()),
        ("Threads", p.threads.to_string()),
        ("Started", p.started.clone()),
        ("Ended", p.ended.clone()),
        ("Hours", fixed(p.seconds() / 3600.0, 3)),
        ("Protocol revision", record.spec.protocol_revision.to_string()),
        ("Command", p.command.join(" ")),
    ];
    if !p.resumed_after.is_empty() {
        let epochs: Vec<String> = p.resumed_after.iter().map(u32::to_string).collect();
        all.push(("Resumed after epoch", epochs.join(", ")));
    }
    all
}
