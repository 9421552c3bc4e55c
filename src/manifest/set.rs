//! The two questions that commands ask about a data set: is it the right one ([`verify_set`]), and write down what it
//! is ([`lock_set`]).
//!
//! The list of real data is the user's own at `<data-dir>/<set>.sha256`, where [`lock_set`] puts it, else the committed
//! one: a user who locks another copy (a MedMNIST set at 64 pixels) means that one, and its label files are held against
//! the publisher's hashes in any case. A generated stand-in is held against the committed list first, so that its bytes
//! are checked to be the same on every machine. Lists and side files lie beside the set's folder, never in it.

use super::catalogue::Catalogue;
use super::hash::{OnProgress, Sha};
use super::labels::{LabelCheck, check_labels};
use super::list::HashList;
use super::report::{LockReport, VerifyReport};
use super::verify::{Mode, Target, lock, verify};
use crate::error::BadInput;
use anyhow::Result;
use serde::Serialize;
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether the real data is meant or its generated stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Real,
    Phantom,
}

/// What a verification of a set came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetState {
    /// Every file is the list's, every label file the publisher's.
    Verified,
    /// A file differs; the report names it.
    Differs,
    /// The folder is there, but no list says what should be in it.
    NotLocked,
    /// The folder is not there, or none of the set's files is in it.
    Missing,
}

/// All that is known of a set's copy in a data directory.
#[derive(Debug, Clone, Serialize)]
pub struct SetReport {
    pub set: String,
    pub title: String,
    pub kind: Kind,
    pub folder: PathBuf,
    pub state: SetState,
    /// The root hash that enters run ids; given for a verified set only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Sha>,
    /// The list behind the root hash: what every byte that is used later is held against; given for a verified set only.
    #[serde(skip)]
    pub list: Option<Arc<HashList>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<VerifyReport>,
    pub labels: Vec<LabelCheck>,
    /// How to get the set, or what to do next.
    pub remedy: String,
}

/// Where a user's list of a set lies.
pub fn list_path(data_dir: &Path, set: &str) -> PathBuf {
    data_dir.join(format!("{set}.sha256"))
}

fn stat_path(data_dir: &Path, set: &str) -> PathBuf {
    data_dir.join(format!(".medft-{set}.stat"))
}

/// Verifies a set below `data_dir`: every file against its list, label files against the publisher's hashes.
///
/// # Errors
/// [`BadInput`] for an unknown set or a malformed list. What is missing or differs is in the report.
pub fn verify_set(
    all: &Catalogue,
    set: &str,
    kind: Kind,
    data_dir: &Path,
    mode: Mode,
    on: OnProgress,
) -> Result<SetReport> {
    let m = all.set(set)?;
    let root = data_dir.join(&m.folder);
    let own_list = list_path(data_dir, set);
    let list = find_list(all, set, kind, &own_list)?;
    let mut report = SetReport {
        set: set.into(),
        title: m.title.clone(),
        kind,
        folder: root.clone(),
        state: SetState::Missing,
        root: None,
        list: None,
        files: None,
        labels: Vec::new(),
        remedy: match kind {
            Kind::Real => m.how_to_get(),
            Kind::Phantom => format!("Generate it with `medft data synth {set}`."),
        },
    };
    if !root.is_dir()
        || m.files
            .as_ref()
            .is_some_and(|f| !f.iter().any(|f| root.join(f).exists()))
    {
        return Ok(report);
    }
    if kind == Kind::Real {
        report.labels = check_labels(m, &root);
    }
    let Some((list, list_name)) = list else {
        report.state = SetState::NotLocked;
        report.remedy = format!(
            "Check that {} is complete, then run `medft data lock {set}`.",
            root.display()
        );
        return Ok(report);
    };
    let stat = stat_path(data_dir, set);
    let target = Target {
        set,
        root: &root,
        only: m.files.as_deref(),
        stat_file: Some(&stat),
    };
    let files = verify(&target, &list, &list_name, mode, on)?;
    if files.ok && report.labels.iter().all(LabelCheck::ok) {
        report.state = SetState::Verified;
        report.root = Some(files.root);
        report.list = Some(Arc::new(list.into_owned()));
        report.remedy = String::new();
    } else {
        report.state = SetState::Differs;
        report.remedy = match kind {
            Kind::Real => format!(
                "Get the named files again, or, if this is the data you mean to use, run `medft data lock {set}`.\n{}",
                m.how_to_get()
            ),
            Kind::Phantom => format!("Delete {} and run `medft data synth {set}`.", root.display()),
        };
    }
    report.files = Some(files);
    Ok(report)
}

