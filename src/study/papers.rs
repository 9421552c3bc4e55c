//! The papers: a folder of `experiments/papers/` each, named by the paper's key.
//!
//! ```text
//! study-NAME.toml    a study, called NAME; `study.toml` is called as the paper's key
//! published.csv      the values that the paper states        (its columns: docs/PROTOCOL.md, section 11)
//! published.toml     where they are from; the key is what a study names under `[report] published`
//! claims.toml        what the paper says, as statements that numbers can decide
//! tolerance.toml     how far a result may lie from a published value and still count as the same
//! ```
//!
//! Each file may be absent. The folders of the repository are in the binary (`build.rs`); one beside it, under `--experiments-dir`,
//! adds a paper, and a file of it stands in for the built-in file of that name.

use crate::error::BadInput;
use crate::{fsio, limits};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Key, file, text.
static BUILT_IN: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/papers.rs"));

/// A folder of papers below the folder of studies.
const FOLDER: &str = "papers";

/// What a paper's folder holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Paper {
    /// Name of the folder, and of its set of published values.
    pub key: String,
    /// Names of its studies, in order.
    pub studies: Vec<String>,
    /// Whether it states values, claims and margins.
    pub published: bool,
    pub claims: bool,
    pub tolerance: bool,
}

impl Paper {
    /// Every paper of the binary and of `<experiments_dir>/papers`, by key.
    pub fn all(experiments_dir: &Path) -> Vec<Self> {
        let one = |(key, files): (String, BTreeSet<String>)| {
            let studies: BTreeSet<String> = files.iter().filter_map(|f| study_name(&key, f)).collect();
            Self {
                studies: studies.into_iter().collect(),
                published: files.contains("published.csv"),
                claims: files.contains("claims.toml"),
                tolerance: files.contains("tolerance.toml"),
                key,
            }
        };
        folders(experiments_dir).into_iter().map(one).collect()
    }

    /// Names of the studies of all papers, in order.
    pub fn studies(experiments_dir: &Path) -> Vec<String> {
        let all: BTreeSet<String> = Self::all(experiments_dir).into_iter().flat_map(|p| p.studies).collect();
        all.into_iter().collect()
    }
}

