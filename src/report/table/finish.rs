//! What follows from a table's numbers: widths, ranks, tests, marks.

use super::{Cell, ColumnKind, ImageInterval, Note, Rank, Score, ScoreCell, Table};
use crate::report::sampled::{COVERAGE, ImageTest, Sampled, against_best};
use crate::report::text::PLACES;
use crate::report::text::{fixed, letters, thousands};

impl Table {
    /// Decimals of the hours (three significant digits of the largest) and the widest number of every column.
    pub(super) fn widths(&mut self, devices: usize) {
        let first_hours = self.columns.len() - devices;
        for c in 0..self.columns.len() {
            let numbers = self.rows.iter().filter_map(|r| match &r.cells[c] {
                Cell::Number { value, places } => value.map(|v| (v, *places)),
                Cell::Score(s) => s.mean.map(|m| (m, PLACES)),
                Cell::Text { .. } => None,
            });
            let numbers: Vec<(f64, usize)> = numbers.collect();
            let largest = numbers.iter().map(|n| n.0.abs()).fold(0.0, f64::max);
            let digits = (1..).find(|&d| largest.round() < 10f64.powi(d)).unwrap_or(1) as usize;
            let decimals = if c >= first_hours {
                let places = (0..5).find(|&p| largest * 10f64.powi(p) >= 100.0).unwrap_or(5) as usize;
                for row in &mut self.rows {
                    if let Cell::Number { places: p, .. } = &mut row.cells[c] {
                        *p = places;
                    }
                }
                places
            } else {
                numbers.iter().map(|n| n.1).max().unwrap_or(0)
            };
            if self.columns[c].kind != ColumnKind::Text {
                (self.columns[c].digits, self.columns[c].decimals) = (digits, decimals);
                self.columns[c].negative = numbers.iter().any(|(v, places)| fixed(*v, *places).starts_with('-'));
            }
        }
    }

    /// Ranks every score column at the printed resolution. One lone value is not ranked.
    pub(super) fn rank(&mut self) {
        for c in 0..self.columns.len() {
            let mut column: Vec<&mut ScoreCell> = self.rows.iter_mut().filter_map(|r| r.cells[c].score_mut()).collect();
            let printed = |s: &ScoreCell| s.mean.and_then(|m| fixed(m, PLACES).parse::<f64>().ok());
            let mut levels: Vec<f64> = column.iter().filter_map(|s| printed(s)).collect();
            if levels.len() < 2 {
                continue;
            }
            levels.sort_by(|a, b| b.total_cmp(a));
            levels.dedup();
            for s in &mut column {
                s.rank = match printed(s) {
                    Some(v) if v == levels[0] => Rank::Best,
                    Some(v) if levels.get(1) == Some(&v) => Rank::Second,
                    _ => Rank::None,
                };
            }
        }
    }

    /// Tests every score of column `c` against the column's best over test images; says with which test.
    pub(super) fn test(&mut self, c: usize, scores: &[Option<&Score>], alpha: f64) -> Option<ImageTest> {
        // What is printed has no part in what is decided.
        if !scores.iter().flatten().any(|s| s.sampled.is_some()) {
            return None;
        }
        let means: Vec<(usize, f64)> = (0..)
            .zip(scores)
            .filter_map(|(i, s)| Some((i, (*s)?.mean()?)))
            .collect();
        // The first of equals, so that the order of the rows decides and nothing else.
        let best = means.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a })?.0;
        let sampled: Vec<Option<&Sampled>> = scores.iter().map(|s| (*s)?.sampled.as_ref()).collect();
        let (p, test) = against_best(best, &sampled);
        for (row, p) in self.rows.iter_mut().zip(p) {
            if let (Cell::Score(s), Some(p)) = (&mut row.cells[c], p) {
                s.p_best = Some(p);
                s.tied = p >= alpha && s.rank != Rank::Best;
            }
        }
        test
    }

    /// Says how intervals and the mark of ties came about, where there are any.
    pub(super) fn explain(&mut self, test: Option<ImageTest>, alpha: f64) {
        let scores = self.rows.iter().flat_map(|r| &r.cells).filter_map(|c| match c {
            Cell::Score(s) => s.interval,
            _ => None,
        });
        let intervals: Vec<ImageInterval> = scores.collect();
        self.reading.extend(brackets(&intervals));
        if let Some(test) = test {
            self.reading.push(format!(
                "†: not significantly below the best of its column over seeds and test images ({}, Holm over the column, level {alpha})",
                test.title()
            ));
        }
    }

    /// Gives every gap a mark; equal reasons share one.
    pub(super) fn mark(&mut self) {
        for score in self
            .rows
            .iter_mut()
            .flat_map(|r| &mut r.cells)
            .filter_map(Cell::score_mut)
        {
            let Some(text) = &score.gap else { continue };
            let known = self.notes.iter().find(|n| n.text == *text).map(|n| n.mark.clone());
            let mark = known.unwrap_or_else(|| {
                let mark = letters(self.notes.len());
                self.notes.push(Note {
                    mark: mark.clone(),
                    text: text.clone(),
                });
                mark
            });
            score.mark = Some(mark);
        }
    }
}

/// What the intervals in brackets are, where there are any.
fn brackets(intervals: &[ImageInterval]) -> Option<String> {
    let one = intervals.first()?;
    let images = if intervals.iter().all(|i| i.images == one.images) {
        format!("the {} test images", thousands(one.images))
    } else {
        "the test images".to_owned()
    };
    let drawn = match one.groups {
        Some(n) if intervals.iter().all(|i| i.groups == one.groups) => {
            format!("resamples of their {} patients, lesions or cases", thousands(n))
        }
        Some(_) => "resamples of their patients, lesions or cases".to_owned(),
        None => "resamples".to_owned(),
    };
    Some(format!(
        "In brackets: {} % interval of the mean over {images} ({} {drawn}), with the noise of the seeds where there are several",
        fixed(100.0 * COVERAGE, 0),
        thousands(one.replicates)
    ))
}
