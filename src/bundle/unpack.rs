//! Reading an archive back: every file against the manifest, before anything in it is believed.

use super::{MANIFEST, PREDICTIONS};
use crate::error::BadInput;
use crate::fsio;
use anyhow::{Context as _, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};
use zip::ZipArchive;

/// The largest file that is unpacked: trained weights of the largest backbone take less than 4 GB.
const MOST_BYTES: u64 = 8 << 30;

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
    let source = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut zip = ZipArchive::new(source).map_err(|e| bad(format!("an unreadable file ({e})")))?;
    let mut text = String::new();
    zip.by_name(MANIFEST)
        .map_err(|_| bad(format!("one without {MANIFEST}")))?
        .take(256 << 20)
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
        if entry.size() > MOST_BYTES {
            out.findings
                .push(format!("{name}: {} bytes, more than medft unpacks", entry.size()));
            continue;
        }
        let mut bytes = Vec::new();
        if let Err(e) = (&mut entry).take(MOST_BYTES).read_to_end(&mut bytes) {
            out.findings.push(format!("{name}: cannot be read ({e})"));
            continue;
        }
        if fsio::sha256_hex(&bytes) != hash {
            out.findings
                .push(format!("{name}: its hash is not the one in {MANIFEST}"));
            continue;
        }
        fsio::write_atomic(&to.join(&name), &bytes)?;
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
