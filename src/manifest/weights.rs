//! Which file serves a backbone, and is it the published one.
//!
//! A file is looked for where the pin says, preferred pins first, and judged before anything parses it: size, then
//! SHA-256. A wrong one is refused. Where the publisher states no SHA-256 the other checks that exist are made (MD5,
//! leading digits) and the hash seen first is written to `<weights-dir>/weights.lock`; it holds from then on, and every
//! report says so. Hashing 2.7 GB at every start would be felt, so a file that has not changed since it was hashed (size,
//! times, inode) is believed unless [`Check::Full`] asks for all of it again.

use super::catalogue::Catalogue;
use super::hash::{OnProgress, Progress, Sha, hash_file};
use super::pin::WeightsManifest;
use super::stat::{Stat, StatFile};
use crate::error::BadInput;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// How much of a file is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Nothing: size and earlier hashes only. For listings.
    NoRead,
    /// All of it, unless it has not changed since it was hashed.
    Cached,
    /// All of it.
    Full,
}

/// Where weights may lie.
#[derive(Debug, Clone)]
pub struct Places {
    pub weights_dir: PathBuf,
    /// The cache of the Hugging Face hub.
    pub hub: Option<PathBuf>,
}

impl Places {
    /// A weights directory and the hub's cache of this machine.
    pub fn new(weights_dir: &Path) -> Self {
        Self {
            weights_dir: weights_dir.into(),
            hub: hub_cache(|k| std::env::var_os(k)),
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.weights_dir.join("weights.lock")
    }

    fn stat_file(&self) -> PathBuf {
        self.weights_dir.join(".medft-weights.stat")
    }
}

/// Where the hub keeps its cache: `HF_HUB_CACHE`, `HF_HOME/hub`, `XDG_CACHE_HOME/huggingface/hub` or
/// `~/.cache/huggingface/hub`, as huggingface_hub decides it.
pub fn hub_cache(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let var = |k: &str| env(k).filter(|v| !v.is_empty()).map(PathBuf::from);
    var("HF_HUB_CACHE")
        .or_else(|| var("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| var("HF_HOME").map(|p| p.join("hub")))
        .or_else(|| var("XDG_CACHE_HOME").map(|p| p.join("huggingface/hub")))
        .or_else(|| var("HOME").map(|p| p.join(".cache/huggingface/hub")))
}

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
/// `<weights-dir>/<file>`, then the hub's cache at the pinned revision. Many publishers call their file
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
            if path.is_file()
                && !found
                    .iter()
                    .any(|(p, f): &(&WeightsManifest, _)| p.name == pin.name && *f == path)
            {
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
        } else if let Some(reference) = &pin.reference {
            let repo = hf_hub::Repo::with_revision(repo.clone(), hf_hub::RepoType::Model, reference.clone());
            out.extend(cache.repo(repo).get(&pin.file));
        }
    }
    out
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
    let mut judge = Judge::new(places, check)?;
    for (pin, path) in find(all, backbone, places)? {
        let (state, sha) = match judge.judge(pin, &path, on)? {
            Verdict::Published(sha) => (WeightsState::Present, Some(sha)),
            Verdict::AsFirstSeen(sha, why) => (WeightsState::PresentUnverified { why }, Some(sha)),
            Verdict::NotRead => {
                let why = "not hashed yet: run `medft weights verify`".to_owned();
                (WeightsState::PresentUnverified { why }, None)
            }
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
    judge.keep(&mut report.notes);
    Ok(report)
}

enum Verdict {
    Published(Sha),
    /// Not provably the published file; why, for people.
    AsFirstSeen(Sha, String),
    NotRead,
    Wrong {
        expected: String,
        found: String,
    },
}

/// Judges files; holds what was known before and writes back what is known after.
struct Judge<'a> {
    places: &'a Places,
    check: Check,
    began: SystemTime,
    stats: StatFile,
    stats_changed: bool,
    lock: Lock,
    lock_changed: bool,
}

impl<'a> Judge<'a> {
    fn new(places: &'a Places, check: Check) -> Result<Self> {
        Ok(Self {
            places,
            check,
            began: SystemTime::now(),
            stats: StatFile::load(&places.stat_file()),
            stats_changed: false,
            lock: Lock::read(&places.lock_file())?,
            lock_changed: false,
        })
    }

    fn judge(&mut self, pin: &WeightsManifest, path: &Path, on: OnProgress) -> Result<Verdict> {
        let unreadable = |e: std::io::Error| {
            BadInput::new(
                path.display(),
                "a readable weight file",
                e.to_string(),
                "Make it readable or fetch it again.",
            )
        };
        let stat = Stat::of(&std::fs::metadata(path).map_err(unreadable)?);
        if let Some(size) = pin.size.filter(|s| *s != stat.size) {
            return Ok(Verdict::Wrong {
                expected: format!("{size} bytes"),
                found: format!("{} bytes", stat.size),
            });
        }
        let key = std::path::absolute(path).map_err(unreadable)?;
        let key = key.as_os_str().as_bytes();
        let first_seen = self.lock.get(&pin.name);
        let known = if self.check == Check::Full {
            None
        } else {
            self.stats.get(key, &stat)
        };
        // An MD5 is compared when the file is first seen; after that the SHA-256 in the lock stands for it.
        let known = known.filter(|_| pin.sha256.is_some() || first_seen.is_some());
        let (sha, md5) = match known {
            Some(sha) => (sha, None),
            None if self.check == Check::NoRead => return Ok(Verdict::NotRead),
            None => {
                let mut done = Progress {
                    files_total: 1,
                    bytes_total: stat.size,
                    ..Progress::default()
                };
                let want_md5 = pin.sha256.is_none() && (pin.md5.is_some() || pin.md5_prefix.is_some());
                let hashes = hash_file(path, want_md5, |n| {
                    done.bytes_done += n;
                    on(done);
                });
                let hashes = hashes.map_err(unreadable)?;
                on(Progress { files_done: 1, ..done });
                self.stats.put(key, stat, hashes.sha256, self.began);
                self.stats_changed = true;
                (hashes.sha256, hashes.md5)
            }
        };
        Ok(self.hold(pin, stat.size, sha, md5.as_deref()))
    }

    /// Holds the hashes of a file against everything that is known of it.
    fn hold(&mut self, pin: &WeightsManifest, size: u64, sha: Sha, md5: Option<&str>) -> Verdict {
        let hex = sha.to_string();
        let wrong = |expected: String, found: &str| Verdict::Wrong {
            expected,
            found: found.into(),
        };
        if let Some(want) = &pin.sha256 {
            return if *want == hex {
                Verdict::Published(sha)
            } else {
                wrong(format!("sha256 {want}"), &format!("sha256 {hex}"))
            };
        }
        let mut agrees = Vec::new();
        if let Some(p) = &pin.sha256_prefix {
            if !hex.starts_with(p.as_str()) {
                return wrong(format!("a sha256 that begins with {p}"), &hex);
            }
            agrees.push(format!("it begins with the published digits {p}"));
        }
        for (published, whole) in [(&pin.md5, true), (&pin.md5_prefix, false)] {
            if let (Some(p), Some(md5)) = (published, md5) {
                if !md5.starts_with(p.as_str()) {
                    return wrong(
                        format!("an md5 {} {p}", if whole { "of" } else { "that begins with" }),
                        &format!("md5 {md5}"),
                    );
                }
            }
            if let Some(p) = published {
                agrees.push(format!(
                    "its md5 {} the published {p}",
                    if whole { "is" } else { "begins with" }
                ));
            }
        }
        match self.lock.get(&pin.name) {
            Some(first) if first != sha => {
                return wrong(
                    format!("sha256 {first}, the one first seen (weights.lock)"),
                    &format!("sha256 {hex}"),
                );
            }
            Some(_) => {}
            None => {
                let entry = LockEntry {
                    name: pin.name.clone(),
                    file: pin.file.clone(),
                    size,
                    sha256: hex.clone(),
                };
                self.lock.files.push(entry);
                self.lock_changed = true;
            }
        }
        let reason = pin.sha256_unknown.as_deref().unwrap_or("none found");
        let agrees: String = agrees.iter().map(|a| format!("; {a}")).collect();
        let why = format!(
            "no published sha256 ({reason}){agrees}; {}… is the one first seen and holds from now on (weights.lock)",
            sha.short()
        );
        Verdict::AsFirstSeen(sha, why)
    }

    fn keep(mut self, notes: &mut Vec<String>) {
        if self.stats_changed {
            // A convenience: without it the next check hashes again.
            let _ = self.stats.save(&self.places.stat_file());
        }
        if self.lock_changed
            && let Err(e) = self.lock.write(&self.places.lock_file())
        {
            notes.push(format!(
                "the hash could not be locked and will be trusted anew next time: {e:#}"
            ));
        }
    }
}

/// `weights.lock`: hashes first seen of files for which none is published.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lock {
    #[serde(rename = "file", default)]
    files: Vec<LockEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockEntry {
    name: String,
    file: String,
    size: u64,
    sha256: String,
}

impl Lock {
    fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = crate::fsio::read_to_string(path)?;
        let remedy = "Correct the file, or delete it to trust the files there are anew.";
        let lock: Self = toml::from_str(&text)
            .map_err(|e| BadInput::new(path.display(), "hashes written by medft", e.message(), remedy))?;
        if let Some(bad) = lock.files.iter().find(|f| Sha::parse(&f.sha256).is_none()) {
            return Err(BadInput::new(path.display(), "64 hex digits", format!("`{}`", bad.sha256), remedy).into());
        }
        Ok(lock)
    }

    fn get(&self, name: &str) -> Option<Sha> {
        self.files
            .iter()
            .find(|f| f.name == name)
            .and_then(|f| Sha::parse(&f.sha256))
    }

    fn write(&mut self, path: &Path) -> Result<()> {
        self.files.sort_by(|a, b| a.name.cmp(&b.name));
        let head = "# Written by medft: weight files for which no sha256 is published, as they were first seen.\n\
                    # A file that changes is refused; delete its entry only if you know why it changed.\n\n";
        let text = format!("{head}{}", toml::to_string(self)?);
        crate::fsio::write_atomic(path, text.as_bytes())
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hubs_cache_is_where_huggingface_hub_puts_it() {
        let at = |vars: &[(&str, &str)]| {
            hub_cache(|k| vars.iter().find(|v| v.0 == k).map(|v| v.1.into())).map(|p| p.display().to_string())
        };
        assert_eq!(at(&[]), None);
        assert_eq!(at(&[("HOME", "/h")]).unwrap(), "/h/.cache/huggingface/hub");
        assert_eq!(
            at(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap(),
            "/x/huggingface/hub"
        );
        assert_eq!(at(&[("HOME", "/h"), ("HF_HOME", "/f")]).unwrap(), "/f/hub");
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/f")]).unwrap(), "/c");
        assert_eq!(at(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/f")]).unwrap(), "/f/hub");
    }
}
