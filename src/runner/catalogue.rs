//! The manifests that a process works with: those compiled in, or a mirror's, with the user's own data sets and checkpoints beside them.
//!
//! A user's own lie in the folder that `--manifests-dir` or `MEDFT_MANIFESTS` names, else in `data-manifests` of the working folder. They
//! are added and never stand in the place of a built-in one, whose name none of them may have; one that cannot be used is told of and
//! left out: it is no reason not to run the others.

use super::own_weights;
use crate::cli::Global;
use crate::data::registry::SETS;
use crate::data::table::TableSource;
use crate::error::BadInput;
use crate::manifest::{Catalogue, DataManifest, WeightsManifest, own_folder};
use crate::{fsio, tell};
use anyhow::Result;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// All manifests; the user's own become data sets and backbones. With `writes` the named folder need not be there yet.
///
/// # Errors
/// [`BadInput`] where a named folder is not there, or a mirror's manifest cannot be used.
pub fn of(global: &Global, writes: bool) -> Result<&'static Catalogue> {
    let folder = own_folder(global.manifests_dir.as_deref());
    if folder != own_folder(None) && !writes && !folder.is_dir() {
        let remedy = "Correct --manifests-dir or MEDFT_MANIFESTS.";
        return Err(BadInput::new(folder.display(), "a folder of manifests", "none", remedy).into());
    }
    // A mirror, another pin, or the sources of a test: what published files are and where they are from.
    let mut all = match std::env::var_os("MEDFT_MIRROR").filter(|v| !v.is_empty()) {
        None => Cow::Borrowed(Catalogue::embedded()),
        Some(dir) => Cow::Owned(Catalogue::from_dir(dir.as_ref())?),
    };
    for path in files(folder) {
        let read = fsio::read_to_string(&path);
        let own = match read {
            Ok(text) if is_table(&text) => register(&path, &text),
            Ok(_) if Catalogue::is_built_in(&name(&path)) => Ok(()),
            Ok(_) => {
                let remedy =
                    "Write it with `medft data add`; MEDFT_MIRROR names a folder of other sources of published data.";
                Err(BadInput::new(
                    path.display(),
                    "layout = \"table\", as a data set of one's own has",
                    "none",
                    remedy,
                )
                .into())
            }
            Err(e) => Err(e),
        };
        if let Err(e) = own {
            tell!("warning: {e:#}\nThis data set is left out.");
        }
    }
    let brought = SETS.all().into_iter().filter_map(|s| Some((s.name(), s.manifest()?)));
    let new: Vec<_> = brought.filter(|(set, _)| all.set(set).is_err()).collect();
    if !new.is_empty() {
        all = Cow::Owned(all.with(new.into_iter())?);
    }
    let weights = weights(folder);
    if !weights.is_empty() {
        all = Cow::Owned(all.with_weights(&weights)?);
    }
    Ok(match all {
        Cow::Borrowed(built_in) => built_in,
        Cow::Owned(all) => Box::leak(Box::new(all)),
    })
}

/// The user's own checkpoints of a folder of manifests, made backbones.
pub fn weights(folder: &Path) -> Vec<WeightsManifest> {
    let mut own = Vec::new();
    for path in files(&folder.join("weights")) {
        if Catalogue::is_built_in(&format!("weights/{}", name(&path))) {
            continue;
        }
        match Catalogue::own_weights(&path).and_then(|pin| own_weights::register(&pin).map(|()| pin)) {
            Ok(pin) => own.push(pin),
            Err(e) => tell!("warning: {e:#}\nThis checkpoint is left out."),
        }
    }
    own
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The TOML files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml") && !name(p).starts_with('.'));
    files.sort();
    files
}

/// Whether a manifest is that of a user's own data set.
fn is_table(text: &str) -> bool {
    match text.parse::<toml::Table>() {
        Ok(m) => m.get("layout").and_then(toml::Value::as_str) == Some("table"),
        Err(_) => text.lines().any(|l| l.trim() == "[table]"),
    }
}

fn register(path: &Path, text: &str) -> Result<()> {
    let at = path.display().to_string();
    let m = DataManifest::parse(text, &at)?;
    let bad = |expected: &str, found: String| BadInput::new(&at, expected, found, "Correct it, or add the set again.");
    if path.file_stem().and_then(|s| s.to_str()) != Some(&m.set) {
        return Err(bad("a file named after its set", format!("that of `{}`", m.set)).into());
    }
    if SETS.built_in().iter().any(|s| s.name() == m.set) {
        return Err(bad("a name of its own", format!("`{}`, a built-in data set", m.set)).into());
    }
    let table = m.table.clone().ok_or_else(|| bad("a [table]", "none".into()))?;
    let spec = table
        .try_into()
        .map_err(|e: toml::de::Error| bad("a [table] that describes the set", e.message().to_owned()))?;
    let source = TableSource::new(&m.set, &m.title, &m.folder, spec, text)?;
    // A process that runs several verbs finds it registered.
    if SETS.get(&m.set).is_none() {
        SETS.register(Box::leak(Box::new(source)))?;
    }
    Ok(())
}
