//! A sweep in one table a data set: what every point gave on validation and on test, and which point validation chooses.
//!
//! The choice looks at validation images only: the mean over seeds of the metric that selects epochs, at the epochs whose weights are
//! tested. A choice by the test column would report a maximum of noise as a result, so test scores stand beside it and decide nothing.
//! Where a point lacks a seed there is no choice yet: the missing run could be the best.

use super::cells::{Cells, Score};
use super::input::{ReportInput, head_title};
use super::sweep::{Point, Sweep};
use super::table::{Cell, ColumnKind, Rank, Row, ScoreCell, Table, plain, score_cell};
use super::text::{PLACES, fixed, key, label};
use crate::eval::Direction;
use crate::study::{Freeze, HeadKind};

/// A cell of the study that is swept.
type Regime<'a> = (&'a str, Freeze, HeadKind);

/// Which point is chosen for a cell, or why none is.
enum Choice {
    Point(usize),
    None(String),
}

/// The points of each data set and split that the report has at two points at least, in the study's order.
fn families<'a>(input: &ReportInput, sweep: &'a Sweep) -> Vec<Vec<&'a Point>> {
    let mut all: Vec<Vec<&Point>> = Vec::new();
    for p in sweep.points.iter().filter(|p| input.dataset(&p.table).is_some()) {
        match all.iter_mut().find(|f| f[0].family == p.family) {
            Some(f) => f.push(p),
            None => all.push(vec![p]),
        }
    }
    all.retain(|f| f.len() > 1);
    all
}

/// One table a data set and split.
pub(super) fn tables(input: &ReportInput, cells: &Cells) -> Vec<Table> {
    let Some(sweep) = &input.sweep else { return Vec::new() };
    let families = families(input, sweep);
    families
        .iter()
        .map(|points| table(input, sweep, cells, points))
        .collect()
}

fn table(input: &ReportInput, sweep: &Sweep, cells: &Cells, points: &[&Point]) -> Table {
    let first = points[0];
    let mut columns = vec![
        plain("Backbone", ColumnKind::Text),
        plain("Backbone is", ColumnKind::Text),
        plain("Head", ColumnKind::Text),
    ];
    columns.extend(sweep.switches.iter().map(|s| plain(s, ColumnKind::Text)));
    columns.push(plain("Chosen", ColumnKind::Text));
    for part in ["validation", "test"] {
        let title = if part == "test" { "Test" } else { "Validation" };
        columns.push(super::table::Column {
            keys: vec![("part".into(), part.into())],
            ..plain(title, ColumnKind::Score)
        });
    }
    let mut rows = Vec::<Row>::new();
    for b in &input.backbones {
        let mut regimes: Vec<(Freeze, HeadKind)> = points.iter().flat_map(|p| cells.regimes(&p.table)).collect();
        regimes.sort_unstable();
        regimes.dedup();
        for (freeze, head) in regimes {
            let regime = (b.name.as_str(), freeze, head);
            if !points
                .iter()
                .any(|p| cells.get(&p.table, &b.name, freeze, head).is_some())
            {
                continue;
            }
            let choice = choose(sweep, points, cells, regime);
            for (i, p) in points.iter().enumerate() {
                let chosen = matches!(choice, Choice::Point(c) if c == i);
                let test = cells.get(&p.table, &b.name, freeze, head);
                let mut row: Vec<Cell> = [b.title.clone(), freeze.to_string(), head_title(head).to_owned()]
                    .into_iter()
                    .chain(p.values.iter().cloned())
                    .chain([match &choice {
                        Choice::Point(_) if chosen => "yes".to_owned(),
                        Choice::Point(_) => String::new(),
                        Choice::None(why) => why.clone(),
                    }])
                    .map(|text| Cell::Text { text })
                    .collect();
                let rank = if chosen { Rank::Best } else { Rank::None };
                let validation = test.map(|t| validation(sweep, t));
                for (score, part) in [(validation.as_ref(), "validation"), (test, "test")] {
                    row.push(Cell::Score(Box::new(ScoreCell {
                        key: format!(
                            "{}{}",
                            key(&p.table, &b.name, freeze, head),
                            if part == "test" { "" } else { "-validation" }
                        ),
                        rank,
                        interval: None,
                        ..score_cell(score)
                    })));
                }
                rows.push(Row {
                    section: i == 0 && !rows.is_empty(),
                    family: b.family.clone(),
                    backbone: b.name.clone(),
                    intervals: false,
                    cells: row,
                });
            }
        }
    }
    let name = format!("{}-sweep", first.family);
    let metric = input
        .dataset(&first.table)
        .map_or_else(String::new, |d| d.metric_title.clone());
    let way = if first.direction == Direction::Higher {
        "highest"
    } else {
        "lowest"
    };
    let reading = vec![
        "Mean ± sample standard deviation over seeds (number of seeds)".to_owned(),
        format!(
            "Chosen, and in bold: of each backbone, freeze mode and head the point with the {way} mean {} on the validation images; of equals \
             the first. Test scores decide nothing: they are shown for all points so that the choice can be seen, and only that of the \
             chosen one is a result",
            first.selects
        ),
    ];
    Table::new(
        input,
        (name.clone(), label(&format!("{}-{name}", input.study))),
        (
            format!("{}, sweep of {}", first.title, sweep.switches.join(" and ")),
            metric,
        ),
        (columns, rows),
        reading,
    )
}

