//! A table as CSV: long form, one line a score, at full precision, with the runs behind it.

use super::table::{Cell, ColumnKind, Rank, ScoreCell, Table};
use super::text::label;
use anyhow::Result;

/// What every line says of its score, after the labels of row and column.
const SCORE: [&str; 17] = [
    "n",
    "planned",
    "mean",
    "sd",
    "low",
    "high",
    "se_images",
    "images",
    "replicates",
    "rank",
    "p_best",
    "tied",
    "hours",
    "values",
    "runs",
    "gap",
    "protocol",
];

impl Table {
    /// Long form, one line a score: the row's labels, the column's keys, the numbers, the seeds' values, run ids, the gap.
    ///
    /// # Errors
    /// Where the rows are not of one length.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let scores: Vec<usize> = (0..self.columns.len())
            .filter(|&c| self.columns[c].kind == ColumnKind::Score)
            .collect();
        // Hours stand behind each score, not once a row.
        let labels: Vec<usize> = (0..scores.first().copied().unwrap_or(0)).collect();
        let keys = scores.first().map_or(&[][..], |&c| &self.columns[c].keys);
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut header = ["dataset", "metric", "family"].map(str::to_owned).to_vec();
        header.extend(labels.iter().map(|&c| slug(&self.columns[c].title)));
        header.extend(keys.iter().map(|(k, _)| k.clone()));
        header.extend(SCORE.map(str::to_owned));
        csv.write_record(&header)?;
        for row in &self.rows {
            for &c in &scores {
                let Cell::Score(s) = &row.cells[c] else { continue };
                let mut line = vec![self.title.clone(), self.metric.clone(), row.family.clone()];
                line.extend(labels.iter().map(|&l| match &row.cells[l] {
                    Cell::Text { text } => text.clone(),
                    Cell::Number { value, .. } => number(*value),
                    Cell::Score(_) => String::new(),
                }));
                line.extend(self.columns[c].keys.iter().map(|(_, v)| v.clone()));
                line.extend(score(s));
                line.push(self.protocol.clone());
                csv.write_record(&line)?;
            }
        }
        Ok(csv.into_inner()?)
    }
}

fn score(s: &ScoreCell) -> [String; SCORE.len() - 1] {
    let count = |n: Option<usize>| n.map_or_else(String::new, |n| n.to_string());
    let rank = match s.rank {
        Rank::Best => "best",
        Rank::Second => "second",
        Rank::None => "",
    };
    [
        s.n.to_string(),
        s.planned.to_string(),
        number(s.mean),
        number(s.sd),
        number(s.interval.map(|i| i.low)),
        number(s.interval.map(|i| i.high)),
        number(s.interval.map(|i| i.standard_error)),
        count(s.interval.map(|i| i.images)),
        count(s.interval.map(|i| i.replicates - i.undefined)),
        rank.to_owned(),
        number(s.p_best),
        s.p_best.map_or_else(String::new, |_| s.tied.to_string()),
        joined(s.hours.iter().map(|(d, h)| format!("{d}={h}")), "; "),
        joined(s.values.iter().map(f64::to_string), " "),
        s.runs.join(" "),
        s.gap.clone().unwrap_or_default(),
    ]
}

fn joined(all: impl Iterator<Item = String>, between: &str) -> String {
    all.collect::<Vec<_>>().join(between)
}

pub(super) fn number(v: Option<f64>) -> String {
    v.map_or_else(String::new, |v| v.to_string())
}

fn slug(s: &str) -> String {
    label(s)
        .split('-')
        .filter(|w| !w.is_empty())
        .collect::<Vec<_>>()
        .join("_")
}
