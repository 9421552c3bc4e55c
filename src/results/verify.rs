//! Is what is stored what was stored? Every hash, and every number that something else contradicts.
//!
//! Hashes find an edit of any byte, also in runs that are not finished. An editor who also corrects the hashes is found
//! where a value follows from another: metrics from the predictions, the selected epochs from `epochs.json`, the run id from
//! `spec.json` and the revision in it, headline, target, rates and parameter counts from the spec, what `provenance.json`
//! repeats of it, and what one run says from what another does. What follows from nothing is listed in SECURITY.md: hashes
//! are no signature.

use super::between::{Seen, SeenRuns, between};
use super::checks::{Expected, Findings, epochs_trained, selection_metric};
use super::evidence::images_of;
use super::finding::Finding;
use super::provenance::Provenance;
use super::record::{Content, read_record, record_bytes};
use super::spec::Spec;
use super::store::{
    ASIDE, CHECKPOINT, DONE, EPOCHS, FAILED, JOBS, KEPT, LEASE, METRICS, PREDICTIONS, PROVENANCE, SPEC, Store,
    done_lines, read_done,
};
use super::types::{Epochs, Failure, Metrics};
use crate::fsio;
use crate::study::RunSpec;
use crate::threads::in_threads;
use crate::train::evaluate::SelectionRule;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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
        let (intact, held) = all.hashes(&done);
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

    /// Holds every file against its line in DONE: which are whole, and the lines that what follows is held against.
    fn hashes<'d>(
        &mut self,
        done: &'d BTreeMap<String, String>,
    ) -> (BTreeMap<&'d str, bool>, BTreeMap<String, String>) {
        let (mut intact, mut held) = (BTreeMap::new(), done.clone());
        for (file, expected) in done {
            if KEPT.contains(&file.as_str()) {
                self.check_kept(file, expected);
                continue;
            }
            let whole = match fsio::sha256_file(&self.dir.join(file), |_| {}) {
                Ok(found) if found == *expected => true,
                Ok(found) if self.whole(file, &found) => {
                    // Two against one: the file is what it says itself, so it is the line in DONE that was changed.
                    self.add(DONE, format!("{found} for {file}, which is whole"), expected.clone());
                    // What follows is held against the file: no other is to blame for the line.
                    held.insert(file.clone(), found);
                    true
                }
                Ok(found) => {
                    let expected = format!("a file that hashes to {expected}, as DONE says");
                    self.add(file, expected, format!("an edited one that hashes to {found}"));
                    false
                }
                Err(e) => {
                    self.add(file, "a file", format!("{e:#}"));
                    false
                }
            };
            intact.insert(file.as_str(), whole);
        }
        (intact, held)
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
