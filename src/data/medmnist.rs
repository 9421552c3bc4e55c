//! The twelve two-dimensional sets of MedMNIST v2 (Yang et al. 2023) as npz files with the authors' own train, val and test parts.
//!
//! MedMNIST is not in the paper. It is here because its files are free to get, so that the whole way can be run on real
//! images. Mean, standard deviation, target metric and warm-up are the paper's of the neighbouring modality (DDSM for
//! breast ultrasound, paediatric chest films and every other grey set, CheXpert for chest X-rays, ISIC2019 for dermoscopy and every other
//! colour set, APTOS2019 for fundus):
//! a choice of this project, neither MedMNIST's own statistics nor its protocol (which selects and reports AUC and accuracy).
//!
//! Layout: `medmnist/<name>.npz` (28 × 28), or `<name>_64.npz`, `_128`, `_224` in its place. Exactly one of them may lie
//! there, since the size changes the numbers and nothing else would tell which one was read; a protocol that pads names the size, and
//! others may then lie beside it. Pixels are held in memory.

use super::folder::Folder;
use super::labels::Labels;
use super::npz::Npz;
use super::split::Parts;
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use super::{aptos2019, chexpert, ddsm, duplicates, isic2019};
use crate::error::BadInput;
use crate::spec::protocol::{Aspect, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The reader of one MedMNIST set.
pub struct MedMnist {
    name: &'static str,
    title: &'static str,
    channels: usize,
    classes: &'static [&'static str],
    like: Neighbour,
}

/// The paper's data set of the nearest modality.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Neighbour {
    Ddsm,
    CheXpert,
    Isic2019,
    Aptos2019,
}

/// Breast ultrasound; 546/78/156 images.
pub static BREAST: MedMnist = MedMnist {
    name: "breastmnist",
    title: "BreastMNIST",
    channels: 1,
    classes: &["malignant", "normal or benign"],
    like: Neighbour::Ddsm,
};
/// Fundus photographs with 5 ordinal grades; 1,080/120/400 images.
pub static RETINA: MedMnist = MedMnist {
    name: "retinamnist",
    title: "RetinaMNIST",
    channels: 3,
    classes: &["0", "1", "2", "3", "4"],
    like: Neighbour::Aptos2019,
};
/// Dermoscopy (HAM10000); 7,007/1,003/2,005 images. Several images show one lesion, and the file does not say which.
pub static DERMA: MedMnist = MedMnist {
    name: "dermamnist",
    title: "DermaMNIST",
    channels: 3,
    classes: &[
        "actinic keratoses and intraepithelial carcinoma",
        "basal cell carcinoma",
        "benign keratosis-like lesions",
        "dermatofibroma",
        "melanoma",
        "melanocytic nevi",
        "vascular lesions",
    ],
    like: Neighbour::Isic2019,
};
/// Paediatric chest X-rays; 4,708/524/624 images.
pub static PNEUMONIA: MedMnist = MedMnist {
    name: "pneumoniamnist",
    title: "PneumoniaMNIST",
    channels: 1,
    classes: &["normal", "pneumonia"],
    like: Neighbour::Ddsm,
};
/// Chest X-rays (NIH ChestX-ray14) with 14 labels; 78,468/11,219/22,433 images.
pub static CHEST: MedMnist = MedMnist {
    name: "chestmnist",
    title: "ChestMNIST",
    channels: 1,
    classes: &[
        "atelectasis",
        "cardiomegaly",
        "effusion",
        "infiltration",
        "mass",
        "nodule",
        "pneumonia",
        "pneumothorax",
        "consolidation",
        "edema",
        "emphysema",
        "fibrosis",
        "pleural",
        "hernia",
    ],
    like: Neighbour::CheXpert,
};

