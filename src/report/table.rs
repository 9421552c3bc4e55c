//! The one table model. LaTeX, Markdown and CSV are made from it, and from nothing else.

use super::cells::{Cells, Score};
use super::input::{DatasetFacts, ReportInput, head_title};
use anyhow::Result;
use serde::Serialize;

/// Decimals of scores, as in the paper. Ties are decided at this resolution: what prints alike ranks alike.
pub const PLACES: usize = 3;

/// A table, ready for any format.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Stem of its files.
    pub name: String,
    /// LaTeX label, without characters that mean something.
    pub label: String,
    pub title: String,
    pub metric: String,
    pub warning: Option<String>,
    pub protocol: String,
    pub places: usize,
    pub columns: Vec<Column>,
    /// Runs of neighbouring columns with one heading above them.
    pub groups: Vec<Group>,
    pub rows: Vec<Row>,
    pub notes: Vec<Note>,
}

/// A column's heading.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    pub title: String,
    /// Heading above, shared with neighbours; empty for none.
    pub group: String,
    pub kind: ColumnKind,
    /// What every score of the column has in common, for CSV: (`freeze`, `frozen`), …
    pub keys: Vec<(String, String)>,
}

/// What the cells of a column hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    Text,
    Number,
    Score,
}

/// A heading over the columns `from` to `to`, counted from 1.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub title: String,
    pub from: usize,
    pub to: usize,
    pub span: usize,
}

/// A row; `section` asks for a gap above it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub section: bool,
    pub cells: Vec<Cell>,
}

/// One cell, by the kind of its column.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Cell {
    Text { text: String },
    Number { value: Option<f64>, places: usize },
    Score(ScoreCell),
}

/// Mean and spread over seeds, or a gap.
#[derive(Debug, Clone, Serialize)]
pub struct ScoreCell {
    pub n: usize,
    pub planned: usize,
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    pub rank: Rank,
    /// Mark of the note that says why something is missing.
    pub mark: Option<String>,
    /// The note's text, for CSV.
    pub gap: Option<String>,
    pub values: Vec<f64>,
    pub runs: Vec<String>,
}

/// Place within the column, at the printed resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rank {
    Best,
    Second,
    None,
}

/// A note below the table.
#[derive(Debug, Clone, Serialize)]
pub struct Note {
    pub mark: String,
    pub text: String,
}

impl Table {
    /// Backbones × regimes on one data set: the paper's table.
    pub fn of_dataset(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts) -> Self {
        let regimes = cells.regimes(&dataset.name);
        let mut columns = vec![
            plain("Family", ColumnKind::Text),
            plain("Backbone", ColumnKind::Text),
            plain("Params (M)", ColumnKind::Number),
        ];
        columns.extend(regimes.iter().map(|(freeze, head)| Column {
            title: head_title(*head).to_owned(),
            group: freeze.to_string(),
            kind: ColumnKind::Score,
            keys: vec![("freeze".into(), freeze.to_string()), ("head".into(), head.to_string())],
        }));
        let mut rows = Vec::<Row>::new();
        let mut family = None;
        for b in input.backbones.iter().filter(|b| cells.plans(&dataset.name, &b.name)) {
            let mut row = vec![
                Cell::Text { text: b.family.clone() },
                Cell::Text { text: b.title.clone() },
                Cell::Number {
                    value: b.params.map(|p| p as f64 / 1e6),
                    places: params_places(b.params),
                },
            ];
            for (freeze, head) in &regimes {
                row.push(Cell::Score(score_cell(cells.get(
                    &dataset.name,
                    &b.name,
                    *freeze,
                    *head,
                ))));
            }
            rows.push(Row {
                section: family.is_some_and(|f| f != &b.family),
                cells: row,
            });
            family = Some(&b.family);
        }
        let mut table = Self {
            name: dataset.name.clone(),
            label: label(&format!("{}-{}", input.study, dataset.name)),
            title: dataset.title.clone(),
            metric: dataset.metric_title.clone(),
            warning: input.warning().map(str::to_owned),
            protocol: input.protocol.sentence(),
            places: PLACES,
            groups: groups(&columns),
            columns,
            rows,
            notes: Vec::new(),
        };
        table.rank();
        table.mark();
        table
    }

