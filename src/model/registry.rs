//! The backbones medft knows: a line each.

use super::backbone::Options;
use super::checkpoint::Checkpoint;
use super::entry::BackboneEntry;
use super::pretrained::WeightsFile;
use super::{aimv2, clip, coca, dinov2, mae, sam2, vmamba};
use crate::error::BadInput;
use crate::registry::Registry;
use crate::study::Protocol;
use crate::words::did_you_mean;
use anyhow::Result;

/// All backbones, in the order of tables.
pub static BACKBONES: Registry<BackboneEntry> = Registry::new(&[
    &aimv2::AIMV2_L,
    &aimv2::AIMV2_H,
    &dinov2::DINOV2_S,
    &dinov2::DINOV2_B,
    &dinov2::DINOV2_L,
    &sam2::SAM2_B,
    &sam2::SAM2_L,
    &mae::MAE_B,
    &mae::MAE_L,
    &mae::MAE_H,
    &vmamba::VMAMBA_S,
    &vmamba::VMAMBA_B,
    &coca::COCA_B,
    &coca::COCA_L,
    &clip::CLIP_B,
    &dinov2::IMGFOCUS_S,
]);

/// All backbones, in order.
pub fn all() -> Vec<&'static BackboneEntry> {
    BACKBONES.all()
}

/// The names of all backbones.
pub fn names() -> Vec<&'static str> {
    BACKBONES.names()
}

/// A backbone by name.
///
/// # Errors
/// [`BadInput`] listing the names there are.
pub fn find(name: &str) -> Result<&'static BackboneEntry> {
    BACKBONES.get(name).ok_or_else(|| {
        BadInput::new(
            "backbone",
            format!("one of {}", names().join(", ")),
            name,
            did_you_mean(name, &names()),
        )
        .into()
    })
}

/// The switches a backbone is built with; its activation is that of the weights' layout.
pub fn options(entry: &BackboneEntry, file: Option<&WeightsFile>, p: &Protocol, channels: usize) -> Options {
    let mut options = Options::new(p, channels);
    if let Some(f) = file {
        options.activation = (entry.activation)(&f.layout);
    }
    options
}

/// Opens a backbone's weights by the name map of their layout.
///
/// # Errors
/// [`BadInput`] for an unknown layout or an unreadable file.
pub fn open(entry: &BackboneEntry, file: &WeightsFile) -> Result<Checkpoint> {
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
