//! Is what is stored what was stored? Every hash, and every number that something else contradicts.
//!
//! Hashes find an edit of any byte, also in runs that are not finished. An editor who also corrects the hashes is found
//! where a value follows from another: metrics from the predictions, the selected epochs from `epochs.json`, the run id from
//! `spec.json` and the revision in it, headline, target, rates and parameter counts from the spec, what `provenance.json`
//! repeats of it, and what one run says from what another does. What follows from nothing is listed in SECURITY.md: hashes
//! are no signature.

use super::between::{Seen, SeenRuns, between};
use super::evidence::{Prepared, images_of};
use super::finding::Finding;
use super::predictions::{Predictions, Truth};
use super::provenance::{Provenance, seconds_of};
use super::record::{Content, read_edited, read_record, record_bytes};
use super::spec::Spec;
use super::store::{
    ASIDE, CHECKPOINT, DONE, EPOCHS, FAILED, JOBS, KEPT, LEASE, METRICS, PREDICTIONS, PROVENANCE, SPEC, Store,
    done_lines, read_done,
};
use super::types::{Epochs, Failure, Metrics, ModelFacts, WhichWeights};
use crate::fsio;
use crate::study::{Inputs, PROTOCOL_REVISION, RunId, RunSpec};
use crate::threads::in_threads;
use crate::train::evaluate::{self, SelectionRule};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Steps an epoch may have: of a million images or more, in batches of one.
const MOST_STEPS: u64 = 10_000_000;

/// Seconds that two readings of a clock in whole seconds, and its being set right meanwhile, may come to.
const CLOCK: i64 = 5;

/// Runs that were checked, and what is wrong with them, in the order of their folders.
#[derive(Debug, Default)]
pub struct Audit {
    /// Finished runs.
    pub runs: usize,
    pub findings: Vec<Finding>,
    /// What was not checked, and why: sentences.
    pub notes: Vec<String>,
}

impl Audit {
    fn foreign(&mut self, path: &Path) {
        self.notes
            .push(format!("{} is not of medft and was not checked", path.display()));
    }
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

impl Store {
    /// Checks every run of the study, as many at a time as there are threads: finished ones in all they say, others in the
    /// bytes of their files. `expected` is asked for what follows from a spec; `seen` are the runs of other studies, which no
    /// run here may be a copy of, and these are added to.
    ///
    /// # Errors
    /// When the study's folder cannot be listed.
    pub fn audit(
        &self,
        expected: &(dyn Fn(&RunSpec) -> Result<Expected> + Sync),
        seen: &mut SeenRuns,
    ) -> Result<Audit> {
        let mut audit = Audit::default();
        let (mut done, mut open) = (Vec::new(), Vec::new());
        let folder = self.folder();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            // A link to a folder is a run as any other: reports read it.
            let is_folder = path.is_dir();
            match (is_folder, name.starts_with('.')) {
                (true, false) if path.join(DONE).exists() => done.push(path),
                (true, false) => open.push(path),
                (true, true) if name == ASIDE => audit.notes.push(format!(
                    "{} holds runs that were broken and set aside; they count nowhere and were not checked",
                    path.display()
                )),
                (true, true) if name == JOBS => {}
                _ => audit.foreign(&path),
            }
        }
        done.sort();
        open.sort();
        audit.runs = done.len();
        let known = seen.0.len();
        for (of_run, run) in in_threads(rayon::current_num_threads(), &done, |d| audit_run(d, expected)) {
            audit.findings.extend(of_run.findings);
            audit.notes.extend(of_run.notes);
            seen.0.extend(run);
        }
        audit.findings.extend(between(&seen.0, known));
        for dir in &open {
            audit_open(dir, &mut audit);
        }
        audit.notes.sort();
        Ok(audit)
    }
}

/// The bytes of a run that is not finished: each file against the hash that it carries.
fn audit_open(dir: &Path, audit: &mut Audit) {
    let mut all = Findings { dir, list: Vec::new() };
    for path in fsio::below(dir) {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        match name.as_str() {
            SPEC => all.canonical::<Spec>(SPEC),
            FAILED => all.canonical::<Failure>(FAILED),
            // Written after the last epoch and before DONE: the next start writes them again, and until then they are whole.
            EPOCHS => all.canonical::<Epochs>(EPOCHS),
            METRICS => all.canonical::<Metrics>(METRICS),
            PROVENANCE => all.canonical::<Provenance>(PROVENANCE),
            PREDICTIONS => all.predictions_of_an_open_run(audit),
            n if KEPT.contains(&n) => {}
            n => all.other(n, &path, audit),
        }
    }
    if let Ok((spec, _)) = read_record::<Spec>(&dir.join(SPEC)) {
        all.check_spec(&spec);
    }
    audit.findings.extend(all.list);
}

