//! Which regime the published figure shows, since it does not say: the one whose values lie nearest.

use super::cells::{Cells, Score};
use super::input::{PublishedPoint, ReportInput};
use crate::eval::{kendall_tau_b, rmse};
use crate::study::{Freeze, HeadKind};
use serde::{Deserialize, Serialize};

/// How well the published values fit one regime of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fit {
    /// `None` over all data sets that have a fit.
    pub dataset: Option<String>,
    pub regime: (Freeze, HeadKind),
    /// Published values that enter: those of backbones with a result in every regime compared.
    pub values: usize,
    /// Of ours − published.
    pub rmse: f64,
    /// Mean of ours − published.
    pub bias: f64,
    /// Kendall's tau-b of the order of the backbones; over all data sets the mean. `None` where a side is constant.
    pub tau: Option<f64>,
    /// Share of the resampled test sets on which this regime has the smallest RMSE; `None` without resamples.
    pub share: Option<f64>,
    /// Whether its RMSE is the smallest of the regimes compared.
    pub nearest: bool,
}

/// One regime on one data set: published values beside ours.
struct Side<'a> {
    regime: (Freeze, HeadKind),
    published: Vec<f64>,
    ours: Vec<&'a Score>,
}

impl Side<'_> {
    fn means(&self) -> Vec<f64> {
        self.ours.iter().filter_map(|s| s.mean()).collect()
    }

    /// Σ (ours − published)² on every resample; `None` where a cell was not resampled.
    fn squares(&self) -> Option<Vec<f64>> {
        let all: Vec<_> = self.ours.iter().map(|s| s.sampled.as_ref()).collect::<Option<_>>()?;
        let replicates = all.iter().map(|s| s.replicates.len()).min()?;
        let square = |r: usize| {
            let terms = all.iter().zip(&self.published).map(|(s, p)| s.replicates[r] - p);
            terms.map(|d| d * d).sum()
        };
        Some((0..replicates).map(square).collect())
    }
}

/// Fits per data set, then over all of them, for published values that name no regime. Nothing where fewer than two regimes
/// or two backbones can be compared.
pub fn fits(input: &ReportInput, cells: &Cells) -> Vec<Fit> {
    let mut out = Vec::new();
    let mut all = Vec::new();
    for d in &input.datasets {
        let sides = sides(input, cells, &d.name, &d.metric);
        if sides.is_empty() {
            continue;
        }
        out.extend(score(
            Some(&d.name),
            &sides.iter().map(std::slice::from_ref).collect::<Vec<_>>(),
        ));
        all.push(sides);
    }
    // Over all data sets: the regimes that every one of them has.
    let regimes: Vec<_> = all.first().into_iter().flatten().map(|s| s.regime).collect();
    let joined: Vec<Vec<Side>> = regimes
        .into_iter()
        .filter(|r| all.iter().all(|sides| sides.iter().any(|s| s.regime == *r)))
        .map(|r| {
            all.iter()
                .flatten()
                .filter(|s| s.regime == r)
                .map(Side::again)
                .collect()
        })
        .collect();
    if all.len() > 1 && joined.len() > 1 {
        out.extend(score(None, &joined.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    }
    out
}

impl<'a> Side<'a> {
    fn again(&self) -> Side<'a> {
        Side {
            regime: self.regime,
            published: self.published.clone(),
            ours: self.ours.clone(),
        }
    }
}

/// The regimes of a data set that can be compared, each over the same backbones.
fn sides<'a>(input: &ReportInput, cells: &'a Cells, dataset: &str, metric: &str) -> Vec<Side<'a>> {
    let points: Vec<&PublishedPoint> = input
        .published
        .iter()
        .filter(|p| p.dataset == dataset && p.metric == metric && p.freeze.is_none() && p.head.is_none())
        .collect();
    let found = |p: &PublishedPoint, (f, h)| cells.get(dataset, &p.backbone, f, h).filter(|s| s.n() > 0);
    let mut regimes = cells.regimes(dataset);
    regimes.retain(|&r| points.iter().filter(|p| found(p, r).is_some()).count() > 1);
    let common: Vec<&PublishedPoint> = points
        .into_iter()
        .filter(|p| regimes.iter().all(|&r| found(p, r).is_some()))
        .collect();
    if regimes.len() < 2 || common.len() < 2 {
        return Vec::new();
    }
    regimes
        .into_iter()
        .map(|regime| Side {
            regime,
            published: common.iter().map(|p| p.value).collect(),
            ours: common.iter().filter_map(|p| found(p, regime)).collect(),
        })
        .collect()
}

/// The fits of regimes, each given by its sides over one or more data sets.
fn score(dataset: Option<&str>, regimes: &[&[Side]]) -> Vec<Fit> {
    let mut fits: Vec<Fit> = regimes
        .iter()
        .map(|sides| {
            let ours: Vec<f64> = sides.iter().flat_map(Side::means).collect();
            let published: Vec<f64> = sides.iter().flat_map(|s| s.published.clone()).collect();
            let taus: Vec<f64> = sides
                .iter()
                .filter_map(|s| kendall_tau_b(&s.published, &s.means()).ok())
                .collect();
            let tau = taus.iter().sum::<f64>() / taus.len() as f64;
            Fit {
                dataset: dataset.map(str::to_owned),
                regime: sides[0].regime,
                values: ours.len(),
                rmse: rmse(&ours, &published).unwrap_or(f64::NAN),
                bias: ours.iter().zip(&published).map(|(a, b)| a - b).sum::<f64>() / ours.len() as f64,
                tau: Some(tau).filter(|t| t.is_finite()),
                share: None,
                nearest: false,
            }
        })
        .collect();
    if let Some(best) = (0..fits.len()).reduce(|a, b| if fits[b].rmse < fits[a].rmse { b } else { a }) {
        fits[best].nearest = true;
    }
    let squares: Option<Vec<Vec<f64>>> = regimes.iter().map(|sides| total(sides)).collect();
    if let Some(squares) = squares {
        let replicates = squares.iter().map(Vec::len).min().unwrap_or(0);
        let mut wins = vec![0u32; fits.len()];
        let mut counted = 0;
        for r in 0..replicates {
            if squares.iter().all(|s| s[r].is_finite()) {
                let nearest = (0..fits.len()).reduce(|a, b| if squares[b][r] < squares[a][r] { b } else { a });
                wins[nearest.unwrap_or(0)] += 1;
                counted += 1;
            }
        }
        for (f, w) in fits.iter_mut().zip(wins) {
            f.share = (counted > 0).then(|| f64::from(w) / f64::from(counted));
        }
    }
    fits
}

/// Squares of all sides added up, replicate by replicate.
fn total(sides: &[Side]) -> Option<Vec<f64>> {
    let each: Vec<Vec<f64>> = sides.iter().map(Side::squares).collect::<Option<_>>()?;
    let replicates = each.iter().map(Vec::len).min()?;
    Some((0..replicates).map(|r| each.iter().map(|s| s[r]).sum()).collect())
}
