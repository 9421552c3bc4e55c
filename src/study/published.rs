//! Published values to compare with: `experiments/published/<name>.csv`, with `<name>.toml` beside it for the source.
//!
//! Lines of the CSV that begin with `#` are comments; an empty field means "the source does not say". Columns:
//!
//! | column | meaning |
//! |---|---|
//! | dataset | our word for the data set |
//! | label | the model as the source prints it |
//! | backbone | our word for it; empty where it is none of our backbones |
//! | freeze, head | the regime in our words |
//! | regime | the regime in the source's words |
//! | input_px | side of the images the source started from |
//! | metric | our word where the definition is ours, another one where it is not |
//! | params_millions | as the source counts them |
//! | value, uncertainty | as a fraction of 1, and the half-width of reading or rounding |
//! | sd, seeds | spread over seeds and their number |
//! | raw | the value as printed or measured, before rounding and scaling |

use super::located::{Section, Text};
use super::spec::{Freeze, HeadKind};
use super::words::{did_you_mean, or_list};
use crate::error::BadInput;
use crate::fsio;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::str::FromStr;

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

/// Whether the code that came with the source can produce a backbone's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthorsCode {
    Runs,
    /// Published, but there is no code for it.
    Absent,
    /// There is code, but it fails.
    Broken,
}

impl AuthorsCode {
    pub const ALL: &[Self] = &[Self::Runs, Self::Absent, Self::Broken];
}

impl std::fmt::Display for AuthorsCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Runs => "runs",
            Self::Absent => "absent",
            Self::Broken => "broken",
        })
    }
}

/// What a reader of one backbone's row must know.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackboneNote {
    pub code: AuthorsCode,
    /// Parameters of the encoder that is used, where the source counts something else.
    pub encoder_params_millions: Option<f64>,
    pub note: String,
}

/// A set of published values with its source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Published {
    pub name: String,
    pub title: String,
    /// Full citation of where the numbers stand.
    pub source: String,
    /// Short citation for tables.
    pub cite: String,
    pub url: String,
    /// How the numbers got from there to here.
    pub method: String,
    /// Whether the values are of the same experiments as ours, so that a verdict may be given; otherwise they are context.
    pub comparable: bool,
    pub caveats: Vec<String>,
    pub values: Vec<PublishedValue>,
    /// Notes by our word for the backbone.
    pub backbones: BTreeMap<String, BackboneNote>,
}

const BUILT_IN: [(&str, &str, &str); 3] = [
    (
        "paper2025",
        include_str!("../../experiments/published/paper2025.csv"),
        include_str!("../../experiments/published/paper2025.toml"),
    ),
    (
        "medmnist2023",
        include_str!("../../experiments/published/medmnist2023.csv"),
        include_str!("../../experiments/published/medmnist2023.toml"),
    ),
    (
        "medmnistplus2025",
        include_str!("../../experiments/published/medmnistplus2025.csv"),
        include_str!("../../experiments/published/medmnistplus2025.toml"),
    ),
];

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

/// The text at `path` under its own name, or `built_in` where there is no such file.
pub(super) fn beside_or_built_in(path: &Path, built_in: &str) -> Result<(String, String), BadInput> {
    let file = path.display().to_string();
    if !path.exists() {
        return Ok((format!("{file} (built in)"), built_in.to_string()));
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(e) => Err(BadInput::new(
            file,
            "a text file that can be read",
            e.to_string(),
            "Restore the file.",
        )),
    }
}

