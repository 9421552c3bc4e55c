//! A study: a short TOML file that says which cells of the matrix are run, under which protocol, with which seeds.
//!
//! ```toml
//! title = "…"                      # one line
//! preset = "faithful"              # or "corrected"
//! datasets = ["ddsm"]
//! backbones = ["dinov2-b"]
//! freeze = ["frozen", "unfrozen"]
//! heads = ["linear", "mha"]
//! seeds = [0, 1, 2]
//! # optional:
//! description = "…"
//! expected = "…"                   # the result this study is expected to give, in words
//! scale = "full"                   # or "tiny": small models of the same code from seeded random weights
//! keep_weights = "best"            # or "none", "last", "both": the trained weights that each run leaves in its folder
//! splits = ["authors", "grouped"]  # split rules, each a table of its own; without the key the preset's
//! [protocol]                       # single switches that depart from the preset
//! epochs = 50
//! lr = [1e-5, 1e-4]                # several values are a sweep: each a table of its own, one chosen on validation
//! [report]
//! demo = true                      # the report's first line says that its numbers mean nothing
//! published = ["KEY"]              # papers whose values the results are compared with
//! ```
//!
//! Whatever is not understood is an error with file, line and the allowed values: a study that silently ran something else
//! would be worse than none.

use super::located::{Item, Section, Text};
use super::papers::{self, Paper};
use super::read_protocol::read_protocol;
use super::sweep::{self, Swept};
use crate::data::registry::SETS;
use crate::data::{DatasetReader, Task};
use crate::error::BadInput;
use crate::eval::METRICS;
use crate::fsio;
use crate::limits;
use crate::model::registry::BACKBONES;
use crate::names::{did_you_mean, or_list};
use crate::spec::protocol::{Aspect, Preset, Protocol, Warmup};
use crate::spec::{Freeze, HeadKind, KeepWeights, RunSpec, Scale, SplitRule};
use serde::Serialize;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// The names that other modules own and a study may use.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub datasets: &'a [&'a str],
    pub backbones: &'a [&'a str],
    /// Sets of published values: see [`Published::names`](super::Published::names).
    pub published: &'a [&'a str],
}

/// What the report is told by the study.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReportOptions {
    /// The numbers mean nothing and the first line says so. Always true for tiny models.
    pub demo: bool,
    /// Names of [`Published`](super::Published) sets to compare with.
    pub published: Vec<String>,
}

/// A study that has been read and found possible.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Study {
    /// Name of the file without `.toml`, in a paper's folder without `study-`; names the folders below `results/` and `reports/`.
    pub name: String,
    pub title: String,
    /// More about it; may be empty.
    pub description: String,
    /// The result it is expected to give, in words; may be empty.
    pub expected: String,
    pub scale: Scale,
    pub datasets: Vec<String>,
    pub backbones: Vec<String>,
    pub freeze: Vec<Freeze>,
    pub heads: Vec<HeadKind>,
    pub seeds: Vec<u64>,
    /// How data sets are cut; empty for what `protocol` says.
    pub splits: Vec<SplitRule>,
    /// With the first value of every swept switch.
    pub protocol: Protocol,
    /// Which trained weights every run leaves behind.
    pub keep_weights: KeepWeights,
    /// Switches with several values; empty where nothing is swept.
    pub sweep: Vec<Swept>,
    pub report: ReportOptions,
}

/// The studies of no paper that are inside the binary, so that `medft reproduce demo` works in an empty folder.
const BUILT_IN: [(&str, &str); 2] = [
    ("demo", include_str!("../../experiments/demo.toml")),
    ("medmnist", include_str!("../../experiments/medmnist.toml")),
];

const KEYS: [&str; 14] = [
    "title",
    "description",
    "expected",
    "preset",
    "scale",
    "datasets",
    "backbones",
    "freeze",
    "heads",
    "seeds",
    "splits",
    "keep_weights",
    "protocol",
    "report",
];

/// The keys without which there is no study.
const NEEDED: [&str; 7] = ["title", "preset", "datasets", "backbones", "freeze", "heads", "seeds"];

/// Seeds stay exact in every reader of JSON.
const MAX_SEED: u64 = (1 << 53) - 1;

impl Study {
    /// Reads a study file.
    ///
    /// # Errors
    /// [`BadInput`] with file and line for anything that is not understood or cannot be run.
    pub fn load(path: &Path, known: &Known) -> Result<Self, BadInput> {
        let text = read_study(path, &Self::names(Path::new("")))?;
        Self::parse(&papers::name_of(path), &path.display().to_string(), &text, known)
    }

