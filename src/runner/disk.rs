//! What a study will write to disk: caches, checkpoints, results; and whether there is room for it.

use super::Context;
use super::estimate::{Estimator, Machine};
use super::plan::{Plan, PlanEntry, PlanState};
use crate::cache::show_bytes;
use crate::data::loader::{ViewMode, WORTH_CACHING};
use crate::data::registry;
use crate::fsio;
use crate::model::{Classifier, facts};
use crate::study::{Freeze, HeadKind, RunSpec, Scale, Scope};
use crate::train::features::bytes_of;
use crate::train::state::MOST_COPIES;
use anyhow::Result;
use std::collections::BTreeMap;

/// Bytes of a run's records beside its predictions, generously.
const RECORDS: u64 = 256 << 10;

/// Bytes that runs which are still to be made will write.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    pub images: u64,
    /// Float32, as the backbone gave them.
    pub features: u64,
    /// The largest table or set of images: what a run cannot do without while it goes on.
    pub largest: u64,
    /// Of one run at a time, at most.
    pub checkpoint: u64,
    pub results: u64,
    /// Trained weights that are kept.
    pub weights: u64,
}

impl Disk {
    /// Adds up what the open runs of a plan write; what several of them share counts once.
    ///
    /// # Errors
    /// Where a stored benchmark cannot be read.
    pub fn of(c: &Context, plan: &Plan) -> Result<Self> {
        let mut sizes = Estimator::new(c, &plan.inventory, &plan.listing, &Machine::this(c))?;
        let (mut images, mut features) = (BTreeMap::new(), BTreeMap::new());
        let mut models = BTreeMap::new();
        let mut disk = Self::default();
        for e in plan.entries.iter().filter(|e| e.state != PlanState::Done) {
            let s = &e.spec;
            let Some([train, val, test]) = sizes.sizes(s).map(|n| n.map(|n| n as u64)) else {
                continue;
            };
            let source = registry::find(&s.dataset)?;
            let info = source.info(&s.protocol);
            let outputs = info.task.outputs();
            let seen = serde_json::to_string(&s.protocol.scoped(&[Scope::Images]))?;
            let arrays = source
                .label_files(&s.protocol)
                .iter()
                .any(|f| f.extension().is_some_and(|x| x == "npz"));
            let bytes = (train + val + test) * u64::from(s.protocol.crop).pow(2) * info.channels as u64;
            if !arrays && bytes >= WORTH_CACHING as u64 {
                images.insert((s.dataset.clone(), seen.clone()), bytes);
            }
            let computed = serde_json::to_string(&s.protocol.scoped(&[Scope::Images, Scope::Features]))?;
            if let (Freeze::Frozen, Some(row)) = (s.freeze, row(s)) {
                let views = ViewMode::of_all_seeds(&s.protocol);
                let rows = val + test + train * views.len() as u64;
                let views = format!("{:?} {:?} {views:?}", s.protocol.augment, s.protocol.crop_scale);
                let key = (s.dataset.clone(), s.backbone.clone(), s.head == HeadKind::Mha);
                features.insert((key, computed, views), rows * row);
            }
            let key = (s.backbone.clone(), s.freeze, s.head, info.channels, outputs);
            let (trainable, total) = match models.get(&key) {
                Some(n) => *n,
                None => {
                    // A model that cannot be built is blocked and says so elsewhere.
                    let n = Classifier::sizes(s, info.channels, outputs).map_or((0, 0), |m| (m.trainable, m.total));
                    models.insert(key, n);
                    n
                }
            };
            disk.checkpoint = disk.checkpoint.max(trainable * 4 * MOST_COPIES);
            disk.weights += total * 4 * plan.study.keep_weights.sets().len() as u64;
            disk.results += RECORDS + test * (outputs as u64) * 4 * 4;
        }
        let (images, features): (Vec<u64>, Vec<u64>) =
            (images.into_values().collect(), features.into_values().collect());
        disk.largest = images.iter().chain(&features).copied().max().unwrap_or(0);
        disk.images = images.iter().sum();
        disk.features = features.iter().sum();
        Ok(disk)
    }

