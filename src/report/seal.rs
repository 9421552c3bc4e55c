//! Whether the report that lies there is the one that its inputs give.
//!
//! The seal is a record that names everything the report was made from and holds what it found; `report.json` has the hash
//! of every file. A report is made anew unless all still hold, so that an edited, missing or outdated file never stays. Files
//! of an earlier report that the new one does not have are removed, where they are still as they were written.

use super::{RENDERED, Rendered, ReportOutput};
use crate::fsio;
use crate::results::{Content, read_record, write_record};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

/// The file of a report that holds its seal.
pub const SEAL: &str = ".seal.json";

/// `.seal.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Hash of everything the report was made from, medft included.
    pub inputs: String,
    /// What was found; files by their place in the report's folder.
    pub output: ReportOutput,
}

impl Content for Sealed {
    const NAME: &'static str = "report-seal";
    const VERSION: u32 = 1;
}

/// What the report in `folder` found, if it was made from inputs of this hash and no file of it has changed.
pub fn still_holds(folder: &Path, inputs: &str) -> Option<ReportOutput> {
    let (seal, _) = read_record::<Sealed>(&folder.join(SEAL)).ok()?;
    let files = files(folder)?;
    if seal.inputs != inputs || !files.iter().all(|(file, hash)| unchanged(&folder.join(file), hash)) {
        return None;
    }
    let mut output = seal.output;
    output.files.iter_mut().for_each(|f| *f = folder.join(&*f));
    Some(output)
}

/// How many runs with a result the report in `folder` shows; `None` where there is none.
pub fn results(folder: &Path) -> Option<usize> {
    #[derive(serde::Deserialize)]
    struct Known {
        done: usize,
    }
    let bytes = fsio::read(&folder.join("results.json")).ok()?;
    serde_json::from_slice::<Known>(&bytes).ok().map(|k| k.done)
}

/// Breaks the seal before a report is written over, so that a writing that is cut short leaves none; returns the files of
/// the report that is there, with their hashes.
///
/// # Errors
/// [`crate::error::BadInput`] when the folder cannot be written.
pub fn open(folder: &Path) -> Result<BTreeMap<String, String>> {
    let path = folder.join(SEAL);
    if path.exists() {
        fsio::write_atomic(&path, b"")?;
    }
    Ok(files(folder).unwrap_or_default())
}

/// Seals a report that was just made; `before` is what [`open`] returned.
///
/// # Errors
/// [`crate::error::BadInput`] when a file cannot be written.
pub fn close(folder: &Path, inputs: &str, output: &ReportOutput, before: &BTreeMap<String, String>) -> Result<()> {
    for (file, hash) in before {
        let path = folder.join(file);
        if !output.files.contains(&path) && unchanged(&path, hash) {
            // A leftover that cannot be removed does no harm: nothing refers to it.
            let _ = fs::remove_file(path);
        }
    }
    let sealed = Sealed {
        inputs: inputs.to_owned(),
        output: output.below(folder),
    };
    write_record(&folder.join(SEAL), &sealed)?;
    Ok(())
}

/// File → hash of the report that is there; `None` where there is none, or it names a file outside the folder.
fn files(folder: &Path) -> Option<BTreeMap<String, String>> {
    let (rendered, _) = read_record::<Rendered>(&folder.join(RENDERED)).ok()?;
    let inside = |f: &String| Path::new(f).components().all(|c| matches!(c, Component::Normal(_)));
    rendered.files.keys().all(inside).then_some(rendered.files)
}

fn unchanged(path: &Path, hash: &str) -> bool {
    fsio::sha256_file(path, |_| {}).is_ok_and(|h| h == hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::VerdictCounts;
    use crate::results::write_record;

    /// Writes a report of these files.
    fn output(folder: &Path, names: &[&str]) -> ReportOutput {
        let mut rendered = Rendered {
            medft: String::new(),
            only: Vec::new(),
            replicates: 0,
            audit: BTreeMap::new(),
            templates: BTreeMap::new(),
            files: BTreeMap::new(),
        };
        for name in names {
            fsio::write_atomic(&folder.join(name), name.as_bytes()).unwrap();
            rendered
                .files
                .insert((*name).to_owned(), fsio::sha256_hex(name.as_bytes()));
        }
        write_record(&folder.join(RENDERED), &rendered).unwrap();
        ReportOutput {
            files: names.iter().map(|n| folder.join(n)).collect(),
            planned: 3,
            done: 2,
            comparisons: Vec::new(),
            verdicts: VerdictCounts::default(),
            paper: crate::report::PaperLevel::default(),
            claims: Vec::new(),
        }
    }

    #[test]
    fn a_seal_holds_until_anything_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        assert!(still_holds(at, "a").is_none());
        let before = open(at).unwrap();
        let out = output(at, &["README.md", "tables/x.md"]);
        close(at, "a", &out, &before).unwrap();
        let again = still_holds(at, "a").unwrap();
        assert_eq!((again.planned, again.done, &again.files), (3, 2, &out.files));
        assert!(still_holds(at, "b").is_none(), "other inputs");
        fs::write(at.join("tables/x.md"), "edited").unwrap();
        assert!(still_holds(at, "a").is_none(), "an edited file");
        fs::remove_file(at.join("tables/x.md")).unwrap();
        assert!(still_holds(at, "a").is_none(), "a missing file");
        output(at, &["README.md", "tables/x.md"]);
        assert!(still_holds(at, "a").is_some());
        // An edited finding is not believed: the seal is a record that proves itself.
        let seal = fs::read_to_string(at.join(SEAL)).unwrap();
        assert!(!seal.contains(at.to_str().unwrap()), "no place of this machine");
        fs::write(at.join(SEAL), seal.replace("\"done\": 2", "\"done\": 3")).unwrap();
        assert!(still_holds(at, "a").is_none(), "an edited seal");
        fs::write(at.join(SEAL), seal).unwrap();
        assert!(still_holds(at, "a").is_some());
        open(at).unwrap();
        assert!(still_holds(at, "a").is_none(), "a report that is being written");
    }

    #[test]
    fn leftovers_go_and_the_users_own_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        close(
            at,
            "a",
            &output(at, &["README.md", "old.md", "mine.md"]),
            &BTreeMap::new(),
        )
        .unwrap();
        fs::write(at.join("mine.md"), "notes of a reader").unwrap();
        fs::write(at.join("data.md"), "another verb's").unwrap();
        let before = open(at).unwrap();
        close(at, "b", &output(at, &["README.md"]), &before).unwrap();
        let left = |f: &str| at.join(f).exists();
        assert_eq!((left("old.md"), left("mine.md"), left("data.md")), (false, true, true));
    }
}
