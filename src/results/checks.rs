//! What follows from something else in a run's record, each as a check of its own.

use super::evidence::Prepared;
use super::finding::Finding;
use super::predictions::{Predictions, Truth};
use super::provenance::{Provenance, seconds_of};
use super::record::{Content, read_edited, read_record};
use super::spec::Spec;
use super::store::{EPOCHS, PREDICTIONS, SPEC};
use super::types::{Epochs, Metrics, ModelFacts, WhichWeights};
use crate::fsio;
use crate::study::{Inputs, PROTOCOL_REVISION, RunId, RunSpec};
use crate::train::evaluate::{self, SelectionRule};
use anyhow::Result;
use std::collections::BTreeMap;
use std::path::Path;

/// Steps an epoch may have: of a million images or more, in batches of one.
const MOST_STEPS: u64 = 10_000_000;

/// Seconds that two readings of a clock in whole seconds, and its being set right meanwhile, may come to.
const CLOCK: i64 = 5;

/// What a run's record must say because its spec does; the registries of data sets and models know it.
pub struct Expected {
    pub target: String,
    /// Logits an image, and whether each image has one class.
    pub outputs: usize,
    pub one_class: bool,
    pub model: ModelFacts,
    /// The learning rate of the last step of an epoch, by (steps an epoch, epoch).
    pub rate: Box<dyn Fn(u64, u32) -> f64>,
    /// What a file of trained weights is, of a run with this spec.
    pub trained: ReadTrained,
}

/// Reads a file of trained weights.
pub(crate) type ReadTrained = Box<dyn Fn(&Path) -> Result<TrainedFile>>;

/// A file of trained weights, read.
pub struct TrainedFile {
    /// The whole run id that it says.
    pub run: String,
    /// `best` or `last`.
    pub weights: String,
    /// Over the trained parameters in it.
    pub sha256: String,
}

/// The metric whose value on the validation images selects an epoch.
pub(super) fn selection_metric<'a>(run: &'a RunSpec, metrics: &'a Metrics) -> &'a str {
    run.protocol.selection_metric.as_ref().unwrap_or(&metrics.target)
}

/// How many epochs were trained: as many as the protocol says, or fewer where the stored ones show that it stopped early.
pub(super) fn epochs_trained(spec: &Spec, metrics: &Metrics, epochs: &Epochs) -> u32 {
    let p = &spec.run.protocol;
    evaluate::trained(p, selection_metric(&spec.run, metrics), &epochs.0).unwrap_or(p.epochs)
}

/// What was found in a run so far.
pub(super) struct Findings<'a> {
    pub(super) dir: &'a Path,
    pub(super) list: Vec<Finding>,
}

