//! Is what is stored what was stored? Every hash, and every number that something else contradicts.
//!
//! Hashes find an edit of any byte, also in runs that are not finished. An editor who also corrects the hashes is found
//! where a value follows from another: metrics from the predictions, the selected epochs from `epochs.json`, the run id from
//! `spec.json` and the revision in it, headline, target, rates and parameter counts from the spec, what `provenance.json`
//! repeats of it, and what one run says from what another does. What follows from nothing is listed in SECURITY.md: hashes
//! are no signature.

use super::evidence::{Prepared, images_of};
use super::predictions::{Predictions, Truth};
use super::provenance::Provenance;
use super::record::{Content, read_edited, read_record, record_bytes};
use super::store::{CHECKPOINT, DONE, EPOCHS, FAILED, KEPT, METRICS, PREDICTIONS, PROVENANCE, SPEC, Store, read_done};
use super::threads::in_threads;
use super::types::{Epochs, Failure, Metrics, ModelFacts, Spec, WhichWeights};
use crate::eval;
use crate::fsio;
use crate::study::{Inputs, PROTOCOL_REVISION, RunId, RunSpec};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Steps an epoch may have: of a million images or more, in batches of one.
const MOST_STEPS: u64 = 10_000_000;

/// Something stored that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file, and the number in it where one is known.
    pub at: String,
    pub expected: String,
    pub found: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, found {}", self.at, self.expected, self.found)
    }
}

/// Runs that were checked, and what is wrong with them, in the order of their folders.
#[derive(Debug, Default)]
pub struct Audit {
    /// Finished runs.
    pub runs: usize,
    pub findings: Vec<Finding>,
    /// Files that medft did not write, and what is not looked into.
    pub others: Vec<String>,
}

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
pub type ReadTrained = Box<dyn Fn(&Path) -> Result<TrainedFile>>;

/// A file of trained weights, read.
pub struct TrainedFile {
    /// The whole run id that it says.
    pub run: String,
    /// `best` or `last`.
    pub weights: String,
    /// Over the trained parameters in it.
    pub sha256: String,
}

/// What is compared between runs.
struct Seen {
    at: String,
    spec: RunSpec,
    data: String,
    predictions: String,
    epochs: String,
    weights: BTreeMap<String, String>,
    /// Hash over ids and truth of the test images.
    images: String,
    /// Whether it went astray: what is not finite is alike in every such run.
    diverged: bool,
}

impl Store {
    /// Checks every run of the study, as many at a time as there are threads: finished ones in all they say, others in the
    /// bytes of their files. `expected` is asked for what follows from a spec.
    ///
    /// # Errors
    /// When the study's folder cannot be listed.
    pub fn audit(&self, expected: &(dyn Fn(&RunSpec) -> Result<Expected> + Sync)) -> Result<Audit> {
        let mut audit = Audit::default();
        let (mut done, mut open) = (Vec::new(), Vec::new());
        let folder = self.folder();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            match (path.is_dir(), name.starts_with('.')) {
                (true, false) if path.join(DONE).exists() => done.push(path),
                (true, false) => open.push(path),
                (false, true) => {}
                _ => audit.others.push(path.display().to_string()),
            }
        }
        done.sort();
        open.sort();
        audit.runs = done.len();
        let mut seen = Vec::new();
        for (findings, others, run) in in_threads(&done, |d| audit_run(d, expected)) {
            audit.findings.extend(findings);
            audit.others.extend(others);
            seen.extend(run);
        }
        audit.findings.extend(between(&seen));
        for dir in &open {
            audit_open(dir, &mut audit);
        }
        audit.others.sort();
        Ok(audit)
    }
}

