//! The backbones medft knows: a line each.

use super::backbone::BackboneOptions;
use super::checkpoint::{Checkpoint, NameRule, same, unused};
use super::entry::BackboneEntry;
use super::pretrained::WeightsFile;
use super::{aimv2, clip, coca, dinov2, mae, sam2, timm_vit, vmamba};
use crate::error::BadInput;
use crate::names::did_you_mean;
use crate::registry::Registry;
use crate::spec::{Protocol, Scale};
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
    &timm_vit::VIT_B,
    &timm_vit::DINO_B,
    &timm_vit::VIT_CLIP_B,
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

/// A user's own checkpoint, as a backbone.
#[derive(Debug, Clone, Copy)]
pub struct OwnBackbone<'a> {
    pub name: &'a str,
    /// What tables call it.
    pub title: &'a str,
    /// The published backbone that it has the architecture of.
    pub like: &'a str,
    pub scale: Scale,
}

/// Makes a user's own checkpoint a backbone of its own: name, title and family are its own, all else is that of the published one.
/// A process that runs several verbs finds it there.
///
/// # Errors
/// [`BadInput`] for a name or title that could be taken for a published one's, and for an unknown `like`.
pub fn register_own(own: OwnBackbone<'_>, at: &str) -> Result<()> {
    check_own_names(own.name, own.title, at)?;
    let like = published(own.like, at)?;
    if BACKBONES.get(own.name).is_some_and(|e| e.own.is_some()) {
        return Ok(());
    }
    let forever = |s: &str| -> &'static str { Box::leak(s.to_owned().into_boxed_str()) };
    let name = forever(own.name);
    BACKBONES.register(Box::leak(Box::new(BackboneEntry {
        name,
        title: forever(own.title),
        family: name,
        own: Some(own.scale),
        ..*like
    })))?;
    Ok(())
}

/// The published backbone of a name.
///
/// # Errors
/// [`BadInput`] listing those there are.
pub fn published(name: &str, at: &str) -> Result<&'static BackboneEntry, BadInput> {
    let all = BACKBONES.built_in();
    all.iter().find(|e| e.name == name).copied().ok_or_else(|| {
        let known: Vec<&str> = all.iter().map(|e| e.name).collect();
        let expected = format!("a published backbone that it is like: {}", known.join(", "));
        BadInput::new(at, expected, format!("`{name}`"), "Correct `like`.")
    })
}

/// A name as it reads: letters and digits alone, small.
pub fn as_read(text: &str) -> String {
    let letters = text.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

/// Holds the name and the title of a user's own checkpoint against those of the published backbones: letters and digits alone
/// count, since a reader does not see more.
///
/// # Errors
/// [`BadInput`] where one could be taken for a published one's, or the name is no plain one.
pub fn check_own_names(name: &str, title: &str, at: &str) -> Result<(), BadInput> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
        let expected =
            "a name of lower-case letters, digits, `-`, `_` and `.`, since studies use it and it names a folder";
        return Err(BadInput::new(at, expected, format!("`{name}`"), "Choose such a name."));
    }
    for entry in BACKBONES.built_in() {
        let taken = [entry.name, entry.title, entry.family, entry.facts.upstream];
        for (what, text) in [("name", name), ("title", title)] {
            if as_read(text).is_empty() || taken.iter().any(|t| as_read(t) == as_read(text)) {
                let remedy = "Call it otherwise: results of other weights may never stand under a published name.";
                let expected = format!(
                    "a {what} that no published backbone has ({} is {})",
                    entry.name, entry.title
                );
                return Err(BadInput::new(at, expected, format!("`{text}`"), remedy));
            }
        }
    }
    Ok(())
}

/// The switches a backbone is built with; its activation is that of the weights' layout.
pub fn options(entry: &BackboneEntry, file: Option<&WeightsFile>, p: &Protocol, channels: usize) -> BackboneOptions {
    let mut options = BackboneOptions::new(p, channels);
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
    let rules = rules(entry, file)?;
    // A fine-tuned checkpoint has a classifier, also one that medft kept; a published encoder's file has what is expected of it.
    let rest: &[NameRule] = if rules.is_empty() { &[same(">", ">")] } else { rules };
    let own = [&[unused("head.>", "the classifier of a fine-tuned model")], rest].concat();
    let rules = if entry.own.is_some() { &own } else { rules };
    Checkpoint::open(&file.path, file.sha256.as_deref(), rules)
}

/// The name map of a file's layout.
///
/// # Errors
/// [`BadInput`] for a layout that the backbone does not have.
pub fn rules(entry: &BackboneEntry, file: &WeightsFile) -> Result<&'static [NameRule], BadInput> {
    // One that has no published weights has no names but its own.
    if entry.layouts.is_empty() && file.layout.is_empty() {
        return Ok(&[]);
    }
    let Some((_, rules)) = entry.layouts.iter().find(|(l, _)| *l == file.layout) else {
        let known: Vec<&str> = entry.layouts.iter().map(|l| l.0).collect();
        return Err(BadInput::new(
            file.path.display(),
            format!("a layout of {}: {}", entry.name, known.join(", ")),
            &*file.layout,
            "Correct `layout` in the weights manifest.",
        ));
    };
    Ok(rules)
}
