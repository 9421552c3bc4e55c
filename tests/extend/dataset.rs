//! A toy data set: light and dark squares, in one file of a byte an image.

use anyhow::{Result, ensure};
use medft::data::{Dataset, DatasetInfo, DatasetReader, Folder, ImageArray, Labels, Pixels, Sample, Task};
use medft::spec::protocol::Warmup;
use medft::study::{Protocol, SplitRule};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FILE: &str = "squares.bin";
const SIDE: usize = 20;

/// The reader.
pub(crate) struct Squares;

impl DatasetReader for Squares {
    fn name(&self) -> &'static str {
        "squares"
    }

    fn own_info(&self, _: &Protocol) -> DatasetInfo {
        DatasetInfo {
            name: "squares",
            title: "Toy squares",
            folder: "squares",
            task: Task::MultiClass(2),
            channels: 1,
            mean: vec![0.5],
            std: vec![0.25],
            classes: vec!["dark".into(), "light".into()],
            target: "worst_recall",
            warmup: Warmup::None,
        }
    }

    fn load_from(&self, root: &Folder, p: &Protocol) -> Result<Dataset> {
        let path = root.join(FILE);
        let bytes = root.read(FILE.as_ref(), "the squares", 1 << 20)?;
        ensure!(bytes.len() >= 40, "{}: fewer than 40 images", path.display());
        let negative = p.get("toy_negative") == true;
        let sample = |(i, &b): (usize, &u8)| {
            let grey = if negative { 255 - b } else { b };
            Sample {
                id: format!("square-{i}"),
                group: None,
                pixels: Pixels::Array(Arc::new(ImageArray {
                    width: SIDE,
                    height: SIDE,
                    channels: 1,
                    data: (0..SIDE * SIDE).map(|k| grey.wrapping_add((k % 7) as u8)).collect(),
                })),
            }
        };
        let n = bytes.len() as u32;
        Ok(Dataset {
            info: self.info(p),
            root: root.clone(),
            samples: bytes.iter().enumerate().map(sample).collect(),
            labels: Labels::Classes(bytes.iter().map(|&b| u32::from(b > 127)).collect()),
            train: (0..n / 2).collect(),
            val: (n / 2..3 * n / 4).collect(),
            test: (3 * n / 4..n).collect(),
        })
    }

    fn label_files(&self, _: &Protocol) -> Vec<PathBuf> {
        vec![FILE.into()]
    }

    fn cut(&self, rule: SplitRule, _: &mut Protocol) -> bool {
        rule == SplitRule::Authors
    }

    fn names_groups(&self) -> bool {
        false
    }

    fn manifest(&self) -> Option<&str> {
        Some(MANIFEST)
    }

    fn phantom_images(&self) -> usize {
        96
    }

    fn synth(&self, root: &Path, images: usize) -> Result<()> {
        let light = |i: usize| (i * 37 + i / 5) % 2 == 1;
        let byte = |i: usize| (if light(i) { 180 } else { 40 } + (i * 13 % 31)) as u8;
        let bytes: Vec<u8> = (0..images).map(byte).collect();
        medft::fsio::write_atomic(&root.join(FILE), &bytes)
    }
}

const MANIFEST: &str = r#"
schema = 1
set = "squares"
title = "Toy squares"
folder = "squares"
what = "Light and dark squares."
layout = "squares/squares.bin"
counts_unknown = "as many as are asked for"

[source]
page = "https://example.org/"
from = "made by the test"

[licence]
images = "CC0"
labels = "CC0"
from = "made by the test"

[citation]
text = "None."
from = "made by the test"

[access]
kind = "open"
page = "https://example.org/"
commands = []
terms = "None."
from = "made by the test"

[[archive]]
file = "squares.bin"
url_unknown = "made by the test"
needed = true
size_unknown = "made by the test"
sha256_unknown = "made by the test"
md5_unknown = "made by the test"
from = "made by the test"

[[label_file]]
path = "squares.bin"
forms_unknown = "made by the test"
"#;
