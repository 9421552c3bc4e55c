//! What stands behind the numbers: records, epochs and predictions of the finished runs, and the audit of the data.
//!
//! Tables and verdicts need none of it. Per-run figures, provenance, model cards and `results.json` do.

use crate::results::{RunRecord, Store};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fs;
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
    /// What is known of a data set (by its word) or of a weights file (by its SHA-256): origin, licence, terms; sentences.
    pub notes: BTreeMap<String, Vec<String>>,
}

/// The page on the data that `medft data audit` wrote beside the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Markdown.
    pub text: String,
    /// The pictures beside it by their file name, as data URIs.
    pub pictures: BTreeMap<String, String>,
}

impl Audit {
    /// Reads `data.md` and the pictures of that stem from a report's folder; `None` where the data were not audited.
    pub fn beside(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("data.md")).ok()?;
        // The page shows the drawing where there is one: it is sharp at any size and smaller.
        let drawing = fs::read(folder.join("data.svg")).ok().map(|b| ("image/svg+xml", b));
        let picture = drawing.or_else(|| fs::read(folder.join("data.png")).ok().map(|b| ("image/png", b)));
        let uri = picture.map(|(kind, bytes)| format!("data:{kind};base64,{}", STANDARD.encode(bytes)));
        let pictures = uri.into_iter().flat_map(|u| ["data.svg", "data.png"].map(|f| (f.to_owned(), u.clone())));
        Some(Self {
            text,
            pictures: pictures.collect(),
        })
    }
}
