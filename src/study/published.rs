//! Published values to compare with: `published.csv` of a paper's folder, with `published.toml` beside it for the source, or a table
//! of one's own: `experiments/published/<name>.csv`, with `<name>.toml`.
//!
//! The columns of the CSV are explained in [`super::published_csv`], and in the first lines of every template.

use super::file::Known;
use super::located::{Item, Section, Text};
use super::papers::{self, Paper};
use super::published_csv::{self, PublishedValue};
use crate::error::BadInput;
use crate::fsio;
use crate::names::{did_you_mean, or_list};
use crate::spec::RunSpec;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

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
    pub caveats: Vec<Caveat>,
    pub values: Vec<PublishedValue>,
    /// The studies whose protocol is the source's own, by the side of the images it starts from (0 for any): what `comparable` means.
    /// Where there is none it is the faithful preset.
    pub recipes: BTreeMap<u32, String>,
    /// Notes by our name of the backbone.
    pub backbones: BTreeMap<String, BackboneNote>,
}

/// What must be known of a set's values, until another set says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Caveat {
    pub text: String,
    /// What makes it untrue.
    pub unless: Option<Outdated>,
}

/// What other values a study is compared with as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outdated {
    /// For every backbone and data set there is a value whose regime is stated.
    Regimes,
    /// There is any value whose regime is stated.
    Tables,
}

impl Outdated {
    pub const ALL: &[Self] = &[Self::Regimes, Self::Tables];
}

impl std::fmt::Display for Outdated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Regimes => "regimes",
            Self::Tables => "tables",
        })
    }
}

/// A set with all that is wrong with it.
#[derive(Debug)]
pub struct Checked {
    /// The rows that are right.
    pub set: Published,
    /// Rows without a value.
    pub empty: usize,
    pub wrong: Vec<BadInput>,
}

impl Checked {
    /// The set.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn into_set(self) -> Result<Published, BadInput> {
        self.wrong.into_iter().next().map_or(Ok(self.set), Err)
    }
}

