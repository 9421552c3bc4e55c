//! ISIC2019: dermoscopy, 8 diagnoses, random 80/10/10 split (PROTOCOL 1.3, 1.5).
//!
//! Layout: `ISIC_2019_Training_GroundTruth.csv`, `ISIC_2019_Training_Metadata.csv` (LF or CRLF) and the images in
//! `ISIC_2019_Training_Input/ISIC_2019_Training_Input/` or, as the organisers' archive unpacks, in one folder of that
//! name; the first image tells which. The authors' path holds a backslash and works on Windows only (Q7).

use super::csv::CsvTable;
use super::files::{self, Unique};
use super::folder::Folder;
use super::labels::Labels;
use super::split;
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use crate::error::BadInput;
use crate::spec::protocol::{IsicSplit, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// As the authors write them; the last digits are below float32.
#[allow(clippy::excessive_precision)]
pub const MEAN: [f32; 3] = [0.667_767_17, 0.529_608_88, 0.524_347_25];
#[allow(clippy::excessive_precision)]
pub const STD: [f32; 3] = [0.223_818_77, 0.203_630_36, 0.215_386_23];
const TRUTH: &str = "ISIC_2019_Training_GroundTruth.csv";
const METADATA: &str = "ISIC_2019_Training_Metadata.csv";
const IMAGES: &str = "ISIC_2019_Training_Input";
const CLASSES: [&str; 8] = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"];
/// Share of val and test together.
const HELD: f64 = 0.2;

/// The reader of ISIC2019.
pub struct Isic2019;

impl DatasetReader for Isic2019 {
    fn name(&self) -> &'static str {
        "isic2019"
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        DatasetInfo {
            name: self.name(),
            title: "ISIC2019",
            folder: "ISIC2019",
            task: Task::MultiClass(CLASSES.len()),
            channels: 3,
            mean: MEAN.to_vec(),
            std: STD.to_vec(),
            classes: CLASSES.iter().map(ToString::to_string).collect(),
            target: "recall",
            warmup: Warmup::Iterations(1000),
        }
    }

    /// A sample's group is its lesion under either split, so that the overlap of the random one can be counted.
    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let truth = read_truth(root)?;
        let lesions = read_lesions(root, &truth)?;
        let parts = match p.isic_split {
            IsicSplit::ByImage => split::random_or_file(root, truth.len() as u32, HELD, p.val_ids_file)?,
            IsicSplit::ByLesion => {
                let groups: Vec<_> = lesions.iter().map(Option::as_deref).collect();
                let classes: Vec<_> = truth.iter().map(|t| t.1).collect();
                split::by_group(&groups, &classes, HELD)
            }
        };
        let folder = files::image_folder(root, IMAGES, truth.iter().map(|t| format!("{}.jpg", t.0)));
        let labels = Labels::Classes(truth.iter().map(|t| t.1).collect());
        let sample = |((id, _), group): ((String, u32), Option<String>)| Sample {
            pixels: Pixels::File(folder.join(format!("{id}.jpg"))),
            id,
            group,
        };
        let samples = truth.into_iter().zip(lesions).map(sample).collect();
        self.of_parts(root, p, samples, labels, parts)
    }

    fn label_files(&self, _: &Protocol) -> Vec<PathBuf> {
        vec![TRUTH.into(), METADATA.into()]
    }

    fn optional_files(&self, p: &Protocol) -> Vec<PathBuf> {
        split::obeyed_files(p.isic_split == IsicSplit::ByImage, p.val_ids_file)
    }

    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        p.isic_split = match rule {
            SplitRule::Authors => IsicSplit::ByImage,
            SplitRule::Grouped => IsicSplit::ByLesion,
            SplitRule::Official => return false,
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
        super::phantom::isic2019::DEFAULT_IMAGES
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        super::phantom::isic2019::write(root, images)
    }
}

/// (image, class) by row. The authors find classes by scanning the whole table for non-zeros, so that one row with none or
/// two would shift all labels behind it; here such a row is an error.
fn read_truth(root: &Folder) -> Result<Vec<(String, u32)>> {
    let table = CsvTable::open(root, TRUTH.as_ref())?;
    let image = table.column("image")?;
    let columns = CLASSES.iter().map(|c| table.column(c)).collect::<Result<Vec<_>>>()?;
    let unknown = table.column("UNK")?;
    let mut rows = Vec::new();
    let mut unique = Unique::default();
    table.rows(|row| {
        let positive = |&i: &usize| match row.get(i) {
            "0.0" | "0" => Ok(false),
            "1.0" | "1" => Ok(true),
            other => Err(row.bad("0.0 or 1.0 for every class", format!("{other:?}"), FIX)),
        };
        let mut found = Vec::with_capacity(1);
        for (class, i) in columns.iter().enumerate() {
            if positive(i)? {
                found.push(class as u32);
            }
        }
        if positive(&unknown)? {
            return Err(row.bad("one of the eight diagnoses", "UNK, which has no class in training", FIX));
        }
        let &[class] = found.as_slice() else {
            return Err(row.bad("exactly one positive class", format!("{} of them", found.len()), FIX));
        };
        let name = files::image_name(row, row.get(image))?;
        unique.insert(row, name)?;
        rows.push((name.to_owned(), class));
        Ok(())
    })?;
    Ok(rows)
}

const FIX: &str = "Restore the file as the ISIC challenge distributes it.";

/// The lesion of every image of `truth`; `None` where the metadata leave it empty (2,084 images of the real file).
fn read_lesions(root: &Folder, truth: &[(String, u32)]) -> Result<Vec<Option<String>>> {
    let table = CsvTable::open(root, METADATA.as_ref())?;
    let (image, lesion) = (table.column("image")?, table.column("lesion_id")?);
    let index: HashMap<&str, usize> = truth.iter().enumerate().map(|(i, t)| (t.0.as_str(), i)).collect();
    let mut lesions: Vec<Option<Option<String>>> = vec![None; truth.len()];
    let mut unique = Unique::default();
    table.rows(|row| {
        unique.insert(row, row.get(image))?;
        if let Some(&i) = index.get(row.get(image)) {
            let name = row.get(lesion);
            lesions[i] = Some((!name.is_empty()).then(|| name.to_owned()));
        }
        Ok(())
    })?;
    let known = |(lesion, (name, _)): (Option<Option<String>>, &(String, u32))| {
        lesion.ok_or_else(|| {
            BadInput::new(
                root.join(METADATA).display(),
                format!("a row for every image of {TRUTH}"),
                format!("none for {name:?}"),
                "Bring both files from the same place.",
            )
            .into()
        })
    };
    lesions.into_iter().zip(truth).map(known).collect()
}