/// What contradicts itself between finished runs.
fn between(seen: &[Seen]) -> Vec<Finding> {
    let mut out = Vec::new();
    let mut add = |a: &Seen, file: &str, expected: String, found: String| {
        let at = format!("{}/{file}", a.at);
        out.push(Finding { at, expected, found });
    };
    // Two runs that only differ in switches may well come to the same; other seeds, heads or models never do.
    let apart = |a: &RunSpec, b: &RunSpec| {
        (&a.dataset, &a.backbone, a.freeze, a.head, a.seed) != (&b.dataset, &b.backbone, b.freeze, b.head, b.seed)
    };
    for (i, a) in seen.iter().enumerate() {
        for b in &seen[..i] {
            if a.data == b.data
                && a.spec.dataset == b.spec.dataset
                && a.spec.protocol == b.spec.protocol
                && a.images != b.images
            {
                let expected = format!(
                    "the test images and truths of {}, which has the same data and protocol",
                    b.at
                );
                add(a, PREDICTIONS, expected, "others".to_owned());
            }
            if !apart(&a.spec, &b.spec) {
                continue;
            }
            let own = |what: &str| format!("{what} of its own");
            let same = format!("those of {}, another run", b.at);
            if a.diverged && b.diverged {
                continue;
            }
            if a.predictions == b.predictions {
                add(a, PREDICTIONS, own("predictions"), same.clone());
            }
            if a.epochs == b.epochs {
                add(a, EPOCHS, own("epochs"), same.clone());
            }
            let shared = |(set, hash): &(&String, &String)| b.weights.iter().any(|w| w.1 == *hash && !set.is_empty());
            if let Some((set, _)) = a.weights.iter().find(shared) {
                add(
                    a,
                    &format!("{METRICS}: weights_sha256.{set}"),
                    own("trained weights"),
                    same,
                );
            }
        }
    }
    out
}

/// The bytes of a run that is not finished: each file against the hash that it carries.
fn audit_open(dir: &Path, audit: &mut Audit) {
    let mut all = Findings { dir, list: Vec::new() };
    for path in fsio::below(dir) {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        match name.as_str() {
            SPEC => all.canonical::<Spec>(SPEC),
            FAILED => all.canonical::<Failure>(FAILED),
            // Written after the last epoch and before DONE: the next start writes them again.
            EPOCHS | METRICS | PREDICTIONS | PROVENANCE => {}
            n if KEPT.contains(&n) => {}
            n if n.starts_with(CHECKPOINT) && n.ends_with(".safetensors") => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                let expected = stem.split_once('-').map_or("", |s| s.1);
                match fsio::sha256_file(&path, |_| {}) {
                    Ok(found) if found == expected => {}
                    Ok(found) => all.add(
                        n,
                        format!("a checkpoint that hashes to {expected}, as its name says"),
                        found,
                    ),
                    Err(e) => all.add(n, "a checkpoint", format!("{e:#}")),
                }
            }
            n if n.rsplit('/').next().is_some_and(|n| n.starts_with('.')) => {}
            _ => audit.others.push(path.display().to_string()),
        }
    }
    audit.findings.extend(all.list);
}

/// What is wrong with one finished run, what lies there besides, and what other runs are held against.
fn audit_run(
    dir: &Path,
    expected: &(dyn Fn(&RunSpec) -> Result<Expected> + Sync),
) -> (Vec<Finding>, Vec<String>, Option<Seen>) {
    let mut all = Findings { dir, list: Vec::new() };
    let mut others = Vec::new();
    let known = |n: &str| {
        [DONE, EPOCHS, METRICS, PREDICTIONS, PROVENANCE, SPEC].contains(&n) || KEPT.contains(&n) || n.starts_with('.')
    };
    for path in fsio::below(dir) {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        if !known(&name) && !name.starts_with(CHECKPOINT) {
            others.push(path.display().to_string());
        }
    }
    for file in KEPT {
        // A file beside a run that kept none was put there.
        let listed = read_done(dir).is_ok_and(|d| d.contains_key(file));
        if dir.join(file).exists() && !listed {
            all.add(file, "no trained weights, since DONE names none", "some");
        }
    }
    let run = all.run(expected);
    (all.list, others, run)
}

