//! What the stored predictions of runs say beyond one number: the target metric on resampled test sets.
//!
//! What is drawn is whole groups of images (patients, lesions, cases), where the predictions name them: images of one patient are not
//! independent, and an interval that ignores it is too narrow. Runs on the same test images are measured on the same resamples, so that replicate r of two runs may be subtracted
//! (paired comparison). The resamples are drawn from a seed that depends on the images alone: two studies, two machines and
//! any number of threads see the same ones. Predictions are read one run a thread and dropped; what stays is one number a
//! replicate. That is kept in a cache beside the results, keyed by the hash of the predictions it was computed from.

use super::evidence_cache::{self, Evidence};
use super::predictions::{Predictions, Truth};
use super::store::Store;
use super::types::{RunRecord, WhichWeights};
use crate::cache::{Bucket, Cache};
use crate::eval::{self, Components, Resamples, Statistic};
use crate::fsio;
use crate::rng::{Purpose, Stream};
use crate::spec::protocol::MacroClasses;
use crate::study::RunSpec;
use crate::threads::in_threads;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Replicates of a report unless it is told otherwise.
pub const REPLICATES: usize = 1000;

/// Replicates behind every decision, whatever number is asked for: `--replicates` is a matter of what is printed.
pub const DECISION: usize = 1000;

/// The evidence of many runs, by run id.
#[derive(Debug, Clone, Default)]
pub struct Evidences {
    /// Resamples that intervals are printed from, the first of those drawn; 0 where none were asked for. Decisions are made from the
    /// first [`DECISION`].
    pub replicates: usize,
    runs: BTreeMap<String, Evidence>,
}

/// A run whose predictions could not be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub id: String,
    pub why: String,
}

impl Evidences {
    /// The evidence of a run.
    pub fn get(&self, id: &str) -> Option<&Evidence> {
        self.runs.get(id)
    }

    /// Adds the evidence of one run.
    pub fn insert(&mut self, id: String, evidence: Evidence) {
        self.replicates = self.replicates.max(evidence.replicates.len());
        self.runs.insert(id, evidence);
    }

    /// Reads and resamples the predictions of `runs`, as many runs at a time as there are threads. Predictions that do not
    /// fit their hash are left out and listed.
    ///
    /// What `cache` holds for the same predictions is not computed again.
    ///
    /// # Errors
    /// When the cache cannot be written.
    pub fn of(
        store: &Store,
        runs: &[RunRecord],
        replicates: usize,
        cache: Option<&Cache>,
    ) -> Result<(Self, Vec<Unusable>)> {
        let (mut all, mut unusable) = (Self::default(), Vec::new());
        if replicates == 0 {
            return Ok((all, unusable));
        }
        all.replicates = replicates;
        let entries = match cache {
            None => Vec::new(),
            Some(cache) => {
                let entry = |r| Ok(cache.entry(Bucket::Evidence, &cache_key(r, replicates)?));
                runs.iter().map(entry).collect::<Result<Vec<_>>>()?
            }
        };
        let _held: Vec<_> = cache.iter().flat_map(|c| entries.iter().map(|e| c.hold(e))).collect();
        let cached = match entries.is_empty() {
            true => vec![None; runs.len()],
            false => in_threads(rayon::current_num_threads(), &entries, |e| evidence_cache::read(e)),
        };
        let mut datasets = BTreeMap::<&str, Vec<&RunRecord>>::new();
        let mut to_write = BTreeMap::new();
        for (at, (r, found)) in runs.iter().zip(cached).enumerate() {
            match found {
                Some(e) => drop(all.runs.insert(r.id().to_owned(), e)),
                None => {
                    datasets.entry(&r.spec.run.dataset).or_default().push(r);
                    to_write.extend(entries.get(at).map(|entry| (r.id(), entry)));
                }
            }
        }
        for missing in datasets.into_values() {
            let computed = compute(store, &missing, replicates);
            let written = in_threads(rayon::current_num_threads(), &computed, |(r, found)| {
                match (to_write.get(r.id()), found) {
                    (Some(entry), Ok(e)) => evidence_cache::write(entry, e),
                    _ => Ok(()),
                }
            });
            written.into_iter().collect::<Result<()>>()?;
            for (r, found) in computed {
                match found {
                    Ok(e) => drop(all.runs.insert(r.id().to_owned(), e)),
                    Err(e) => unusable.push(Unusable {
                        id: r.id().to_owned(),
                        why: format!("{e:#}"),
                    }),
                }
            }
        }
        unusable.sort_by(|a, b| a.id.cmp(&b.id));
        Ok((all, unusable))
    }
}

