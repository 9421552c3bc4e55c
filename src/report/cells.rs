//! Runs to cells: for each data set, backbone and regime the values over seeds, or why they are missing.
//!
//! Polars joins the plan with the frame; the means are summed here, in seed order, so that they do not depend on how a
//! library splits its work.

use super::input::{PlannedRun, PlannedState, PublishedPoint, ReportInput};
use super::sampled::Sampled;
use super::text::thousands;
use crate::results::Divergence;
use crate::study::{Freeze, HeadKind};
use anyhow::{Result, ensure};
use polars::prelude::*;
use std::collections::BTreeMap;

/// (data set, backbone, freeze, head).
pub type Key = (String, String, Freeze, HeadKind);

/// One cell: what its runs gave.
#[derive(Debug, Clone, Default)]
pub struct Score {
    /// Runs planned.
    pub planned: usize,
    /// Finite values in the order of their seeds.
    pub values: Vec<f64>,
    /// Seeds of `values`.
    pub seeds: Vec<u64>,
    /// Run ids of `values`.
    pub runs: Vec<String>,
    /// The same runs' metric under the weights of the selected epoch, and under the last; empty unless all are known.
    pub best: Vec<f64>,
    pub last: Vec<f64>,
    /// What the test images say of the mean over seeds; `None` unless the predictions of all its runs were resampled.
    pub sampled: Option<Sampled>,
    /// Hours over all runs with a record, by what computed them.
    pub hours: BTreeMap<String, f64>,
    missing: Vec<(String, Vec<u64>)>,
    /// What runs with a value went through that diverged, with their seeds.
    diverged: Vec<(String, Vec<u64>)>,
}

impl Score {
    /// Values that come from no run of their own, or from runs that a simulation draws.
    pub fn derived(planned: usize, values: Vec<f64>, seeds: Vec<u64>) -> Self {
        Self {
            planned,
            values,
            seeds,
            ..Self::default()
        }
    }

    /// Number of seeds with a finite value.
    pub fn n(&self) -> usize {
        self.values.len()
    }

    /// Mean over seeds.
    pub fn mean(&self) -> Option<f64> {
        (self.n() > 0).then(|| self.values.iter().sum::<f64>() / self.n() as f64)
    }

    /// Sample standard deviation (n − 1) over seeds; `None` below two seeds.
    pub fn sd(&self) -> Option<f64> {
        let mean = self.mean().filter(|_| self.n() > 1)?;
        let squares: f64 = self.values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Some((squares / (self.n() - 1) as f64).sqrt())
    }

    /// Why values are missing: the plain reason when nothing is there for one reason, else by seed.
    pub fn gap(&self) -> Option<String> {
        match self.missing.as_slice() {
            [] => None,
            [(reason, _)] if self.n() == 0 => Some(reason.clone()),
            several => Some(
                several
                    .iter()
                    .map(|(r, seeds)| format!("{}: {r}", name_seeds(seeds)))
                    .collect::<Vec<_>>()
                    .join("; "),
            ),
        }
    }

    /// Why the runs are not what was planned, in words; `None` where each has a value and there are two or more.
    pub fn incomplete(&self) -> Option<String> {
        if self.n() < self.planned {
            let gap = self.gap();
            return Some(gap.unwrap_or_else(|| "not every planned seed has a value".to_owned()));
        }
        (self.n() < 2).then(|| "one seed: the noise of a run is not known".to_owned())
    }

    /// What must be known of values that are there: runs that diverged and were not stopped.
    pub fn divergence(&self) -> Option<String> {
        let one = |(what, seeds): &(String, Vec<u64>)| format!("{} diverged: {what}", name_seeds(seeds));
        (!self.diverged.is_empty()).then(|| self.diverged.iter().map(one).collect::<Vec<_>>().join("; "))
    }

    /// Each reason with the number of runs it keeps away.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, usize)> {
        self.missing.iter().map(|(r, seeds)| (r.as_str(), seeds.len()))
    }

    /// Each reason with the seeds it keeps away.
    pub fn gaps(&self) -> impl Iterator<Item = (&str, &[u64])> {
        self.missing.iter().map(|(r, seeds)| (r.as_str(), seeds.as_slice()))
    }

    fn miss(&mut self, reason: &str, seed: u64) {
        add(&mut self.missing, reason, seed);
    }
}