/// Single blood cells under the microscope; 11,959/1,712/3,421 images.
pub static BLOOD: MedMnist = MedMnist {
    name: "bloodmnist",
    title: "BloodMNIST",
    channels: 3,
    classes: &[
        "basophil",
        "eosinophil",
        "erythroblast",
        "immature granulocytes",
        "lymphocyte",
        "monocyte",
        "neutrophil",
        "platelet",
    ],
    like: Neighbour::Isic2019,
};
/// Optical coherence tomography of the retina; 97,477/10,832/1,000 images.
pub static OCT: MedMnist = MedMnist {
    name: "octmnist",
    title: "OCTMNIST",
    channels: 1,
    classes: &[
        "choroidal neovascularization",
        "diabetic macular edema",
        "drusen",
        "normal",
    ],
    like: Neighbour::Ddsm,
};
/// The organs of the three sets of CT slices.
const ORGANS: &[&str] = &[
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
];
/// Axial slices; 34,561/6,491/17,778 images.
pub static ORGAN_A: MedMnist = MedMnist {
    name: "organamnist",
    title: "OrganAMNIST",
    channels: 1,
    classes: ORGANS,
    like: Neighbour::Ddsm,
};
/// Coronal slices; 12,975/2,392/8,216 images.
pub static ORGAN_C: MedMnist = MedMnist {
    name: "organcmnist",
    title: "OrganCMNIST",
    ..ORGAN_A
};
/// Sagittal slices; 13,932/2,452/8,827 images.
pub static ORGAN_S: MedMnist = MedMnist {
    name: "organsmnist",
    title: "OrganSMNIST",
    ..ORGAN_A
};
/// Stained colon tissue; 89,996/10,004/7,180 images.
pub static PATH: MedMnist = MedMnist {
    name: "pathmnist",
    title: "PathMNIST",
    channels: 3,
    classes: &[
        "adipose",
        "background",
        "debris",
        "lymphocytes",
        "mucus",
        "smooth muscle",
        "normal colon mucosa",
        "cancer-associated stroma",
        "colorectal adenocarcinoma epithelium",
    ],
    like: Neighbour::Isic2019,
};
/// Kidney cortex cells; 165,466/23,640/47,280 images.
pub static TISSUE: MedMnist = MedMnist {
    name: "tissuemnist",
    title: "TissueMNIST",
    channels: 1,
    classes: &[
        "collecting duct, connecting tubule",
        "distal convoluted tubule",
        "glomerular endothelial cells",
        "interstitial endothelial cells",
        "leukocytes",
        "podocytes",
        "proximal tubule segments",
        "thick ascending limb",
    ],
    like: Neighbour::Ddsm,
};

impl MedMnist {
    fn task(&self) -> Task {
        match self.like {
            Neighbour::CheXpert => Task::MultiLabel(self.classes.len()),
            _ => Task::MultiClass(self.classes.len()),
        }
    }

    /// The names the file may have, 28 pixels first.
    fn variants(&self) -> [String; 4] {
        ["", "_64", "_128", "_224"].map(|size| format!("{}{size}.npz", self.name))
    }

    /// The file of the size that a protocol names, which is then the one that is read whatever lies beside it; else the one file
    /// that is there.
    fn find(&self, root: &Folder, p: &Protocol) -> Result<PathBuf> {
        if let Some(named) = self.named(p) {
            if root.has(named.as_ref()) {
                return Ok(PathBuf::from(named));
            }
            return Err(BadInput::new(
                root.join(&named).display(),
                format!(
                    "this file: images of {} pixels, which aspect = \"pad\" leaves as they are",
                    p.resize
                ),
                "no such file",
                "Bring it (`medft data list` says from where), or name its place with --data-dir.",
            )
            .into());
        }
        let there: Vec<String> = self.variants().into_iter().filter(|f| root.has(f.as_ref())).collect();
        match there.as_slice() {
            [one] => Ok(PathBuf::from(one)),
            [] => Err(BadInput::new(
                root.join(&self.variants()[0]).display(),
                "this file, or its _64, _128 or _224 variant",
                "none of them",
                format!(
                    "Bring it (`medft data list` says from where) or name its place with --data-dir, above {}/.",
                    FOLDER
                ),
            )
            .into()),
            many => Err(BadInput::new(
                root.display(),
                format!("one size of {}", self.title),
                many.join(" and "),
                "Move all but one of them to another folder: the size changes the numbers.",
            )
            .into()),
        }
    }

    /// The file of the size that `aspect = "pad"` asks for.
    fn named(&self, p: &Protocol) -> Option<String> {
        let at = [28, 64, 128, 224].iter().position(|size| *size == p.resize)?;
        (p.aspect == Aspect::Pad).then(|| self.variants()[at].clone())
    }

