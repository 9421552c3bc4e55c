//! CheXpert-v1.0-small: chest radiographs, frontal and lateral, 14 labels (PROTOCOL 1.2).
//!
//! Everything comes from `train.csv`; `valid.csv` (radiologists' labels, 234 images) only where the protocol asks for it
//! (Q11). An image lies at the CSV path without its first component: `train/patient00001/study1/view1_frontal.jpg`.

use super::csv::{CsvRow, CsvTable};
use super::files;
use super::folder::Folder;
use super::labels::Labels;
use super::split;
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use crate::error::BadInput;
use crate::spec::protocol::{ChexpertNoFinding, ChexpertSplit, ChexpertTest, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

pub const MEAN: [f32; 1] = [0.503];
pub const STD: [f32; 1] = [0.292];
const LABELS: [&str; 14] = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
];

/// The reader of CheXpert.
pub struct CheXpert;

impl DatasetReader for CheXpert {
    fn name(&self) -> &'static str {
        "chexpert"
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        DatasetInfo {
            name: self.name(),
            title: "CheXpert",
            folder: "CheXpert",
            task: Task::MultiLabel(LABELS.len()),
            channels: 1,
            mean: MEAN.to_vec(),
            std: STD.to_vec(),
            classes: LABELS.iter().map(ToString::to_string).collect(),
            target: "roc_auc",
            warmup: Warmup::Iterations(1000),
        }
    }

    /// With the official valid.csv as test, its images follow those of train.csv; train and val stay as they are and the images
    /// of the test part that train.csv would give are left unused. The "No Finding" rule holds for both files.
    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let path = root.join("train.csv");
        let (mut samples, mut bits, lines) = read(root, "train.csv", p.chexpert_no_finding)?;
        let sorted = sort_by_path(&path, &samples, &lines)?;
        let mut parts = match p.chexpert_split {
            ChexpertSplit::LabelSlices => {
                split::label_slices(&sorted).ok_or_else(|| no_label_slices(&path, &samples))?
            }
            ChexpertSplit::PatientBorders => split::patient_borders(&sorted, |i| samples[i as usize].group.as_deref()),
        };
        if p.chexpert_test == ChexpertTest::OfficialValid {
            let path = root.join("valid.csv");
            let (valid, more, lines) = read(root, "valid.csv", p.chexpert_no_finding)?;
            sort_by_path(&path, &valid, &lines)?;
            let from = samples.len() as u32;
            samples.extend(valid);
            bits.extend(more);
            parts.test = (from..samples.len() as u32).collect();
        }
        let labels = Labels::MultiHot {
            labels: LABELS.len(),
            bits,
        };
        self.of_parts(root, p, samples, labels, parts)
    }

    fn label_files(&self, p: &Protocol) -> Vec<PathBuf> {
        match p.chexpert_test {
            ChexpertTest::TrainCsv => vec!["train.csv".into()],
            ChexpertTest::OfficialValid => vec!["train.csv".into(), "valid.csv".into()],
        }
    }

    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        (p.chexpert_split, p.chexpert_test) = match rule {
            SplitRule::Authors => (ChexpertSplit::LabelSlices, ChexpertTest::TrainCsv),
            SplitRule::Grouped => (ChexpertSplit::PatientBorders, ChexpertTest::TrainCsv),
            SplitRule::Official => (ChexpertSplit::PatientBorders, ChexpertTest::OfficialValid),
        };
        true
    }

    fn names_groups(&self) -> bool {
        true
    }

    fn of_paper(&self) -> bool {
        true
    }

    fn phantom_images(&self) -> usize {
        super::phantom::chexpert::DEFAULT_IMAGES
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        super::phantom::chexpert::write(root, images)
    }
}

const FIX: &str = "Restore the file as CheXpert-v1.0-small distributes it.";

