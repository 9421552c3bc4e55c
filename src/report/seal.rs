//! Whether a report is the one that its inputs give: the hash of the inputs and of every file, beside the report.
//!
//! `inputs.sha256` names everything that the report was made from; `SHA256SUMS` the files, as `sha256sum -c` reads it. A report is
//! made anew unless both still hold, so that an edited, missing or outdated file never stays. Files of an earlier report
//! that the new one does not have are removed, where they are still as they were written.

use super::ReportOutput;
use crate::fsio;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const INPUTS: &str = "inputs.sha256";
const SUMS: &str = "SHA256SUMS";
const OUTCOME: &str = ".outcome.json";

/// What the report in `folder` found, if it was made from inputs of this hash and no file of it has changed.
pub fn still_holds(folder: &Path, inputs: &str) -> Option<ReportOutput> {
    let known = fs::read_to_string(folder.join(INPUTS)).ok()?;
    let sums = sums(folder)?;
    if known.trim() != inputs || !sums.iter().all(|(file, hash)| unchanged(&folder.join(file), hash)) {
        return None;
    }
    let outcome: ReportOutput = serde_json::from_slice(&fs::read(folder.join(OUTCOME)).ok()?).ok()?;
    let listed: BTreeSet<PathBuf> = sums.keys().map(|f| folder.join(f)).collect();
    outcome.files.iter().all(|f| listed.contains(f)).then_some(outcome)
}

/// Seals a report that was just made.
///
/// # Errors
/// [`crate::error::BadInput`] when a file cannot be written.
pub fn seal(folder: &Path, inputs: &str, output: &ReportOutput) -> Result<()> {
    let old = sums(folder).unwrap_or_default();
    let mut new = BTreeMap::new();
    for path in &output.files {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy().replace('\\', "/");
        new.insert(name, fsio::sha256_file(path, |_| {})?);
    }
    for (file, hash) in old.iter().filter(|(f, _)| !new.contains_key(*f)) {
        let path = folder.join(file);
        if unchanged(&path, hash) {
            // A leftover that cannot be removed does no harm: nothing refers to it.
            let _ = fs::remove_file(path);
        }
    }
    let lines: String = new.iter().map(|(file, hash)| format!("{hash}  {file}\n")).collect();
    fsio::write_atomic(&folder.join(SUMS), lines.as_bytes())?;
    fsio::write_atomic(&folder.join(OUTCOME), &serde_json::to_vec(output)?)?;
    fsio::write_atomic(&folder.join(INPUTS), format!("{inputs}\n").as_bytes())
}

/// Breaks the seal before a report is written over: a writing that is cut short leaves none.
pub fn unseal(folder: &Path) -> Result<()> {
    let path = folder.join(INPUTS);
    if path.exists() {
        fsio::write_atomic(&path, b"")?;
    }
    Ok(())
}

/// `SHA256SUMS` as file → hash; `None` where it is absent or names a file outside the folder.
fn sums(folder: &Path) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(folder.join(SUMS)).ok()?;
    text.lines()
        .map(|line| {
            let (hash, file) = line.split_once("  ")?;
            let inside = Path::new(file).components().all(|c| matches!(c, std::path::Component::Normal(_)));
            inside.then(|| (file.to_owned(), hash.to_owned()))
        })
        .collect()
}

fn unchanged(path: &Path, hash: &str) -> bool {
    path.is_file() && fsio::sha256_file(path, |_| {}).is_ok_and(|h| h == hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::VerdictCounts;

    fn output(folder: &Path, files: &[&str]) -> ReportOutput {
        let files: Vec<PathBuf> = files.iter().map(|f| folder.join(f)).collect();
        for f in &files {
            fsio::write_atomic(f, f.to_string_lossy().as_bytes()).unwrap();
        }
        ReportOutput {
            files,
            planned: 3,
            done: 2,
            comparisons: Vec::new(),
            verdicts: VerdictCounts::default(),
            fits: Vec::new(),
            claims: Vec::new(),
        }
    }

    #[test]
    fn a_seal_holds_until_anything_changes() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        assert!(still_holds(at, "a").is_none());
        let out = output(at, &["README.md", "tables/x.md"]);
        seal(at, "a", &out).unwrap();
        let again = still_holds(at, "a").unwrap();
        assert_eq!((again.planned, again.done, again.files), (3, 2, out.files.clone()));
        assert!(still_holds(at, "b").is_none(), "other inputs");
        fs::write(at.join("tables/x.md"), "edited").unwrap();
        assert!(still_holds(at, "a").is_none(), "an edited file");
        fs::remove_file(at.join("tables/x.md")).unwrap();
        assert!(still_holds(at, "a").is_none(), "a missing file");
        output(at, &["README.md", "tables/x.md"]);
        assert!(still_holds(at, "a").is_some());
        unseal(at).unwrap();
        assert!(still_holds(at, "a").is_none(), "a report that is being written");
    }

    #[test]
    fn leftovers_go_and_the_users_own_files_stay() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        seal(at, "a", &output(at, &["README.md", "old.md", "mine.md"])).unwrap();
        fs::write(at.join("mine.md"), "notes of a reader").unwrap();
        fs::write(at.join("data.md"), "another verb's").unwrap();
        seal(at, "b", &output(at, &["README.md"])).unwrap();
        let left = |f: &str| at.join(f).exists();
        assert_eq!((left("old.md"), left("mine.md"), left("data.md")), (false, true, true));
    }
}