    /// One part's images and labels, appended to `samples` and `all`.
    fn part(&self, npz: &mut Npz, part: &str, samples: &mut Vec<Sample>, all: &mut Labels) -> Result<Vec<u32>> {
        let (images, truth) = (format!("{part}_images"), format!("{part}_labels"));
        let pixels = npz.images(&images, self.channels)?;
        let width = if let Task::MultiLabel(n) = self.task() { n } else { 1 };
        let labels = npz.labels(&truth, width)?;
        if pixels.len() != labels.len() {
            return Err(BadInput::new(
                npz.at(&truth),
                format!("{} rows, one for each of {images}", pixels.len()),
                labels.len().to_string(),
                BROKEN,
            )
            .into());
        }
        let from = samples.len() as u32;
        for (i, (pixels, row)) in pixels.into_iter().zip(labels).enumerate() {
            samples.push(Sample {
                id: format!("{part}_{i:05}"),
                group: None,
                pixels: Pixels::Array(Arc::new(pixels)),
            });
            self.add(all, &row)
                .ok_or_else(|| self.bad_label(npz, &truth, i, &row))?;
        }
        Ok((from..samples.len() as u32).collect())
    }

    /// Adds the truth of an image; `None` where it is no class or label of the set.
    fn add(&self, all: &mut Labels, row: &[i64]) -> Option<()> {
        match all {
            Labels::MultiHot { bits, .. } => {
                let bit = |&l: &i64| u8::try_from(l).ok().filter(|&l| l < 2);
                bits.extend(row.iter().map(bit).collect::<Option<Vec<_>>>()?);
            }
            Labels::Classes(classes) => {
                let class = u32::try_from(row[0]).ok();
                classes.push(class.filter(|&c| (c as usize) < self.classes.len())?);
            }
        }
        Some(())
    }

    fn bad_label(&self, npz: &Npz, truth: &str, i: usize, row: &[i64]) -> anyhow::Error {
        let expected = match self.task() {
            Task::MultiLabel(_) => "labels of 0 or 1".to_string(),
            Task::MultiClass(n) => format!("a class from 0 to {}", n - 1),
        };
        BadInput::new(format!("{}[{i}]", npz.at(truth)), expected, format!("{row:?}"), BROKEN).into()
    }
}

const FOLDER: &str = "medmnist";
const BROKEN: &str = "Download the file again; `medft data verify` compares it with the published checksum.";

impl DatasetReader for MedMnist {
    fn name(&self) -> &'static str {
        self.name
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        let (mean, std, target, warmup) = match self.like {
            Neighbour::Ddsm => (&ddsm::MEAN[..], &ddsm::STD[..], "roc_auc", Warmup::Epochs(5)),
            Neighbour::CheXpert => (
                &chexpert::MEAN[..],
                &chexpert::STD[..],
                "roc_auc",
                Warmup::Iterations(1000),
            ),
            Neighbour::Isic2019 => (
                &isic2019::MEAN[..],
                &isic2019::STD[..],
                "recall",
                Warmup::Iterations(1000),
            ),
            Neighbour::Aptos2019 => (
                &aptos2019::MEAN[..],
                &aptos2019::STD[..],
                "quadratic_kappa",
                Warmup::Epochs(5),
            ),
        };
        DatasetInfo {
            name: self.name,
            title: self.title,
            folder: FOLDER,
            task: self.task(),
            channels: self.channels,
            mean: mean.to_vec(),
            std: std.to_vec(),
            classes: self.classes.iter().map(ToString::to_string).collect(),
            target,
            warmup,
        }
    }

    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let mut npz = Npz::open(root, &self.find(root, p)?)?;
        let (mut samples, mut labels) = (Vec::new(), Labels::none(self.task()));
        let mut part = |name: &str| self.part(&mut npz, name, &mut samples, &mut labels);
        let (train, val, test) = (part("train")?, part("val")?, part("test")?);
        let parts = Parts { train, val, test };
        let parts = duplicates::together(root, p, &mut samples, parts)?;
        self.of_parts(root, p, samples, labels, parts)
    }

    /// The 28-pixel file; where one of [`DatasetReader::optional_files`] lies in its place, that one is read instead.
    fn label_files(&self, p: &Protocol) -> Vec<PathBuf> {
        let named = self.named(p);
        vec![PathBuf::from(named.as_ref().unwrap_or(&self.variants()[0]))]
    }

    fn optional_files(&self, p: &Protocol) -> Vec<PathBuf> {
        match self.named(p) {
            Some(_) => Vec::new(),
            None => self.variants()[1..].iter().map(PathBuf::from).collect(),
        }
    }

    /// The parts are the publisher's under every rule, but for duplicates.
    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        duplicates::cut(rule, p)
    }

    fn names_groups(&self) -> bool {
        false
    }

    fn has_phantom(&self) -> bool {
        super::phantom::medmnist::NAMES.contains(&self.name)
    }

    fn phantom_images(&self) -> usize {
        super::phantom::medmnist::DEFAULT_IMAGES
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        super::phantom::medmnist::write(root, self.name, images)
    }
}