impl Findings<'_> {
    /// Checks a finished run; returns what others are held against where it can be read.
    fn run(&mut self, expected: &(dyn Fn(&RunSpec) -> Result<Expected> + Sync)) -> Option<Seen> {
        let all = self;
        let dir = all.dir;
        let done = match read_done(dir) {
            Ok(d) => d,
            Err(e) => {
                all.add(DONE, "a hash for every file", format!("{e:#}"));
                return None;
            }
        };
        let mut intact = BTreeMap::new();
        for (file, expected) in &done {
            if KEPT.contains(&file.as_str()) {
                all.check_kept(file, expected);
                continue;
            }
            let whole = match fsio::sha256_file(&dir.join(file), |_| {}) {
                Ok(found) if found == *expected => true,
                Ok(found) if all.whole(file, &found) => {
                    // Two against one: the file is what it says itself, so it is the line in DONE that was changed.
                    all.add(DONE, format!("{found} for {file}, which is whole"), expected.clone());
                    true
                }
                Ok(found) => {
                    let expected = format!("a file that hashes to {expected}, as DONE says");
                    all.add(file, expected, format!("an edited one that hashes to {found}"));
                    false
                }
                Err(e) => {
                    all.add(file, "a file", format!("{e:#}"));
                    false
                }
            };
            intact.insert(file.as_str(), whole);
        }
        let spec = all.record::<Spec>(SPEC, intact[SPEC]);
        let metrics = all.record::<Metrics>(METRICS, intact[METRICS]);
        let epochs = all.record::<Epochs>(EPOCHS, intact[EPOCHS]);
        let provenance = all.record::<Provenance>(PROVENANCE, intact[PROVENANCE]);
        let spec = spec?;
        all.check_spec(&spec);
        if !intact[SPEC] {
            // What an edited spec says now makes no other file wrong.
            return None;
        }
        if let Some(p) = provenance {
            all.check_provenance(&spec, &p);
        }
        let metrics = metrics?;
        if let Some(e) = &epochs {
            all.check_selection(&spec, &metrics, e);
            all.check_epochs(&spec, &metrics, e);
        }
        let expected = match expected(&spec.run) {
            Ok(e) => Some(e),
            Err(e) => {
                all.add(
                    "spec.json: run",
                    "a data set and a backbone of this medft",
                    format!("{e:#}"),
                );
                None
            }
        };
        if let Some(x) = &expected {
            all.check_facts(x, &spec, &metrics, epochs.as_ref());
        }
        if let Some(x) = &expected {
            for file in KEPT.iter().filter(|f| done.contains_key(**f) && dir.join(f).exists()) {
                all.check_trained(x, &spec, &metrics, file);
            }
        }
        all.check_rule(&spec, &metrics);
        if !intact[PREDICTIONS] {
            return None;
        }
        let predictions = all.check_metrics(&spec, &metrics, &done[PREDICTIONS], expected.as_ref())?;
        all.check_weights(&spec, &metrics, &predictions);
        Some(Seen {
            at: dir.display().to_string(),
            data: spec.data_sha256,
            predictions: done[PREDICTIONS].clone(),
            epochs: done[EPOCHS].clone(),
            diverged: metrics.divergence.is_some(),
            weights: metrics.weights_sha256,
            images: images_of(&predictions),
            spec: spec.run,
        })
    }

    /// Trained weights that are there are those that were kept; a bundle may leave them out, and so may who needs the room.
    fn check_kept(&mut self, file: &str, expected: &str) {
        let path = self.dir.join(file);
        if !path.exists() {
            return;
        }
        match fsio::sha256_file(&path, |_| {}) {
            Ok(found) if found == expected => {}
            Ok(found) => self.add(
                file,
                format!("trained weights that hash to {expected}, as DONE says"),
                format!("edited ones that hash to {found}"),
            ),
            Err(e) => self.add(file, "trained weights", format!("{e:#}")),
        }
    }

    /// Trained weights are those whose hash stands in `metrics.json`.
    fn check_trained(&mut self, x: &Expected, spec: &Spec, metrics: &Metrics, file: &str) {
        match (x.trained)(&self.dir.join(file)) {
            Ok(found) => {
                self.same(&format!("{file}: run"), "spec.json says", &spec.id, &found.run);
                let hash = metrics
                    .weights_sha256
                    .get(&found.weights)
                    .map_or("none", String::as_str);
                let source = format!("metrics.json says of {}", found.weights);
                self.same(&format!("{file}: trained parameters"), &source, hash, &found.sha256);
            }
            Err(e) => self.add(file, "a trained model of spec.json", format!("{e:#}")),
        }
    }

    /// Whether a file that DONE does not know is whole by what it or another file says.
    fn whole(&self, file: &str, found: &str) -> bool {
        let path = self.dir.join(file);
        let same = |bytes: Result<Vec<u8>>| bytes.is_ok_and(|b| fsio::sha256_hex(&b) == found);
        match file {
            SPEC => read_record::<Spec>(&path).is_ok_and(|(r, _)| same(record_bytes(&r))),
            METRICS => read_record::<Metrics>(&path).is_ok_and(|(r, _)| same(record_bytes(&r))),
            EPOCHS => read_record::<Epochs>(&path).is_ok_and(|(r, _)| same(record_bytes(&r))),
            PROVENANCE => read_record::<Provenance>(&path).is_ok_and(|(r, _)| same(record_bytes(&r))),
            _ => read_record::<Metrics>(&self.dir.join(METRICS)).is_ok_and(|(m, _)| m.predictions.sha256 == found),
        }
    }

    /// A record whose every byte follows from its content.
    fn canonical<T: Content>(&mut self, file: &str) {
        let path = self.dir.join(file);
        let record = read_record::<T>(&path).and_then(|(r, _)| Ok((record_bytes(&r)?, fsio::read(&path)?)));
        match record {
            Ok((expected, found)) if expected == found => {}
            Ok(_) => self.add(
                file,
                "a record as medft writes it",
                "one that was written by another hand",
            ),
            Err(e) => self.add(file, "a record that hashes to what it says", format!("{e:#}")),
        }
    }
}

