//! The one table model. LaTeX, Markdown, HTML and CSV are made from it, and from nothing else.

mod finish;

use super::cells::{Cells, Score};
use super::input::{DatasetFacts, ReportInput, head_title};
use super::sampled::Sampled;
use super::text::{PLACES, key, label, letters};
use serde::Serialize;
use std::collections::BTreeSet;

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
    /// How the numbers are to be read: whole sentences.
    pub reading: Vec<String>,
    pub notes: Vec<Note>,
}

/// A column's heading.
#[derive(Debug, Clone, Serialize)]
pub struct Column {
    pub title: String,
    /// Heading above, shared with neighbours; empty for none.
    pub group: String,
    pub kind: ColumnKind,
    /// Digits before the point and decimals of the widest number; 0 and 0 for text.
    pub digits: usize,
    pub decimals: usize,
    /// Whether a number of the column has a minus sign.
    pub negative: bool,
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

impl ColumnKind {
    /// Aligned parts of a cell: a score is a mean, then its spread.
    fn slots(self) -> usize {
        if self == Self::Score { 2 } else { 1 }
    }
}

/// A heading over neighbouring columns. Columns are counted by `span`; `from` and `to`, counted from 1, and `slots` count the
/// aligned parts, of which a score has two.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    pub title: String,
    pub span: usize,
    pub slots: usize,
    pub from: usize,
    pub to: usize,
}

/// A row; `section` asks for a gap above it.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub section: bool,
    pub family: String,
    /// The name in studies.
    pub backbone: String,
    /// Whether any score has an interval over test images.
    pub intervals: bool,
    pub cells: Vec<Cell>,
}

/// One cell, by the kind of its column.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Cell {
    Text { text: String },
    Number { value: Option<f64>, places: usize },
    Score(Box<ScoreCell>),
}

/// Mean and spread over seeds, or a gap.
#[derive(Debug, Clone, Serialize)]
pub struct ScoreCell {
    /// Names the cell in the study.
    pub key: String,
    pub n: usize,
    pub planned: usize,
    pub mean: Option<f64>,
    /// Over seeds.
    pub sd: Option<f64>,
    /// Over test images; `None` where the predictions were not resampled.
    pub interval: Option<ImageInterval>,
    pub rank: Rank,
    /// Holm-adjusted p of "equal to the best of the column"; `None` for the best itself and where there is no test.
    pub p_best: Option<f64>,
    /// Below the best, but not significantly so.
    pub tied: bool,
    /// Mark of the note that says why something is missing, or what happened to what is there.
    pub mark: Option<String>,
    /// The note's text, for CSV.
    pub gap: Option<String>,
    pub values: Vec<f64>,
    pub seeds: Vec<u64>,
    pub runs: Vec<String>,
    /// Hours of all runs, by what computed them.
    pub hours: Vec<(String, f64)>,
}

/// The interval of a mean over other seeds and other test images.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ImageInterval {
    pub low: f64,
    pub high: f64,
    pub standard_error: f64,
    pub images: usize,
    /// Groups (patients, lesions, cases) that were drawn; `None` where none is known and images were.
    pub groups: Option<usize>,
    pub replicates: usize,
    /// Replicates without a defined metric, left out.
    pub undefined: usize,
}

