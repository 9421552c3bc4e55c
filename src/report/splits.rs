//! What a split is worth: where a study runs a data set under two split rules, the backbones' scores under both and their
//! difference. Published numbers are of the authors' splits, which leak; the difference says how much of a score that is.

use super::cells::{Cells, Score};
use super::input::{DatasetFacts, ReportInput, head_title};
use super::sampled::{COVERAGE, Sampled, joined, noise};
use super::table::{Cell, ColumnKind, ImageInterval, Row, ScoreCell, Table, plain, score_cell};
use super::text::{fixed, key, label};
use crate::eval::percentile;
use crate::study::{Freeze, HeadKind};

/// One table per data set that has two splits and freeze mode, in the study's order; a third split is not looked at.
pub(crate) fn tables(input: &ReportInput, cells: &Cells) -> Vec<Table> {
    let mut out = Vec::new();
    for first in &input.datasets {
        // At every point of a sweep: the tables of two points differ in more than the split.
        let point = |d: &DatasetFacts| input.sweep.as_ref().and_then(|s| s.values(&d.name));
        let mut same = input
            .datasets
            .iter()
            .filter(|d| d.set == first.set && point(d) == point(first));
        let (Some(a), Some(b)) = (same.next(), same.next()) else {
            continue;
        };
        if a.name != first.name || a.split == b.split {
            continue;
        }
        for freeze in [Freeze::Frozen, Freeze::Unfrozen] {
            let heads: Vec<HeadKind> = cells
                .regimes(&a.name)
                .into_iter()
                .filter(|r| r.0 == freeze)
                .map(|r| r.1)
                .collect();
            if !heads.is_empty() {
                out.push(table(input, cells, [a, b], freeze, &heads));
            }
        }
    }
    out
}

fn table(input: &ReportInput, cells: &Cells, pair: [&DatasetFacts; 2], freeze: Freeze, heads: &[HeadKind]) -> Table {
    let mut columns = vec![plain("Backbone", ColumnKind::Text)];
    for head in heads {
        let titles = [&pair[0].split, &pair[1].split].map(|s| (s.clone(), s.clone()));
        let difference = (
            "difference".to_owned(),
            format!("{} − {}", pair[1].split, pair[0].split),
        );
        for (title, split) in titles.into_iter().chain([difference]) {
            let mut c = plain(&title, ColumnKind::Score);
            c.group = head_title(*head).to_owned();
            c.keys = vec![
                ("freeze".into(), freeze.to_string()),
                ("head".into(), head.to_string()),
                ("split".into(), split),
            ];
            columns.push(c);
        }
    }
    let mut rows = Vec::<Row>::new();
    for b in &input.backbones {
        if !pair.iter().any(|d| cells.plans(&d.name, &b.name)) {
            continue;
        }
        let mut row = vec![Cell::Text { text: b.title.clone() }];
        let mut intervals = false;
        for &head in heads {
            let scores = pair.map(|d| cells.get(&d.name, &b.name, freeze, head));
            for (d, s) in pair.iter().zip(scores) {
                row.push(Cell::Score(Box::new(ScoreCell {
                    key: key(&d.name, &b.name, freeze, head),
                    ..score_cell(s)
                })));
            }
            row.push(Cell::Score(Box::new(difference(scores))));
            intervals |= scores
                .iter()
                .flatten()
                .any(|s| s.sampled.as_ref().is_some_and(|s| s.shown.is_some()));
        }
        rows.push(Row {
            section: rows.last().is_some_and(|r: &Row| r.family != b.family),
            family: b.family.clone(),
            backbone: b.name.clone(),
            intervals,
            cells: row,
        });
    }
    let point = input.sweep.as_ref().and_then(|s| s.values(&pair[0].name));
    let point = point.map_or_else(String::new, |values| format!(", {values}"));
    let stem = if point.is_empty() { &pair[0].set } else { &pair[0].name };
    let name = format!("{stem}-{freeze}-splits");
    let splits = [&pair[0].split, &pair[1].split];
    let mut reading = vec![format!(
        "Mean ± sample standard deviation over seeds (number of seeds); the difference is {} less {}, seed by seed",
        splits[1], splits[0]
    )];
    if rows.iter().any(|r| r.intervals) {
        reading.push(format!(
            "In brackets: {} % interval over seeds and test images; those of the two splits are resampled apart, so where they share \
             images the interval of the difference is rather too wide",
            fixed(100.0 * COVERAGE, 0)
        ));
    }
    Table::new(
        input,
        (name.clone(), label(&format!("{}-{name}", input.study))),
        (
            format!(
                "{}{point}, {freeze} backbone, {} against {} split",
                pair[0].plain_title, splits[0], splits[1]
            ),
            pair[0].metric_title.clone(),
        ),
        (columns, rows),
        reading,
    )
}

/// The second score less the first, over the seeds that both have.
fn difference([a, b]: [Option<&Score>; 2]) -> ScoreCell {
    let none = score_cell(None);
    let (Some(a), Some(b)) = (a, b) else { return none };
    let mut values = Vec::new();
    let mut seeds = Vec::new();
    for (seed, x) in a.seeds.iter().zip(&a.values) {
        if let Some(i) = b.seeds.iter().position(|s| s == seed) {
            values.push(b.values[i] - x);
            seeds.push(*seed);
        }
    }
    if values.is_empty() {
        return ScoreCell {
            gap: Some("no seed has a result under both splits".to_owned()),
            ..none
        };
    }
    let whole = seeds.len() == a.n() && seeds.len() == b.n();
    let interval = match (&a.sampled, &b.sampled) {
        (Some(x), Some(y)) if whole => apart(x, y, &values),
        _ => None,
    };
    let score = Score::derived(a.planned.min(b.planned), values, seeds);
    ScoreCell {
        interval,
        ..score_cell(Some(&score))
    }
}

/// The interval of `b − a`, `values` seed by seed, from replicates of two test sets that were drawn apart.
fn apart(a: &Sampled, b: &Sampled, values: &[f64]) -> Option<ImageInterval> {
    let shown = a.shown?.replicates.min(b.shown?.replicates);
    let both = a.replicates.iter().zip(&b.replicates).take(shown);
    let p = percentile(&both.map(|(a, b)| b - a).collect::<Vec<_>>(), COVERAGE).ok()?;
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let interval = joined(mean, &p, noise(values));
    Some(ImageInterval {
        low: interval.low,
        high: interval.high,
        groups: a.groups.zip(b.groups).map(|(a, b)| a.min(b)),
        standard_error: p.standard_error,
        images: a.count.min(b.count),
        replicates: shown,
        undefined: p.undefined,
    })
}