impl Findings<'_> {
    pub(super) fn add(&mut self, at: &str, expected: impl Into<String>, found: impl Into<String>) {
        self.list.push(Finding {
            at: self.dir.join(at).display().to_string(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    /// Adds a finding where two values that should be one are not.
    pub(super) fn same(&mut self, at: &str, source: &str, expected: impl ToString, found: impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.add(at, format!("{expected}, as {source}"), found);
        }
    }

    /// The content of a record, also of an edited one, so that the edited number can be named.
    pub(super) fn record<T: Content>(&mut self, file: &str, intact: bool) -> Option<T> {
        let path = self.dir.join(file);
        match read_record(&path) {
            Ok((content, _)) => Some(content),
            Err(e) => {
                if intact {
                    // DONE knows these bytes, so whoever changed the record changed DONE as well.
                    self.add(file, "a record that hashes to what it says", format!("{e:#}"));
                }
                read_edited(&path)
            }
        }
    }

    pub(super) fn check_spec(&mut self, spec: &Spec) {
        let weights: Vec<(&str, &str)> = spec.weights.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        match Inputs::new(&spec.data_sha256, &weights) {
            // The revision is part of what is hashed: one that was changed gives another id, or none that this medft knows.
            Ok(inputs) if spec.protocol_revision <= PROTOCOL_REVISION => {
                let id = RunId::under(&spec.run, &inputs, spec.protocol_revision);
                self.same(
                    "spec.json: id",
                    "spec, data, weights and protocol_revision give it",
                    id.full(),
                    &spec.id,
                );
            }
            Ok(_) => {
                let found = spec.protocol_revision.to_string();
                self.add(
                    "spec.json: protocol_revision",
                    format!("at most {PROTOCOL_REVISION}"),
                    found,
                );
            }
            Err(e) => self.add(SPEC, "hashes of data and weights", e.to_string()),
        }
        let folder = self.dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let expected = spec.id.get(..super::FOLDER_DIGITS).unwrap_or(&spec.id).to_owned();
        self.same("", "spec.json names the run", expected, folder);
    }

    pub(super) fn check_provenance(&mut self, spec: &Spec, p: &Provenance) {
        self.same("provenance.json: seed", "spec.json says", spec.run.seed, p.seed);
        self.same(
            "provenance.json: data_sha256",
            "spec.json says",
            &spec.data_sha256,
            &p.data_sha256,
        );
        self.same(
            "provenance.json: weights",
            "spec.json says",
            format!("{:?}", spec.weights),
            format!("{:?}", p.weights),
        );
    }

    /// Times: as many epochs as were trained, taken up only between them, ended after they began; one sitting takes no longer than
    /// from its beginning to its end.
    pub(super) fn check_times(&mut self, epochs: u32, p: &Provenance) {
        self.same(
            "provenance.json: epoch_seconds: number",
            "spec.json says",
            epochs,
            p.epoch_seconds.len(),
        );
        let seconds = p.epoch_seconds.iter().chain(p.phases.values());
        if let Some(s) = seconds.copied().find(|s| !s.is_finite() || *s < 0.0) {
            self.add("provenance.json: phases, epoch_seconds", "seconds", s.to_string());
        }
        let later = p.resumed_after.iter().find(|e| **e > epochs);
        if later.is_some() || !p.resumed_after.is_sorted() {
            let expected = format!("epochs of {epochs}, in order");
            self.add(
                "provenance.json: resumed_after",
                expected,
                format!("{:?}", p.resumed_after),
            );
        }
        let (Some(started), Some(ended)) = (seconds_of(&p.started), seconds_of(&p.ended)) else {
            let found = format!("{} and {}", p.started, p.ended);
            self.add("provenance.json: started, ended", "times in UTC", found);
            return;
        };
        if started > ended {
            let expected = format!("a time from {} on", p.started);
            self.add("provenance.json: ended", expected, p.ended.clone());
        } else if p.resumed_after.is_empty() && p.seconds() > (ended - started + CLOCK) as f64 {
            let expected = format!("at most the {} seconds from its beginning to its end", ended - started);
            self.add("provenance.json: phases", expected, format!("{} in all", p.seconds()));
        }
    }

    /// Steps that went astray: stretches from step 1 on, one after the other, and as many steps as they say.
    pub(super) fn check_divergence(&mut self, metrics: &Metrics) {
        let Some(d) = &metrics.divergence else { return };
        for (name, steps) in [("skipped", &d.skipped), ("exploded", &d.exploded)] {
            let mut from = 1;
            let mut count = Some(0u64);
            for [first, last] in &steps.ranges {
                if *first < from || last < first {
                    count = None;
                    break;
                }
                count = count.and_then(|c| c.checked_add(last - first)?.checked_add(1));
                // A stretch that begins where another ends would be one with it.
                from = last.saturating_add(2);
            }
            let at = format!("metrics.json: divergence.{name}");
            match count {
                Some(n) => self.same(&format!("{at}.count"), "its ranges have", n, steps.count),
                None => self.add(&at, "stretches in order", format!("{:?}", steps.ranges)),
            }
        }
        if d.skipped.count + d.exploded.count == 0 {
            self.add(
                "metrics.json: divergence",
                "a step that went astray, or nothing",
                "none",
            );
        }
    }

    pub(super) fn check_selection(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
        let epoch = |rule: SelectionRule| rule.select(&epochs.0, selection_metric(&spec.run, metrics));
        let shown = |e: Option<u32>| e.map_or_else(|| "none".to_owned(), |e| e.to_string());
        for (at, expected, found) in [
            (
                "metrics.json: selected.faithful",
                epoch(SelectionRule::FAITHFUL),
                metrics.selected.faithful,
            ),
            (
                "metrics.json: selected.corrected",
                epoch(SelectionRule::CORRECTED),
                metrics.selected.corrected,
            ),
        ] {
            self.same(at, "epochs.json gives", shown(expected), shown(found));
        }
    }

    /// The epochs that were trained: as many as the protocol says, numbered from 1.
    pub(super) fn check_epochs(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
        let p = &spec.run.protocol;
        let last = epochs_trained(spec, metrics, epochs);
        let expected = last + u32::from(p.extra_validation);
        let numbers: Vec<u32> = epochs.0.iter().map(|e| e.epoch).collect();
        if !numbers.iter().copied().eq(1..=expected) {
            let found = format!("{} of them, numbered {numbers:?}", numbers.len());
            self.add(EPOCHS, format!("epochs 1 to {expected}, as spec.json says"), found);
        }
        for e in &epochs.0 {
            let trained = e.epoch <= last;
            // A run that went astray and was not stopped may have losses that are no numbers.
            if trained != e.train_loss.is_finite() && !(trained && metrics.divergence.is_some()) {
                let expected = if trained { "a training loss" } else { "no training loss" };
                let found = e.train_loss.to_string();
                self.add(&format!("epochs.json: epoch {}: train_loss", e.epoch), expected, found);
            }
        }
    }

    /// What the registries know of the run's data set and model.
    pub(super) fn check_facts(&mut self, x: &Expected, spec: &Spec, metrics: &Metrics, epochs: Option<&Epochs>) {
        self.same(
            "metrics.json: target",
            "the data set has it",
            &x.target,
            &metrics.target,
        );
        let (m, n) = (&x.model, &metrics.model);
        self.same(
            "metrics.json: model.family",
            "the registry has it",
            &m.family,
            &n.family,
        );
        for (field, expected, found) in [
            ("backbone_params", m.backbone_params, n.backbone_params),
            ("trainable_params", m.trainable_params, n.trainable_params),
            ("total_params", m.total_params, n.total_params),
        ] {
            self.same(
                &format!("metrics.json: model.{field}"),
                "the model has",
                expected,
                found,
            );
        }
        let Some(epochs) = epochs else { return };
        // How many steps an epoch has stands nowhere; that one number gives the rates of all epochs, and is no less than the
        // steps that went astray need, is what can be held.
        let trained = epochs_trained(spec, metrics, epochs);
        let astray = metrics.divergence.iter().flat_map(|d| [&d.skipped, &d.exploded]);
        let last = astray.flat_map(|s| &s.ranges).map(|r| r[1]).max().unwrap_or(0);
        let least = last.div_ceil(u64::from(trained.max(1))).max(1);
        let rates: Vec<(u32, f64)> = epochs.0.iter().map(|e| (e.epoch.min(trained), e.lr)).collect();
        let fits = |steps: &u64| rates.iter().all(|(epoch, lr)| (x.rate)(*steps, *epoch) == *lr);
        if !(least..=MOST_STEPS).any(|s| fits(&s)) {
            let found: Vec<String> = epochs.0.iter().map(|e| e.lr.to_string()).collect();
            self.add(
                "epochs.json: lr",
                match last {
                    0 => "the rates of the protocol's schedule, for some number of steps an epoch".to_owned(),
                    n => format!(
                        "the rates of the protocol's schedule, for some number of steps an epoch that reaches step {n} of \
                         metrics.json: divergence"
                    ),
                },
                found.join(", "),
            );
        }
    }

    /// The rule of the spec says which weights count.
    pub(super) fn check_rule(&mut self, spec: &Spec, metrics: &Metrics) {
        let name = |w: WhichWeights| match w {
            WhichWeights::Best => "best",
            WhichWeights::Last => "last",
        };
        let (expected, found) = (name(spec.run.protocol.test_weights), name(metrics.headline));
        self.same("metrics.json: headline", "spec.json says", expected, found);
    }

    /// Sets of weights: their names are those of the predictions, and equal weights predict alike.
    pub(super) fn check_weights(&mut self, last: u32, metrics: &Metrics, predictions: &Predictions) {
        let names: Vec<&str> = metrics.weights_sha256.keys().map(String::as_str).collect();
        let mut sets: Vec<&str> = predictions.sets().map(|s| s.0).collect();
        sets.sort_unstable();
        self.same(
            "metrics.json: weights_sha256",
            "predictions.parquet has",
            sets.join(", "),
            names.join(", "),
        );
        let hash = |set: &str| metrics.weights_sha256.get(set);
        for (set, h) in &metrics.weights_sha256 {
            if h.len() != 64 || !h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                self.add(
                    &format!("metrics.json: weights_sha256.{set}"),
                    "64 hex digits",
                    h.clone(),
                );
            }
        }
        let all: Vec<(&str, &Vec<f32>)> = predictions.sets().collect();
        for (i, (a, x)) in all.iter().enumerate() {
            for (b, y) in &all[..i] {
                let bits = |v: &[f32]| v.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
                if hash(a).is_some() && hash(a) == hash(b) && bits(x) != bits(y) {
                    let at = format!("metrics.json: weights_sha256.{a}");
                    self.add(
                        &at,
                        format!("another hash than that of {b}, which predicts otherwise"),
                        "the same",
                    );
                }
            }
        }
        for (rule, epoch) in [
            ("faithful", metrics.selected.faithful),
            ("corrected", metrics.selected.corrected),
        ] {
            let set = if metrics.rules.contains_key(rule) { rule } else { "best" };
            if epoch >= Some(last) && hash(set) != hash("last") {
                let at = format!("metrics.json: weights_sha256.{set}");
                let found = hash(set).cloned().unwrap_or_default();
                self.add(&at, "the hash of last, since that epoch was selected", found);
            }
        }
    }

    /// What other records say of the file of predictions, whose bytes and hash are given.
    fn check_prediction_file(
        &mut self,
        metrics: &Metrics,
        predictions: &Predictions,
        (bytes, hash): (usize, &str),
        expected: Option<&Expected>,
    ) {
        if let Some(x) = expected {
            let one_class = matches!(predictions.truth, Truth::Classes(_));
            let shape = |outputs: usize, one: bool| format!("{outputs} {}", if one { "classes" } else { "labels" });
            let (want, found) = (shape(x.outputs, x.one_class), shape(predictions.outputs, one_class));
            self.same(PREDICTIONS, "the data set has", want, found);
        }
        self.same(
            "metrics.json: predictions.bytes",
            "predictions.parquet has",
            bytes,
            metrics.predictions.bytes,
        );
        self.same(
            "metrics.json: predictions.sha256",
            "DONE says",
            hash,
            &metrics.predictions.sha256,
        );
        self.same(
            "metrics.json: predictions.images",
            "predictions.parquet has",
            predictions.ids.len(),
            metrics.predictions.images,
        );
    }

    /// Computes every metric again from the predictions, which it returns.
    pub(super) fn check_metrics(
        &mut self,
        spec: &Spec,
        metrics: &Metrics,
        predictions_hash: &str,
        expected: Option<&Expected>,
    ) -> Option<Predictions> {
        let path = self.dir.join(PREDICTIONS);
        let read = fsio::read(&path).and_then(|bytes| {
            Ok((
                Predictions::from_bytes(&path, &bytes, Some(metrics.predictions.images))?,
                bytes,
            ))
        });
        let (predictions, bytes) = match read {
            Ok(p) => p,
            Err(e) => {
                self.add(PREDICTIONS, "predictions", format!("{e:#}"));
                return None;
            }
        };
        self.check_prediction_file(metrics, &predictions, (bytes.len(), predictions_hash), expected);
        let headline = match metrics.headline {
            WhichWeights::Best => "best",
            WhichWeights::Last => "last",
        };
        let rules: Vec<&str> = metrics.rules.keys().map(String::as_str).collect();
        let others: Vec<&str> = predictions.others.keys().map(String::as_str).collect();
        self.same(
            "metrics.json: rules",
            "predictions.parquet has",
            others.join(", "),
            rules.join(", "),
        );
        for (set, logits) in predictions.sets() {
            let (at, stored) = match set {
                "best" => ("best".to_owned(), &metrics.best),
                "last" => ("last".to_owned(), &metrics.last),
                rule => match metrics.rules.get(rule) {
                    Some(m) => (format!("rules.{rule}"), &m.0),
                    None => continue,
                },
            };
            let computed = Prepared::of(&spec.run, &predictions, logits).and_then(|p| p.metrics());
            let computed = match computed {
                Ok(c) => c,
                Err(e) => {
                    self.add(
                        PREDICTIONS,
                        "logits that metrics can be computed from",
                        format!("{e:#}"),
                    );
                    return None;
                }
            };
            for name in computed
                .keys()
                .chain(stored.keys().filter(|k| !computed.contains_key(*k)))
            {
                let number =
                    |m: &BTreeMap<String, f64>| m.get(name).map_or_else(|| "nothing".to_owned(), f64::to_string);
                let at = format!("metrics.json: {at}.{name}");
                self.same(&at, "predictions.parquet gives", number(&computed), number(stored));
            }
            if set == headline {
                let expected = computed.get(&metrics.target).copied().unwrap_or(f64::NAN);
                self.same(
                    "metrics.json: value",
                    "predictions.parquet gives",
                    expected,
                    metrics.value,
                );
            }
        }
        Some(predictions)
    }
}
