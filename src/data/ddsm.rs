//! DDSM: digitised film mammograms in MIT's JPEG conversion, one list of image names per part (PROTOCOL 1.1).
//!
//! The paper says CBIS-DDSM; the code reads this older set, which has normal cases (Q8). The published lists are the split,
//! there is no random one; they may be mended so that no case stands in two (`ddsm_split`). Layout: `ddsm_raw_image_lists/{train,val,test}.txt` and the images in `ddsm_raw/`.

use super::files::{self, Unique};
use super::folder::Folder;
use super::labels::Labels;
use super::split::{self, Parts};
use super::types::{Dataset, DatasetInfo, DatasetReader, Pixels, Sample, Task};
use crate::error::BadInput;
use crate::spec::protocol::{DdsmSplit, DdsmTask, Warmup};
use crate::spec::{Protocol, SplitRule};
use anyhow::Result;
use std::path::{Path, PathBuf};

pub const MEAN: [f32; 1] = [0.286];
pub const STD: [f32; 1] = [0.267];
const LISTS: &str = "ddsm_raw_image_lists";
const IMAGES: &str = "ddsm_raw";

/// The reader of DDSM.
pub struct Ddsm;

impl DatasetReader for Ddsm {
    fn name(&self) -> &'static str {
        "ddsm"
    }

    /// The authors' class names say "Normal" and "Cancer"; class 1 holds benign findings too (Q9) and is named for what it is.
    fn own_info(&self, p: &Protocol) -> DatasetInfo {
        let classes: &[&str] = match p.ddsm_task {
            DdsmTask::NormalVsLesion => &["normal", "benign or cancer"],
            DdsmTask::ThreeClass => &["normal", "benign", "cancer"],
            DdsmTask::CancerVsRest => &["normal or benign", "cancer"],
        };
        DatasetInfo {
            name: self.name(),
            title: "DDSM",
            folder: "DDSM",
            task: Task::MultiClass(classes.len()),
            channels: 1,
            mean: MEAN.to_vec(),
            std: STD.to_vec(),
            classes: classes.iter().map(ToString::to_string).collect(),
            target: "roc_auc",
            warmup: Warmup::Epochs(5),
        }
    }

    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let (mut samples, mut classes) = (Vec::new(), Vec::new());
        let mut unique = Unique::default();
        let mut part = |name: &str| -> Result<Vec<u32>> {
            let from = samples.len() as u32;
            classes.extend(read_list(root, name, p.ddsm_task, &mut unique, &mut samples)?);
            Ok((from..samples.len() as u32).collect())
        };
        let (train, val, test) = (part("train.txt")?, part("val.txt")?, part("test.txt")?);
        let lists = Parts { train, val, test };
        let parts = match p.ddsm_split {
            DdsmSplit::Lists => lists,
            DdsmSplit::ByCase => split::whole_groups(&lists, |i| samples[i as usize].group.as_deref()),
        };
        self.of_parts(root, p, samples, Labels::Classes(classes), parts)
    }

    fn label_files(&self, _: &Protocol) -> Vec<PathBuf> {
        ["train.txt", "val.txt", "test.txt"]
            .iter()
            .map(|f| Path::new(LISTS).join(f))
            .collect()
    }

    fn cut(&self, rule: SplitRule, p: &mut Protocol) -> bool {
        p.ddsm_split = match rule {
            SplitRule::Authors => DdsmSplit::Lists,
            SplitRule::Grouped => DdsmSplit::ByCase,
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

    /// The counts are those of the lists as published.
    fn counts_hold(&self, p: &Protocol) -> bool {
        p.ddsm_split == DdsmSplit::Lists
    }

    fn phantom_images(&self) -> usize {
        super::phantom::ddsm::DEFAULT_IMAGES
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        super::phantom::ddsm::write(root, images)
    }
}

/// Reads one list: a name per line, without spaces; blank lines are skipped, as the authors' reader does. Returns the classes.
fn read_list(
    root: &Folder,
    list: &str,
    task: DdsmTask,
    unique: &mut Unique,
    samples: &mut Vec<Sample>,
) -> Result<Vec<u32>> {
    let mut classes = Vec::new();
    let list = Path::new(LISTS).join(list);
    let path = root.join(&list);
    let text = files::read_text(root, &list)?;
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
        let at = format!("{}:{}", path.display(), i + 1);
        if line.contains(char::is_whitespace) {
            return Err(BadInput::new(
                at,
                "one image name without spaces",
                format!("{line:?}"),
                "Restore the list as its source distributes it.",
            )
            .into());
        }
        let name = files::relative(&at, line)?;
        let base = line.rsplit('/').next().unwrap_or(line);
        classes.push(class_of(&at, base, task)?);
        unique.insert(at, line)?;
        samples.push(Sample {
            id: line.to_owned(),
            group: case_of(base).map(str::to_owned),
            pixels: Pixels::File(Path::new(IMAGES).join(name)),
        });
    }
    Ok(classes)
}

/// The class by the text before the first `_` of the base name: normal, benign or cancer.
fn class_of(at: &str, base: &str, task: DdsmTask) -> Result<u32> {
    let class = base.split('_').next().unwrap_or_default();
    let finding = match class {
        "normal" => 0,
        "benign" => 1,
        "cancer" => 2,
        _ => {
            return Err(BadInput::new(
                at,
                "a name that begins with normal_, benign_ or cancer_",
                format!("{base:?}"),
                "Restore the list as its source distributes it.",
            )
            .into());
        }
    };
    Ok(match task {
        DdsmTask::NormalVsLesion => u32::min(finding, 1),
        DdsmTask::ThreeClass => finding,
        DdsmTask::CancerVsRest => u32::from(finding == 2),
    })
}

/// The case of `benign_01-B_3102_1.LEFT_CC.LJPEG.1.jpg`: `B_3102`. Some cases stand in two volumes, so the volume
/// (`benign_01`) is no part of it.
fn case_of(base: &str) -> Option<&str> {
    let exam = base.split_once('-')?.1.split('.').next()?;
    let number = exam.find('_')? + 1;
    let end = exam[number..].find('_').map_or(exam.len(), |i| number + i);
    Some(&exam[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_its_letter_and_number() {
        assert_eq!(case_of("benign_01-B_3102_1.LEFT_CC.LJPEG.1.jpg"), Some("B_3102"));
        assert_eq!(
            case_of("benign_without_callback_01-B_3159_1.RIGHT_MLO.LJPEG.1.jpg"),
            Some("B_3159")
        );
        assert_eq!(case_of("normal_1.png"), None);
    }
}
