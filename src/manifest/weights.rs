//! Which file serves a backbone, and is it the published one.
//!
//! A file is looked for where the pin says, preferred pins first, and judged before anything parses it: size, then
//! SHA-256. A wrong one is refused. Where the publisher states no SHA-256 the other checks that exist are made (MD5,
//! leading digits) and the hash seen first is written to `<weights-dir>/weights.lock`; it holds from then on, and every
//! report says so. Hashing 2.7 GB at every start would be felt, so a file that has not changed since it was hashed (size,
//! times, inode) is believed unless [`Check::Full`] asks for all of it again.

use super::catalogue::Catalogue;
use super::hash::{OnProgress, Sha};
use super::pin::WeightsManifest;
use super::places::{Check, Places};
use super::verifier::{Verdict, Verifier};
use crate::error::BadInput;
use anyhow::Result;
use serde::Serialize;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// What is there for a backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum WeightsState {
    /// The published file, by its published SHA-256.
    Present,
    /// A file that is not proven to be the published one; usable where it was hashed.
    PresentUnverified {
        why: String,
    },
    /// Only files that are not the published ones.
    WrongHash,
    Missing,
}

/// A file that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejected {
    pub pin: String,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub path: PathBuf,
    pub expected: String,
    pub found: String,
}

/// All that is known of a backbone's weights on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct WeightsReport {
    pub backbone: String,
    #[serde(flatten)]
    pub state: WeightsState,
    /// The pin that the file was judged by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<WeightsManifest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "crate::fsio::lossy_path_if_any")]
    pub path: Option<PathBuf>,
    /// The file's hash, where it was hashed; enters run ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha>,
    pub rejected: Vec<Rejected>,
    pub notes: Vec<String>,
    /// How to get the preferred file.
    pub get: String,
}

/// A file that may be parsed.
#[derive(Debug, Clone)]
pub struct Weights {
    pub pin: WeightsManifest,
    pub path: PathBuf,
    pub sha256: Sha,
    /// What to tell the user where the file is not proven to be the published one.
    pub note: Option<String>,
}

/// The files there are for a backbone, with the pin that each would be judged by, preferred first; nothing is read.
///
/// Per pin: `<weights-dir>/<folder>/<file>`, `<weights-dir>/<backbone>/<file>`, `<weights-dir>/<repository>/<file>`,
/// `<weights-dir>/<file>`, then the hub's cache at the pinned revision, then the pinned
/// bytes under another one. Many publishers call their file
/// `model.safetensors`: a place that does not tell whose it is counts only where a known hash can decide.
///
/// # Errors
/// [`BadInput`] for an unknown backbone.
pub fn find<'a>(
    all: &'a Catalogue,
    backbone: &str,
    places: &Places,
) -> Result<Vec<(&'a WeightsManifest, PathBuf)>, BadInput> {
    let mut found = Vec::new();
    for pin in all.pins(backbone)? {
        for path in candidates(all, pin, places) {
            let same = |(p, f): &(&WeightsManifest, PathBuf)| {
                p.name == pin.name && (*f == path || f.canonicalize().ok() == path.canonicalize().ok())
            };
            if path.is_file() && !found.iter().any(same) {
                found.push((pin, path));
            }
        }
    }
    Ok(found)
}

fn candidates(all: &Catalogue, pin: &WeightsManifest, places: &Places) -> Vec<PathBuf> {
    let dir = &places.weights_dir;
    let mut out = vec![
        dir.join(pin.folder()).join(&pin.file),
        dir.join(&pin.name).join(&pin.file),
    ];
    if pin.sha256.is_some() {
        out.push(dir.join(&pin.backbone).join(&pin.file));
        if let Some((_, name)) = pin.repo.as_ref().and_then(|r| r.split_once('/')) {
            out.push(dir.join(name).join(&pin.file));
        }
    }
    let bare = dir.join(&pin.file);
    let size = std::fs::metadata(&bare).map(|m| m.len()).ok();
    if all.is_unique(&pin.file) || (pin.sha256.is_some() && pin.size.is_some() && pin.size == size) {
        out.push(bare);
    }
    if let (Some(hub), Some(repo)) = (&places.hub, &pin.repo) {
        let cache = hf_hub::Cache::new(hub.clone());
        if let Some(revision) = &pin.revision {
            out.push(cache.model(repo.clone()).pointer_path(revision).join(&pin.file));
            if let Some(sha256) = &pin.sha256 {
                out.extend(other_revisions(hub, repo, &pin.file, sha256, pin.size));
            }
        } else {
            let name = pin.hub_revision().to_owned();
            let repo = hf_hub::Repo::with_revision(repo.clone(), hf_hub::RepoType::Model, name);
            out.extend(cache.repo(repo).get(&pin.file));
        }
    }
    out
}

