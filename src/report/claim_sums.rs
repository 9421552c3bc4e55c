//! Weighted sums of cells, and how uncertain they are.

use super::cells::{Cells, Key, Score};
use super::claim_effect::CellUse;
use super::sampled::COVERAGE;
use crate::eval::{Estimate, VarianceSource};
use crate::results::DECISION;
use crate::study::{Freeze, HeadKind, Regimes};
use std::collections::BTreeMap;

/// A weighted sum of cells.
pub(super) type Sum = Vec<(Key, f64)>;

pub(super) fn every_regime() -> Vec<(Freeze, HeadKind)> {
    let all = Freeze::ALL.iter();
    all.flat_map(|f| HeadKind::ALL.iter().map(|h| (*f, *h))).collect()
}

/// The plain mean of the cells of a block.
pub(super) fn mean(datasets: &[&str], backbones: &[String], regimes: Regimes) -> Sum {
    let mut held = every_regime();
    held.retain(|(f, h)| regimes.holds(*f, *h));
    mean_over(datasets, backbones, &held)
}

pub(super) fn mean_over(datasets: &[&str], backbones: &[String], regimes: &[(Freeze, HeadKind)]) -> Sum {
    let mut keys = Vec::new();
    for d in datasets {
        for b in backbones {
            for &(freeze, head) in regimes {
                keys.push(((*d).to_owned(), b.clone(), freeze, head));
            }
        }
    }
    let weight = 1.0 / keys.len() as f64;
    keys.into_iter().map(|k| (k, weight)).collect()
}

pub(super) fn minus(a: Sum, b: Sum) -> Sum {
    a.into_iter().chain(b.into_iter().map(|(k, w)| (k, -w))).collect()
}

/// The cells of a claim, all complete.
pub(super) struct Used<'a> {
    pub(super) scores: BTreeMap<Key, &'a Score>,
    pub(super) list: Vec<CellUse>,
}

impl Used<'_> {
    /// A sum with the noise of seeds and of test images.
    ///
    /// The degrees of freedom of the seeds' variance are Satterthwaite's, and no more than those of equally noisy cells: where one
    /// cell holds nearly all the noise (a run that diverged) they are that cell's own.
    pub(super) fn estimate(&self, sum: &Sum) -> Option<Estimate> {
        let mut weights = BTreeMap::<&Key, f64>::new();
        for (k, w) in sum {
            *weights.entry(k).or_default() += w;
        }
        let (mut value, mut variance) = (0.0, 0.0);
        let (mut shape, mut parts, mut uneven) = (0.0, 0.0, 0.0);
        let mut series: Vec<f64> = Vec::new();
        for (key, w) in weights {
            let s = self.scores.get(key)?;
            let (n, sd) = (s.n() as f64, s.sd()?);
            let share = w * w / n;
            value += w * s.mean()?;
            variance += share * sd * sd;
            let own = share * sd * sd;
            uneven += own * own / (n - 1.0);
            shape += share;
            parts += share * share / (n - 1.0);
            let replicates = &s.sampled.as_ref()?.replicates;
            let replicates = &replicates[..replicates.len().min(DECISION)];
            if series.is_empty() {
                series = vec![0.0; replicates.len()];
            }
            series.truncate(replicates.len());
            for (sum, r) in series.iter_mut().zip(replicates) {
                *sum += w * r;
            }
        }
        let images = crate::eval::percentile(&series, COVERAGE).ok()?.standard_error;
        if !images.is_finite() {
            return None;
        }
        let finite = |d: f64| Some(d).filter(|d| d.is_finite());
        let (even, found) = (finite(shape * shape / parts), finite(variance * variance / uneven));
        let df = found.map_or(even, |f| even.map(|e| e.min(f)));
        let seeds = VarianceSource::new(variance.sqrt(), df);
        Some(Estimate {
            value,
            sources: vec![seeds, VarianceSource::new(images, None)],
        })
    }
}

/// Every cell's place among all cells of its data set, from 0 to 1; equals share the mean.
pub(super) fn ranks(cells: &Cells) -> BTreeMap<Key, f64> {
    let mut sets = BTreeMap::<&str, Vec<(&Key, f64)>>::new();
    for (key, score) in cells.iter() {
        if let Some(m) = score.mean() {
            sets.entry(&key.0).or_default().push((key, m));
        }
    }
    let mut out = BTreeMap::new();
    for list in sets.values() {
        let last = (list.len() as f64 - 1.0).max(1.0);
        for (key, m) in list {
            let below = list.iter().filter(|x| x.1 < *m).count() as f64;
            let equal = list.iter().filter(|x| x.1 == *m).count() as f64;
            out.insert((*key).clone(), (below + (equal - 1.0) / 2.0) / last);
        }
    }
    out
}
