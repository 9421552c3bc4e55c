//! Is what is stored what was stored? Every hash, and every number that can be computed again.
//!
//! Hashes find an edit of any byte. An editor who also corrects the hashes is found where a number follows from another file:
//! metrics from the predictions, the selected epochs from `epochs.json`, the run id from `spec.json`, and what
//! `provenance.json` repeats of the spec. Times and the name of the machine follow from nothing; hashes are no signature.

use super::evidence::Prepared;
use super::predictions::Predictions;
use super::provenance::Provenance;
use super::record::{Content, read_edited, read_record};
use super::store::{DONE, EPOCHS, METRICS, PREDICTIONS, PROVENANCE, SPEC, Store, read_done};
use super::threads::in_threads;
use super::types::{Epochs, Metrics, Spec, WhichWeights};
use crate::eval;
use crate::fsio;
use crate::study::{Inputs, PROTOCOL_REVISION, RunId};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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

/// Finished runs that were checked, and what is wrong with them, in the order of their folders.
#[derive(Debug, Default)]
pub struct Audit {
    pub runs: usize,
    pub findings: Vec<Finding>,
}

impl Store {
    /// Checks every finished run of the study, as many at a time as there are threads. Unfinished ones are left out.
    ///
    /// # Errors
    /// When the study's folder cannot be listed.
    pub fn audit(&self) -> Result<Audit> {
        let mut dirs = Vec::new();
        let folder = self.folder();
        for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if !hidden && entry.path().join(DONE).exists() {
                dirs.push(entry.path());
            }
        }
        dirs.sort();
        let found: Vec<Vec<Finding>> = in_threads(&dirs, |d| audit_run(d));
        Ok(Audit {
            runs: dirs.len(),
            findings: found.into_iter().flatten().collect(),
        })
    }
}

/// What is wrong with one finished run.
fn audit_run(dir: &Path) -> Vec<Finding> {
    let mut all = Findings { dir, list: Vec::new() };
    let done = match read_done(dir) {
        Ok(d) => d,
        Err(e) => {
            all.add(DONE, "a hash for every file", format!("{e:#}"));
            return all.list;
        }
    };
    let mut intact = BTreeMap::new();
    for (file, expected) in &done {
        let whole = match fsio::sha256_file(&dir.join(file), |_| {}) {
            Ok(found) if found == *expected => true,
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
    let Some(spec) = spec else { return all.list };
    all.check_spec(&spec);
    if let Some(p) = provenance {
        all.check_provenance(&spec, &p);
    }
    let Some(metrics) = metrics else { return all.list };
    if let Some(e) = epochs {
        all.check_selection(&spec, &metrics, &e);
    }
    if intact[PREDICTIONS] {
        all.check_metrics(&spec, &metrics, &done[PREDICTIONS]);
    }
    all.list
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
            Ok(inputs) if spec.protocol_revision == PROTOCOL_REVISION => {
                let id = RunId::new(&spec.run, &inputs);
                self.same("spec.json: id", "spec, data and weights give it", id.full(), &spec.id);
            }
            Ok(_) => {}
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

    fn check_metrics(&mut self, spec: &Spec, metrics: &Metrics, predictions_hash: &str) {
        let path = self.dir.join(PREDICTIONS);
        let read = fsio::read(&path).and_then(|bytes| Predictions::from_bytes(&path, &bytes));
        let predictions = match read {
            Ok(p) => p,
            Err(e) => return self.add(PREDICTIONS, "predictions", format!("{e:#}")),
        };
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
                    return self.add(
                        PREDICTIONS,
                        "logits that metrics can be computed from",
                        format!("{e:#}"),
                    );
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
    }
}
