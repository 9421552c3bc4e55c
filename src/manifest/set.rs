//! The two questions that commands ask about a data set: is it the right one ([`verify_set`]), and write down what it
//! is ([`lock_set`]).
//!
//! The list of real data is the user's own ([`DataPlaces`]), where [`lock_set`] puts it, else the committed one: a user who
//! locks another copy (a MedMNIST set at 64 pixels) means that one. Its label files are held against the publisher's hashes in
//! any case, when it is locked and whenever it is verified, by one rule: other bytes are refused unless they were accepted when
//! the set was locked, and then a note says so. A generated stand-in is held against the committed list first, so that its bytes
//! are checked to be the same on every machine. Lists and side files lie beside the set's folder, never in it.

use super::catalogue::Catalogue;
use super::hash::{OnProgress, Sha};
use super::images::ImageReport;
use super::labels::{LabelCheck, LabelOutcome, check_labels};
use super::list::HashList;
use super::report::VerifyMode;
use super::report::{LockReport, VerifyReport};
use super::verify::{Target, lock, verify};
use crate::error::BadInput;
use anyhow::Result;
use serde::Serialize;
use std::borrow::Cow;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether the real data is meant or its generated stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
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
    pub kind: DataKind,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
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
    /// The images that the label files list, where somebody who reads label files looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<ImageReport>,
    /// Why the set could not be looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How to get the set, or what to do next.
    pub remedy: String,
}

/// Where data sets lie, and their lists.
#[derive(Debug, Clone)]
pub struct DataPlaces {
    pub data_dir: PathBuf,
    /// Folders of lists and side files, the first that can be written being written to; one that is there is read from the first
    /// that has it.
    lists: Vec<PathBuf>,
}

impl DataPlaces {
    /// Data in `data_dir`; lists in `named` alone, else beside the data, else (data on a read-only disk) in `spare`.
    pub fn new(data_dir: &Path, named: Option<&Path>, spare: &Path) -> Self {
        Self {
            data_dir: data_dir.into(),
            lists: match named {
                Some(dir) => vec![dir.into()],
                None => vec![data_dir.into(), spare.into()],
            },
        }
    }

    /// The user's list of a set, where there is one.
    pub fn list(&self, set: &str) -> Option<PathBuf> {
        let mut all = self.lists.iter().map(|dir| dir.join(format!("{set}.sha256")));
        all.find(|p| p.is_file())
    }

    /// The side file of a set, beside its list.
    fn stat_file(&self, set: &str) -> PathBuf {
        let list = self.list(set);
        let dir = list.as_deref().and_then(Path::parent).unwrap_or(&self.lists[0]);
        dir.join(format!(".medft-{set}.stat"))
    }

    /// The folder that a new list goes to.
    fn writable(&self) -> &Path {
        let refuses = |dir: &Path| {
            dir.is_dir()
                && (dir.metadata().is_ok_and(|m| m.permissions().readonly())
                    || tempfile::tempfile_in(dir).is_err_and(|e| {
                        matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
                    }))
        };
        let free = self.lists.iter().find(|dir| !refuses(dir));
        free.unwrap_or(&self.lists[0])
    }
}

impl<P: AsRef<Path> + ?Sized> From<&P> for DataPlaces {
    /// Data and lists in one folder.
    fn from(data_dir: &P) -> Self {
        Self {
            data_dir: data_dir.as_ref().into(),
            lists: vec![data_dir.as_ref().into()],
        }
    }
}

