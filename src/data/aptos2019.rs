//! APTOS2019: fundus photographs, 5 grades of diabetic retinopathy, random 70/15/15 split (PROTOCOL 1.4, 1.5).
//!
//! Faithful: `train_1.csv` of a re-split copy (2,930 rows, Q6); corrected: the competition's `train.csv` (3,662).
//! Images: `train_images/train_images/<id_code>.png`, or one folder as in the competition's archive; the first image tells
//! which. The published path holds a TAB by accident and exists nowhere (Q5).

use super::csv::CsvTable;
use super::duplicates;
use super::files::{self, Unique};
use super::folder::Folder;
use super::labels::Labels;
use super::split;
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use crate::spec::protocol::{AptosCsv, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use std::path::{Path, PathBuf};

pub const MEAN: [f32; 3] = [0.415, 0.221, 0.073];
pub const STD: [f32; 3] = [0.275, 0.150, 0.081];
const IMAGES: &str = "train_images";
const GRADES: [&str; 5] = ["no DR", "mild", "moderate", "severe", "proliferative DR"];
/// Share of val and test together.
const HELD: f64 = 0.3;

/// The reader of APTOS2019.
pub struct Aptos2019;

impl DatasetReader for Aptos2019 {
    fn name(&self) -> &'static str {
        "aptos2019"
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        DatasetInfo {
            name: self.name(),
            title: "APTOS2019",
            folder: "APTOS2019",
            task: Task::MultiClass(GRADES.len()),
            channels: 3,
            mean: MEAN.to_vec(),
            std: STD.to_vec(),
            classes: GRADES.iter().map(ToString::to_string).collect(),
            target: "quadratic_kappa",
            warmup: Warmup::Epochs(5),
        }
    }

    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let rows = read_grades(root, csv_of(p))?;
        let parts = split::random_or_file(root, rows.len() as u32, HELD, p.val_ids_file)?;
        let folder = files::image_folder(root, IMAGES, rows.iter().map(|r| format!("{}.png", r.0)));
        let labels = Labels::Classes(rows.iter().map(|r| r.1).collect());
        let sample = |(id, _)| Sample {
            pixels: Pixels::File(folder.join(format!("{id}.png"))),
            id,
            group: None,
        };
        let mut samples: Vec<Sample> = rows.into_iter().map(sample).collect();
        let parts = duplicates::together(root, p, &mut samples, parts)?;
        self.of_parts(root, p, samples, labels, parts)
    }

    fn label_files(&self, p: &Protocol) -> Vec<PathBuf> {
        vec![csv_of(p).into()]
    }

    fn optional_files(&self, p: &Protocol) -> Vec<PathBuf> {
        split::obeyed_files(true, p.val_ids_file)
    }

    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        rule != SplitRule::Official && duplicates::cut(rule, p)
    }

    fn names_groups(&self) -> bool {
        false
    }

    fn of_paper(&self) -> bool {
        true
    }

    fn phantom_images(&self) -> usize {
        super::phantom::aptos2019::DEFAULT_IMAGES
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        super::phantom::aptos2019::write(root, images)
    }
}

fn csv_of(p: &Protocol) -> &'static str {
    match p.aptos_csv {
        AptosCsv::Train1 => "train_1.csv",
        AptosCsv::TrainFull => "train.csv",
    }
}

/// (id_code, diagnosis) by row.
fn read_grades(root: &Folder, csv: &str) -> Result<Vec<(String, u32)>> {
    let table = CsvTable::open(root, csv.as_ref())?;
    let (id, diagnosis) = (table.column("id_code")?, table.column("diagnosis")?);
    let mut rows = Vec::new();
    let mut unique = Unique::default();
    table.rows(|row| {
        let grade = match row.get(diagnosis).as_bytes() {
            &[digit @ b'0'..=b'4'] => u32::from(digit - b'0'),
            _ => {
                return Err(row.bad(
                    "a diagnosis from 0 to 4",
                    format!("{:?}", row.get(diagnosis)),
                    "Restore the file as Kaggle distributes it.",
                ));
            }
        };
        let name = files::image_name(row, row.get(id))?;
        unique.insert(row, name)?;
        rows.push((name.to_owned(), grade));
        Ok(())
    })?;
    Ok(rows)
}