/// The names of the files of every paper's folder.
fn folders(experiments_dir: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = BTreeMap::<String, BTreeSet<String>>::new();
    for (key, file, _) in BUILT_IN {
        all.entry((*key).into()).or_default().insert((*file).into());
    }
    let listed = |path: &Path| -> Vec<String> {
        let names = fs::read_dir(path).into_iter().flatten().flatten();
        names.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let papers = experiments_dir.join(FOLDER);
    let is_folder = |key: &String| !key.starts_with('.') && papers.join(key).is_dir();
    for key in listed(&papers).into_iter().filter(is_folder) {
        let files = listed(&papers.join(&key));
        if !files.is_empty() {
            all.entry(key).or_default().extend(files);
        }
    }
    all
}

/// What the study in a file of a paper's folder is called; `None` for a file that is no study.
fn study_name(key: &str, file: &str) -> Option<String> {
    match file.strip_prefix("study")?.strip_suffix(".toml")? {
        "" => Some(key.to_owned()),
        rest => rest
            .strip_prefix('-')
            .filter(|name| !name.is_empty())
            .map(str::to_owned),
    }
}

/// What the study in a file is called: the file's own name without `.toml`, in the folder of a paper as the papers have it.
pub(super) fn name_of(path: &Path) -> String {
    let text = |part: Option<&std::ffi::OsStr>| part.and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    let folder = path.parent();
    if text(folder.and_then(Path::parent).and_then(Path::file_name)) == FOLDER {
        let (key, file) = (text(folder.and_then(Path::file_name)), text(path.file_name()));
        if let Some(name) = study_name(&key, &file) {
            return name;
        }
    }
    text(path.file_stem())
}

/// The text of a paper's study with the name that messages use; `None` where no paper has one of this name.
///
/// # Errors
/// [`BadInput`] where two papers have one, or its file cannot be read.
pub(super) fn study(experiments_dir: &Path, name: &str) -> Result<Option<(String, String)>, BadInput> {
    let all = folders(experiments_dir).into_iter();
    let found: Vec<(String, String)> = all
        .flat_map(|(key, files)| files.into_iter().map(move |f| (key.clone(), f)))
        .filter(|(key, file)| study_name(key, file).as_deref() == Some(name))
        .collect();
    match found.as_slice() {
        [] => Ok(None),
        [(key, file)] => text(experiments_dir, key, file),
        [a, b, ..] => Err(BadInput::new(
            "study",
            format!("one study of the name `{name}`"),
            format!("{FOLDER}/{}/{} and {FOLDER}/{}/{}", a.0, a.1, b.0, b.1),
            "Rename one of the two files, or name it by its path.",
        )),
    }
}

/// The text of a file of a paper with the name that messages use: the one beside the binary, else the one inside; `None` where there
/// is neither.
///
/// # Errors
/// [`BadInput`] where it cannot be read.
pub(super) fn text(experiments_dir: &Path, key: &str, file: &str) -> Result<Option<(String, String)>, BadInput> {
    let path = experiments_dir.join(FOLDER).join(key).join(file);
    if path.exists() {
        return Ok(Some((path.display().to_string(), read_text(&path)?)));
    }
    let built_in = BUILT_IN.iter().find(|b| (b.0, b.1) == (key, file));
    Ok(built_in.map(|b| (format!("{} (built in)", path.display()), b.2.to_owned())))
}

/// Whether the binary holds a paper of this key.
pub(super) fn is_built_in(key: &str) -> bool {
    BUILT_IN.iter().any(|b| b.0 == key)
}

pub(super) fn read_text(path: &Path) -> Result<String, BadInput> {
    fsio::read_text_at_most(path, limits::RECORD).map_err(|e| {
        BadInput::new(
            path.display(),
            "a text file that can be read",
            e.to_string(),
            "Name a file that is there, in UTF-8.",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checkout that shares its target folder with another reads its own files.
    #[test]
    fn no_path_of_a_checkout_is_built_in() {
        let list = include_str!(concat!(env!("OUT_DIR"), "/papers.rs"));
        assert!(list.contains("published.toml"));
        assert!(!list.contains(env!("CARGO_MANIFEST_DIR")), "{list}");
    }

    #[test]
    fn a_study_is_called_by_what_stands_behind_the_prefix() {
        let here = |path: &str| name_of(Path::new(path));
        assert_eq!(here("experiments/papers/key2020/study.toml"), "key2020");
        assert_eq!(here("/a/papers/key2020/study-mine.toml"), "mine");
        assert_eq!(here("experiments/study-mine.toml"), "study-mine");
        assert_eq!(here("papers/key2020/other.toml"), "other");
        for no in ["study-.toml", "studymine.toml", "published.toml", "study.csv"] {
            assert_eq!(study_name("key2020", no), None, "{no}");
        }
    }

    /// A folder beside the binary is a paper; a file of it stands in for the built-in one, and two of one name are told apart.
    #[test]
    fn a_paper_is_a_folder() {
        let place = tempfile::tempdir().unwrap();
        let before = Paper::all(place.path());
        assert!(before.iter().all(|p| !p.key.is_empty()) && !before.is_empty());
        let folder = place.path().join("papers/mine2030");
        fs::create_dir_all(&folder).unwrap();
        assert_eq!(Paper::all(place.path()), before, "an empty folder is none");
        for file in ["study.toml", "study-other.toml", "claims.toml"] {
            fs::write(folder.join(file), file).unwrap();
        }
        let mine = Paper::all(place.path())
            .into_iter()
            .find(|p| p.key == "mine2030")
            .unwrap();
        assert_eq!(
            (mine.studies.join(" "), mine.claims, mine.published),
            ("mine2030 other".into(), true, false)
        );
        let (file, text) = study(place.path(), "other").unwrap().unwrap();
        assert!(file.ends_with("study-other.toml") && text == "study-other.toml");
        assert_eq!(study(place.path(), "none").unwrap(), None);
        let again = place.path().join("papers/other");
        fs::create_dir_all(&again).unwrap();
        fs::write(again.join("study.toml"), "").unwrap();
        let e = study(place.path(), "other").unwrap_err();
        assert!(e.to_string().contains("mine2030/study-other.toml"), "{e}");
    }
}
