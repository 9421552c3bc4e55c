//! A checkpoint of the user's own, taken in as a backbone of its own name.
//!
//! The file is held against the published backbone's architecture tensor by tensor before anything is written; then it is copied
//! below the weights folder, so that a training script that goes on writing its checkpoint changes no study, and the hash of that copy
//! is pinned in a manifest.

use super::Context;
use crate::cli::WeightsAddArgs;
use crate::error::BadInput;
use crate::fsio::{self, Pending};
use crate::manifest::pin::Confidence;
use crate::manifest::{Check, Format, Places, WeightsManifest, own_folder, quiet, verify_weights};
use crate::model::entry::BackboneEntry;
use crate::model::params::Builder;
use crate::model::registry::{self, OwnBackbone};
use crate::model::{BackboneOptions, WeightsFile};
use crate::study::{Protocol, Scale};
use anyhow::{Context as _, Result};
use candle_core::Device;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A file of more bytes is no small model's.
const SMALL: u64 = 16 << 20;

/// What was taken in.
#[derive(Debug, Serialize)]
pub struct Added {
    #[serde(flatten)]
    pub pin: WeightsManifest,
    pub tensors: usize,
    /// Scalars in them.
    pub values: usize,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub path: PathBuf,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub manifest: PathBuf,
}

/// Makes a user's own checkpoint a backbone.
///
/// # Errors
/// [`BadInput`] for a manifest whose names could be taken for a published backbone's.
pub fn register(pin: &WeightsManifest) -> Result<()> {
    let (Some(like), Some(scale), Some(title)) = (&pin.like, pin.scale, &pin.title) else {
        return Ok(());
    };
    let name = &pin.name;
    let at = format!("the manifest of {name}");
    registry::register_own(
        OwnBackbone {
            name,
            title,
            like,
            scale,
        },
        &at,
    )
}

/// What `scale` means, for people.
pub fn size_name(pin: &WeightsManifest) -> &'static str {
    match pin.scale {
        Some(Scale::Tiny) => "the small model",
        _ => "the published architecture",
    }
}

