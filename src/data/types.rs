//! What a data set is to the rest of medft.

use super::folder::Folder;
use super::labels::Labels;
pub use super::labels::Task;
use super::split::Parts;
use crate::eval::{METRICS, Metric};
use crate::registry::Named;
use crate::spec::SplitRule;
use crate::spec::protocol::{GreyStem, Protocol, Warmup};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The facts of a data set that the protocol fixes (PROTOCOL section 1).
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetInfo {
    /// Name used in studies: `ddsm`, `isic2019`, …
    pub name: &'static str,
    /// As printed in tables.
    pub title: &'static str,
    /// Folder below the data directory.
    pub folder: &'static str,
    pub task: Task,
    /// 1 (grey, Pillow mode L) or 3 (RGB).
    pub channels: usize,
    /// Per channel, of pixel values in 0..1.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Class or label names, in order.
    pub classes: Vec<String>,
    /// Key of the metric that selects and is reported: `roc_auc`, `recall`, `quadratic_kappa`, `accuracy`.
    pub target: &'static str,
    /// Warm-up the authors' code sets for this set: epochs or iterations (PROTOCOL 6.3).
    pub warmup: Warmup,
}

/// Where the pixels of one image are.
#[derive(Debug, Clone)]
pub enum Pixels {
    /// A file, relative to the data set's folder.
    File(PathBuf),
    /// Already decoded, `height × width × channels`, as in an npz file.
    Array(Arc<ImageArray>),
}

/// 8-bit pixels, row-major, channels last (H, W, C).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArray {
    pub width: usize,
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    pub data: Vec<u8>,
}

/// One image.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Unique within the data set; stable across machines (file name or CSV id).
    pub id: String,
    /// What must not be separated by a grouped split: patient, lesion or exam; `None` where unknown.
    pub group: Option<String>,
    pub pixels: Pixels,
}

/// A data set read from disk: samples in file order and three lists of indices into them, in the protocol's order.
/// The lists may overlap where the protocol makes them (CheXpert's label slices).
#[derive(Debug, Clone)]
pub struct Dataset {
    pub info: DatasetInfo,
    /// The data set's own folder.
    pub root: Folder,
    pub samples: Vec<Sample>,
    /// The truth of each sample.
    pub labels: Labels,
    pub train: Vec<u32>,
    pub val: Vec<u32>,
    pub test: Vec<u32>,
}

/// A reader of one data set in its real layout: one file each in `data/`, one line in `data::registry`.
pub trait DatasetReader: Sync + Send {
    /// The name used in studies: `ddsm`, `isic2019`, …
    fn name(&self) -> &'static str;

    /// The facts as the set has them, under a protocol (DDSM's task changes its classes, for instance). Others ask
    /// [`DatasetReader::info`].
    fn own_info(&self, p: &Protocol) -> DatasetInfo;

    /// The facts, with what the protocol decides for every set: grey images that are read as three channels, another target.
    fn info(&self, p: &Protocol) -> DatasetInfo {
        let mut info = self.own_info(p);
        if p.grey_stem == GreyStem::ThreeChannels && info.channels == 1 {
            info.channels = 3;
            info.mean = info.mean.repeat(3);
            info.std = info.std.repeat(3);
        }
        let asked = p.target_metric.as_deref().and_then(|m| METRICS.get(m));
        let has = |m: &&Metric| match info.task {
            Task::MultiClass(n) => m.on_classes(n),
            Task::MultiLabel(_) => m.labels.is_some(),
        };
        if let Some(metric) = asked.filter(has) {
            info.target = metric.name;
        }
        info
    }

    /// Reads label files of `root` (the data set's own folder) and forms the splits; opens no image.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] naming file and line for a missing file or column, a duplicate id or a bad label.
    fn load_from(&self, root: &Folder, p: &Protocol) -> anyhow::Result<Dataset>;

    /// The data set of these images under a protocol.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] for a part without an image.
    fn of_parts(
        &self,
        root: &Folder,
        p: &Protocol,
        samples: Vec<Sample>,
        labels: Labels,
        parts: Parts,
    ) -> anyhow::Result<Dataset> {
        let Parts { train, val, test } = parts.none_empty(root)?;
        Ok(Dataset {
            info: self.info(p),
            root: root.clone(),
            samples,
            labels,
            train,
            val,
            test,
        })
    }

    /// As [`DatasetReader::load_from`], of a folder that nobody vouches for.
    ///
    /// # Errors
    /// As [`DatasetReader::load_from`].
    fn load(&self, root: &Path, p: &Protocol) -> anyhow::Result<Dataset> {
        self.load_from(&Folder::unverified(root), p)
    }

    /// Files (relative to the folder) that `load` reads besides images.
    fn label_files(&self, p: &Protocol) -> Vec<PathBuf>;

    /// Files (relative to the folder) that `load` obeys where they are there and does not miss where they are not; what
    /// stands for the data set in a run id must cover those that are there.
    fn optional_files(&self, _p: &Protocol) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Sets the switches that a split rule decides for this set; others stay. Says whether the set has such a split.
    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool;

    /// Whether the publisher says which images are of one patient, lesion or case. Where he does not, copies of one image are all
    /// that can be kept together.
    fn names_groups(&self) -> bool;

    /// The text of its manifest where it does not lie in `data-manifests/`.
    fn manifest(&self) -> Option<&str> {
        None
    }

    /// Whether the paper reports on the set.
    fn of_paper(&self) -> bool {
        false
    }

    /// Whether the manifest's counts of images and classes are meant for this protocol's parts.
    fn counts_hold(&self, _p: &Protocol) -> bool {
        true
    }

    /// Whether a stand-in can be generated; small models read the real images of a set that has none.
    fn has_phantom(&self) -> bool {
        true
    }

    /// Images in the phantom where nothing else is asked for: the number whose files are pinned.
    fn phantom_images(&self) -> usize;

    /// Writes a phantom data set in the real layout; same bytes on every machine. `images` is the total number.
    ///
    /// # Errors
    /// Where files cannot be written, or others lie there.
    fn synth(&self, root: &Path, images: usize) -> anyhow::Result<()>;
}

impl Named for dyn DatasetReader {
    fn name(&self) -> &str {
        DatasetReader::name(self)
    }
}