    /// Ranks every score column at the printed resolution. One lone value is not ranked.
    fn rank(&mut self) {
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

    /// Gives every gap a mark; equal reasons share one.
    fn mark(&mut self) {
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

    /// Long form, one line a score: label columns, the column's keys, the numbers at full precision, seeds' values, run ids, gap.
    pub fn to_csv(&self) -> Result<Vec<u8>> {
        let slug = |s: &str| {
            label(s)
                .split('-')
                .filter(|w| !w.is_empty())
                .collect::<Vec<_>>()
                .join("_")
        };
        let labels: Vec<usize> = (0..self.columns.len())
            .filter(|&c| self.columns[c].kind != ColumnKind::Score)
            .collect();
        let scores: Vec<usize> = (0..self.columns.len()).filter(|c| !labels.contains(c)).collect();
        let keys = scores.first().map_or(&[][..], |&c| &self.columns[c].keys);
        let mut csv = csv::Writer::from_writer(Vec::new());
        let mut header = vec!["dataset".to_owned(), "metric".to_owned()];
        header.extend(labels.iter().map(|&c| slug(&self.columns[c].title)));
        header.extend(keys.iter().map(|(k, _)| k.clone()));
        header.extend(
            [
                "n", "planned", "mean", "sd", "rank", "values", "runs", "gap", "protocol",
            ]
            .map(str::to_owned),
        );
        csv.write_record(&header)?;
        let number = |v: Option<f64>| v.map_or_else(String::new, |v| v.to_string());
        for row in &self.rows {
            for &c in &scores {
                let Cell::Score(s) = &row.cells[c] else { continue };
                let mut line = vec![self.title.clone(), self.metric.clone()];
                line.extend(labels.iter().map(|&l| match &row.cells[l] {
                    Cell::Text { text } => text.clone(),
                    Cell::Number { value, .. } => number(*value),
                    Cell::Score(_) => String::new(),
                }));
                line.extend(self.columns[c].keys.iter().map(|(_, v)| v.clone()));
                let values: Vec<String> = s.values.iter().map(f64::to_string).collect();
                let rank = match s.rank {
                    Rank::Best => "best",
                    Rank::Second => "second",
                    Rank::None => "",
                };
                line.extend([
                    s.n.to_string(),
                    s.planned.to_string(),
                    number(s.mean),
                    number(s.sd),
                    rank.to_owned(),
                ]);
                line.extend([
                    values.join(" "),
                    s.runs.join(" "),
                    s.gap.clone().unwrap_or_default(),
                    self.protocol.clone(),
                ]);
                csv.write_record(&line)?;
            }
        }
        Ok(csv.into_inner()?)
    }
}

impl Cell {
    fn score_mut(&mut self) -> Option<&mut ScoreCell> {
        match self {
            Self::Score(s) => Some(s),
            _ => None,
        }
    }
}

fn plain(title: &str, kind: ColumnKind) -> Column {
    Column {
        title: title.to_owned(),
        group: String::new(),
        kind,
        keys: Vec::new(),
    }
}

/// One decimal from a million parameters on, three below (the demo's models).
fn params_places(params: Option<u64>) -> usize {
    if params.is_some_and(|p| p < 1_000_000) { 3 } else { 1 }
}

fn score_cell(score: Option<&Score>) -> ScoreCell {
    let none = Score::default();
    let (s, unplanned) = score.map_or((&none, true), |s| (s, false));
    ScoreCell {
        n: s.n(),
        planned: s.planned,
        mean: s.mean(),
        sd: s.sd(),
        rank: Rank::None,
        mark: None,
        gap: if unplanned {
            Some("not planned in this study".to_owned())
        } else {
            s.gap()
        },
        values: s.values.clone(),
        runs: s.runs.clone(),
    }
}

fn groups(columns: &[Column]) -> Vec<Group> {
    let mut groups = Vec::<Group>::new();
    for (i, c) in columns.iter().enumerate() {
        match groups.last_mut() {
            Some(g) if g.title == c.group => {
                g.to = i + 1;
                g.span += 1;
            }
            _ => groups.push(Group {
                title: c.group.clone(),
                from: i + 1,
                to: i + 1,
                span: 1,
            }),
        }
    }
    groups
}

/// a, b, …, z, aa, ab, …
fn letters(mut i: usize) -> String {
    let mut mark = String::new();
    loop {
        mark.insert(0, char::from(b'a' + (i % 26) as u8));
        if i < 26 {
            return mark;
        }
        i = i / 26 - 1;
    }
}

/// Lower-case letters, digits and dashes only.
fn label(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

/// A number with `places` decimals; no minus sign before zero.
pub fn fixed(v: f64, places: usize) -> String {
    let text = format!("{v:.places$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.bytes().all(|b| matches!(b, b'0' | b'.')) => rest.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_go_on_after_z() {
        assert_eq!(
            [0, 25, 26, 27, 51, 52, 701, 702].map(letters),
            ["a", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
        );
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(fixed(-0.0004, 3), "0.000");
        assert_eq!(fixed(-0.0006, 3), "-0.001");
        assert_eq!(fixed(0.9376, 3), "0.938");
    }
}