/// Verifies a set below `data_dir`: every file against its list, label files against the publisher's hashes.
///
/// # Errors
/// [`BadInput`] for an unknown set or a malformed list. What is missing or differs is in the report.
pub fn verify_set(
    all: &Catalogue,
    set: &str,
    kind: DataKind,
    places: impl Into<DataPlaces>,
    mode: VerifyMode,
    on: OnProgress,
) -> Result<SetReport> {
    let places = places.into();
    let m = all.set(set)?;
    let root = places.data_dir.join(&m.folder);
    let own_list = places.list(set);
    let list = find_list(all, set, kind, own_list.as_deref())?;
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
        images: None,
        problem: None,
        remedy: match kind {
            DataKind::Real => m.how_to_get(),
            DataKind::Phantom => format!("Generate it with `medft data synth {set}`."),
        },
    };
    // A stand-in is written and held against its list where it is used: without reading, it is what the list says.
    if let (VerifyMode::NoRead, DataKind::Phantom, Some((list, _))) = (mode, kind, &list) {
        report.state = SetState::Verified;
        report.root = Some(list.root());
        return Ok(report);
    }
    if !root.is_dir()
        || m.files
            .as_ref()
            .is_some_and(|f| !f.iter().any(|f| root.join(f).exists()))
    {
        return Ok(report);
    }
    if kind == DataKind::Real && mode != VerifyMode::NoRead {
        report.labels = check_labels(m, &root);
        let accepted = own_list.as_deref().map(HashList::accepted_labels).transpose()?;
        accept(&mut report.labels, &accepted.unwrap_or_default());
    }
    // Label files that differ are refused by a plain lock.
    let labels = match report.labels.iter().all(LabelCheck::ok) {
        true => "",
        false => ACCEPT,
    };
    let Some((list, list_name)) = list else {
        report.state = SetState::NotLocked;
        report.remedy = match labels {
            "" => format!(
                "Check that {} is complete, then run `medft data lock {set}`.",
                root.display()
            ),
            _ => format!(
                "Bring the label files as published, or, if these are the labels you mean to use, run `medft data lock {set}{labels}`."
            ),
        };
        return Ok(report);
    };
    let stat = places.stat_file(set);
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
            DataKind::Real => format!(
                "Get the named files again, or, if this is the data you mean to use, run `medft data lock {set}{labels}`.\n{}",
                m.how_to_get()
            ),
            DataKind::Phantom => format!("Delete {} and run `medft data synth {set}`.", root.display()),
        };
    }
    report.files = Some(files);
    Ok(report)
}

/// The switch that accepts label files as they are.
const ACCEPT: &str = " --accept-labels";

/// Turns label files that differ and were accepted into notes.
fn accept(labels: &mut [LabelCheck], accepted: &[String]) {
    for l in labels.iter_mut().filter(|l| accepted.contains(&l.path)) {
        if let LabelOutcome::Differs {
            expected,
            found,
            strict: true,
        } = &l.outcome
        {
            l.outcome = LabelOutcome::Accepted {
                expected: expected.clone(),
                found: found.clone(),
            };
        }
    }
}

/// The list of a set and what to call it in messages.
fn find_list<'a>(
    all: &'a Catalogue,
    set: &str,
    kind: DataKind,
    own_list: Option<&Path>,
) -> Result<Option<(Cow<'a, HashList>, String)>> {
    let own = || -> Result<_> {
        let Some(path) = own_list else { return Ok(None) };
        Ok(Some((Cow::Owned(HashList::read(path)?), path.display().to_string())))
    };
    let committed = |list: Option<&'a HashList>, folder: &str| {
        list.map(|l| (Cow::Borrowed(l), format!("data-manifests/{folder}{set}.sha256")))
    };
    Ok(match kind {
        DataKind::Real => own()?.or_else(|| committed(all.list(set), "")),
        DataKind::Phantom => match committed(all.phantom(set), "phantom/") {
            Some(found) => Some(found),
            None => own()?,
        },
    })
}