impl Published {
    /// The names a study may give in `[report] published`.
    pub fn names() -> Vec<&'static str> {
        BUILT_IN.iter().map(|b| b.0).collect()
    }

    /// Reads `<experiments_dir>/published/<name>.{csv,toml}`, or the copies inside the binary where a file is absent.
    ///
    /// # Errors
    /// [`BadInput`] with file and line for an unknown name, a malformed or repeated row, or a CSV whose hash is not the one
    /// the TOML states (a number was edited).
    pub fn load(name: &str, experiments_dir: &Path) -> Result<Self, BadInput> {
        let Some((name, csv, toml)) = BUILT_IN.iter().find(|b| b.0 == name) else {
            let names = Self::names();
            let expected = format!("a set of published values: {}", or_list(&names));
            return Err(BadInput::new(
                "published",
                expected,
                format!("`{name}`"),
                did_you_mean(name, &names),
            ));
        };
        let dir = experiments_dir.join("published");
        let (csv_file, csv) = beside_or_built_in(&dir.join(format!("{name}.csv")), csv)?;
        let (toml_file, toml) = beside_or_built_in(&dir.join(format!("{name}.toml")), toml)?;
        Self::parse(name, (&csv_file, &csv), (&toml_file, &toml))
    }

    /// Reads a set from the texts of its CSV and its TOML, each with the name messages use.
    pub fn parse(name: &str, csv: (&str, &str), toml: (&str, &str)) -> Result<Self, BadInput> {
        let text = Text {
            file: toml.0,
            text: toml.1,
        };
        let doc = text.parse()?;
        let top = Section::top(text, &doc);
        top.only(&[
            "title",
            "source",
            "cite",
            "url",
            "method",
            "comparable",
            "sha256",
            "caveats",
            "shared_offset",
            "rounding",
            "backbone",
        ])?;
        let stated = top.need("sha256")?;
        let found = fsio::sha256_hex(csv.1.as_bytes());
        if stated.string()? != found {
            let expected = format!("sha256 {} as {} states", stated.string()?, toml.0);
            let remedy = "Restore the file, or correct the hash if the change is meant.";
            return Err(BadInput::new(csv.0, expected, format!("sha256 {found}"), remedy));
        }
        let mut offsets = BTreeMap::new();
        if let Some(item) = top.get("shared_offset") {
            for entry in item.section()?.items() {
                let offset = entry.real(|x| (0.0..1.0).contains(&x), "a number from 0 to below 1")?;
                offsets.insert(entry.key, offset);
            }
        }
        let rounding = match top.get("rounding") {
            Some(item) => item.real(|x| (0.0..1.0).contains(&x), "a number from 0 to below 1")?,
            None => 0.0,
        };
        let cite = top.need("cite")?.string()?;
        Ok(Self {
            name: name.into(),
            title: top.need("title")?.string()?,
            source: top.need("source")?.string()?,
            url: top.need("url")?.string()?,
            method: top.need("method")?.string()?,
            comparable: top.need("comparable")?.flag()?,
            caveats: top.need("caveats")?.list(|i| i.string())?,
            values: read_rows(csv.0, csv.1, &cite, (&offsets, rounding))?,
            backbones: read_notes(&top)?,
            cite,
        })
    }

    /// The values of one backbone on one data set, by our words.
    pub fn of<'a>(&'a self, dataset: &'a str, backbone: &'a str) -> impl Iterator<Item = &'a PublishedValue> {
        self.values
            .iter()
            .filter(move |v| v.dataset == dataset && v.backbone.as_deref() == Some(backbone))
    }
}

fn read_notes(top: &Section) -> Result<BTreeMap<String, BackboneNote>, BadInput> {
    let mut notes = BTreeMap::new();
    let Some(item) = top.get("backbone") else {
        return Ok(notes);
    };
    for section in item.sections()? {
        section.only(&["name", "code", "encoder_params_millions", "note"])?;
        let name = section.need("name")?;
        let params = section.get("encoder_params_millions");
        let note = BackboneNote {
            code: section.need("code")?.choice(AuthorsCode::ALL)?,
            encoder_params_millions: params.map(|i| i.real(|x| x > 0.0, "a number above 0")).transpose()?,
            note: section.need("note")?.string()?,
        };
        if notes.insert(name.string()?, note).is_some() {
            return Err(name.bad("every backbone once", "Join the two notes."));
        }
    }
    Ok(notes)
}

/// One record of the CSV with its line.
struct Row<'a> {
    file: &'a str,
    line: u64,
    record: csv::StringRecord,
}

