//! All that is known of a cell in one place: its runs with their provenance, what is missing, its verdicts, how to make it
//! again. The page shows it, `results.json` holds it, model cards are cut from it.

use super::cells::{Cells, Key, Score};
use super::compare::Comparison;
use super::input::{ReportInput, regime_title};
use super::table::ImageInterval;
use super::text;
use crate::results::{FOLDER_DIGITS, Metrics, Provenance, RunRecord};
use crate::study::{Freeze, HeadKind};
use serde::Serialize;
use std::collections::BTreeMap;

/// One cell.
#[derive(Debug, Serialize)]
pub struct CellDetails<'a> {
    /// Unique in the study, and safe in file names, addresses and HTML: `ddsm-dinov2-b-frozen-mha`.
    pub key: String,
    pub dataset: &'a str,
    pub backbone: &'a str,
    pub freeze: Freeze,
    pub head: HeadKind,
    /// Runs planned.
    pub planned: usize,
    /// Runs with a finite score.
    pub n: usize,
    /// Over seeds.
    pub mean: Option<f64>,
    /// Sample standard deviation over seeds.
    pub sd: Option<f64>,
    /// Of the mean, over test images.
    pub interval: Option<ImageInterval>,
    pub runs: Vec<Run<'a>>,
    /// Why runs have no score.
    pub missing: Vec<Missing<'a>>,
    /// With each published value that this cell may be the counterpart of.
    pub comparisons: Vec<&'a Comparison>,
    /// Command that makes the cell again, into another folder.
    pub rerun: String,
    /// `DINOv2-B, frozen, MHA on DDSM`.
    #[serde(skip)]
    pub title: String,
}

/// One finished run of a cell.
#[derive(Debug, Serialize)]
pub struct Run<'a> {
    pub id: &'a str,
    /// Name of its folder in the results.
    pub folder: &'a str,
    pub seed: u64,
    /// The score that counts.
    pub value: f64,
    /// Command that makes the run again, into another folder.
    pub rerun: String,
    /// All metrics and counts, where the record is at hand.
    pub metrics: Option<&'a Metrics>,
    pub provenance: Option<&'a Provenance>,
    #[serde(skip)]
    pub record: Option<&'a RunRecord>,
}

/// A reason and the seeds it keeps away.
#[derive(Debug, Serialize)]
pub struct Missing<'a> {
    pub reason: &'a str,
    pub seeds: &'a [u64],
}

/// A reason and the number of runs it keeps away.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    pub reason: String,
    pub runs: usize,
}

/// Every cell of the study, data set by data set in the order of tables.
pub fn all<'a>(input: &'a ReportInput, cells: &'a Cells, comparisons: &'a [Comparison]) -> Vec<CellDetails<'a>> {
    let mut all: Vec<CellDetails> = cells
        .iter()
        .map(|(key, score)| details(input, key, score, comparisons))
        .collect();
    let dataset = |d: &CellDetails| input.datasets.iter().position(|x| x.name == d.dataset);
    let backbone = |d: &CellDetails| input.backbones.iter().position(|x| x.name == d.backbone);
    all.sort_by_key(|d| (dataset(d), backbone(d), d.freeze, d.head));
    all
}

fn details<'a>(
    input: &'a ReportInput,
    key: &'a Key,
    score: &'a Score,
    comparisons: &'a [Comparison],
) -> CellDetails<'a> {
    let (dataset, backbone, freeze, head) = key;
    let command = |seed: Option<u64>| {
        let seed = seed.map_or_else(String::new, |s| format!(",seed={s}"));
        // A table of its own may be a split, or a point of a sweep, of a set that has several.
        let facts = input.dataset(dataset);
        let set = facts.map_or(dataset.as_str(), |d| &d.set);
        let several = |d: &&super::DatasetFacts| input.datasets.iter().any(|o| o.set == d.set && o.split != d.split);
        let split = facts
            .filter(several)
            .map_or_else(String::new, |d| format!(",split={}", d.split));
        let point = input.sweep.as_ref().map_or("", |s| s.only(dataset));
        format!(
            "medft run {} --only dataset={set}{split}{point},backbone={backbone},freeze={freeze},head={head}{seed} --results-dir again",
            input.study_argument()
        )
    };
    let runs = score.runs.iter().zip(&score.seeds).zip(&score.values);
    let runs = runs.map(|((id, &seed), &value)| {
        let record = input.archive.records.get(id);
        Run {
            id,
            folder: id.get(..FOLDER_DIGITS).unwrap_or(id),
            seed,
            value,
            rerun: command(Some(seed)),
            metrics: record.map(|r| &r.metrics),
            provenance: record.map(|r| &r.provenance),
            record,
        }
    });
    let title = input.dataset(dataset).map_or(dataset.as_str(), |d| &d.title);
    CellDetails {
        key: text::key(dataset, backbone, *freeze, *head),
        dataset,
        backbone,
        freeze: *freeze,
        head: *head,
        planned: score.planned,
        n: score.n(),
        mean: score.mean(),
        sd: score.sd(),
        interval: score.sampled.as_ref().and_then(ImageInterval::of),
        runs: runs.collect(),
        missing: score.gaps().map(|(reason, seeds)| Missing { reason, seeds }).collect(),
        comparisons: comparisons
            .iter()
            .filter(|c| c.dataset == *dataset && c.backbone == *backbone && c.regime == Some((*freeze, *head)))
            .collect(),
        rerun: command(None),
        title: format!(
            "{}, {} on {title}",
            input.backbone_title(backbone),
            regime_title(*freeze, *head)
        ),
    }
}

/// Each reason with its number of runs, the most frequent first.
pub fn gaps<'a>(details: impl Iterator<Item = &'a CellDetails<'a>>) -> Vec<Gap> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for m in details.flat_map(|d| &d.missing) {
        *counts.entry(m.reason).or_default() += m.seeds.len();
    }
    let mut all: Vec<Gap> = counts
        .into_iter()
        .map(|(reason, runs)| Gap {
            reason: reason.to_owned(),
            runs,
        })
        .collect();
    all.sort_by_key(|g| std::cmp::Reverse(g.runs));
    all
}