    /// The study of this name or path. A name is looked for as `<experiments_dir>/<name>.toml`, then among the studies of the
    /// papers, then among the others of the binary; whatever ends in `.toml` or has a `/` in it is a path.
    ///
    /// # Errors
    /// As [`Study::load`]; for an unknown name the known ones are listed.
    pub fn resolve(name_or_path: &str, experiments_dir: &Path, known: &Known) -> Result<Self, BadInput> {
        let found = Found::new(name_or_path, experiments_dir)?;
        Self::parse(&found.name, &found.file, &found.text, known)
    }

    /// The names of the studies in the binary and of those of the papers beside it, in order.
    pub fn names(experiments_dir: &Path) -> Vec<String> {
        let mut all = Paper::studies(experiments_dir);
        all.extend(BUILT_IN.iter().map(|b| b.0.to_owned()));
        all.sort();
        all
    }

    /// The text of the study that [`Study::resolve`] finds.
    ///
    /// # Errors
    /// As [`Study::resolve`].
    pub fn text(name_or_path: &str, experiments_dir: &Path) -> Result<String, BadInput> {
        Ok(Found::new(name_or_path, experiments_dir)?.text)
    }

    /// Reads a study from `text`; `file` is what messages call it.
    ///
    /// # Errors
    /// [`BadInput`] with file and line.
    pub fn parse(name: &str, file: &str, text: &str, known: &Known) -> Result<Self, BadInput> {
        check_name(name, file)?;
        let text = Text { file, text };
        let doc = text.parse()?;
        let top = Section::top(text, &doc);
        top.only(&KEYS)?;
        top.need_all(&NEEDED)?;
        let names = |allowed: &[&str], key: &str| -> Result<Vec<String>, BadInput> {
            top.need(key)?.list(|i| i.choice(allowed).map(str::to_string))
        };
        let (protocol, sweep) = read_protocol(&top, top.need("preset")?.choice(Preset::ALL)?)?;
        let scale = top.get("scale").map_or(Ok(Scale::Full), |i| i.choice(Scale::ALL))?;
        let study = Self {
            name: name.into(),
            title: top.need("title")?.string()?,
            description: top.string_or_empty("description")?,
            expected: top.string_or_empty("expected")?,
            scale,
            datasets: names(known.datasets, "datasets")?,
            backbones: names(known.backbones, "backbones")?,
            freeze: top.need("freeze")?.list(|i| i.choice(Freeze::ALL))?,
            heads: top.need("heads")?.list(|i| i.choice(HeadKind::ALL))?,
            seeds: top.need("seeds")?.list(|i| i.count(0, MAX_SEED))?,
            splits: read_splits(&top)?,
            keep_weights: top
                .get("keep_weights")
                .map_or(Ok(KeepWeights::default()), |i| i.choice(KeepWeights::ALL))?,
            protocol,
            sweep,
            report: read_report(&top, scale, known)?,
        };
        check_combinations(&study, &top)?;
        Ok(study)
    }

    /// Every run of the study. Seeds vary slowest, then data sets, splits, backbones, freeze modes, heads, each in the order
    /// of the file: the whole table is there once with the first seed before any cell is run a second time.
    pub fn runs(&self) -> Vec<RunSpec> {
        let mut runs = Vec::with_capacity(self.cells() * self.seeds.len());
        for &seed in &self.seeds {
            for (dataset, protocol) in self.tables() {
                for backbone in &self.backbones {
                    for &freeze in &self.freeze {
                        for &head in &self.heads {
                            runs.push(RunSpec {
                                dataset: dataset.into(),
                                backbone: backbone.clone(),
                                scale: self.scale,
                                freeze,
                                head,
                                seed,
                                protocol: protocol.clone(),
                            });
                        }
                    }
                }
            }
        }
        runs
    }

    /// The tables of the study: data sets, each under every split rule that cuts it differently and at every point of the sweep.
    pub fn tables(&self) -> Vec<(&str, Protocol)> {
        let of = |d: &'_ String| self.protocols(d).into_iter();
        self.datasets
            .iter()
            .flat_map(|d| of(d).map(move |p| (d.as_str(), p)))
            .collect()
    }

    /// The name of the table of `dataset` under `protocol`: the data set, with the split where the study has several of it, with the
    /// point where it sweeps.
    pub fn table(&self, dataset: &str, protocol: &Protocol) -> String {
        let mut name = self.family(dataset, protocol);
        for s in &self.sweep {
            name.push_str(&format!("-{}-{}", s.field.replace('_', "-"), s.name(protocol)));
        }
        name
    }

    /// The name that the tables of one data set and split have in common, whatever the point of the sweep.
    pub fn family(&self, dataset: &str, protocol: &Protocol) -> String {
        match self.cuts(dataset).len() {
            0 | 1 => dataset.into(),
            _ => format!("{dataset}-{}", SplitRule::name(dataset, protocol)),
        }
    }

