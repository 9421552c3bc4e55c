//! The paper beside ours: a table a data set, a row a backbone, the published value, ours in the regime it is read as, their
//! difference with its interval and verdict, then the other regimes.

use super::answer::{letter, reading};
use crate::report::cell_details::CellDetails;
use crate::report::compare::Comparison;
use crate::report::findings::Findings;
use crate::report::input::{BackboneFacts, DatasetFacts, ReportInput, regime_title};
use crate::report::paper_level::Shows;
use crate::report::text::{PLACES, delta, fixed, key};
use crate::study::{Freeze, HeadKind};
use serde::Serialize;

type Regime = (Freeze, HeadKind);

/// One data set.
#[derive(Debug, Serialize)]
pub(crate) struct Beside {
    pub name: String,
    pub title: String,
    pub metric: String,
    /// What the published values are read as.
    pub reading: String,
    pub others: Vec<String>,
    pub margin: Option<f64>,
    pub rows: Vec<Row>,
}

/// One backbone.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub title: String,
    pub params: String,
    pub published: String,
    pub ours: Ours,
    /// The regime of `ours` where it is not that of the whole table.
    pub regime: Option<String>,
    pub others: Vec<Ours>,
    /// What a reader must know of the backbone's published value.
    pub note: Option<String>,
}

/// A cell of ours beside the published value.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Ours {
    /// Opens its runs; empty where nothing is planned.
    pub key: String,
    pub score: String,
    pub difference: String,
    pub interval: String,
    /// How far from the published value, -3 to 3: within the margin (or a quarter of the largest difference), within twice, four times, farther.
    pub step: i32,
    pub verdict: &'static str,
    /// The verdict for narrow tables.
    pub letter: &'static str,
    pub why: String,
}

/// Every data set with a published value of a planned cell.
pub(crate) fn tables(input: &ReportInput, details: &[CellDetails], (comparisons, paper, _): Findings) -> Vec<Beside> {
    let table = |d: &DatasetFacts| {
        let own: Vec<&Comparison> = comparisons.iter().filter(|c| c.dataset == d.name).collect();
        let regime = reading(&d.name, comparisons, paper)?;
        // Where the hypothesis is no single regime, a backbone's value is held against a regime of its own.
        let best = paper.best().find(|s| s.dataset == d.name).map(|s| s.hypothesis);
        let each = best.filter(|h| !matches!(h.shows, Shows::Regime(..)));
        let mut others: Vec<Regime> = own
            .iter()
            .filter_map(|c| c.regime)
            .filter(|r| each.is_some() || *r != regime)
            .collect();
        others.sort_unstable();
        others.dedup();
        let largest = own
            .iter()
            .filter_map(|c| c.difference)
            .fold(0.0, |l: f64, d| l.max(d.abs()));
        let unit = d.margin.unwrap_or(largest / 4.0);
        let row = |b: &BackboneFacts| {
            let mine: Vec<&Comparison> = own.iter().copied().filter(|c| c.backbone == b.name).collect();
            let first = mine.first()?;
            let counted = mine.iter().find(|c| c.counted);
            let own_regime = counted.and_then(|c| c.regime).filter(|_| each.is_some());
            let judged = counted.filter(|c| c.read_as.is_some());
            let of = |r: Regime| {
                let c = mine.iter().find(|c| c.regime == Some(r));
                c.map_or_else(Ours::default, |c| ours(c, r, unit, details))
            };
            Some(Row {
                title: b.title.clone(),
                params: b.params.map_or_else(|| "–".to_owned(), |p| millions(p as f64 / 1e6)),
                published: fixed(first.published, PLACES),
                ours: match judged.and_then(|c| Some((c, c.regime?))) {
                    Some((c, r)) => ours(c, r, unit, details),
                    None => of(own_regime.unwrap_or(regime)),
                },
                regime: own_regime.map(|r| regime_title(r.0, r.1)),
                others: others.iter().map(|r| of(*r)).collect(),
                note: input
                    .published
                    .iter()
                    .find(|p| p.dataset == d.name && p.backbone == b.name)
                    .and_then(|p| p.note.clone()),
            })
        };
        Some(Beside {
            name: d.name.clone(),
            title: d.title.clone(),
            metric: d.metric_title.clone(),
            reading: each.map_or_else(|| regime_title(regime.0, regime.1), |h| h.title()),
            others: others.iter().map(|r| regime_title(r.0, r.1)).collect(),
            margin: d.margin,
            rows: input.backbones.iter().filter_map(row).collect(),
        })
    };
    input.datasets.iter().filter_map(table).collect()
}

fn millions(m: f64) -> String {
    fixed(m, if m < 1.0 { 3 } else { 1 })
}

fn ours(c: &Comparison, (freeze, head): Regime, unit: f64, details: &[CellDetails]) -> Ours {
    let key = key(&c.dataset, &c.backbone, freeze, head);
    let planned = details.iter().any(|d| d.key == key);
    let sd = c.sd.map_or_else(String::new, |sd| format!(" ± {}", fixed(sd, PLACES)));
    Ours {
        key: if planned { key } else { String::new() },
        score: c
            .mean
            .map_or_else(|| "–".to_owned(), |m| format!("{}{sd}", fixed(m, PLACES))),
        difference: c.difference.map_or_else(|| "–".to_owned(), delta),
        interval: c
            .interval
            .map_or_else(String::new, |(l, h)| format!("{} to {}", delta(l), delta(h))),
        step: c.difference.map_or(0, |d| step(d, unit)),
        verdict: c.name(),
        letter: letter(c.name()),
        why: c.why().to_owned(),
    }
}

/// In steps of once, twice and four times `unit`.
fn step(difference: f64, unit: f64) -> i32 {
    let size = difference.abs() / unit;
    let steps = [1.0, 2.0, 4.0].iter().filter(|s| size > **s).count() as i32;
    if difference < 0.0 { -steps } else { steps }
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn colours_go_by_the_margin() {
        let steps = [0.0, 0.009, -0.011, 0.019, 0.021, -0.041, 0.5].map(|d| step(d, 0.01));
        assert_eq!(steps, [0, 0, -1, 1, 2, -3, 3]);
        assert_eq!(step(0.0, 0.0), 0, "no difference at all");
    }
}
