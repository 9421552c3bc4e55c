//! Reading the CSV of a set of published values, finding everything that is wrong with one, and writing an empty one.
//!
//! Lines that begin with `#` are comments; an empty field means "the source does not say"; a row without a value is not there.
//! Of the columns below only data set, metric and value must be there, in any order.
//!
//! | column | meaning |
//! |---|---|
//! | dataset | our name of the data set |
//! | label | the model as the source prints it; left out, our name |
//! | backbone | our name of it; empty where it is none of our backbones |
//! | freeze, head | the regime as studies name it |
//! | regime | the regime in the source's words |
//! | input_px | side of the images the source started from |
//! | metric | our name where the definition is ours, another one where it is not |
//! | params_millions | as the source counts them |
//! | value | as a fraction of 1 |
//! | uncertainty | half-width of reading or rounding; left out, half a unit of the value's last printed digit |
//! | sd, seeds | sample standard deviation over runs and their number |
//! | raw | the value as printed or measured, before rounding and scaling; left out, the value |

use super::file::Known;
use crate::error::BadInput;
use crate::eval::METRICS;
use crate::names::{did_you_mean, nearest, or_list};
use crate::spec::{Freeze, HeadKind, RunSpec};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::FromStr;

const COLUMNS: [&str; 14] = [
    "dataset",
    "label",
    "backbone",
    "freeze",
    "head",
    "regime",
    "input_px",
    "metric",
    "params_millions",
    "value",
    "uncertainty",
    "sd",
    "seeds",
    "raw",
];

/// What makes a value another one.
const KEY: [&str; 8] = [
    "dataset", "label", "backbone", "freeze", "head", "regime", "input_px", "metric",
];

const NEEDED: [&str; 3] = ["dataset", "metric", "value"];

/// One published number.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PublishedValue {
    pub dataset: String,
    pub label: String,
    pub backbone: Option<String>,
    pub freeze: Option<Freeze>,
    pub head: Option<HeadKind>,
    pub regime: Option<String>,
    pub input_px: Option<u32>,
    pub metric: String,
    pub params_millions: Option<f64>,
    pub value: f64,
    /// Half-width of the reading or rounding of this value alone.
    pub uncertainty: f64,
    /// By how much all values of this data set may be off together.
    pub shared_offset: f64,
    /// Half-width of the source's own rounding, where `uncertainty` does not hold it.
    pub rounding: f64,
    pub sd: Option<f64>,
    pub seeds: Option<u32>,
    pub raw: f64,
    /// Short citation.
    pub source: String,
    /// Line in the CSV.
    pub line: u64,
}

/// The names that a value must use to stand beside one of ours; `None` where they may be the source's own.
pub(super) struct KnownNames<'a> {
    pub datasets: &'a [&'a str],
    pub backbones: &'a [&'a str],
    pub metrics: Vec<&'static str>,
}

impl<'a> KnownNames<'a> {
    pub(crate) fn new(known: &Known<'a>) -> Self {
        Self {
            datasets: known.datasets,
            backbones: known.backbones,
            metrics: METRICS.all().into_iter().map(|m| m.name).collect(),
        }
    }
}

/// What a CSV holds.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub values: Vec<PublishedValue>,
    /// Rows whose value is empty.
    pub empty: usize,
    /// Everything that is wrong, in the order of the lines.
    pub wrong: Vec<BadInput>,
}

/// Reads all rows. `names` are held against what the rows say.
pub(super) fn read(
    file: &str,
    text: &str,
    cite: &str,
    offsets: &BTreeMap<String, f64>,
    names: Option<&KnownNames>,
) -> Rows {
    let mut rows = Rows::default();
    // Spreadsheets begin a file with a byte-order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let header = match reader.headers() {
        Ok(h) => h.iter().map(|c| c.trim().to_owned()).collect::<Vec<_>>(),
        Err(e) => {
            rows.wrong.push(broken(file, &e));
            return rows;
        }
    };
    let line = text
        .lines()
        .position(|l| !l.starts_with('#') && !l.is_empty())
        .unwrap_or(0)
        + 1;
    if let Err(e) = check_header(&format!("{file}:{line}"), &header) {
        rows.wrong.push(e);
        return rows;
    }
    let mut seen = BTreeSet::new();
    for record in reader.records() {
        let record = match record {
            Ok(r) => r,
            Err(e) => {
                rows.wrong.push(broken(file, &e));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row {
            file,
            line,
            header: &header,
            record,
        };
        if row.record.iter().all(|f| f.trim().is_empty()) {
            continue;
        }
        let mut wrong = names.map_or_else(Vec::new, |w| row.unknown(w));
        if !seen.insert(KEY.map(|c| row.text(c).unwrap_or("").to_owned())) {
            wrong.push(row.bad(
                "every value once",
                "the same data set, model, regime, input and metric again",
            ));
        }
        match row.value(cite, offsets) {
            Ok(Some(v)) if wrong.is_empty() => rows.values.push(v),
            Ok(Some(_)) => {}
            Ok(None) => rows.empty += 1,
            Err(e) => wrong.extend(e),
        }
        rows.wrong.extend(wrong);
    }
    rows
}

fn broken(file: &str, e: &csv::Error) -> BadInput {
    let line = e.position().map_or(1, csv::Position::line);
    BadInput::new(
        format!("{file}:{line}"),
        "a CSV row",
        e.to_string(),
        "Give the line as many fields as the header has, separated by commas.",
    )
}

fn check_header(at: &str, header: &[String]) -> Result<(), BadInput> {
    let bad = |found: String, remedy: String| {
        let expected = format!("columns among {}, separated by commas", COLUMNS.join(","));
        Err(BadInput::new(at, expected, found, remedy))
    };
    for (i, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) {
            return bad(format!("`{column}`"), did_you_mean(column, &COLUMNS));
        }
        if header[..i].contains(column) {
            return bad(format!("`{column}` twice"), "Remove one of the two columns.".into());
        }
    }
    match NEEDED.iter().find(|c| !header.iter().any(|h| h == **c)) {
        None => Ok(()),
        Some(missing) => bad(
            format!("no column `{missing}`"),
            "Add it; `medft published template paper` writes a file with all that is needed.".into(),
        ),
    }
}