/// The validation scores of a cell's runs.
fn validation(sweep: &Sweep, test: &Score) -> Score {
    let of = |id: &String| sweep.validation.get(id).copied().filter(|v| v.is_finite());
    let both = test
        .runs
        .iter()
        .zip(&test.seeds)
        .filter_map(|(id, seed)| Some((of(id)?, *seed)));
    let (values, seeds) = both.unzip();
    Score::derived(test.planned, values, seeds)
}

fn choose(sweep: &Sweep, points: &[&Point], cells: &Cells, (backbone, freeze, head): Regime) -> Choice {
    let mut best: Option<(usize, f64)> = None;
    for (i, p) in points.iter().enumerate() {
        let score = cells
            .get(&p.table, backbone, freeze, head)
            .map(|t| validation(sweep, t));
        let whole = score.filter(|s| s.n() == s.planned && s.n() > 0);
        let Some(mean) = whole.and_then(|s| s.mean()) else {
            return Choice::None("not yet: runs are missing".to_owned());
        };
        let better = best.is_none_or(|(_, b)| match p.direction {
            Direction::Higher => mean > b,
            Direction::Lower => mean < b,
        });
        if better {
            best = Some((i, mean));
        }
    }
    best.map_or_else(|| Choice::None("no point".to_owned()), |(i, _)| Choice::Point(i))
}

/// The choices in a paragraph for the first page; `None` without a sweep.
pub(super) fn answer(input: &ReportInput, cells: &Cells) -> Option<String> {
    let sweep = input.sweep.as_ref()?;
    let choices = sentences(input, cells);
    Some(format!(
        "Swept: {}. Of each cell one point was chosen by the mean over seeds on validation images, without a look at test scores. {}",
        sweep.switches.join(" and "),
        choices.join(" ")
    ))
}

/// The choices in words, a sentence a cell.
fn sentences(input: &ReportInput, cells: &Cells) -> Vec<String> {
    let Some(sweep) = &input.sweep else { return Vec::new() };
    let mut out = Vec::new();
    for points in families(input, sweep) {
        for b in &input.backbones {
            for (freeze, head) in cells.regimes(&points[0].table) {
                let cell = format!("{}, {}, {freeze}, {}", points[0].title, b.title, head_title(head));
                match choose(sweep, &points, cells, (&b.name, freeze, head)) {
                    Choice::None(why) => out.push(format!("{cell}: {why}.")),
                    Choice::Point(i) => {
                        let p = points[i];
                        let test = cells.get(&p.table, &b.name, freeze, head).and_then(Score::mean);
                        let test = test.map_or_else(|| "none".to_owned(), |m| fixed(m, PLACES));
                        out.push(format!(
                            "{cell}: {} (test {test}).",
                            sweep.values(&p.table).unwrap_or_default()
                        ));
                    }
                }
            }
        }
    }
    out
}