impl Row<'_> {
    fn bad(&self, expected: impl Into<String>, found: impl Into<String>) -> BadInput {
        let at = format!("{}:{}", self.file, self.line);
        BadInput::new(
            at,
            expected,
            found,
            "Restore the line; the columns are explained in the file's first lines.",
        )
    }

    fn text(&self, column: &str) -> Option<&str> {
        let index = COLUMNS.iter().position(|c| *c == column)?;
        self.record.get(index).map(str::trim).filter(|s| !s.is_empty())
    }

    fn need(&self, column: &str) -> Result<&str, BadInput> {
        self.text(column)
            .ok_or_else(|| self.bad(format!("a value in column {column}"), "none"))
    }

    fn read<T: FromStr>(&self, column: &str, ok: impl Fn(&T) -> bool, what: &str) -> Result<Option<T>, BadInput> {
        let Some(text) = self.text(column) else { return Ok(None) };
        let value = text.parse().ok().filter(ok);
        value
            .map(Some)
            .ok_or_else(|| self.bad(format!("{what} in column {column}"), format!("`{text}`")))
    }

    fn number(&self, column: &str, lo: f64, hi: f64) -> Result<Option<f64>, BadInput> {
        self.read(
            column,
            |x: &f64| (lo..=hi).contains(x),
            &format!("a number from {lo} to {hi}"),
        )
    }
}

fn read_rows(
    file: &str,
    text: &str,
    cite: &str,
    known_to: (&BTreeMap<String, f64>, f64),
) -> Result<Vec<PublishedValue>, BadInput> {
    let mut reader = csv::ReaderBuilder::new()
        .comment(Some(b'#'))
        .from_reader(text.as_bytes());
    let broken = |e: csv::Error| {
        let line = e.position().map_or(1, csv::Position::line);
        BadInput::new(
            format!("{file}:{line}"),
            "a CSV row",
            e.to_string(),
            "Restore the line.",
        )
    };
    let header = reader.headers().map_err(broken)?.clone();
    if !header.iter().eq(COLUMNS) {
        let found = header.iter().collect::<Vec<_>>().join(",");
        return Err(BadInput::new(
            file,
            format!("the columns {}", COLUMNS.join(",")),
            found,
            "Restore the header.",
        ));
    }
    let (mut values, mut seen) = (Vec::new(), BTreeSet::new());
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row { file, line, record };
        let key: Vec<String> = COLUMNS[..8]
            .iter()
            .map(|c| row.text(c).unwrap_or("").to_string())
            .collect();
        if !seen.insert(key) {
            return Err(row.bad(
                "every value once",
                "the same data set, model, regime, input and metric again",
            ));
        }
        values.push(read_row(&row, cite, known_to)?);
    }
    Ok(values)
}

fn read_row(
    row: &Row,
    cite: &str,
    (offsets, rounding): (&BTreeMap<String, f64>, f64),
) -> Result<PublishedValue, BadInput> {
    let missing = |column: &str| row.bad(format!("a value in column {column}"), "none");
    let owned = |column: &str| row.text(column).map(str::to_string);
    let dataset = row.need("dataset")?.to_string();
    Ok(PublishedValue {
        shared_offset: offsets.get(&dataset).copied().unwrap_or(0.0),
        rounding,
        dataset,
        label: row.need("label")?.into(),
        backbone: owned("backbone"),
        freeze: row.read("freeze", |_: &Freeze| true, "frozen or unfrozen")?,
        head: row.read("head", |_: &HeadKind| true, "linear or mha")?,
        regime: owned("regime"),
        input_px: row.read("input_px", |&n: &u32| n > 0, "a whole number above 0")?,
        metric: row.need("metric")?.into(),
        params_millions: row.number("params_millions", 0.0, 1e6)?,
        value: row.number("value", -1.0, 1.0)?.ok_or_else(|| missing("value"))?,
        uncertainty: row
            .number("uncertainty", 0.0, 1.0)?
            .ok_or_else(|| missing("uncertainty"))?,
        sd: row.number("sd", 0.0, 1.0)?,
        seeds: row.read("seeds", |&n: &u32| n > 0, "a whole number above 0")?,
        raw: row.number("raw", -100.0, 100.0)?.ok_or_else(|| missing("raw"))?,
        source: cite.into(),
        line: row.line,
    })
}
