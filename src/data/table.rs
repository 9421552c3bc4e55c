//! A data set that a user describes: `layout = "table"` in its manifest.
//!
//! Layout: `table.csv` and the images below `images/`. The table has a row an image: `file` (below `images/`), the class in `label` or
//! a column `label:NAME` of 0 and 1 for each label, `split` (train, val or test) and, where the user knows it, `group` (patient,
//! lesion). `medft data add` writes it from whatever the user has ([`super::own`]); whoever writes it by hand finds a mistake named
//! with its line.

use super::csv::{CsvRow, CsvTable};
use super::duplicates;
use super::files::{self, Unique};
use super::folder::Folder;
use super::labels::Labels;
use super::split::Parts;
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use crate::error::BadInput;
use crate::eval::METRICS;
use crate::spec::protocol::{Duplicates, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The table's name in the set's folder.
pub const TABLE: &str = "table.csv";
/// The images' folder in it.
pub const IMAGES: &str = "images";
/// The parts, as the column `split` has them.
pub const PARTS: [&str; 3] = ["train", "val", "test"];
const MEND: &str = "Correct the table, or add the set again with `medft data add`.";

/// The kind of task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TableTask {
    /// One of several classes.
    Multiclass,
    /// One of two classes.
    Binary,
    /// Any number of labels.
    Multilabel,
}

impl TableTask {
    /// As a manifest and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Multiclass => "multiclass",
            Self::Binary => "binary",
            Self::Multilabel => "multilabel",
        }
    }
}

/// What the table does not say itself: the `[table]` of a manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    pub task: TableTask,
    /// Names of the classes or labels, in order.
    pub classes: Vec<String>,
    /// 1 (grey) or 3.
    pub channels: usize,
    /// Per channel, of pixel values in 0..1, over the pixels of the training images.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// The metric that counts.
    pub target: String,
    /// Whether the table has a `group` column.
    pub groups: bool,
    /// How the parts came about, in words.
    pub split: String,
}

impl TableSpec {
    fn of(&self) -> Task {
        match self.task {
            TableTask::Multiclass | TableTask::Binary => Task::MultiClass(self.classes.len()),
            TableTask::Multilabel => Task::MultiLabel(self.classes.len()),
        }
    }

    /// The metrics that may be its target.
    pub fn metrics(&self) -> Vec<&'static str> {
        let has = |m: &&'static crate::eval::Metric| match self.of() {
            Task::MultiClass(n) => m.on_classes(n),
            Task::MultiLabel(_) => m.labels.is_some(),
        };
        METRICS
            .all()
            .into_iter()
            .filter(|m| m.selectable)
            .filter(has)
            .map(|m| m.name)
            .collect()
    }

    /// What is wrong with it, in words.
    pub fn fault(&self) -> Option<String> {
        let n = self.classes.len();
        let twice = (1..n).find(|&i| self.classes[..i].contains(&self.classes[i]));
        let positive = |v: &f32| v.is_finite() && *v > 0.0;
        let few = match self.task {
            TableTask::Multiclass => n < 2,
            TableTask::Binary => n != 2,
            TableTask::Multilabel => n == 0,
        };
        if few {
            let names = self.classes.join(", ");
            return Some(format!("{n} classes ({names}) for a {} task", self.task.name()));
        }
        if let Some(i) = twice {
            return Some(format!("the class {:?} twice", self.classes[i]));
        }
        if !matches!(self.channels, 1 | 3) {
            return Some(format!("{} channels, where 1 or 3 are read", self.channels));
        }
        if self.mean.len() != self.channels || self.std.len() != self.channels {
            return Some(format!("no mean and std for each of {} channels", self.channels));
        }
        if !self.std.iter().all(positive) {
            return Some(
                "a standard deviation of 0: one of the colours is the same all over the training images".into(),
            );
        }
        (!self.metrics().contains(&self.target.as_str())).then(|| {
            format!(
                "the metric `{}`, where the task has {}",
                self.target,
                self.metrics().join(", ")
            )
        })
    }
}

/// The reader of such a set.
#[derive(Debug)]
pub struct TableSource {
    name: &'static str,
    title: &'static str,
    folder: &'static str,
    target: &'static str,
    spec: TableSpec,
    manifest: String,
}