/// What is wrong with one finished run, what lies there besides, and what other runs are held against.
fn audit_run(dir: &Path, expected: &(dyn Fn(&RunSpec) -> Result<Expected> + Sync)) -> (Audit, Option<Seen>) {
    let mut all = Findings { dir, list: Vec::new() };
    let mut audit = Audit::default();
    for path in fsio::below(dir) {
        let name = path.strip_prefix(dir).unwrap_or(&path).display().to_string();
        let records = [DONE, EPOCHS, METRICS, PREDICTIONS, PROVENANCE, SPEC];
        if !records.contains(&name.as_str()) && !KEPT.contains(&name.as_str()) {
            all.other(&name, &path, &mut audit);
        }
    }
    // A file beside a run that kept none was put there; a DONE that was edited is named itself.
    if let Ok(done) = read_done(dir) {
        for file in KEPT.iter().filter(|f| dir.join(f).exists() && !done.contains_key(**f)) {
            all.add(file, "no trained weights, since DONE names none", "some");
        }
    }
    let run = all.run(expected);
    audit.findings = all.list;
    (audit, run)
}

impl Findings<'_> {
    /// A file that is none of a run's records: a checkpoint against the hash in its name; a lease, which says what changes by the
    /// minute, and everything else is told.
    fn other(&mut self, name: &str, path: &Path, audit: &mut Audit) {
        let checkpoint = name
            .strip_prefix(CHECKPOINT)
            .and_then(|n| n.strip_prefix('/')?.strip_suffix(".safetensors"));
        if let Some(stem) = checkpoint {
            let expected = stem.split_once('-').map_or("", |s| s.1);
            match fsio::sha256_file(path, |_| {}) {
                Ok(found) if found == expected => {}
                Ok(found) => self.add(
                    name,
                    format!("a checkpoint that hashes to {expected}, as its name says"),
                    found,
                ),
                Err(e) => self.add(name, "a checkpoint", format!("{e:#}")),
            }
        } else if name == LEASE {
            audit.notes.push(format!(
                "{} says that a process is at this run, or was until it ended",
                path.display()
            ));
        } else {
            audit.foreign(path);
        }
    }

    /// Predictions of a run that is not finished: those that its metrics name. Before there are metrics nothing says which they
    /// should be, and nothing reads them.
    fn predictions_of_an_open_run(&mut self, audit: &mut Audit) {
        let path = self.dir.join(PREDICTIONS);
        if !self.dir.join(METRICS).exists() {
            audit.notes.push(format!(
                "{} is of a run that is not finished, which writes it again; it was not checked",
                path.display()
            ));
            return;
        }
        // Broken metrics are a finding of their own.
        let Ok((m, _)) = read_record::<Metrics>(&self.dir.join(METRICS)) else {
            return;
        };
        match fsio::sha256_file(&path, |_| {}) {
            Ok(found) => self.same(PREDICTIONS, "metrics.json says", m.predictions.sha256, found),
            Err(e) => self.add(PREDICTIONS, "predictions", format!("{e:#}")),
        }
    }
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
        if fsio::read(&dir.join(DONE)).is_ok_and(|found| found != done_lines(&done).into_bytes()) {
            all.add(DONE, "its lines as medft writes them", "the same in other bytes");
        }
        let (mut intact, mut held) = (BTreeMap::new(), done.clone());
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
                    // What follows is held against the file: no other is to blame for the line.
                    held.insert(file.clone(), found);
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
        let last = match (&metrics, &epochs) {
            (Some(m), Some(e)) => epochs_trained(&spec, m, e),
            _ => spec.run.protocol.epochs,
        };
        all.check_spec(&spec);
        if !intact[SPEC] {
            // What an edited spec says now makes no other file wrong.
            return None;
        }
        if let Some(p) = &provenance {
            all.check_provenance(&spec, p);
            all.check_times(last, p);
        }
        let metrics = metrics?;
        all.check_divergence(&metrics);
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
        let predictions = all.check_metrics(&spec, &metrics, &held[PREDICTIONS], expected.as_ref())?;
        all.check_weights(last, &metrics, &predictions);
        Some(Seen {
            at: dir.display().to_string(),
            data: spec.data_sha256,
            predictions: held[PREDICTIONS].clone(),
            epochs: held[EPOCHS].clone(),
            diverged: metrics.divergence.is_some(),
            weights: epochs
                .as_ref()
                .map_or_else(BTreeMap::new, |e| trained(&spec.run, &metrics, e)),
            rates: epochs.iter().flat_map(|e| &e.0).map(|e| e.lr.to_bits()).collect(),
            build: provenance.as_ref().and_then(build),
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
            // A changed file has another hash in all its digits; where a few differ, it is the line that was changed.
            Ok(found) if found.len() == expected.len() && differing(&found, expected) <= 4 => {
                self.add(DONE, format!("{found} for {file}, which is whole"), expected);
            }
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

/// In how many places two texts of a length differ.
fn differing(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).filter(|(a, b)| a != b).count()
}

/// The metric whose value on the validation images selects an epoch.
fn selection_metric<'a>(run: &'a RunSpec, metrics: &'a Metrics) -> &'a str {
    run.protocol.selection_metric.as_ref().unwrap_or(&metrics.target)
}

/// How many epochs were trained: as many as the protocol says, or fewer where the stored ones show that it stopped early.
fn epochs_trained(spec: &Spec, metrics: &Metrics, epochs: &Epochs) -> u32 {
    let p = &spec.run.protocol;
    evaluate::trained(p, selection_metric(&spec.run, metrics), &epochs.0).unwrap_or(p.epochs)
}

/// The sets of weights that were trained: a set whose rule selects no epoch is the head as it was drawn.
fn trained(run: &RunSpec, metrics: &Metrics, epochs: &Epochs) -> BTreeMap<String, String> {
    let selected = |set: &str| match set {
        "best" => SelectionRule::of(&run.protocol)
            .select(&epochs.0, selection_metric(run, metrics))
            .is_some(),
        "faithful" => metrics.selected.faithful.is_some(),
        "corrected" => metrics.selected.corrected.is_some(),
        _ => true,
    };
    let last = metrics.weights_sha256.get("last");
    let all = metrics.weights_sha256.iter();
    all.filter(|(set, hash)| selected(set) || Some(*hash) == last)
        .map(|(set, hash)| (set.clone(), hash.clone()))
        .collect()
}

/// The commit of a clean build, and what it says of itself.
fn build(p: &Provenance) -> Option<(String, String)> {
    let commit = p.commit.clone().filter(|_| p.dirty == Some(false))?;
    let crates: Vec<String> = p.crates.iter().map(|(name, v)| format!("{name} {v}")).collect();
    Some((commit, format!("medft {} with {}", p.medft, crates.join(", "))))
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

    /// Times: as many epochs as were trained, taken up only between them, ended after they began; one sitting takes no longer than
    /// from its beginning to its end.
    fn check_times(&mut self, epochs: u32, p: &Provenance) {
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
    fn check_divergence(&mut self, metrics: &Metrics) {
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

    fn check_selection(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
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
    fn check_epochs(&mut self, spec: &Spec, metrics: &Metrics, epochs: &Epochs) {
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
    fn check_rule(&mut self, spec: &Spec, metrics: &Metrics) {
        let name = |w: WhichWeights| match w {
            WhichWeights::Best => "best",
            WhichWeights::Last => "last",
        };
        let (expected, found) = (name(spec.run.protocol.test_weights), name(metrics.headline));
        self.same("metrics.json: headline", "spec.json says", expected, found);
    }

    /// Sets of weights: their names are those of the predictions, and equal weights predict alike.
    fn check_weights(&mut self, last: u32, metrics: &Metrics, predictions: &Predictions) {
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

    /// Computes every metric again from the predictions, which it returns.
    fn check_metrics(
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
        if let Some(x) = expected {
            let one_class = matches!(predictions.truth, Truth::Classes(_));
            let shape = |outputs: usize, one: bool| format!("{outputs} {}", if one { "classes" } else { "labels" });
            let (want, found) = (shape(x.outputs, x.one_class), shape(predictions.outputs, one_class));
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
