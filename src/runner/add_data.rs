//! A user's own images become a data set like any other: images and table below the data directory, manifest, list.

use super::Context;
use crate::data::own::{self, Request, Understood, manifest};
use crate::data::registry::SETS;
use crate::data::table::{IMAGES, TABLE, TableSource};
use crate::data::{DatasetReader as _, ImageArray};
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::{LockReport, lock_set, own_folder};
use crate::study::Protocol;
use anyhow::{Context as _, Result};
use image::ExtendedColorType;
use image::codecs::png::PngEncoder;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Reads what the user named, with a bar.
///
/// # Errors
/// [`BadInput`] for a name that cannot be taken, and where a table or folder cannot be read at all.
pub fn read(c: &Context, r: &Request) -> Result<Understood> {
    check_name(&r.name)?;
    let bar = c.progress.items(&format!("{} images", r.name), 0);
    own::read(r, &bar.counted())
}

/// A name that studies, folders and files can have.
fn check_name(name: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let bad = |expected: &str, found: String, remedy: &str| BadInput::new("data add", expected, found, remedy).into();
    if !name.bytes().all(plain) || !name.starts_with(|c: char| c.is_ascii_lowercase()) || name == "phantom" {
        let expected = "a name of small letters, digits, - and _, a letter first, and not `phantom`";
        return Err(bad(expected, format!("`{name}`"), "Choose another name."));
    }
    if SETS.built_in().iter().any(|s| s.name() == name) {
        return Err(bad(
            "a new name",
            format!("`{name}`, a built-in data set"),
            "Choose another name.",
        ));
    }
    if SETS.get(name).is_some() {
        let remedy =
            "Choose another name; or remove its manifest and its folder of data, and run the same command again.";
        return Err(bad("a new name", format!("`{name}`, which is added already"), remedy));
    }
    Ok(())
}

/// Where a new set is.
pub struct Added {
    pub folder: PathBuf,
    pub manifest: PathBuf,
    pub lock: LockReport,
    /// Bytes of images that were copied, since they could not be linked.
    pub copied: u64,
}

/// Writes images, table, manifest and list. The folder gets its name when it is whole, the manifest after that.
///
/// # Errors
/// [`BadInput`] where something lies in its place, or nothing can be written.
pub fn write(c: &Context, r: &Request, u: &Understood) -> Result<Added> {
    let folder = c.global.data_dir.join(&r.name);
    let place = own_folder(c.global.manifests_dir.as_deref()).join(format!("{}.toml", r.name));
    for path in [&folder, &place] {
        if path.symlink_metadata().is_ok() {
            let remedy = "Move it away, or choose another name; nothing was written.";
            return Err(BadInput::new(path.display(), "nothing there yet", "something", remedy).into());
        }
    }
    let staging = c.global.data_dir.join(format!(".medft-add-{}", r.name));
    let _ = fs::remove_dir_all(&staging);
    let made = assemble(c, r, u, &staging).and_then(|copied| {
        fs::rename(&staging, &folder)
            .with_context(|| format!("cannot rename {} to {}", staging.display(), folder.display()))?;
        Ok(copied)
    });
    let copied = made.inspect_err(|_| {
        let _ = fs::remove_dir_all(&staging);
    })?;
    let text = manifest::text(r, u);
    let all = c.catalogue.with([(r.name.as_str(), text.as_str())].into_iter())?;
    let bar = c.progress.bytes(&r.name);
    let publish = || -> Result<LockReport> {
        let lock = lock_set(&all, &r.name, c.places(&c.global.data_dir), false, &bar.verified())?;
        fsio::write_atomic(&place, text.as_bytes())?;
        Ok(lock)
    };
    let lock = publish().inspect_err(|_| {
        let _ = fs::remove_dir_all(&folder);
    })?;
    Ok(Added {
        folder,
        manifest: place,
        lock,
        copied,
    })
}

/// What was understood and where it went, for programs.
pub fn json(r: &Request, u: &Understood, added: Option<&Added>) -> Value {
    let mut all = u.json();
    all["set"] = r.name.as_str().into();
    if let Some(d) = added {
        all["folder"] = d.folder.display().to_string().into();
        all["manifest"] = d.manifest.display().to_string().into();
        all["root"] = d.lock.root.to_string().into();
    }
    all
}

/// Images and table below `staging`, read back as a run reads them; returns how many bytes were copied.
fn assemble(c: &Context, r: &Request, u: &Understood, staging: &Path) -> Result<u64> {
    let images = staging.join(IMAGES);
    let bar = c.progress.items(&r.name, u.images());
    let mut copied = 0;
    for (from, name) in u.files() {
        let to = images.join(name);
        fsio::create_dir(to.parent().unwrap_or(&images))?;
        // What a link means is taken, not the link; the same file under two names costs no space.
        let from = from
            .canonicalize()
            .with_context(|| format!("cannot read {}", from.display()))?;
        if fs::hard_link(&from, &to).is_err() {
            let bytes = fsio::read(&from)?;
            copied += bytes.len() as u64;
            fsio::write_atomic(&to, &bytes)?;
        }
        bar.step();
    }
    for (pixels, name) in u.arrays() {
        fsio::write_atomic(&images.join(name), &png(pixels)?)?;
        bar.step();
    }
    fsio::write_atomic(&staging.join(TABLE), manifest::table(u)?.as_bytes())?;
    let title = r.title.as_deref().unwrap_or(&r.name);
    let source = TableSource::new(&r.name, title, &r.name, u.spec.clone(), "")?;
    source.load(staging, &Protocol::faithful())?;
    Ok(copied)
}

fn png(img: &ImageArray) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let colour = if img.channels == 1 {
        ExtendedColorType::L8
    } else {
        ExtendedColorType::Rgb8
    };
    image::ImageEncoder::write_image(
        PngEncoder::new(&mut out),
        &img.data,
        img.width as u32,
        img.height as u32,
        colour,
    )?;
    Ok(out)
}