/// The list of a set and what to call it in messages.
fn find_list<'a>(
    all: &'a Catalogue,
    set: &str,
    kind: Kind,
    own_list: &Path,
) -> Result<Option<(Cow<'a, HashList>, String)>> {
    let own = || -> Result<_> {
        let list = if own_list.is_file() {
            Some(Cow::Owned(HashList::read(own_list)?))
        } else {
            None
        };
        Ok(list.map(|l| (l, own_list.display().to_string())))
    };
    let committed = |list: Option<&'a HashList>, folder: &str| {
        list.map(|l| (Cow::Borrowed(l), format!("data-manifests/{folder}{set}.sha256")))
    };
    Ok(match kind {
        Kind::Real => own()?.or_else(|| committed(all.list(set), "")),
        Kind::Phantom => match committed(all.phantom(set), "phantom/") {
            Some(found) => Some(found),
            None => own()?,
        },
    })
}

/// Hashes the set below `data_dir` and writes `<data-dir>/<set>.sha256`.
///
/// # Errors
/// As [`lock`]; [`BadInput`] with the way to get the data when its folder is not there.
pub fn lock_set(all: &Catalogue, set: &str, data_dir: &Path, on: OnProgress) -> Result<LockReport> {
    let m = all.set(set)?;
    let root = data_dir.join(&m.folder);
    if !root.is_dir() {
        return Err(BadInput::new(
            root.display(),
            format!("the folder of {}", m.title),
            "none",
            m.how_to_get(),
        )
        .into());
    }
    let stat = stat_path(data_dir, set);
    let target = Target {
        set,
        root: &root,
        only: m.files.as_deref(),
        stat_file: Some(&stat),
    };
    lock(&target, &list_path(data_dir, set), on)
}

/// Writes the list of a generated stand-in that lies below `data_dir` to `<manifests>/phantom/<set>.sha256`, to be
/// committed (with a line in `embedded.rs`).
///
/// # Errors
/// As [`lock`].
pub fn lock_phantom(all: &Catalogue, set: &str, data_dir: &Path, manifests: &Path) -> Result<LockReport> {
    let m = all.set(set)?;
    let root = data_dir.join(&m.folder);
    let target = Target {
        set,
        root: &root,
        only: m.files.as_deref(),
        stat_file: None,
    };
    lock(
        &target,
        &manifests.join("phantom").join(format!("{set}.sha256")),
        &super::hash::quiet,
    )
}

impl SetReport {
    /// The root hash of a verified set.
    ///
    /// # Errors
    /// [`BadInput`] naming the first files that are wrong and what to do, for everything else.
    pub fn require(&self) -> Result<Sha, BadInput> {
        if let Some(root) = self.root {
            return Ok(root);
        }
        let found = match self.state {
            SetState::Missing => "none of it".to_owned(),
            SetState::NotLocked => "no list to hold it against".to_owned(),
            _ => self.differences(5),
        };
        Err(BadInput::new(
            self.folder.display(),
            format!("the verified files of {}", self.title),
            found,
            &*self.remedy,
        ))
    }

    /// The report as text, naming at most `limit` files of each kind; without the remedy.
    pub fn text(&self, limit: usize) -> String {
        match (self.state, &self.files) {
            (SetState::Missing, _) => format!("{}: not in {}", self.set, self.folder.display()),
            (SetState::NotLocked, _) => format!("{}: no list to hold it against{}", self.set, self.label_lines()),
            (_, Some(f)) => format!("{}{}", f.text(limit), self.label_lines()),
            (_, None) => self.set.clone(),
        }
    }

    fn differences(&self, limit: usize) -> String {
        let files = self
            .files
            .as_ref()
            .filter(|f| !f.ok)
            .map(|f| f.text(limit))
            .unwrap_or_default();
        format!("{files}{}", self.label_lines()).trim().to_owned()
    }

    fn label_lines(&self) -> String {
        self.labels
            .iter()
            .filter_map(LabelCheck::text)
            .map(|t| format!("\n  label file {t}"))
            .collect()
    }
}