/// One record of the CSV with its line.
struct Row<'a> {
    file: &'a str,
    line: u64,
    header: &'a [String],
    record: csv::StringRecord,
}

impl Row<'_> {
    fn bad(&self, expected: impl Into<String>, found: impl Into<String>) -> BadInput {
        self.wrong(
            expected,
            found,
            "Correct the line; `medft published template` explains the columns.",
        )
    }

    fn wrong(&self, expected: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> BadInput {
        BadInput::new(format!("{}:{}", self.file, self.line), expected, found, remedy)
    }

    fn text(&self, column: &str) -> Option<&str> {
        let index = self.header.iter().position(|c| *c == column)?;
        self.record.get(index).map(str::trim).filter(|s| !s.is_empty())
    }

    fn need(&self, column: &str) -> Result<&str, BadInput> {
        self.text(column)
            .ok_or_else(|| self.bad(format!("a value in column {column}"), "none"))
    }

    /// The names of the row that nobody knows.
    fn unknown(&self, names: &KnownNames) -> Vec<BadInput> {
        // A model that is none of ours is context, and its metric may be the source's own.
        let metrics: &[&str] = match self.text("backbone") {
            Some(_) => &names.metrics,
            None => &[],
        };
        let columns = [
            ("dataset", names.datasets),
            ("backbone", names.backbones),
            ("metric", metrics),
        ];
        let one = |(column, allowed): (&str, &[&str])| {
            let name = self
                .text(column)
                .filter(|w| !allowed.is_empty() && !allowed.contains(w))?;
            let remedy = match nearest(name, allowed) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Use one of those.".to_owned(),
            };
            let expected = format!("in column {column} one of {}", or_list(allowed));
            Some(self.wrong(expected, format!("`{name}`"), remedy))
        };
        columns.into_iter().filter_map(one).collect()
    }

    fn parsed<T: FromStr + Copy>(&self, column: &str, allowed: &[&str]) -> Result<Option<T>, BadInput> {
        let Some(text) = self.text(column) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            let expected = format!("{} in column {column}", or_list(allowed));
            self.wrong(expected, format!("`{text}`"), did_you_mean(text, allowed))
        })
    }

    fn count(&self, column: &str) -> Result<Option<u32>, BadInput> {
        let Some(text) = self.text(column) else { return Ok(None) };
        match text.parse() {
            Ok(n) if n > 0 => Ok(Some(n)),
            _ => Err(self.bad(
                format!("a whole number above 0 in column {column}"),
                format!("`{text}`"),
            )),
        }
    }

    fn number(&self, column: &str, lo: f64, hi: f64) -> Result<Option<f64>, BadInput> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let expected = format!("a number from {lo} to {hi} in column {column}");
        match text.parse::<f64>() {
            Ok(x) if (lo..=hi).contains(&x) => Ok(Some(x)),
            Ok(x) if x > hi && x <= 100.0 && hi <= 1.0 => Err(self.wrong(
                expected,
                format!("`{text}`"),
                format!("Write percents as fractions of 1: {}.", fraction(text)),
            )),
            _ => Err(self.bad(expected, format!("`{text}`"))),
        }
    }

    /// The row's value; `None` where it has none yet. All that is wrong with it otherwise.
    fn value(&self, cite: &str, offsets: &BTreeMap<String, f64>) -> Result<Option<PublishedValue>, Vec<BadInput>> {
        let mut wrong = Vec::new();
        macro_rules! take {
            ($read:expr) => {
                match $read {
                    Ok(x) => x,
                    Err(e) => {
                        wrong.push(e);
                        Default::default()
                    }
                }
            };
        }
        let dataset = take!(self.need("dataset").map(str::to_owned));
        let backbone = self.text("backbone").map(str::to_owned);
        let label = self.text("label").or(backbone.as_deref()).unwrap_or("").to_owned();
        if label.is_empty() {
            wrong.push(self.bad("a model in column backbone or label", "none"));
        }
        let freeze =
            take!(self.parsed::<Freeze>("freeze", &Freeze::ALL.iter().map(|f| f.as_str()).collect::<Vec<_>>()));
        let head =
            take!(self.parsed::<HeadKind>("head", &HeadKind::ALL.iter().map(|h| h.as_str()).collect::<Vec<_>>()));
        let metric = take!(self.need("metric").map(str::to_owned));
        // Only a kappa may be below 0.
        let lowest = if metric.ends_with("kappa") { -1.0 } else { 0.0 };
        let value = take!(self.number("value", lowest, 1.0));
        let printed = self.text("value").map_or(0.0, half_a_unit);
        let uncertainty = take!(self.number("uncertainty", 0.0, 1.0)).unwrap_or(printed);
        let sd = take!(self.number("sd", 0.0, 1.0));
        let seeds = take!(self.count("seeds"));
        if sd.is_some() && seeds.is_none_or(|n| n < 2) {
            let found = seeds.map_or_else(|| "none".to_owned(), |n| n.to_string());
            let remedy = "Say of how many runs the deviation is, or leave it out.";
            wrong.push(self.wrong(
                "2 or more in column seeds beside an sd".to_owned(),
                found,
                remedy.to_owned(),
            ));
        }
        let raw = take!(self.number("raw", -100.0, 100.0)).or(value);
        let input_px = take!(self.count("input_px"));
        let params_millions = take!(self.number("params_millions", 0.0, 1e6));
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let (Some(value), Some(raw)) = (value, raw) else {
            return Ok(None);
        };
        Ok(Some(PublishedValue {
            shared_offset: offsets.get(&dataset).copied().unwrap_or(0.0),
            rounding: 0.0,
            dataset,
            label,
            backbone,
            freeze,
            head,
            regime: self.text("regime").map(str::to_owned),
            input_px,
            metric,
            params_millions,
            value,
            uncertainty,
            sd,
            seeds,
            raw,
            source: cite.into(),
            line: self.line,
        }))
    }
}