/// Samples in file order with their labels, 0 or 1 row by row, and their lines.
fn read(root: &Folder, csv: &str, no_finding: ChexpertNoFinding) -> Result<(Vec<Sample>, Vec<u8>, Vec<u64>)> {
    let path = root.join(csv);
    let table = CsvTable::open(root, csv.as_ref())?;
    let image = table.column("Path")?;
    let first = table.header().len().saturating_sub(LABELS.len());
    if table.header()[first..] != LABELS {
        return Err(BadInput::new(
            format!("{}:1", path.display()),
            format!("the last 14 columns to be {}", LABELS.join(", ")),
            table.header()[first..].join(", "),
            FIX,
        )
        .into());
    }
    let release = table.first(|row| Ok(locate(row, row.get(image))?.0.to_owned()))?;
    let rows = table.map(|row| {
        let (top, id, patient) = locate(row, row.get(image))?;
        if release != top {
            return Err(row.bad(format!("a path below {release}/"), format!("{:?}", row.get(image)), FIX));
        }
        let mut labels = [0; LABELS.len()];
        for (k, label) in labels.iter_mut().enumerate() {
            *label = positive(row, first + k, LABELS[k])?;
        }
        if no_finding == ChexpertNoFinding::SetWhenAllZero && labels.iter().all(|&l| l == 0) {
            labels[0] = 1;
        }
        let sample = Sample {
            id: id.to_owned(),
            group: Some(patient.to_owned()),
            pixels: Pixels::File(PathBuf::from(id)),
        };
        Ok((sample, labels, row.line()))
    })?;
    let (mut samples, mut bits, mut lines) = (Vec::new(), Vec::new(), Vec::new());
    for (sample, labels, line) in rows {
        samples.push(sample);
        bits.extend(labels);
        lines.push(line);
    }
    Ok((samples, bits, lines))
}

/// 1 for a positive label; empty, negative and uncertain (−1, "U-Zeroes") are 0.
fn positive(row: &CsvRow<'_>, column: usize, label: &str) -> Result<u8> {
    match row.get(column) {
        "" | "0.0" | "-1.0" | "0" | "-1" => Ok(0),
        "1.0" | "1" => Ok(1),
        other => Err(row.bad(
            format!("{label:?} to be 1.0, 0.0, -1.0 or empty"),
            format!("{other:?}"),
            FIX,
        )),
    }
}

/// The first component, the path below the data set's folder and the patient.
fn locate<'a>(row: &CsvRow<'_>, listed: &'a str) -> Result<(&'a str, &'a str, &'a str)> {
    files::relative(row, listed)?;
    let (top, below) = listed.split_once('/').unwrap_or((listed, ""));
    let mut parts = below.split('/').skip(1);
    match (parts.next().filter(|p| p.starts_with("patient")), parts.next()) {
        (Some(patient), Some(_)) => Ok((top, below, patient)),
        _ => Err(row.bad(
            "a path like CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg",
            format!("{listed:?}"),
            FIX,
        )),
    }
}

/// Row numbers by ascending path, bytes compared: the order of Python's strings.
///
/// The first component is left out of the comparison; `read` has seen that all paths share it.
fn sort_by_path(path: &Path, samples: &[Sample], lines: &[u64]) -> Result<Vec<u32>> {
    let mut sorted: Vec<u32> = (0..samples.len() as u32).collect();
    sorted.par_sort_by(|&a, &b| samples[a as usize].id.cmp(&samples[b as usize].id));
    let same = sorted
        .windows(2)
        .find(|w| samples[w[0] as usize].id == samples[w[1] as usize].id);
    match same {
        None => Ok(sorted),
        Some(w) => Err(files::twice(
            format!("{}:{}", path.display(), lines[w[1] as usize]),
            &samples[w[1] as usize].id,
            format!("line {}", lines[w[0] as usize]),
        )),
    }
}

fn no_label_slices(path: &Path, samples: &[Sample]) -> anyhow::Error {
    BadInput::new(
        path.display(),
        "rows nearly sorted by patient, as in the real file, so that the authors' label slices exist",
        format!("{} rows for which pandas raises KeyError", samples.len()),
        "Restore the file as distributed, or set chexpert_split = \"patient-borders\" in the study.",
    )
    .into()
}