/// Hashes a set and writes its list. Label files that are not the published ones are refused, as [`verify_set`] does, unless
/// `accept_labels`.
///
/// # Errors
/// As [`lock`]; [`BadInput`] with the way to get the data when its folder is not there, for label files that are missing,
/// unreadable or not the published ones, and where no list can be written.
pub fn lock_set(
    all: &Catalogue,
    set: &str,
    places: impl Into<DataPlaces>,
    accept_labels: bool,
    on: OnProgress,
) -> Result<LockReport> {
    let places = places.into();
    let m = all.set(set)?;
    let root = places.data_dir.join(&m.folder);
    if !root.is_dir() {
        return Err(BadInput::new(
            root.display(),
            format!("the folder of {}", m.title),
            "none",
            m.how_to_get(),
        )
        .into());
    }
    let mut labels = check_labels(m, &root);
    let mut accepted = Vec::new();
    if accept_labels {
        let differing = labels.iter().filter(|l| !l.ok());
        accepted = differing.map(|l| l.path.clone()).collect();
        accept(&mut labels, &accepted);
    }
    let bad: Vec<&LabelCheck> = labels.iter().filter(|l| !l.ok()).collect();
    if !bad.is_empty() {
        let found: Vec<String> = bad.iter().filter_map(|l| l.text()).collect();
        let differ = bad.iter().all(|l| matches!(l.outcome, LabelOutcome::Differs { .. }));
        let remedy = match differ {
            true => format!(
                "Bring the label files as published, or, if these are the labels you mean to use, run `medft data lock \
                 {set}{ACCEPT}`."
            ),
            false => format!("Bring the label files.\n{}", m.how_to_get()),
        };
        let expected = format!("the label files of {}", m.title);
        return Err(BadInput::new(root.display(), expected, found.join("; "), remedy).into());
    }
    let dir = places.writable();
    let out = dir.join(format!("{set}.sha256"));
    let stat = dir.join(format!(".medft-{set}.stat"));
    let target = Target {
        set,
        root: &root,
        only: m.files.as_deref(),
        stat_file: Some(&stat),
    };
    let report = lock(&target, &out, on).map_err(|e| match e.downcast::<BadInput>() {
        Ok(bad) if bad.at == out.display().to_string() => BadInput {
            remedy: format!(
                "{} Or name a folder of your own for the lists: `--lists-dir DIR`, here and for plan and run.",
                bad.remedy
            ),
            ..bad
        }
        .into(),
        Ok(bad) => bad.into(),
        Err(e) => e,
    })?;
    if !accepted.is_empty() {
        HashList::read(&out)?.write_accepting(&out, &accepted)?;
    }
    Ok(report)
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
    /// Takes in what was found of the images; where one is missing or unreadable the set is not verified.
    pub fn hold_images(&mut self, images: ImageReport) {
        if self.state == SetState::Verified && !images.ok() {
            self.state = SetState::Differs;
            self.root = None;
            let lock = format!("then run `medft data lock {}` and `medft data verify {0}`.", self.set);
            let remedies: Vec<&str> = images.remedies.iter().map(String::as_str).collect();
            self.remedy = match remedies.is_empty() {
                true => format!("Bring the images that the label files list, {lock}"),
                false => format!("{}\nBring what is missing, {lock}", remedies.join("\n")),
            };
        }
        self.images = Some(images);
    }

    /// A report on a set that could not be looked at.
    pub fn unusable(set: &str, title: &str, kind: DataKind, folder: PathBuf, problem: &anyhow::Error) -> Self {
        let (problem, remedy) = match problem.downcast_ref::<BadInput>() {
            Some(b) => (
                format!("{}: expected {}, found {}", b.at, b.expected, b.found),
                b.remedy.clone(),
            ),
            None => (format!("{problem:#}"), "Check the folder.".to_owned()),
        };
        Self {
            set: set.into(),
            title: title.into(),
            kind,
            folder,
            state: SetState::Differs,
            root: None,
            list: None,
            files: None,
            labels: Vec::new(),
            images: None,
            problem: Some(problem),
            remedy,
        }
    }

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
        if let Some(problem) = &self.problem {
            return format!("{}: {problem}", self.set);
        }
        let head = match (self.state, &self.files) {
            (SetState::Missing, _) => format!("{}: not in {}", self.set, self.folder.display()),
            (SetState::NotLocked, _) => format!("{}: no list to hold it against", self.set),
            (_, Some(f)) => f.text(limit),
            (_, None) => self.set.clone(),
        };
        let images = self.images.as_ref().filter(|i| i.listed > 0);
        let images = images.map_or_else(String::new, |i| {
            format!("\n  images     {}{}", i.summary(), i.lines(limit))
        });
        format!("{head}{}{images}", self.label_lines())
    }

    /// Notes on label files that are used though nobody vouches for their bytes.
    pub fn label_notes(&self) -> Vec<String> {
        let used = self
            .labels
            .iter()
            .filter(|l| matches!(l.outcome, LabelOutcome::Accepted { .. }));
        used.filter_map(LabelCheck::text).collect()
    }

    fn differences(&self, limit: usize) -> String {
        if let Some(problem) = &self.problem {
            return problem.clone();
        }
        let files = self
            .files
            .as_ref()
            .filter(|f| !f.ok)
            .map(|f| f.text(limit))
            .unwrap_or_default();
        let images = self.images.as_ref().filter(|i| !i.ok());
        let images = images.map_or_else(String::new, |i| format!("{}{}", i.summary(), i.lines(limit)));
        format!("{files}{}{images}", self.label_lines()).trim().to_owned()
    }

    fn label_lines(&self) -> String {
        self.labels
            .iter()
            .filter_map(LabelCheck::text)
            .map(|t| format!("\n  label file {t}"))
            .collect()
    }
}