impl TableSource {
    /// From its manifest: name, title, folder, `[table]`, and the whole text. Names live as long as the program.
    ///
    /// # Errors
    /// [`BadInput`] where the table makes no sense.
    pub fn new(name: &str, title: &str, folder: &str, spec: TableSpec, manifest: &str) -> Result<Self, BadInput> {
        let at = format!("the manifest of {name}");
        if let Some(fault) = spec.fault() {
            return Err(BadInput::new(at, "a [table] that can be read", fault, MEND));
        }
        if files::relative("", folder).is_err() {
            let expected = "a folder below the data directory";
            return Err(BadInput::new(at, expected, format!("{folder:?}"), MEND));
        }
        let keep = |s: &str| -> &'static str { Box::leak(s.to_owned().into_boxed_str()) };
        Ok(Self {
            name: keep(name),
            title: keep(title),
            folder: keep(folder),
            target: keep(&spec.target),
            spec,
            manifest: manifest.to_owned(),
        })
    }

    /// The column of the class, or one for each label.
    fn columns(&self, table: &CsvTable) -> Result<Vec<usize>> {
        match self.spec.task {
            TableTask::Multiclass | TableTask::Binary => Ok(vec![table.column("label")?]),
            TableTask::Multilabel => self
                .spec
                .classes
                .iter()
                .map(|c| table.column(&label_column(c)))
                .collect(),
        }
    }

    /// Adds the truth of a row.
    fn add(&self, all: &mut Labels, row: &CsvRow<'_>, columns: &[usize]) -> Result<()> {
        match all {
            Labels::Classes(classes) => {
                let text = row.get(columns[0]);
                let class = self.spec.classes.iter().position(|c| c == text);
                let expected = || format!("a class: {}", self.spec.classes.join(", "));
                classes.push(class.ok_or_else(|| row.bad(expected(), format!("{text:?}"), MEND))? as u32);
            }
            Labels::MultiHot { bits, .. } => {
                for &c in columns {
                    bits.push(match row.get(c) {
                        "0" => 0,
                        "1" => 1,
                        other => return Err(row.bad("0 or 1", format!("{other:?}"), MEND)),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The column of a label: no label can have the name of another column.
pub fn label_column(label: &str) -> String {
    format!("label:{label}")
}

impl DatasetReader for TableSource {
    fn name(&self) -> &'static str {
        self.name
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        DatasetInfo {
            name: self.name,
            title: self.title,
            folder: self.folder,
            task: self.spec.of(),
            channels: self.spec.channels,
            mean: self.spec.mean.clone(),
            std: self.spec.std.clone(),
            classes: self.spec.classes.clone(),
            target: self.target,
            warmup: Warmup::Epochs(5),
        }
    }

    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let table = CsvTable::open(root, TABLE.as_ref())?;
        let (file, part) = (table.column("file")?, table.column("split")?);
        let columns = self.columns(&table)?;
        let group = self.spec.groups.then(|| table.column("group")).transpose()?;
        let (mut samples, mut labels) = (Vec::new(), Labels::none(self.spec.of()));
        let mut parts: [Vec<u32>; 3] = Default::default();
        let mut unique = Unique::default();
        table.rows(|row| {
            let name = row.get(file);
            let below = files::relative(row, name)?;
            unique.insert(row, name)?;
            let Some(k) = PARTS.iter().position(|p| *p == row.get(part)) else {
                return Err(row.bad("train, val or test", format!("{:?}", row.get(part)), MEND));
            };
            parts[k].push(samples.len() as u32);
            samples.push(Sample {
                id: name.to_owned(),
                group: group.map(|g| row.get(g)).filter(|g| !g.is_empty()).map(str::to_owned),
                pixels: Pixels::File(Path::new(IMAGES).join(below)),
            });
            self.add(&mut labels, row, &columns)
        })?;
        let [train, val, test] = parts;
        let mut parts = Parts { train, val, test };
        if !self.spec.groups {
            parts = duplicates::together(root, p, &mut samples, parts)?;
        }
        self.of_parts(root, p, samples, labels, parts)
    }

    fn label_files(&self, _: &Protocol) -> Vec<PathBuf> {
        vec![TABLE.into()]
    }

    /// The parts are the table's under every rule, but for duplicates where no groups are named.
    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        self.spec.groups || duplicates::cut(rule, p)
    }

    fn names_groups(&self) -> bool {
        self.spec.groups
    }

    fn manifest(&self) -> Option<&str> {
        Some(&self.manifest)
    }

    /// The parts are others than the table's where copies of an image were brought together.
    fn counts_hold(&self, p: &Protocol) -> bool {
        self.spec.groups || p.duplicates == Duplicates::Ignored
    }

    fn has_phantom(&self) -> bool {
        false
    }

    fn phantom_images(&self) -> usize {
        0
    }

    fn synth(&self, root: &Path, _: usize) -> Result<()> {
        Err(BadInput::new(
            root.display(),
            "a data set with a generated stand-in",
            format!("{}, which a user described", self.name),
            "Leave the set out: small models read its real images.",
        )
        .into())
    }
}