/// The hash of everything that a run's evidence depends on; the bucket's version is that of the drawing and of the metrics.
fn cache_key(r: &RunRecord, replicates: usize) -> Result<String> {
    let m = &r.metrics;
    let all = r.spec.run.protocol.macro_classes == MacroClasses::All;
    Bucket::Evidence.key(&(&m.target, m.headline, all, replicates, &m.predictions.sha256))
}

/// The evidence of `runs` in their order. Runs of one list almost always share their images; those that do not wait for
/// the next round, so that resamples of one test set are in memory at a time.
fn compute<'a>(store: &Store, runs: &[&'a RunRecord], replicates: usize) -> Vec<(&'a RunRecord, Result<Evidence>)> {
    let mut out = Vec::with_capacity(runs.len());
    let mut todo = runs.to_vec();
    while let Some(first) = todo.first() {
        let drawn = store.predictions(first.id()).and_then(|p| {
            let images = images_of(&p);
            Ok((draw(&images, &p, replicates)?, images))
        });
        let (resamples, images) = match drawn {
            Ok(d) => d,
            Err(e) => {
                out.push((todo.remove(0), Err(e)));
                continue;
            }
        };
        let found = in_threads(rayon::current_num_threads(), &todo, |r| {
            match store.predictions(r.id()) {
                Ok(p) if images_of(&p) != images => None,
                p => Some(p.and_then(|p| evidence(r, &p, &images, &resamples))),
            }
        });
        let mut rest = Vec::new();
        for (r, f) in todo.into_iter().zip(found) {
            match f {
                Some(f) => out.push((r, f)),
                None => rest.push(r),
            }
        }
        todo = rest;
    }
    out
}

fn evidence(r: &RunRecord, p: &Predictions, images: &str, resamples: &Resamples) -> Result<Evidence> {
    let prepared = Prepared::new(&r.spec.run, p, r.metrics.headline)?;
    let statistic = prepared.statistic(&r.metrics.target)?;
    let groups = p.group_numbers();
    Ok(Evidence {
        images: images.to_owned(),
        count: p.ids.len(),
        groups: groups.as_ref().map(|g| g.iter().max().map_or(0, |&g| g as usize + 1)),
        replicates: resamples.evaluate(&*statistic)?,
        components: prepared.components(&r.metrics.target, groups.as_deref()),
    })
}

/// Resamples of a test set, the same wherever its images are: whole groups where they are known.
fn draw(images: &str, p: &Predictions, replicates: usize) -> Result<Resamples> {
    let seed = images.get(..16).and_then(|h| u64::from_str_radix(h, 16).ok());
    let seed = seed.context("the hash of the images is not in hex")?;
    let stream = |r| {
        let mut s = Stream::new(seed, Purpose::Bootstrap, 0, r);
        move || s.next_u64()
    };
    Ok(match p.group_numbers() {
        Some(groups) => Resamples::draw_groups(&groups, replicates, stream)?,
        None => Resamples::draw(p.ids.len(), replicates, stream)?,
    })
}