    /// What the open runs take at least, with caches that are thrown away as soon as they can.
    fn least(&self) -> u64 {
        self.largest + self.checkpoint + self.results + self.weights
    }

    /// What is to be kept of trained weights, before a run begins; `None` where nothing is or nothing is to be trained. Finished runs that
    /// kept none are told too: weights cannot be made without training again.
    ///
    /// # Errors
    /// `BadInput` where the disk has no room for them.
    pub fn weights_to_come(c: &Context, plan: &Plan) -> Result<Option<String>> {
        let keep = plan.study.keep_weights;
        if keep.sets().is_empty() {
            return Ok(None);
        }
        let open = plan
            .entries
            .iter()
            .filter(|e| e.state != PlanState::Done && e.id.is_some())
            .count();
        let without = |e: &&PlanEntry| {
            let id = e.id.as_ref().filter(|_| e.state == PlanState::Done);
            id.is_some_and(|id| plan.store.kept(id.full()).is_ok_and(|k| k.is_empty()))
        };
        let without = plan.entries.iter().filter(without).count();
        let mut lines = Vec::new();
        if open > 0 {
            let bytes = show_bytes(Self::of(c, plan)?.weights);
            lines.push(format!(
                "weights to be kept ({keep}): {bytes} for {open} runs; --keep-weights none keeps none"
            ));
        }
        if without > 0 {
            lines.push(format!(
                "{without} finished runs have no kept weights; to get them, move their folders away and run again"
            ));
        }
        Ok((!lines.is_empty()).then(|| lines.join("\n")))
    }

    /// Lines for people: what is to come, and whether it fits.
    pub fn text(&self, c: &Context) -> String {
        let cache = c.cache();
        let kept = match cache.limit() {
            Some(limit) => format!("of both at most {} are kept", show_bytes(limit)),
            None => "the least recently used go where the disk is full; --cache-bytes sets a limit".to_owned(),
        };
        let free = fsio::free_space(&c.global.results_dir);
        let mut text = format!(
            "disk to come: {} of prepared images and {} of features in caches ({kept}), {} of checkpoints at a time, {} of results, {} of trained weights; {} free",
            show_bytes(self.images),
            show_bytes(self.features),
            show_bytes(self.checkpoint),
            show_bytes(self.results),
            show_bytes(self.weights),
            free.map_or_else(
                || "unknown how much is".to_owned(),
                |n| format!("{} are", show_bytes(n))
            ),
        );
        if let Some(warning) = self.shortage_of(free, cache.bytes()) {
            text.push('\n');
            text.push_str(&warning);
        }
        text
    }

    /// A warning where what a run needs at a time is not free; caches count as free.
    pub fn shortage(&self, c: &Context) -> Option<String> {
        self.shortage_of(fsio::free_space(&c.global.results_dir), c.cache().bytes())
    }

    fn shortage_of(&self, free: Option<u64>, cached: u64) -> Option<String> {
        (free?.saturating_add(cached) < self.least()).then(|| {
            format!(
                "warning: a run needs {} at a time, and there is not as much: free some space, or put --results-dir on a larger disk",
                show_bytes(self.least())
            )
        })
    }
}

/// Bytes of the features of one image that the head reads; `None` for tiny models, whose tables are.
fn row(s: &RunSpec) -> Option<u64> {
    if s.scale == Scale::Tiny {
        return None;
    }
    let f = facts::find(&s.backbone)?;
    let values = match s.head {
        HeadKind::Linear => f.feature,
        HeadKind::Mha => f.tokens.0 * f.tokens.1,
    };
    Some((values * bytes_of(s.protocol.feature_dtype)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_a_run_does_not_fit_on_is_told() {
        let disk = Disk {
            largest: 600,
            checkpoint: 300,
            results: 100,
            ..Disk::default()
        };
        assert_eq!(disk.shortage_of(Some(1000), 0), None);
        assert_eq!(disk.shortage_of(Some(400), 600), None, "caches can go");
        assert_eq!(disk.shortage_of(None, 0), None, "nobody knows");
        let warning = disk.shortage_of(Some(999), 0).unwrap();
        assert!(warning.contains("needs 1.0 KB at a time"), "{warning}");
    }
}