/// Adds a seed to the list of a reason.
fn add(lists: &mut Vec<(String, Vec<u64>)>, reason: &str, seed: u64) {
    match lists.iter_mut().find(|(r, _)| r == reason) {
        Some((_, seeds)) => seeds.push(seed),
        None => lists.push((reason.to_owned(), vec![seed])),
    }
}

/// `3 steps skipped, 2 more on a loss above 10,000`.
fn steps(d: &Divergence) -> String {
    let some = |n: u64, what: &str| {
        let steps = if n == 1 { "step" } else { "steps" };
        (n > 0).then(|| format!("{} {steps} {what}", thousands(n as usize)))
    };
    let parts = [
        some(d.skipped.count, "without update, since a gradient was not finite"),
        some(d.exploded.count, "on an exploded loss"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn name_seeds(seeds: &[u64]) -> String {
    let list = seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    format!("seed{} {list}", if seeds.len() == 1 { "" } else { "s" })
}

/// All cells of a study.
#[derive(Debug, Clone)]
pub struct Cells {
    cells: BTreeMap<Key, Score>,
}

impl Cells {
    /// Joins the plan with the frame of runs.
    ///
    /// # Errors
    /// When the frame lacks a column, has a run twice, or describes a planned run otherwise than the plan.
    pub fn aggregate(input: &ReportInput) -> Result<Self> {
        let found = lookup(input)?;
        let mut order: Vec<usize> = (0..input.planned.len()).collect();
        order.sort_by_key(|&i| {
            let p = &input.planned[i];
            (&p.dataset, &p.backbone, p.freeze, p.head, p.seed)
        });
        let mut cells = BTreeMap::<Key, Score>::new();
        for i in order {
            let p = &input.planned[i];
            let score = cells
                .entry((p.dataset.clone(), p.backbone.clone(), p.freeze, p.head))
                .or_default();
            score.planned += 1;
            let PlannedState::Done(id) = &p.state else {
                if let PlannedState::Gap(reason) = &p.state {
                    score.miss(reason, p.seed);
                }
                continue;
            };
            let Some(record) = &found[i] else {
                score.miss("the record of this run was not read", p.seed);
                continue;
            };
            *score.hours.entry(record.device.clone()).or_default() += record.hours;
            match record.value {
                None => score.miss("the test metric is not a number", p.seed),
                Some(v) => {
                    score.best.extend(record.best);
                    score.last.extend(record.last);
                    score.values.push(v);
                    score.seeds.push(p.seed);
                    score.runs.push(id.clone());
                    if let Some(d) = input
                        .archive
                        .records
                        .get(id)
                        .and_then(|r| r.metrics.divergence.as_ref())
                    {
                        add(&mut score.diverged, &steps(d), p.seed);
                    }
                }
            }
        }
        for score in cells.values_mut() {
            for list in [&mut score.best, &mut score.last] {
                if list.len() != score.values.len() {
                    list.clear();
                }
            }
            score.sampled = Sampled::of(&input.evidence, &score.runs, &score.values);
        }
        Ok(Self { cells })
    }

    /// From cells as they are.
    pub fn of(cells: BTreeMap<Key, Score>) -> Self {
        Self { cells }
    }

    /// One cell; `None` where the study does not plan it.
    pub fn get(&self, dataset: &str, backbone: &str, freeze: Freeze, head: HeadKind) -> Option<&Score> {
        self.cells.get(&(dataset.to_owned(), backbone.to_owned(), freeze, head))
    }

    /// Every cell, sorted by its key.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Score)> {
        self.cells.iter()
    }

    /// The regimes that are planned for a data set: frozen before unfrozen, linear before MHA.
    pub fn regimes(&self, dataset: &str) -> Vec<(Freeze, HeadKind)> {
        let mut all: Vec<_> = self
            .cells
            .keys()
            .filter(|k| k.0 == dataset)
            .map(|k| (k.2, k.3))
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The planned regimes that a published value can be of.
    pub fn regimes_of(&self, p: &PublishedPoint) -> Vec<(Freeze, HeadKind)> {
        let mut regimes = self.regimes(&p.dataset);
        regimes.retain(|(f, h)| p.freeze.is_none_or(|x| x == *f) && p.head.is_none_or(|x| x == *h));
        regimes
    }

    /// Whether any regime of a backbone is planned on a data set.
    pub fn plans(&self, dataset: &str, backbone: &str) -> bool {
        self.cells.keys().any(|k| k.0 == dataset && k.1 == backbone)
    }
}

/// What the frame says of a planned run.
struct Found {
    /// `None` where it is not finite.
    value: Option<f64>,
    best: Option<f64>,
    last: Option<f64>,
    device: String,
    hours: f64,
}

/// For every planned run what the frame says of its id; `None` where it does not hold it.
fn lookup(input: &ReportInput) -> Result<Vec<Option<Found>>> {
    let ids: Vec<Option<&str>> = input
        .planned
        .iter()
        .map(|p| match &p.state {
            PlannedState::Done(id) => Some(id.as_str()),
            PlannedState::Gap(_) => None,
        })
        .collect();
    let rows: Vec<u32> = (0u32..).take(ids.len()).collect();
    let plan = DataFrame::new(
        ids.len(),
        vec![Column::new("row".into(), rows), Column::new("id".into(), ids)],
    )?;
    let wanted = [
        "id", "dataset", "backbone", "freeze", "head", "seed", "metric", "value", "best", "last", "device", "hours",
    ]
    .map(col);
    let joined = plan
        .lazy()
        .left_join(input.runs.clone().lazy().select(wanted), col("id"), col("id"))
        .sort(["row"], SortMultipleOptions::default())
        .collect()?;
    ensure!(joined.height() == input.planned.len(), "the frame holds a run twice");
    let text = |name: &str| -> Result<Vec<Option<String>>> {
        Ok(joined
            .column(name)?
            .str()?
            .iter()
            .map(|s| s.map(str::to_owned))
            .collect())
    };
    let (datasets, backbones) = (text("dataset")?, text("backbone")?);
    let (freezes, heads) = (text("freeze")?, text("head")?);
    let (metrics, devices) = (text("metric")?, text("device")?);
    let seeds: Vec<Option<u64>> = joined.column("seed")?.u64()?.iter().collect();
    let values: Vec<Option<f64>> = joined.column("value")?.f64()?.iter().collect();
    let float = |name: &str| -> Result<Vec<Option<f64>>> { Ok(joined.column(name)?.f64()?.iter().collect()) };
    let (best, last, hours) = (float("best")?, float("last")?, float("hours")?);

    let mut found = Vec::with_capacity(values.len());
    for (i, p) in input.planned.iter().enumerate() {
        let Some(dataset) = &datasets[i] else {
            found.push(None);
            continue;
        };
        let same = dataset == &p.dataset
            && backbones[i].as_deref() == Some(&p.backbone)
            && freezes[i].as_deref() == Some(p.freeze.as_str())
            && heads[i].as_deref() == Some(p.head.as_str())
            && seeds[i] == Some(p.seed);
        ensure!(same, "the record of {} is that of another run", describe(p));
        let metric = metrics[i].as_deref().unwrap_or_default();
        let expected = input.dataset(dataset).map_or(metric, |d| &d.metric);
        ensure!(
            metric == expected,
            "the record of {} reports {metric} instead of {expected}",
            describe(p)
        );
        found.push(Some(Found {
            value: values[i].filter(|v| v.is_finite()),
            best: best[i],
            last: last[i],
            device: devices[i].clone().unwrap_or_else(|| "unknown".to_owned()),
            hours: hours[i].unwrap_or(0.0),
        }));
    }
    Ok(found)
}

fn describe(p: &PlannedRun) -> String {
    format!(
        "{}, {}, {}, {}, seed {}",
        p.dataset, p.backbone, p.freeze, p.head, p.seed
    )
}