struct Findings<'a> {
    dir: &'a Path,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(&mut self, at: &str, expected: impl Into<String>, found: impl Into<String>) {
        self.list.push(Finding {
            at: self.dir.join(at).display().to_string(),
            expected: expected.into(),
            found: found.into(),
        });
    }

    /// Adds a finding where two values that should be one are not.
    fn same(&mut self, at: &str, source: &str, expected: impl ToString, found: impl ToString) {
        let (expected, found) = (expected.to_string(), found.to_string());
        if expected != found {
            self.add(at, format!("{expected}, as {source}"), found);
        }
    }

    /// The content of a record, also of an edited one, so that the edited number can be named.
    fn record<T: Content>(&mut self, file: &str, intact: bool) -> Option<T> {
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

    fn check_spec(&mut self, spec: &Spec) {
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

    fn check_provenance(&mut self, spec: &Spec, p: &Provenance) {
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

    fn check_selection(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
        let metric = spec.run.protocol.selection_metric.as_ref().unwrap_or(&metrics.target);
        let values: Vec<f64> = epochs
            .0
            .iter()
            .map(|e| e.val.get(metric).copied().unwrap_or(f64::NAN))
            .collect();
        let epoch = |rounding, start| eval::select(&values, rounding, start).map(|i| epochs.0[i].epoch);
        let word = |e: Option<u32>| e.map_or_else(|| "none".to_owned(), |e| e.to_string());
        for (at, expected, found) in [
            (
                "metrics.json: selected.faithful",
                epoch(true, 0.0),
                metrics.selected.faithful,
            ),
            (
                "metrics.json: selected.corrected",
                epoch(false, f64::NEG_INFINITY),
                metrics.selected.corrected,
            ),
        ] {
            self.same(at, "epochs.json gives", word(expected), word(found));
        }
    }

    /// The epochs that were trained: as many as the protocol says, numbered from 1.
    fn check_epochs(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
        let p = &spec.run.protocol;
        let expected = p.epochs + u32::from(p.extra_validation);
        let numbers: Vec<u32> = epochs.0.iter().map(|e| e.epoch).collect();
        if !numbers.iter().copied().eq(1..=expected) {
            let found = format!("{} of them, numbered {numbers:?}", numbers.len());
            self.add(EPOCHS, format!("epochs 1 to {expected}, as spec.json says"), found);
        }
        for e in &epochs.0 {
            let trained = e.epoch <= p.epochs;
            // A run that went astray and was not stopped may have losses that are no numbers.
            if trained != e.train_loss.is_finite() && !(trained && metrics.divergence.is_some()) {
                let expected = if trained { "a training loss" } else { "no training loss" };
                let found = e.train_loss.to_string();
                self.add(&format!("epochs.json: epoch {}: train_loss", e.epoch), expected, found);
            }
        }
    }

    /// What the registries know of the run's data set and model.
    fn check_facts(&mut self, x: &Expected, spec: &Spec, metrics: &Metrics, epochs: Option<&Epochs>) {
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
        // How many steps an epoch has stands nowhere; that one number gives the rates of all epochs is what can be held.
        let trained = spec.run.protocol.epochs;
        let rates: Vec<(u32, f64)> = epochs.0.iter().map(|e| (e.epoch.min(trained), e.lr)).collect();
        let fits = |steps: &u64| rates.iter().all(|(epoch, lr)| (x.rate)(*steps, *epoch) == *lr);
        if !(1..=MOST_STEPS).any(|s| fits(&s)) {
            let found: Vec<String> = epochs.0.iter().map(|e| e.lr.to_string()).collect();
            self.add(
                "epochs.json: lr",
                "the rates of the protocol's schedule, for some number of steps an epoch",
                found.join(", "),
            );
        }
    }

    /// The rule of the spec says which weights count.
    fn check_rule(&mut self, spec: &Spec, metrics: &Metrics) {
        let word = |w: WhichWeights| match w {
            WhichWeights::Best => "best",
            WhichWeights::Last => "last",
        };
        let (expected, found) = (word(spec.run.protocol.test_weights), word(metrics.headline));
        self.same("metrics.json: headline", "spec.json says", expected, found);
    }

    /// Sets of weights: their names are those of the predictions, and equal weights predict alike.
    fn check_weights(&mut self, spec: &Spec, metrics: &Metrics, predictions: &Predictions) {
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
            if epoch >= Some(spec.run.protocol.epochs) && hash(set) != hash("last") {
                let at = format!("metrics.json: weights_sha256.{set}");
                let found = hash(set).cloned().unwrap_or_default();
                self.add(&at, "the hash of last, since that epoch was selected", found);
            }
        }
    }

    /// Computes every metric again from the predictions, which it returns.
    fn check_metrics(
        &mut self,
        spec: &Spec,
        metrics: &Metrics,
        predictions_hash: &str,
        expected: Option<&Expected>,
    ) -> Option<Predictions> {
        let path = self.dir.join(PREDICTIONS);
        let read = fsio::read(&path).and_then(|bytes| Ok((Predictions::from_bytes(&path, &bytes)?, bytes)));
        let (predictions, bytes) = match read {
            Ok(p) => p,
            Err(e) => {
                self.add(PREDICTIONS, "predictions", format!("{e:#}"));
                return None;
            }
        };
        if let Some(x) = expected {
            let one_class = matches!(predictions.truth, Truth::Classes(_));
            let words = |outputs: usize, one: bool| format!("{outputs} {}", if one { "classes" } else { "labels" });
            let (want, found) = (words(x.outputs, x.one_class), words(predictions.outputs, one_class));
            self.same(PREDICTIONS, "the data set has", want, found);
        }
        self.same(
            "metrics.json: predictions.bytes",
            "predictions.parquet has",
            bytes.len(),
            metrics.predictions.bytes,
        );
        self.same(
            "metrics.json: predictions.sha256",
            "DONE says",
            predictions_hash,
            &metrics.predictions.sha256,
        );
        self.same(
            "metrics.json: predictions.images",
            "predictions.parquet has",
            predictions.ids.len(),
            metrics.predictions.images,
        );
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