impl Published {
    /// The names a study may give in `[report] published`: the papers that state values, then every
    /// `<experiments_dir>/published/*.csv`.
    pub fn names(experiments_dir: &Path) -> Vec<String> {
        let papers = Paper::all(experiments_dir).into_iter().filter(|p| p.published);
        let mut all: Vec<String> = papers.map(|p| p.key).collect();
        let mut own: Vec<String> = fs::read_dir(experiments_dir.join("published"))
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.path().into_os_string().into_string().ok())
            .filter_map(|p| Some(Path::new(p.strip_suffix(".csv")?).file_name()?.to_str()?.to_owned()))
            .filter(|n| !all.contains(n))
            .collect();
        own.sort();
        all.extend(own);
        all
    }

    /// Reads a paper's `published.csv` and `published.toml`, or a set of one's own, `<experiments_dir>/published/<name>.{csv,toml}`,
    /// whose TOML may be left out.
    ///
    /// # Errors
    /// [`BadInput`] with file and line for an unknown name, a malformed or repeated row, a name that nobody knows, or a CSV whose
    /// hash is not the one the TOML states (a number was edited).
    pub fn load(name: &str, experiments_dir: &Path, known: &Known) -> Result<Self, BadInput> {
        let of_paper = |file: &str| papers::text(experiments_dir, name, file);
        if let Some((csv_file, csv)) = of_paper("published.csv")? {
            let toml = of_paper("published.toml")?;
            let toml = toml.as_ref().map(|(file, text)| (file.as_str(), text.as_str()));
            return Self::parse(name, (&csv_file, &csv), toml, known);
        }
        let dir = experiments_dir.join("published");
        let csv_path = dir.join(format!("{name}.csv"));
        if !csv_path.exists() {
            let names = Self::names(experiments_dir);
            let expected = format!(
                "a set of published values: {}, or the name of a CSV in {}",
                or_list(&names),
                dir.display()
            );
            return Err(BadInput::new(
                "published",
                expected,
                format!("`{name}`"),
                did_you_mean(name, &names),
            ));
        }
        Self::check(&csv_path, known)?.into_set()
    }

    /// Reads a set of one's own from a file, with the description of the same name beside it where there is one.
    ///
    /// # Errors
    /// [`BadInput`] where a file cannot be read or the description is wrong. What is wrong with the rows is in the answer.
    pub fn check(csv: &Path, known: &Known) -> Result<Checked, BadInput> {
        // In a paper's folder the set is called by the paper.
        let name = match csv.file_name().is_some_and(|f| f == "published.csv") {
            true => csv.parent().and_then(Path::file_name),
            false => csv.file_stem(),
        };
        let name = name.and_then(|s| s.to_str()).unwrap_or("");
        let toml = csv.with_extension("toml");
        let text = papers::read_text(csv)?;
        let description = toml.exists().then(|| papers::read_text(&toml)).transpose()?;
        let (csv_file, toml_file) = (csv.display().to_string(), toml.display().to_string());
        let description = description.as_deref().map(|d| (toml_file.as_str(), d));
        Self::read(name, (&csv_file, &text), description, known)
    }

    /// Reads a set from the texts of its CSV and its TOML, each with the name messages use.
    ///
    /// # Errors
    /// As [`Published::load`].
    pub fn parse(name: &str, csv: (&str, &str), toml: Option<(&str, &str)>, known: &Known) -> Result<Self, BadInput> {
        Self::read(name, csv, toml, known)?.into_set()
    }

    fn read(name: &str, csv: (&str, &str), toml: Option<(&str, &str)>, known: &Known) -> Result<Checked, BadInput> {
        let mut set = Self {
            name: name.into(),
            title: name.into(),
            source: format!("{}, which has no description beside it", csv.0),
            cite: name.into(),
            url: String::new(),
            method: String::new(),
            comparable: true,
            caveats: Vec::new(),
            values: Vec::new(),
            recipes: BTreeMap::new(),
            backbones: BTreeMap::new(),
        };
        let (mut offsets, mut rounding) = (BTreeMap::new(), 0.0);
        if let Some(toml) = toml {
            rounding = set.describe(csv, toml, &mut offsets, known)?;
        }
        // The names of a set that is context only are its source's.
        let names = set.comparable.then(|| published_csv::KnownNames::new(known));
        let rows = published_csv::read(csv.0, csv.1, &set.cite, &offsets, names.as_ref());
        set.values = rows.values;
        for v in &mut set.values {
            v.rounding = rounding;
        }
        Ok(Checked {
            set,
            empty: rows.empty,
            wrong: rows.wrong,
        })
    }

    /// Takes title, source, caveats and notes from the description; returns the half-width of the source's own rounding.
    fn describe(
        &mut self,
        csv: (&str, &str),
        toml: (&str, &str),
        offsets: &mut BTreeMap<String, f64>,
        known: &Known,
    ) -> Result<f64, BadInput> {
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
            "recipe",
            "backbone",
        ])?;
        let built_in = papers::is_built_in(&self.name);
        let stated = if built_in {
            Some(top.need("sha256")?)
        } else {
            top.get("sha256")
        };
        let found = fsio::sha256_hex(csv.1.as_bytes());
        if let Some(stated) = stated.map(|s| s.string()).transpose()?.filter(|s| *s != found) {
            let expected = format!("sha256 {stated} as {} states", toml.0);
            let remedy = "Restore the file, or correct the hash if the change is meant.";
            return Err(BadInput::new(csv.0, expected, format!("sha256 {found}"), remedy));
        }
        for (key, field) in [
            ("title", &mut self.title),
            ("source", &mut self.source),
            ("cite", &mut self.cite),
            ("url", &mut self.url),
            ("method", &mut self.method),
        ] {
            match top.get(key) {
                Some(item) => *field = item.string()?,
                None if built_in => return Err(top.need(key).err().expect("the key is absent")),
                None => {}
            }
        }
        if let Some(item) = top.get("comparable") {
            self.comparable = item.flag()?;
        }
        if let Some(item) = top.get("caveats") {
            self.caveats = item.list(read_caveat)?;
        }
        if let Some(item) = top.get("recipe") {
            for entry in item.section()?.items() {
                let side = entry.key.parse().map_err(|_| {
                    entry.bad(
                        "the side of the source's images in pixels, 0 for any, = a study's name",
                        "Write `28 = \"name\"`.",
                    )
                })?;
                self.recipes.insert(side, entry.string()?);
            }
        }
        if let Some(item) = top.get("shared_offset") {
            for entry in item.section()?.items() {
                let offset = entry.real(|x| (0.0..1.0).contains(&x), "a number from 0 to below 1")?;
                offsets.insert(entry.key, offset);
            }
        }
        self.backbones = read_notes(&top, (!built_in).then_some(known))?;
        match top.get("rounding") {
            Some(item) => item.real(|x| (0.0..1.0).contains(&x), "a number from 0 to below 1"),
            None => Ok(0.0),
        }
    }

    /// An empty table for the cells of a study's `runs`; `metric` is the target of a run's data set.
    pub fn template(study: &str, runs: &[RunSpec], metric: impl Fn(&RunSpec) -> String) -> String {
        published_csv::template(study, runs, metric)
    }

    /// Where the numbers are from and how they came here, as one line of a report.
    pub fn origin(&self) -> String {
        let url = if self.url.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.url)
        };
        format!("{}{url}. {}", self.source, self.method).trim_end().to_owned()
    }

    /// The values of one backbone on one data set, by our names.
    pub fn of<'a>(&'a self, dataset: &'a str, backbone: &'a str) -> impl Iterator<Item = &'a PublishedValue> {
        self.values
            .iter()
            .filter(move |v| v.dataset == dataset && v.backbone.as_deref() == Some(backbone))
    }
}

