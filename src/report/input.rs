//! Everything a report is made from. Nothing else enters: no global, no clock, no folder.

use super::sweep::Sweep;
use crate::eval::PublishedRun;
use crate::results::Evidences;
use crate::study::{Claims, Freeze, HeadKind};
use polars::prelude::DataFrame;
use serde_json::Value;
use std::path::PathBuf;

/// The first line of everything a demo study writes.
pub const DEMO_WARNING: &str = "Demo numbers mean nothing: small random models on drawn images, run to show that every part works and that models learn.";

/// A data set as the report names it.
#[derive(Debug, Clone)]
pub struct DatasetFacts {
    /// The name in studies; also the stem of the table's files.
    pub name: String,
    /// As printed, with the split where the study has several of the data set.
    pub title: String,
    /// The data set's own name, whatever the split.
    pub set: String,
    /// As printed, without the split.
    pub plain_title: String,
    /// The split rule's name.
    pub split: String,
    /// Share of the training images that is trained on (switch `train_fraction`).
    pub train_fraction: f64,
    /// Key of the metric that counts, as in the records.
    pub metric: String,
    /// As printed.
    pub metric_title: String,
    /// Names of the classes or labels, in the order of the outputs.
    pub classes: Vec<String>,
    /// Largest difference to a published value that still counts as none; `None` where no verdict can be given.
    pub margin: Option<f64>,
    /// Why this margin, in words.
    pub margin_reason: String,
}

/// A backbone as the report names it.
#[derive(Debug, Clone)]
pub struct BackboneFacts {
    /// The name in studies.
    pub name: String,
    /// As printed.
    pub title: String,
    /// As printed; one marker each in the figure.
    pub family: String,
    /// Parameters of the encoder that is used; `None` where unknown.
    pub params: Option<u64>,
}

/// One run of the plan.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    pub dataset: String,
    pub backbone: String,
    pub freeze: Freeze,
    pub head: HeadKind,
    pub seed: u64,
    pub state: PlannedState,
}

/// Whether a planned run has a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlannedState {
    /// Its whole run id, as in the frame's `id`.
    Done(String),
    /// Why there is none: a sentence without its full stop, the same words for the same reason.
    Gap(String),
}

/// The protocol as printed in every table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProtocolNote {
    pub preset: String,
    /// The switches a reader looks for first.
    pub facts: Vec<(String, String)>,
    /// Switches that differ from the preset, with the value used.
    pub changes: Vec<(String, String)>,
}

impl ProtocolNote {
    /// Compares the protocol used with its preset, both serialised as JSON objects.
    pub fn new(preset: &str, defaults: &Value, used: &Value) -> Self {
        const FACTS: [&str; 7] = [
            "epochs",
            "batch",
            "lr",
            "weight_decay",
            "augment",
            "validation_set",
            "test_weights",
        ];
        let switches = used.as_object().into_iter().flatten();
        Self {
            preset: preset.to_owned(),
            facts: FACTS
                .iter()
                .filter_map(|f| Some(((*f).to_owned(), value_text(used.get(f)?))))
                .collect(),
            changes: switches
                .filter(|(k, v)| *k != "preset" && defaults.get(k) != Some(v))
                .map(|(k, v)| (k.clone(), value_text(v)))
                .collect(),
        }
    }

    /// Says of a switch that it has several values in the study.
    pub fn sweep(&mut self, field: &str, values: &[String]) {
        let all = format!("swept over {}", values.join(", "));
        self.changes.retain(|(k, _)| k != field);
        match self.facts.iter_mut().find(|(k, _)| k == field) {
            Some((_, value)) => *value = all,
            None => self.changes.push((field.to_owned(), all)),
        }
    }

    /// One line: the preset, its main switches, what was changed.
    pub fn sentence(&self) -> String {
        let list = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .map(|(k, v)| format!("{} {v}", k.replace('_', " ")))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let changes = match self.changes.as_slice() {
            [] => "nothing changed".to_owned(),
            changes => format!("changed from the preset: {}", list(changes)),
        };
        match self.facts.as_slice() {
            [] => format!("preset {}, {changes}", self.preset),
            facts => format!("preset {} ({}), {changes}", self.preset, list(facts)),
        }
    }
}

/// A published value of one of our backbones, to be compared with ours.
#[derive(Debug, Clone)]
pub struct PublishedPoint {
    /// The name in studies.
    pub dataset: String,
    /// The name in studies.
    pub backbone: String,
    /// `None` where the source does not say; the value is then compared with every regime.
    pub freeze: Option<Freeze>,
    pub head: Option<HeadKind>,
    /// Key of the metric, as in the records.
    pub metric: String,
    /// As the source counts them; where the figure puts the point.
    pub params_millions: Option<f64>,
    pub value: f64,
    /// Hard half-width of the reading.
    pub uncertainty: f64,
    /// By how much all values of the data set may be off together; counts as uncertainty.
    pub shared_offset: f64,
    /// Half-width of the source's own rounding.
    pub rounding: f64,
    /// Runs it is the mean of; `None` where the source does not say.
    pub runs: Option<u32>,
    /// Standard deviation between those runs.
    pub sd: Option<f64>,
    /// Why it is shown for context and gets no verdict: a clause.
    pub no_verdict: Option<String>,
    /// What a reader must know of this backbone, for instance that it is absent from the authors' code: a sentence.
    pub note: Option<String>,
}