    /// The point of the sweep as printed, `lr 1e-5`; empty where nothing is swept.
    pub fn point(&self, protocol: &Protocol) -> String {
        let one = |s: &Swept| format!("{} {}", s.title(), s.value(protocol));
        self.sweep.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    fn protocols(&self, dataset: &str) -> Vec<Protocol> {
        let cuts = self.cuts(dataset);
        cuts.iter().flat_map(|p| sweep::points(p, &self.sweep)).collect()
    }

    /// The first point of the sweep under every split rule that cuts the set differently.
    fn cuts(&self, dataset: &str) -> Vec<Protocol> {
        if self.splits.is_empty() {
            return vec![self.protocol.clone()];
        }
        let mut all = Vec::new();
        for rule in &self.splits {
            let mut p = self.protocol.clone();
            if rule.set(dataset, &mut p) && !all.contains(&p) {
                all.push(p);
            }
        }
        all
    }

    /// Number of table cells: runs without counting seeds.
    pub fn cells(&self) -> usize {
        self.tables().len() * self.backbones.len() * self.freeze.len() * self.heads.len()
    }
}

/// A study's file.
struct Found {
    name: String,
    /// What messages call it.
    file: String,
    text: String,
}

impl Found {
    fn new(name_or_path: &str, experiments_dir: &Path) -> Result<Self, BadInput> {
        let names = || Study::names(experiments_dir);
        let at = |path: &Path| {
            Ok(Self {
                name: papers::name_of(path),
                file: path.display().to_string(),
                text: read_study(path, &names())?,
            })
        };
        if name_or_path.ends_with(".toml") || name_or_path.contains(['/', '\\']) {
            return at(Path::new(name_or_path));
        }
        let beside = experiments_dir.join(format!("{name_or_path}.toml"));
        if beside.exists() {
            return at(&beside);
        }
        let built_in = BUILT_IN.iter().find(|b| b.0 == name_or_path);
        let built_in = built_in.map(|(name, text)| (format!("experiments/{name}.toml (built in)"), (*text).to_owned()));
        if let Some((file, text)) = papers::study(experiments_dir, name_or_path)?.or(built_in) {
            return Ok(Self {
                name: name_or_path.into(),
                file,
                text,
            });
        }
        let expected = format!("a study: {}, or the path of a TOML file", names().join(", "));
        let remedy = format!(
            "{} There is no {} either.",
            did_you_mean(name_or_path, &names()),
            beside.display()
        );
        Err(BadInput::new("study", expected, format!("`{name_or_path}`"), remedy))
    }
}

fn read_study(path: &Path, names: &[String]) -> Result<String, BadInput> {
    fsio::read_text_at_most(path, limits::RECORD).map_err(|e| {
        let remedy = format!("Name a study file or one of the built-in studies: {}.", or_list(names));
        BadInput::new(path.display(), "a study file that can be read", e.to_string(), remedy)
    })
}

/// The name becomes a folder on every system.
fn check_name(name: &str, file: &str) -> Result<(), BadInput> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(plain) {
        return Ok(());
    }
    let expected = "a file name of letters, digits, `-`, `_` and `.`, since it names the results folder";
    Err(BadInput::new(
        file,
        expected,
        format!("`{name}`"),
        "Rename the study file.",
    ))
}

fn read_report(top: &Section, scale: Scale, known: &Known) -> Result<ReportOptions, BadInput> {
    let mut report = ReportOptions {
        demo: scale == Scale::Tiny,
        published: Vec::new(),
    };
    let Some(section) = top.get("report").map(|i| i.section()).transpose()? else {
        return Ok(report);
    };
    section.only(&["demo", "published"])?;
    if let Some(item) = section.get("demo") {
        let demo = item.flag()?;
        if !demo && scale == Scale::Tiny {
            let expected =
                "true, since models of scale \"tiny\" start from random weights and their numbers mean nothing";
            return Err(item.bad(expected, "Remove the line, or set scale = \"full\"."));
        }
        report.demo = demo;
    }
    if let Some(item) = section.get("published") {
        let one = |i: &Item| i.choice(known.published).map(str::to_string);
        report.published = if item.is_list() {
            item.list(one)?
        } else {
            vec![one(&item)?]
        };
    }
    Ok(report)
}

/// The split rules, where the study names any; then no switch of theirs may be set by hand.
fn read_splits(top: &Section) -> Result<Vec<SplitRule>, BadInput> {
    let Some(item) = top.get("splits") else {
        return Ok(Vec::new());
    };
    let switches = top.get("protocol").map(|i| i.section()).transpose()?;
    let by_rule = |i: &Item| Protocol::find(&i.key).is_some_and(|s| s.by_split_rule);
    let set = switches.and_then(|s| s.items().into_iter().find(by_rule));
    if let Some(set) = set {
        let expected = format!("no `{}` where `splits` decides it", set.key);
        return Err(set.bad(expected, "Remove this line, or `splits`."));
    }
    item.list(|i| i.choice(SplitRule::ALL))
}

