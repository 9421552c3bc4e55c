//! A study as one archive that a reader can hold: study file, manifests, records, report, licences and the dependencies' lock file, as an
//! RO-Crate (1.2) with the Process Run Crate profile (0.5).
//!
//! The archive is a zip whose entries are sorted by name, carry no time and no owner, and name no path of the machine: the same
//! records give the same bytes. `manifest-sha256.txt` holds the hash of every other file, as `sha256sum -c` reads it. Hashes are no
//! signatures: whoever makes a new archive makes new hashes (SECURITY.md).

mod contents;
mod ro_crate;
mod unpack;

pub use contents::Contents;
pub use unpack::{Unpacked, unpack};

use crate::error::BadInput;
use crate::fsio::{self, Pending};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// The hash of every other file.
const MANIFEST: &str = "manifest-sha256.txt";
const METADATA: &str = "ro-crate-metadata.json";
const PREDICTIONS: &str = "predictions.parquet";
const WEIGHTS: [&str; 2] = [crate::results::WEIGHTS, crate::results::LAST_WEIGHTS];

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    pub file: PathBuf,
    pub bytes: u64,
    pub sha256: String,
    pub files: usize,
    pub runs: usize,
}

/// Where the bytes of an entry are.
enum EntryContent {
    Text(String),
    File(PathBuf),
}

impl EntryContent {
    fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::Text(t) => Ok(t.as_bytes().to_vec()),
            Self::File(p) => fsio::read(p),
        }
    }
}

/// Writes the archive.
///
/// # Errors
/// [`BadInput`] where the study has no finished run or a file cannot be read or written.
pub fn write(contents: &Contents<'_>, to: &Path) -> Result<Summary> {
    let mut entries = entries(contents)?;
    let runs = run_folders(&entries);
    if runs.is_empty() {
        return Err(BadInput::new(
            contents.results.display(),
            "at least one finished run",
            "none",
            format!("Run the study first: `medft run {}`.", contents.study),
        )
        .into());
    }
    // Hashes first: the metadata names the size and the hash of every file.
    let mut files = BTreeMap::new();
    for (name, source) in &entries {
        let bytes = source.read()?;
        let about = ro_crate::About {
            bytes: bytes.len() as u64,
            sha256: fsio::sha256_hex(&bytes),
        };
        files.insert(name.clone(), about);
    }
    let metadata = ro_crate::metadata(contents, &files, &runs)?;
    let mut list: String = files
        .iter()
        .map(|(name, a)| format!("{}  {name}\n", a.sha256))
        .collect();
    list.push_str(&format!("{}  {METADATA}\n", fsio::sha256_hex(metadata.as_bytes())));
    entries.insert(METADATA.to_owned(), EntryContent::Text(metadata));
    entries.insert(MANIFEST.to_owned(), EntryContent::Text(list));

    let mut out = Pending::create(to)?;
    zip_into(&mut out, &entries, &files).with_context(|| format!("cannot write {}", to.display()))?;
    out.publish()?;
    Ok(Summary {
        file: to.to_owned(),
        bytes: fs::metadata(to)
            .with_context(|| format!("cannot read {}", to.display()))?
            .len(),
        sha256: fsio::sha256_file(to, |_| {})?,
        files: entries.len(),
        runs: runs.len(),
    })
}

fn zip_into(
    out: &mut Pending,
    entries: &BTreeMap<String, EntryContent>,
    files: &BTreeMap<String, ro_crate::About>,
) -> Result<()> {
    let mut zip = ZipWriter::new_stream(out);
    for (name, source) in entries {
        let bytes = source.read()?;
        // A file that changes while the archive is written would make it contradict itself.
        if let Some(about) = files.get(name)
            && fsio::sha256_hex(&bytes) != about.sha256
        {
            return Err(BadInput::new(
                name,
                "a file that nobody changes meanwhile",
                "other bytes than a moment ago",
                "Wait until no `medft run` or `report` of the study is at work, then bundle again.",
            )
            .into());
        }
        let packed = name.ends_with(".parquet") || name.ends_with(".safetensors") || name.ends_with(".png");
        let options = SimpleFileOptions::default()
            .compression_method(if packed {
                CompressionMethod::Stored
            } else {
                CompressionMethod::Deflated
            })
            .large_file(bytes.len() as u64 >= u64::from(u32::MAX))
            .last_modified_time(DateTime::default())
            .unix_permissions(0o644);
        zip.start_file(name, options)?;
        zip.write_all(&bytes)?;
    }
    zip.finish()?;
    Ok(())
}

/// Every file by its name in the archive.
fn entries(c: &Contents<'_>) -> Result<BTreeMap<String, EntryContent>> {
    let mut all = BTreeMap::new();
    let mut text = |name: &str, text: &str| all.insert(name.to_owned(), EntryContent::Text(text.to_owned()));
    text("LICENSE-MIT", include_str!("../../LICENSE-MIT"));
    text("LICENSE-APACHE", include_str!("../../LICENSE-APACHE"));
    text("NOTICE", include_str!("../../NOTICE"));
    text("LICENSE-FONT", include_str!("../../templates/fonts/LICENSE"));
    text("Cargo.lock", include_str!("../../Cargo.lock"));
    text(&format!("experiments/{}.toml", c.study), &c.study_text);
    for (name, content) in c.manifests {
        text(&format!("data-manifests/{name}"), content);
    }
    if !c.results.is_dir() {
        return Ok(all);
    }
    add_folder(&mut all, c.results, &format!("results/{}", c.study), &|name| {
        let finished = |run: &str| c.results.join(run).join("DONE").is_file();
        // Of the results, finished runs alone; checkpoints, leases and what was set aside are not theirs.
        match name.split_once('/') {
            Some((run, rest)) => {
                !run.starts_with('.')
                    && finished(run)
                    && !rest.contains('/')
                    && !rest.starts_with('.')
                    && (c.predictions || rest != PREDICTIONS)
                    && (c.weights || !WEIGHTS.contains(&rest))
            }
            None => false,
        }
    })?;
    if c.report.is_dir() {
        add_folder(&mut all, c.report, &format!("reports/{}", c.study), &|name| {
            !is_temp(name)
        })?;
    }
    Ok(all)
}

fn is_temp(name: &str) -> bool {
    name.rsplit('/').next().is_some_and(|n| n.starts_with(".medft-"))
}

/// Adds the files below a folder for which `keep` holds, by their paths relative to it.
fn add_folder(
    all: &mut BTreeMap<String, EntryContent>,
    folder: &Path,
    below: &str,
    keep: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        let listed = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        for entry in listed {
            let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
            let path = entry.path();
            let kind = entry
                .file_type()
                .with_context(|| format!("cannot read {}", path.display()))?;
            let Some(name) = path.strip_prefix(folder).ok().and_then(|p| p.to_str()) else {
                continue;
            };
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() && keep(name) {
                all.insert(format!("{below}/{name}"), EntryContent::File(path.clone()));
            }
        }
    }
    Ok(())
}

/// The folders of runs (`results/<study>/<run>`), sorted.
fn run_folders(entries: &BTreeMap<String, EntryContent>) -> Vec<String> {
    entries
        .keys()
        .filter(|n| n.starts_with("results/"))
        .filter_map(|n| n.strip_suffix("/DONE").map(str::to_owned))
        .collect()
}