impl PublishedPoint {
    /// Half-width within which the value is known: reading, offset and rounding together.
    pub fn reading(&self) -> f64 {
        self.uncertainty + self.shared_offset + self.rounding
    }

    /// As the tests take it.
    pub fn run(&self) -> PublishedRun {
        PublishedRun {
            value: self.value,
            reading: self.reading(),
            runs: self.runs.unwrap_or(1),
            sd: self.sd,
        }
    }
}

/// A published value that is shown beside ours without a verdict: another model or another experiment.
#[derive(Debug, Clone)]
pub struct ContextValue {
    /// The name in studies.
    pub dataset: String,
    /// The model, as printed.
    pub label: String,
    /// As printed.
    pub metric: String,
    pub value: f64,
    pub sd: Option<f64>,
    /// Short citation.
    pub source: String,
}

/// All that [`super::render`] reads.
#[derive(Debug, Clone)]
pub struct ReportInput {
    /// The study's name, for labels.
    pub study: String,
    pub title: String,
    pub description: String,
    /// What the study is expected to give, in words; may be empty.
    pub expected: String,
    /// Puts [`DEMO_WARNING`] first everywhere and leaves published values out of the figure.
    pub demo: bool,
    pub protocol: ProtocolNote,
    /// In the order of the tables.
    pub datasets: Vec<DatasetFacts>,
    /// In the order of the rows.
    pub backbones: Vec<BackboneFacts>,
    pub planned: Vec<PlannedRun>,
    /// As [`crate::results::frame()`] makes it; may hold more runs than the plan.
    pub runs: DataFrame,
    /// The runs on resampled test sets; empty where no interval over test images is wanted.
    pub evidence: Evidences,
    /// Empty where no published value is comparable.
    pub published: Vec<PublishedPoint>,
    pub context: Vec<ContextValue>,
    /// Where published values and context come from and how they were obtained: a sentence each.
    pub sources: Vec<String>,
    /// What a reader must know of them: a sentence each.
    pub caveats: Vec<String>,
    /// Backbones that the authors published no running code for, by name.
    pub without_code: Vec<String>,
    /// Level of each of the two one-sided tests.
    pub alpha: f64,
    /// What stands behind the numbers.
    pub archive: super::archive::Archive,
    /// The claims of the paper whose values are compared; `None` where none are written down.
    pub claims: Option<Claims>,
    /// What the study sweeps; `None` where every switch has one value.
    pub sweep: Option<Sweep>,
    /// The part of the study that is meant, as it was asked for; empty for all of it.
    pub only: Vec<String>,
    /// A folder whose templates replace the built-in ones of the same name.
    pub templates: Option<PathBuf>,
}

impl ReportInput {
    /// The text printed first in everything a demo study writes.
    pub fn warning(&self) -> Option<&'static str> {
        self.demo.then_some(DEMO_WARNING)
    }

    /// What a report of `done` results leaves out of its study: its first line. `None` for a whole report.
    pub fn partial(&self, done: usize) -> Option<String> {
        let planned = self.planned.len();
        let part = match self.only.as_slice() {
            [] => None,
            only => Some(format!(
                "Part of the study, only {}: {done} of its {planned} runs have a result. Nothing here speaks for the whole study.",
                only.join(",")
            )),
        };
        let incomplete =
            || (done < planned).then(|| format!("Incomplete: {done} of {planned} planned runs have a result."));
        part.or_else(incomplete)
    }

    /// The study as a command line names it.
    pub fn study_argument(&self) -> &str {
        match self.archive.study_argument.as_str() {
            "" => &self.study,
            argument => argument,
        }
    }

    /// A data set by its name.
    pub fn dataset(&self, name: &str) -> Option<&DatasetFacts> {
        self.datasets.iter().find(|d| d.name == name)
    }

    /// As printed; the name itself where the study does not know the backbone.
    pub fn backbone_title<'a>(&'a self, name: &'a str) -> &'a str {
        self.backbones
            .iter()
            .find(|b| b.name == name)
            .map_or(name, |b| &b.title)
    }
}

/// A switch's value as a reader says it.
fn value_text(v: &Value) -> String {
    match v {
        Value::Null => "none".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(all) => all.iter().map(value_text).collect::<Vec<_>>().join(" to "),
        Value::Object(all) => {
            let pairs = all
                .iter()
                .map(|(k, v)| format!("{} {}", value_text(v), k.replace('_', " ")));
            pairs.collect::<Vec<_>>().join(" and ")
        }
        Value::Bool(_) | Value::Number(_) => v.to_string(),
    }
}

/// A regime as printed.
pub fn regime_title(freeze: Freeze, head: HeadKind) -> String {
    format!("{freeze}, {}", head_title(head))
}

/// A head as printed.
pub fn head_title(head: HeadKind) -> &'static str {
    match head {
        HeadKind::Linear => "linear",
        HeadKind::Mha => "MHA",
    }
}
