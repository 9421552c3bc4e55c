//! What stands behind the numbers: records, epochs and predictions of the finished runs, and the audit of the data.
//!
//! Tables and verdicts need none of it. Per-run figures, provenance, model cards and `results.json` do.

use crate::fsio;
use crate::results::{Content, RunRecord, Store, read_record};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Everything behind the numbers that is at hand; the default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// The records of finished runs by their whole id; may hold more runs than the plan.
    pub records: BTreeMap<String, RunRecord>,
    /// Where epochs and predictions are read from, on demand.
    pub store: Option<Store>,
    /// How the study is named on the command line, to run a cell again.
    pub study_argument: String,
    pub audit: Option<Audit>,
    /// What is known of a data set (by its name) or of a weights file (by its SHA-256): origin, licence, terms; sentences.
    pub notes: BTreeMap<String, Vec<String>>,
}

/// The page on the data that `medft data audit` wrote beside the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Markdown.
    pub text: String,
    /// The pictures beside it by their file name, as data URIs.
    pub pictures: BTreeMap<String, String>,
    /// SHA-256 of page and picture, by file name.
    pub files: BTreeMap<String, String>,
}

/// The file beside the page that says what it was made from and what its files hash to.
pub const AUDIT_SEAL: &str = ".data-audit.json";

/// `.data-audit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSeal {
    /// Hash of everything the page was made from, medft included.
    pub inputs: String,
    /// Name → SHA-256.
    pub files: BTreeMap<String, String>,
}

impl Content for AuditSeal {
    const NAME: &'static str = "data-audit";
    const VERSION: u32 = 1;
}

impl AuditSeal {
    /// The seal of the audit in `folder`.
    ///
    /// # Errors
    /// Where there is none, or it was edited.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        Ok(read_record(&folder.join(AUDIT_SEAL))?.0)
    }

    /// Files that are not what they were when the audit was written, with their hashes: then and now.
    pub fn changed(&self, folder: &Path) -> Vec<(String, String, String)> {
        let now = |name: &str| fsio::sha256_file(&folder.join(name), |_| {}).unwrap_or_else(|e| format!("{e:#}"));
        let all = self
            .files
            .iter()
            .map(|(name, hash)| (name.clone(), hash.clone(), now(name)));
        all.filter(|(_, then, now)| then != now).collect()
    }
}

impl Audit {
    /// Reads `data.md` and the pictures of that stem from a report's folder; `None` where the data were not audited.
    pub fn beside(folder: &Path) -> Option<Self> {
        let read = |name: &'static str| Some((name, fsio::read(&folder.join(name)).ok()?));
        let (page, text) = read("data.md")?;
        let mut files = BTreeMap::from([(page.to_owned(), fsio::sha256_hex(&text))]);
        let text = String::from_utf8(text).ok()?;
        // The page shows the drawing where there is one: it is sharp at any size and smaller.
        let picture = read("data.svg").or_else(|| read("data.png"));
        let uri = picture.map(|(name, bytes)| {
            files.insert(name.to_owned(), fsio::sha256_hex(&bytes));
            let kind = if name == "data.svg" {
                "image/svg+xml"
            } else {
                "image/png"
            };
            format!("data:{kind};base64,{}", STANDARD.encode(bytes))
        });
        let pictures = uri
            .into_iter()
            .flat_map(|u| ["data.svg", "data.png"].map(|f| (f.to_owned(), u.clone())));
        Some(Self {
            text,
            pictures: pictures.collect(),
            files,
        })
    }
}