/// The pinned bytes where another revision of the repository brought them into the hub's cache: a blob bears its SHA-256 as
/// its name; where the disk has no links, the file lies in the snapshot itself, and only its size speaks for it.
fn other_revisions(hub: &Path, repo: &str, file: &str, sha256: &str, size: Option<u64>) -> Vec<PathBuf> {
    let folder = hub.join(hf_hub::Repo::model(repo.to_owned()).folder_name());
    let mut out = vec![folder.join("blobs").join(sha256)];
    let snapshots = std::fs::read_dir(folder.join("snapshots"));
    let mut files: Vec<PathBuf> = snapshots
        .into_iter()
        .flatten()
        .flatten()
        .map(|s| s.path().join(file))
        .filter(|p| {
            p.symlink_metadata()
                .is_ok_and(|m| m.is_file() && size.is_some_and(|s| s == m.len()))
        })
        .collect();
    files.sort();
    out.extend(files);
    out
}

/// Whether a file lies in a snapshot of another revision than the pinned one.
fn is_other_revision(pin: &WeightsManifest, places: &Places, path: &Path) -> bool {
    let below = places.hub.as_ref().and_then(|hub| path.strip_prefix(hub).ok());
    let mut parts = below
        .into_iter()
        .flat_map(Path::components)
        .skip(1)
        .map(|c| c.as_os_str());
    parts.next().is_some_and(|folder| folder == "snapshots")
        && parts.next() != pin.revision.as_ref().map(|r| OsStr::new(r.as_str()))
}

/// Finds and judges the weights of a backbone; the first file that may be used decides.
///
/// # Errors
/// [`BadInput`] for an unknown backbone or an unreadable `weights.lock`. A missing or refused file is in the report.
pub fn verify_weights(
    all: &Catalogue,
    backbone: &str,
    places: &Places,
    check: Check,
    on: OnProgress,
) -> Result<WeightsReport> {
    let preferred = all.pins(backbone)?[0];
    let mut report = WeightsReport {
        backbone: backbone.into(),
        state: WeightsState::Missing,
        pin: None,
        path: None,
        sha256: None,
        rejected: Vec::new(),
        notes: Vec::new(),
        get: preferred.how_to_get(&places.weights_dir),
    };
    let mut verifier = Verifier::new(places, check)?;
    for (pin, path) in find(all, backbone, places)? {
        let (state, sha) = match verifier.verify(pin, &path, on)? {
            Verdict::Published(sha) => (WeightsState::Present, Some(sha)),
            Verdict::TrustOnFirstUse(sha, why) => (WeightsState::PresentUnverified { why }, Some(sha)),
            Verdict::NotRead => {
                let why = "not hashed yet: run `medft weights verify`".to_owned();
                (WeightsState::PresentUnverified { why }, None)
            }
            // Another revision's file is not meant to be the pinned one.
            Verdict::Wrong { .. } if is_other_revision(pin, places, &path) => continue,
            Verdict::Wrong { expected, found } => {
                report.rejected.push(Rejected {
                    pin: pin.name.clone(),
                    path,
                    expected,
                    found,
                });
                report.state = WeightsState::WrongHash;
                continue;
            }
        };
        (report.state, report.sha256, report.path, report.pin) = (state, sha, Some(path), Some(pin.clone()));
        report.get = pin.how_to_get(&places.weights_dir);
        break;
    }
    verifier.keep(&mut report.notes);
    Ok(report)
}

impl WeightsReport {
    /// The file, if it may be parsed.
    ///
    /// # Errors
    /// [`BadInput`] naming file, expected, found and the way to get the right one.
    pub fn require(&self) -> Result<Weights, BadInput> {
        match (&self.pin, &self.path, self.sha256) {
            (Some(pin), Some(path), Some(sha256)) => {
                let note = match &self.state {
                    WeightsState::PresentUnverified { why } => Some(why.clone()),
                    _ => None,
                };
                return Ok(Weights {
                    pin: pin.clone(),
                    path: path.clone(),
                    sha256,
                    note,
                });
            }
            (_, Some(path), _) => {
                let remedy = "Run `medft weights verify`.";
                return Err(BadInput::new(
                    path.display(),
                    "a hashed weight file",
                    "one that was not hashed yet",
                    remedy,
                ));
            }
            _ => {}
        }
        let at = format!("weights of {}", self.backbone);
        match self.rejected.first() {
            Some(r) => {
                let remedy = format!("Delete the file and fetch it again: {}", self.get);
                Err(BadInput::new(r.path.display(), &r.expected, &r.found, remedy))
            }
            None => Err(BadInput::new(
                at,
                "a weight file",
                "none",
                format!("Get it: {}", self.get),
            )),
        }
    }

    /// The report in one to three lines.
    pub fn text(&self) -> String {
        let path = self.path.as_ref().map_or_else(String::new, |p| p.display().to_string());
        let mut out = match &self.state {
            WeightsState::Present => format!("{}: verified, {path}", self.backbone),
            WeightsState::PresentUnverified { why } => format!("{}: present, {path}; {why}", self.backbone),
            WeightsState::WrongHash => format!("{}: refused", self.backbone),
            WeightsState::Missing => format!("{}: missing", self.backbone),
        };
        for r in &self.rejected {
            out.push_str(&format!(
                "\n  refused    {}  expected {}, found {}",
                r.path.display(),
                r.expected,
                r.found
            ));
        }
        for n in &self.notes {
            out.push_str(&format!("\n  note       {n}"));
        }
        if self.path.is_none() {
            out.push_str(&format!("\n  get it     {}", self.get));
        }
        out
    }
}