/// SHA-256 over ids and truth of the test images, in order, and over their groups where any is known.
pub fn images_of(p: &Predictions) -> String {
    let mut bytes = Vec::with_capacity(p.ids.iter().map(|i| i.len() + 1).sum::<usize>() + 4 * p.ids.len());
    for id in &p.ids {
        bytes.extend_from_slice(id.as_bytes());
        bytes.push(b'\n');
    }
    let truth = match &p.truth {
        Truth::Classes(c) => c,
        Truth::Labels { values, .. } => values,
    };
    bytes.extend(truth.iter().flat_map(|t| t.to_le_bytes()));
    bytes.extend(p.group_numbers().iter().flatten().flat_map(|g| g.to_le_bytes()));
    fsio::sha256_hex(&bytes)
}

/// Stored logits as probabilities beside their truth: what every metric is computed from.
pub struct Prepared {
    probs: Vec<f64>,
    outputs: usize,
    all_classes: bool,
    truth: PreparedTruth,
}

enum PreparedTruth {
    Classes(Vec<u32>),
    Labels(Vec<u8>),
}

impl Prepared {
    /// Softmax or sigmoid of the logits of the best or the last weights.
    ///
    /// # Errors
    /// When a label is neither 0 nor 1, or the logits do not form rows.
    pub fn new(run: &RunSpec, p: &Predictions, which: WhichWeights) -> Result<Self> {
        let logits = match which {
            WhichWeights::Best => &p.best,
            WhichWeights::Last => &p.last,
        };
        Self::of(run, p, logits)
    }

    /// As [`Prepared::new`], for any of the sets of logits in `p`.
    pub(super) fn of(run: &RunSpec, p: &Predictions, logits: &[f32]) -> Result<Self> {
        let (probs, truth) = match &p.truth {
            Truth::Classes(c) => (eval::softmax(logits, p.outputs)?, PreparedTruth::Classes(c.clone())),
            Truth::Labels { values, .. } => {
                let values = values
                    .iter()
                    .map(|&v| u8::try_from(v).ok().filter(|v| *v < 2))
                    .collect::<Option<_>>()
                    .context("a label is neither 0 nor 1")?;
                (eval::sigmoid(logits), PreparedTruth::Labels(values))
            }
        };
        Ok(Self {
            probs,
            outputs: p.outputs,
            all_classes: run.protocol.macro_classes == MacroClasses::All,
            truth,
        })
    }

    /// Every metric of the test set, as the trainer measured it.
    pub fn metrics(&self) -> Result<BTreeMap<String, f64>> {
        Ok(match &self.truth {
            PreparedTruth::Classes(t) => eval::multiclass(&self.probs, self.outputs, t, self.all_classes)?,
            PreparedTruth::Labels(t) => eval::multilabel(&self.probs, self.outputs, t)?,
        })
    }

    /// One metric, prepared for resampling.
    pub fn statistic(&self, metric: &str) -> Result<Box<dyn Statistic>> {
        Ok(match &self.truth {
            PreparedTruth::Classes(t) => {
                eval::multiclass_statistic(metric, &self.probs, self.outputs, t, self.all_classes)?
            }
            PreparedTruth::Labels(t) => eval::multilabel_statistic(metric, &self.probs, self.outputs, t)?,
        })
    }

    /// DeLong's components where the metric is the area of a two-class task; `None` elsewhere, and where a class has fewer
    /// than two images.
    fn components(&self, metric: &str, groups: Option<&[u32]>) -> Option<Components> {
        let PreparedTruth::Classes(t) = &self.truth else {
            return None;
        };
        if self.outputs != 2 || !eval::METRICS.get(metric).is_some_and(|m| m.delong) {
            return None;
        }
        let scores: Vec<f64> = self.probs.iter().skip(1).step_by(2).copied().collect();
        let positive: Vec<bool> = t.iter().map(|&t| t == 1).collect();
        match groups {
            Some(groups) => Components::grouped(&scores, &positive, groups).ok(),
            None => Components::new(&scores, &positive).ok(),
        }
    }
}