impl ImageInterval {
    /// `None` where no interval was asked for.
    pub(super) fn of(s: &Sampled) -> Option<Self> {
        let shown = s.shown?;
        Some(Self {
            low: shown.interval.low,
            high: shown.interval.high,
            standard_error: s.standard_error,
            images: s.count,
            groups: s.groups,
            replicates: shown.replicates,
            undefined: shown.undefined,
        })
    }
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
        let backbones = || input.backbones.iter().filter(|b| cells.plans(&dataset.name, &b.name));
        let score = |b: &str, (f, h)| cells.get(&dataset.name, b, f, h);
        let devices: BTreeSet<&str> = backbones()
            .flat_map(|b| regimes.iter().filter_map(move |&r| score(&b.name, r)))
            .flat_map(|s| s.hours.keys().map(String::as_str))
            .collect();
        let mut columns = vec![
            plain("Backbone", ColumnKind::Text),
            plain("Params (M)", ColumnKind::Number),
        ];
        columns.extend(regimes.iter().map(|(freeze, head)| Column {
            group: freeze.to_string(),
            keys: vec![("freeze".into(), freeze.to_string()), ("head".into(), head.to_string())],
            ..plain(head_title(*head), ColumnKind::Score)
        }));
        columns.extend(
            devices
                .iter()
                .map(|d| plain(&hours_title(d, &devices), ColumnKind::Number)),
        );
        let mut rows = Vec::<Row>::new();
        for b in backbones() {
            let scores: Vec<_> = regimes.iter().map(|&r| score(&b.name, r)).collect();
            let mut row = vec![
                Cell::Text { text: b.title.clone() },
                Cell::Number {
                    value: b.params.map(|p| p as f64 / 1e6),
                    places: params_places(b.params),
                },
            ];
            row.extend(regimes.iter().zip(&scores).map(|(&(freeze, head), s)| {
                Cell::Score(Box::new(ScoreCell {
                    key: key(&dataset.name, &b.name, freeze, head),
                    ..score_cell(*s)
                }))
            }));
            row.extend(devices.iter().map(|d| {
                let hours: Vec<f64> = scores
                    .iter()
                    .flatten()
                    .filter_map(|s| s.hours.get(*d).copied())
                    .collect();
                Cell::Number {
                    value: (!hours.is_empty()).then(|| hours.iter().sum()),
                    places: 0,
                }
            }));
            rows.push(Row {
                section: rows.last().is_some_and(|r: &Row| r.family != b.family),
                family: b.family.clone(),
                backbone: b.name.clone(),
                intervals: scores
                    .iter()
                    .flatten()
                    .any(|s| s.sampled.as_ref().is_some_and(|s| s.shown.is_some())),
                cells: row,
            });
        }
        let mut reading = vec![
            "Mean ± sample standard deviation over seeds (number of seeds); per column best in bold, second underlined, ties decided as printed"
                .to_owned(),
        ];
        reading.extend(hours_reading(&devices));
        let mut table = Self::blank(
            input,
            (
                dataset.name.clone(),
                label(&format!("{}-{}", input.study, dataset.name)),
            ),
            (dataset.title.clone(), dataset.metric_title.clone()),
            (columns, rows),
            reading,
        );
        table.widths(devices.len());
        table.rank();
        let tests = regimes.iter().enumerate().filter_map(|(k, &r)| {
            let column: Vec<Option<&Score>> = backbones().map(|b| score(&b.name, r)).collect();
            table.test(2 + k, &column, input.alpha)
        });
        let test = tests.fold(None, |first, t| first.or(Some(t)));
        table.explain(test, input.alpha);
        table.mark();
        table
    }

    /// A table of scores whose columns are not ranked.
    pub(super) fn new(
        input: &ReportInput,
        names: (String, String),
        titles: (String, String),
        body: (Vec<Column>, Vec<Row>),
        reading: Vec<String>,
    ) -> Self {
        let mut table = Self::blank(input, names, titles, body, reading);
        table.widths(0);
        table.mark();
        table
    }

    fn blank(
        input: &ReportInput,
        (name, label): (String, String),
        (title, metric): (String, String),
        (columns, rows): (Vec<Column>, Vec<Row>),
        reading: Vec<String>,
    ) -> Self {
        Self {
            name,
            label,
            title,
            metric,
            warning: input.warning().map(str::to_owned),
            protocol: input.protocol.sentence(),
            places: PLACES,
            groups: groups(&columns),
            columns,
            rows,
            reading,
            notes: Vec::new(),
        }
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

pub(super) fn plain(title: &str, kind: ColumnKind) -> Column {
    Column {
        title: title.to_owned(),
        group: String::new(),
        kind,
        digits: 0,
        decimals: 0,
        negative: false,
        keys: Vec::new(),
    }
}

/// One decimal from a million parameters on, three below (the demo's models).
fn params_places(params: Option<u64>) -> usize {
    if params.is_some_and(|p| p < 1_000_000) { 3 } else { 1 }
}

/// The heading of a device's hours. A GPU's name is long: it stands below the table.
fn hours_title(device: &str, all: &BTreeSet<&str>) -> String {
    let mut gpus = all.iter().filter(|d| **d != "cpu");
    match gpus.clone().count() {
        _ if device == "cpu" => "CPU-hours".to_owned(),
        1 => "GPU-hours".to_owned(),
        _ => format!(
            "GPU-hours {}",
            letters(gpus.position(|d| *d == device).unwrap_or(0)).to_uppercase()
        ),
    }
}

/// Which GPU a heading means.
fn hours_reading(all: &BTreeSet<&str>) -> Option<String> {
    let gpus = || all.iter().filter(|d| **d != "cpu");
    let names: Vec<String> = gpus().map(|d| format!("{}: {d}", hours_title(d, all))).collect();
    (!names.is_empty()).then(|| names.join("; "))
}

pub(super) fn score_cell(score: Option<&Score>) -> ScoreCell {
    let none = Score::default();
    let (s, unplanned) = score.map_or((&none, true), |s| (s, false));
    ScoreCell {
        key: String::new(),
        n: s.n(),
        planned: s.planned,
        mean: s.mean(),
        sd: s.sd(),
        interval: s.sampled.as_ref().and_then(ImageInterval::of),
        rank: Rank::None,
        p_best: None,
        tied: false,
        mark: None,
        gap: if unplanned {
            Some("not planned in this study".to_owned())
        } else {
            let notes: Vec<String> = s.gap().into_iter().chain(s.divergence()).collect();
            (!notes.is_empty()).then(|| notes.join("; "))
        },
        values: s.values.clone(),
        seeds: s.seeds.clone(),
        runs: s.runs.clone(),
        hours: s.hours.iter().map(|(d, h)| (d.clone(), *h)).collect(),
    }
}

fn groups(columns: &[Column]) -> Vec<Group> {
    let mut groups = Vec::<Group>::new();
    let mut slot = 1;
    for c in columns {
        let slots = c.kind.slots();
        match groups.last_mut() {
            Some(g) if g.title == c.group => {
                g.span += 1;
                g.slots += slots;
                g.to += slots;
            }
            _ => groups.push(Group {
                title: c.group.clone(),
                span: 1,
                slots,
                from: slot,
                to: slot + slots - 1,
            }),
        }
        slot += slots;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_named_below_the_table() {
        let one = BTreeSet::from(["cpu", "NVIDIA H100 80GB HBM3"]);
        assert_eq!(hours_title("cpu", &one), "CPU-hours");
        assert_eq!(hours_title("NVIDIA H100 80GB HBM3", &one), "GPU-hours");
        assert_eq!(hours_reading(&one).unwrap(), "GPU-hours: NVIDIA H100 80GB HBM3");
        let two = BTreeSet::from(["NVIDIA A100", "NVIDIA H200"]);
        assert_eq!(
            hours_reading(&two).unwrap(),
            "GPU-hours A: NVIDIA A100; GPU-hours B: NVIDIA H200"
        );
        assert_eq!(hours_reading(&BTreeSet::from(["cpu"])), None);
    }
}