fn read_caveat(item: &Item) -> Result<Caveat, BadInput> {
    if !item.is_table() {
        return Ok(Caveat {
            text: item.string()?,
            unless: None,
        });
    }
    let section = item.section()?;
    section.only(&["text", "unless"])?;
    Ok(Caveat {
        text: section.need("text")?.string()?,
        unless: Some(section.need("unless")?.choice(Outdated::ALL)?),
    })
}

/// The caveats that hold for a study on `datasets` that is compared with all of `sets`: what one set leaves open another may say.
pub fn caveats(sets: &[Published], datasets: &[String]) -> Vec<String> {
    let here = || {
        let comparable = sets.iter().filter(|s| s.comparable);
        comparable
            .flat_map(|s| &s.values)
            .filter(|v| datasets.contains(&v.dataset))
    };
    let whole = |v: &PublishedValue| v.freeze.is_some() && v.head.is_some();
    let cell = |v: &PublishedValue| (v.dataset.clone(), v.backbone.clone());
    let stated: BTreeSet<_> = here().filter(|v| whole(v)).map(cell).collect();
    let open = here().any(|v| !whole(v) && !stated.contains(&cell(v)));
    let outdated = |unless: Outdated| match unless {
        Outdated::Regimes => !stated.is_empty() && !open,
        Outdated::Tables => !stated.is_empty(),
    };
    sets.iter()
        .flat_map(|s| &s.caveats)
        .filter(|c| !c.unless.is_some_and(outdated))
        .map(|c| c.text.clone())
        .collect()
}

fn read_notes(top: &Section, known: Option<&Known>) -> Result<BTreeMap<String, BackboneNote>, BadInput> {
    let mut notes = BTreeMap::new();
    let Some(item) = top.get("backbone") else {
        return Ok(notes);
    };
    for section in item.sections()? {
        section.only(&["name", "code", "encoder_params_millions", "note"])?;
        let name = section.need("name")?;
        if let Some(known) = known {
            name.choice(known.backbones)?;
        }
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
