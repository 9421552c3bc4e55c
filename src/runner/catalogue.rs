//! The manifests that a process works with: those compiled in, with what a folder of the user's says besides.
//!
//! A folder that `--manifests-dir` or `MEDFT_MANIFESTS` names is laid over the built-in manifests (a mirror, another pin, the user's own
//! data sets) and never stands in their place. Without one, `data-manifests` in the working folder is looked at for the user's own data
//! sets alone: in a checkout it holds the very manifests that are compiled in.

use crate::cli::Global;
use crate::data::registry::SETS;
use crate::data::table::TableSource;
use crate::error::BadInput;
use crate::manifest::{Catalogue, DataManifest};
use crate::{fsio, tell};
use anyhow::Result;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// All manifests; the user's own data sets become sources. With `writes` the named folder need not be there yet.
///
/// # Errors
/// [`BadInput`] where the named folder is not there, or a manifest in it cannot be used. A data set of the user's own that cannot be used
/// is told of and left out: it is no reason not to run the others.
pub fn of(global: &Global, writes: bool) -> Result<&'static Catalogue> {
    let folder = global.own_manifests();
    let named = global.named_manifests().is_some();
    let mut all = Cow::Borrowed(Catalogue::embedded());
    if named && (folder.exists() || !writes) {
        all = Cow::Owned(all.overlaid(folder, &|text| !is_table(text))?);
    }
    for (path, text) in tables(folder) {
        if let Err(e) = register(&path, &text) {
            tell!("warning: {e:#}\nThis data set is left out.");
        }
    }
    let brought = SETS.all().into_iter().filter_map(|s| Some((s.name(), s.manifest()?)));
    let new: Vec<_> = brought.filter(|(set, _)| all.set(set).is_err()).collect();
    if !new.is_empty() {
        all = Cow::Owned(all.with(new.into_iter())?);
    }
    Ok(match all {
        Cow::Borrowed(built_in) => built_in,
        Cow::Owned(all) => Box::leak(Box::new(all)),
    })
}

/// Whether a manifest is that of a user's own data set.
fn is_table(text: &str) -> bool {
    match text.parse::<toml::Table>() {
        Ok(m) => m.get("layout").and_then(toml::Value::as_str) == Some("table"),
        Err(_) => text.lines().any(|l| l.trim() == "[table]"),
    }
}

/// Paths and texts of the manifests of the user's own data sets, by name.
fn tables(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let texts = files
        .into_iter()
        .filter_map(|p| Some((fsio::read_to_string(&p).ok()?, p)));
    texts.filter(|(text, _)| is_table(text)).map(|(t, p)| (p, t)).collect()
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