/// What each value alone cannot say.
fn check_combinations(study: &Study, top: &Section) -> Result<(), BadInput> {
    // Shares of the training images are no alternatives of which one is chosen: the whole set stands beside what is published.
    if study.sweep.iter().any(|s| s.field != "train_fraction") && !study.report.published.is_empty() {
        let item = top.need("report")?;
        let expected = "no published values beside a sweep, whose points are alternatives and no result";
        return Err(item.bad(expected, "Compare in a study of the point that was chosen."));
    }
    sweep::points(&study.protocol, &study.sweep)
        .iter()
        .try_for_each(|p| check_point(study, p, top))
}

/// As [`check_combinations`], at one point of the sweep.
fn check_point(study: &Study, p: &Protocol, top: &Section) -> Result<(), BadInput> {
    let spans = spans(top);
    // The line to blame is the first of these keys that the file has; a value from the preset has no line of its own.
    let bad = |keys: &[&str], expected: String, found: String, remedy: &str| {
        let key = keys.iter().find(|k| spans.contains_key(**k)).unwrap_or(&"preset");
        Err(top.text.bad(&spans[*key], expected, found, remedy))
    };
    if p.aspect == Aspect::Pad && p.crop < p.resize {
        return bad(
            &["crop", "resize", "aspect"],
            format!(
                "a crop of at least {} pixels, around which aspect = \"pad\" puts zeros",
                p.resize
            ),
            format!("{}", p.crop),
            "Raise `crop` or lower `resize`.",
        );
    }
    if p.aspect != Aspect::Pad && p.crop > p.resize {
        return bad(
            &["crop", "resize"],
            format!("a crop of at most {} pixels, the side after the resize", p.resize),
            format!("{}", p.crop),
            "Lower `crop` or raise `resize`.",
        );
    }
    for entry in study.backbones.iter().filter_map(|b| BACKBONES.get(b)) {
        if let Some(own) = entry.own.filter(|own| *own != study.scale) {
            let (expected, remedy) = (
                format!("scale = \"{own}\", since {} is a checkpoint of that size", entry.name),
                "Change `scale` or leave the backbone out.",
            );
            return bad(
                &["scale", "backbones"],
                expected,
                format!("\"{}\"", study.scale),
                remedy,
            );
        }
        let sides = entry.sides(study.scale);
        if !sides.accept(p.crop) {
            return bad(
                &["crop", "backbones"],
                format!("a crop that is {sides} of {}", entry.name),
                format!("{}", p.crop),
                "Change `crop` or leave the backbone out.",
            );
        }
    }
    if let Some(metric) = p.selection_metric.as_deref().and_then(|m| METRICS.get(m)) {
        let lacks = |s: &&'static dyn DatasetReader| match s.info(p).task {
            Task::MultiClass(n) => !metric.on_classes(n),
            Task::MultiLabel(_) => metric.labels.is_none(),
        };
        let of_study = study.datasets.iter().filter_map(|d| SETS.get(d));
        if let Some(source) = of_study.into_iter().find(lacks) {
            return bad(
                &["selection_metric"],
                format!(
                    "a metric that every data set has; {} has none of this name",
                    source.name()
                ),
                format!("`{}`", metric.name),
                "Choose another metric, or leave the data set out.",
            );
        }
    }
    let without = study.datasets.iter().find(|d| study.protocols(d).is_empty());
    if let Some(dataset) = without {
        return bad(
            &["splits"],
            format!("a split that every data set has; {dataset} has authors and grouped"),
            "official alone".into(),
            "Add another rule to `splits`, or leave the data set out.",
        );
    }
    let [low, high] = p.crop_scale;
    if low > high || low > 1.0 {
        return bad(
            &["crop_scale"],
            "a lower area of at most 1 and at most the upper one".into(),
            format!("[{low}, {high}]"),
            "A crop cannot be larger than its image.",
        );
    }
    if let Warmup::Epochs(n) = p.warmup
        && n > p.epochs
    {
        return bad(
            &["warmup", "epochs"],
            format!("a warm-up of at most {} epochs, the length of the training", p.epochs),
            format!("{n}"),
            "Shorten the warm-up or train longer.",
        );
    }
    Ok(())
}

/// Where each key of the top level and of `[protocol]` stands.
fn spans(top: &Section) -> BTreeMap<String, Range<usize>> {
    let inner = top
        .get("protocol")
        .and_then(|i| i.section().ok())
        .map(|s| s.items())
        .unwrap_or_default();
    top.items().into_iter().chain(inner).map(|i| (i.key, i.span)).collect()
}
