//! Reading an archive back: every file against the manifest, before anything in it is believed.

use super::{MANIFEST, PREDICTIONS};
use crate::error::BadInput;
use crate::fsio::{self, Pending};
use crate::{limits, zipfile};
use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Component, Path};

/// What was found in an archive.
#[derive(Debug, Default, serde::Serialize)]
pub struct Unpacked {
    /// Files whose hash is the manifest's.
    pub files: usize,
    /// Studies whose records are in it.
    pub studies: Vec<String>,
    /// Runs without predictions: their metrics cannot be computed again.
    pub without_predictions: usize,
    /// What is not as the manifest says, in words.
    pub findings: Vec<String>,
}

/// Unpacks the archive `file` into the empty folder `to`, holding every file against the manifest; files that do not hold are
/// named and left out.
///
/// # Errors
/// [`BadInput`] where the file is no archive of this kind.
pub fn unpack(file: &Path, to: &Path) -> Result<Unpacked> {
    let bad = |found: String| {
        BadInput::new(
            file.display(),
            "an archive that `medft bundle` wrote",
            found,
            "Get the archive again, or make it again with `medft bundle`.",
        )
    };
    let source = fsio::open_file(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut zip = zipfile::open(source).map_err(|e| bad(format!("an unreadable file ({e})")))?;
    let mut text = String::new();
    zip.by_name(MANIFEST)
        .map_err(|_| bad(format!("one without {MANIFEST}")))?
        .take(limits::BUNDLE_LIST)
        .read_to_string(&mut text)
        .map_err(|e| bad(format!("an unreadable {MANIFEST} ({e})")))?;
    let mut wanted: BTreeMap<String, String> = text
        .lines()
        .filter_map(|l| l.split_once("  "))
        .map(|(hash, name)| (name.to_owned(), hash.to_owned()))
        .collect();
    let mut out = Unpacked::default();
    let (mut studies, mut runs, mut predicted) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for i in 0..zip.len() {
        let mut entry = zip.by_index(i).map_err(|e| bad(format!("an unreadable entry ({e})")))?;
        let name = match entry.name() {
            Ok(name) => name.into_owned(),
            Err(e) => {
                out.findings
                    .push(format!("entry {i}: a name that cannot be read ({e})"));
                continue;
            }
        };
        if name == MANIFEST {
            continue;
        }
        let Some(hash) = wanted.remove(&name) else {
            out.findings.push(format!("{name}: not in {MANIFEST}, or there twice"));
            continue;
        };
        if !Path::new(&name).components().all(|c| matches!(c, Component::Normal(_))) {
            out.findings
                .push(format!("{name}: a name that leads out of the archive"));
            continue;
        }
        let path = to.join(&name);
        match write_held(&mut entry, &path, &hash)? {
            None => {}
            Some(wrong) => {
                out.findings.push(format!("{name}: {wrong}"));
                continue;
            }
        }
        out.files += 1;
        let mut parts = name.split('/');
        if let (Some("results"), Some(study), Some(run), Some(last)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        {
            studies.insert(study.to_owned());
            runs.insert(run.to_owned());
            if last == PREDICTIONS {
                predicted.insert(run.to_owned());
            }
        }
    }
    out.findings.extend(
        wanted
            .into_keys()
            .map(|name| format!("{name}: in {MANIFEST}, but not in the archive")),
    );
    out.studies = studies.into_iter().collect();
    out.without_predictions = runs.difference(&predicted).count();
    Ok(out)
}

/// Writes an entry to `path` where its hash is `wanted`; else says what is wrong with it and leaves nothing.
fn write_held(entry: &mut impl Read, path: &Path, wanted: &str) -> Result<Option<String>> {
    let mut file = Pending::create(path)?;
    let (mut hash, mut piece, mut left) = (Sha256::new(), vec![0; 1 << 20], limits::BUNDLED_FILE);
    loop {
        let n = match entry.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) => return Ok(Some(format!("cannot be read ({e})"))),
        };
        let Some(rest) = left.checked_sub(n as u64) else {
            return Ok(Some(format!(
                "more than {} bytes, which is more than medft unpacks",
                limits::BUNDLED_FILE
            )));
        };
        left = rest;
        hash.update(&piece[..n]);
        file.put(&piece[..n])?;
    }
    if fsio::hex(&hash.finalize()) != wanted {
        return Ok(Some(format!("its hash is not the one in {MANIFEST}")));
    }
    file.publish()?;
    Ok(None)
}
