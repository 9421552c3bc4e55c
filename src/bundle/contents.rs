//! What goes into an archive.

use std::collections::BTreeMap;
use std::path::Path;

/// What goes into the archive.
pub struct Contents<'a> {
    /// Name of the study.
    pub study: &'a str,
    /// What the study is about, in one sentence.
    pub title: &'a str,
    /// The study file as it was read.
    pub study_text: String,
    /// `results/<study>`.
    pub results: &'a Path,
    /// `reports/<study>`; left out where there is none.
    pub report: &'a Path,
    /// Path below `data-manifests/` and text of every manifest.
    pub manifests: &'a BTreeMap<String, String>,
    /// Whether `predictions.parquet` of every run goes in.
    pub predictions: bool,
    /// Whether the trained weights go in, where runs kept them.
    pub weights: bool,
}
