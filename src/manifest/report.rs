//! What locking and verifying a set report: for machines as JSON, for people as text.

use super::hash::Sha;
use super::list::RelPath;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// How far a verification may trust what it wrote down before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyMode {
    /// Hash every file; neither read nor write the side file.
    Full,
    /// Skip files whose size, times and inode are those of the last time they were hashed, and note what was hashed now.
    SinceLock,
    /// Read no file: those that were hashed before and have not changed count, any other is an error. For the login node of a
    /// cluster.
    NoRead,
}

/// What `data lock` did.
#[derive(Debug, Clone, Serialize)]
pub struct LockReport {
    pub set: String,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub folder: PathBuf,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub list: PathBuf,
    pub files: usize,
    pub bytes: u64,
    /// What medft or a system left in the folder (`._x`, `.DS_Store`, `__MACOSX`) and is no part of the set.
    pub left_out: usize,
    /// The root hash that enters run ids.
    pub root: Sha,
    pub seconds: f64,
}

/// A file whose content is not the list's.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    pub path: RelPath,
    pub expected: Sha,
    pub found: Sha,
    /// The other path whose content was found here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_of: Option<RelPath>,
    /// Whether the other path holds this one's content in turn.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub swapped: bool,
}

/// A missing file that lies elsewhere.
#[derive(Debug, Clone, Serialize)]
pub struct Moved {
    pub from: RelPath,
    pub to: RelPath,
}

/// Something that could not be hashed.
#[derive(Debug, Clone, Serialize)]
pub struct Unreadable {
    pub path: RelPath,
    pub why: String,
}

/// What `data verify` found.
#[derive(Debug, Clone, Serialize)]
pub struct VerifyReport {
    pub set: String,
    #[serde(serialize_with = "crate::fsio::lossy_path")]
    pub folder: PathBuf,
    /// The list that was held against the folder.
    pub list: String,
    pub mode: VerifyMode,
    pub ok: bool,
    /// The list's root hash; it stands for the data only where `ok`.
    pub root: Sha,
    pub files: usize,
    pub bytes: u64,
    /// Files hashed now, and files believed unchanged by size, times and inode.
    pub hashed: usize,
    pub unchanged_since_lock: usize,
    pub missing: Vec<RelPath>,
    pub extra: Vec<RelPath>,
    pub changed: Vec<Changed>,
    pub moved: Vec<Moved>,
    pub unreadable: Vec<Unreadable>,
    pub seconds: f64,
}

impl VerifyReport {
    /// The report as text, naming at most `limit` files of each kind.
    pub fn text(&self, limit: usize) -> String {
        let mut out = self.summary();
        let mut add = |kind: &str, lines: Vec<String>| {
            for line in lines.iter().take(limit) {
                out.push_str(&format!("\n  {kind:<10} {line}"));
            }
            if lines.len() > limit {
                out.push_str(&format!("\n  {kind:<10} … and {} more", lines.len() - limit));
            }
        };
        let moved_to: BTreeMap<_, _> = self.moved.iter().map(|m| (&m.from, &m.to)).collect();
        let missing = self.missing.iter().map(|p| match moved_to.get(p) {
            Some(to) => format!("{p}  (the same content lies at {to})"),
            None => p.to_string(),
        });
        add("missing", missing.collect());
        add("extra", self.extra.iter().map(ToString::to_string).collect());
        add("changed", self.changed.iter().map(ToString::to_string).collect());
        add(
            "unreadable",
            self.unreadable
                .iter()
                .map(|u| format!("{}  ({})", u.path, u.why))
                .collect(),
        );
        out
    }

    fn summary(&self) -> String {
        let size = indicatif::HumanBytes(self.bytes);
        let how = match self.unchanged_since_lock {
            0 => String::new(),
            n => format!(", {n} of them by size and time"),
        };
        let head = format!(
            "{}: {} files, {size} checked against {}{how}: ",
            self.set, self.files, self.list
        );
        if self.ok {
            return format!("{head}all right, root {}", self.root.short());
        }
        let counts = [
            (self.missing.len(), "missing"),
            (self.extra.len(), "extra"),
            (self.changed.len(), "changed"),
            (self.unreadable.len(), "unreadable"),
        ];
        let counts: Vec<_> = counts
            .iter()
            .filter(|c| c.0 > 0)
            .map(|c| format!("{} {}", c.0, c.1))
            .collect();
        format!("{head}{}", counts.join(", "))
    }
}

impl fmt::Display for VerifyReport {
    /// The whole report: every file by name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(usize::MAX))
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}  expected {}, found {}",
            self.path,
            self.expected.short(),
            self.found.short()
        )?;
        match &self.content_of {
            Some(p) if self.swapped => write!(f, " (swapped with {p})"),
            Some(p) => write!(f, " (the content of {p})"),
            None => Ok(()),
        }
    }
}