/// Half a unit of the last digit of a printed number: 0.0005 of `0.953`.
fn half_a_unit(text: &str) -> f64 {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |m| m.1.len()) as i32;
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("5e{}", exponent - decimals - 1).parse().unwrap_or(0.0)
}

/// A printed percentage as a fraction of 1 with all its digits.
fn fraction(percent: &str) -> String {
    let decimals = percent.split_once('.').map_or(0, |p| p.1.len());
    let x: f64 = percent.parse().unwrap_or(f64::NAN);
    format!("{:.*}", decimals + 2, x / 100.0)
}

/// An empty table for the cells of `runs` (a study's), to be filled in by whoever has the source.
pub(super) fn template(study: &str, runs: &[RunSpec], metric: impl Fn(&RunSpec) -> String) -> String {
    let mut out = format!(
        "\
# Published values for the cells of the study `{study}`: fill in `value` from your copy of the source and leave out what it has not.
# Save this file as experiments/published/NAME.csv; check it with `medft published check experiments/published/NAME.csv`;
# then list NAME in the study: [report] published = [\"NAME\"]. A NAME.toml beside it may state title, cite, source, url, caveats.
#
# dataset backbone freeze head: the cell. Remove the values under freeze or head where the source does not say them.
# metric: what the value is. A row may name another metric of medft; only the data set's own gets a verdict.
# value: as a fraction of 1 (0.953 and not 95.3). A row without a value counts as not there.
# sd seeds: sample standard deviation over the source's runs and how many they were. Empty: one run.
# uncertainty: half-width of what is known of the value. Empty: half a unit of its last printed digit.
dataset,backbone,freeze,head,metric,value,sd,seeds,uncertainty
"
    );
    let mut seen = BTreeSet::new();
    for r in runs {
        let row = format!("{},{},{},{},{},,,,", r.dataset, r.backbone, r.freeze, r.head, metric(r));
        if seen.insert(row.clone()) {
            let _ = writeln!(out, "{row}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_digits_say_what_is_known() {
        for (text, half) in [
            ("0.953", 0.0005),
            ("0.95", 0.005),
            ("1", 0.5),
            ("9.5e-1", 0.005),
            (".9", 0.05),
        ] {
            assert_eq!(half_a_unit(text), half, "{text}");
        }
        assert_eq!((fraction("95.3").as_str(), fraction("9").as_str()), ("0.953", "0.09"));
    }
}