/// Takes a checkpoint in.
///
/// # Errors
/// [`BadInput`] for a name that is taken or could be taken for a published one's, and for a file that fits no layout of the backbone
/// that it is said to be like; nothing is written then.
pub fn add(c: &Context, a: &WeightsAddArgs) -> Result<Added> {
    let like = registry::published(&a.like, "--like")?;
    let title = a
        .title
        .clone()
        .unwrap_or_else(|| format!("{} ({})", like.title, a.name));
    registry::check_own_names(&a.name, &title, "weights add")?;
    let folder = own_folder(c.global.manifests_dir.as_deref());
    let manifest = folder.join("weights").join(format!("{}.toml", a.name));
    let taken = c
        .catalogue
        .weight_names()
        .any(|w| registry::as_read(w) == registry::as_read(&a.name));
    if taken || manifest.exists() {
        let remedy = format!(
            "Choose another name; to replace a checkpoint of your own, remove {} first.",
            manifest.display()
        );
        return Err(BadInput::new(
            "weights add",
            "a name that no weights have",
            format!("`{}`", a.name),
            remedy,
        )
        .into());
    }
    let file = file_name(&a.file)?;
    let sha256 = fsio::sha256_file(&a.file, |_| {})?;
    let fit = fitting(
        &BackboneEntry {
            own: Some(Scale::Full),
            ..*like
        },
        a,
        &sha256,
    )?;
    let path = c.global.weights_dir.join(&a.name).join(&file);
    copy(&a.file, &path, &sha256)?;
    let by = |what: &str| (what.to_owned(), "medft weights add".to_owned());
    let size = std::fs::metadata(&path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .len();
    let pin = WeightsManifest {
        schema: 1,
        name: a.name.clone(),
        backbone: a.name.clone(),
        like: Some(a.like.clone()),
        scale: Some(fit.scale),
        title: Some(title),
        rank: 1,
        folder: None,
        repo: None,
        revision: None,
        revision_unknown: None,
        reference: None,
        file,
        url: None,
        url_unknown: Some("a checkpoint of one's own".into()),
        get: Some("This checkpoint is your own: `medft weights add` took it in from a file of yours.".into()),
        size: Some(size),
        size_unknown: None,
        size_shown: None,
        sha256: Some(sha256),
        sha256_unknown: None,
        sha256_prefix: None,
        md5: None,
        md5_prefix: None,
        format: match a.file.extension().and_then(|e| e.to_str()) {
            Some("safetensors") => Format::Safetensors,
            _ => Format::Pickle,
        },
        layout: fit.layout,
        activation: None,
        licence: a.licence.clone(),
        licence_unknown: a
            .licence
            .is_none()
            .then(|| "not said when it was added (--licence)".into()),
        licence_conflict: None,
        confidence: Confidence::High,
        note: None,
        source: BTreeMap::from([by("sha256"), by("size"), by("layout")]),
    };
    fsio::write_atomic(&manifest, pin.to_toml().as_bytes())?;
    // As every later start will see it; its hash is noted beside it now.
    let all = c.catalogue.with_weights(std::slice::from_ref(&pin))?;
    verify_weights(
        &all,
        &pin.name,
        &Places::new(&c.global.weights_dir),
        Check::Cached,
        &quiet,
    )?
    .require()?;
    Ok(Added {
        pin,
        tensors: fit.tensors,
        values: fit.values,
        path,
        manifest,
    })
}

/// The file's name, which it keeps below the weights folder.
fn file_name(file: &Path) -> Result<String> {
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if name.is_empty() || name.starts_with('.') || !file.is_file() {
        let remedy = "Give the path of the checkpoint's file.";
        return Err(BadInput::new(file.display(), "a checkpoint file with a plain name", "none", remedy).into());
    }
    Ok(name.to_owned())
}

/// What a checkpoint turned out to be.
struct Fit {
    layout: String,
    scale: Scale,
    tensors: usize,
    values: usize,
}

/// The layout and the size that a file fits: of those named, or of all.
fn fitting(like: &BackboneEntry, a: &WeightsAddArgs, sha256: &str) -> Result<Fit> {
    let layouts: Vec<&str> = like.layouts.iter().map(|l| l.0).collect();
    let tried: Vec<&str> = match a.layout.as_deref() {
        None => layouts.clone(),
        Some(l) if layouts.contains(&l) => vec![l],
        // The original code's names, whatever they are called for this family.
        Some("hub") => vec![like.own_layout()],
        Some(l) => {
            let expected = format!("a layout of {}: {}", like.name, layouts.join(", "));
            return Err(BadInput::new("--layout", expected, format!("`{l}`"), "Name one of them.").into());
        }
    };
    let (mut fits, mut misfits): (Vec<Fit>, Vec<String>) = (Vec::new(), Vec::new());
    for layout in &tried {
        match fit(like, &a.file, layout, sha256) {
            Ok(found) => fits.push(found),
            Err(e) => misfits.push(match e.downcast_ref::<BadInput>() {
                Some(e) => format!("{layout}: expected {}, found {}", e.expected, e.found),
                None => format!("{layout}: {e}"),
            }),
        }
    }
    let meanings: Vec<_> = fits.iter().map(|f| (like.activation)(&f.layout)).collect();
    if meanings.windows(2).any(|w| w[0] != w[1]) {
        let found: Vec<&str> = fits.iter().map(|f| f.layout.as_str()).collect();
        return Err(BadInput::new(
            a.file.display(),
            "tensors that tell the layout",
            format!(
                "names that are those of {}, which compute differently (the activation is not in the file)",
                found.join(" and of ")
            ),
            format!("Say which with --layout {}.", found.join(" or --layout ")),
        )
        .into());
    }
    if fits.is_empty() {
        return Err(BadInput::new(
            a.file.display(),
            format!("a checkpoint with the architecture of {}", like.name),
            format!("one that fits no layout of it ({})", misfits.join("; ")),
            "Check --like; heads and other parts that are not the encoder's have to be taken out of the file.",
        )
        .into());
    }
    Ok(fits.remove(0))
}

/// Loads a file by one layout's names, strictly.
///
/// # Errors
/// [`BadInput`] naming the first tensor that is missing, extra or of another shape.
fn fit(like: &BackboneEntry, file: &Path, layout: &str, sha256: &str) -> Result<Fit> {
    let weights = WeightsFile {
        path: file.to_owned(),
        layout: layout.to_owned(),
        sha256: Some(sha256.to_owned()),
    };
    let options = BackboneOptions {
        activation: (like.activation)(layout),
        ..BackboneOptions::new(&Protocol::faithful(), 3)
    };
    // How many tensors fitted before the first that did not, and what is wrong with that: the nearest size says what is meant.
    let mut nearest: Option<(usize, anyhow::Error)> = None;
    let bytes = std::fs::metadata(file)
        .with_context(|| format!("cannot read {}", file.display()))?
        .len();
    let scales: &[Scale] = if bytes > SMALL {
        &[Scale::Full]
    } else {
        &[Scale::Full, Scale::Tiny]
    };
    for &scale in scales {
        for side in sides(like, scale) {
            let b = Builder::from_checkpoint(registry::open(like, &weights)?, &Device::Cpu).trainable(false);
            match (like.build)(scale, side, options, &b).and_then(|_| b.finish_source()) {
                Ok(()) => {
                    let params = b.params();
                    return Ok(Fit {
                        layout: layout.to_owned(),
                        scale,
                        tensors: params.0.len(),
                        values: params.count(),
                    });
                }
                Err(e) => {
                    let fitted = b.params().0.len();
                    if nearest.as_ref().is_none_or(|n| n.0 < fitted) {
                        nearest = Some((fitted, e));
                    }
                }
            }
        }
    }
    Err(nearest.map_or_else(|| anyhow::anyhow!("no side of {} is known", like.name), |n| n.1))
}

/// Sides to build a model for: position tables of some small models have the size of the input.
fn sides(like: &BackboneEntry, scale: Scale) -> Vec<usize> {
    let accepted = |side: &usize| like.sides(scale).accept(*side as u32);
    match scale {
        Scale::Full => (224..=1024).filter(accepted).take(1).collect(),
        Scale::Tiny => (16..=256).filter(accepted).collect(),
    }
}

/// Copies a file to where weights are looked for, holding it against its hash.
fn copy(from: &Path, to: &Path, sha256: &str) -> Result<()> {
    if from
        .canonicalize()
        .ok()
        .is_some_and(|f| to.canonicalize().ok() == Some(f))
    {
        return Ok(());
    }
    let mut source = fsio::open_file(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut out = Pending::create(to)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let n = source
            .read(&mut buffer)
            .with_context(|| format!("cannot read {}", from.display()))?;
        if n == 0 {
            break;
        }
        hash.update(&buffer[..n]);
        out.put(&buffer[..n])?;
    }
    let found = fsio::hex(&hash.finalize());
    if found != sha256 {
        let remedy = "Wait until nothing writes the file, then add it again.";
        return Err(BadInput::new(
            from.display(),
            format!("a file that hashes to {sha256}, as a moment ago"),
            found,
            remedy,
        )
        .into());
    }
    out.publish()
}
