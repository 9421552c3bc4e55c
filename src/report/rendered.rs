//! What a report was made with, so that it can be made again and held against what lies there.

use super::input::ReportInput;
use crate::fsio;
use crate::results::{Content, record_bytes};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The file of a report that holds this.
pub const RENDERED: &str = "report.json";

/// `report.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rendered {
    pub medft: String,
    /// The part of the study, as it was asked for; empty for all of it.
    pub only: Vec<String>,
    /// Resamples of the test images.
    pub replicates: usize,
    /// SHA-256 of the files of the data audit that the page shows.
    pub audit: BTreeMap<String, String>,
    /// SHA-256 of templates that replaced built-in ones.
    pub templates: BTreeMap<String, String>,
    /// SHA-256 of every other file of the report.
    pub files: BTreeMap<String, String>,
}

impl Content for Rendered {
    const NAME: &'static str = "report";
    const VERSION: u32 = 2;
}

impl Rendered {
    pub(super) fn new(input: &ReportInput, templates: BTreeMap<String, String>) -> Self {
        Self {
            audit: input
                .archive
                .audit
                .as_ref()
                .map_or_else(BTreeMap::new, |a| a.files.clone()),
            templates,
            medft: env!("CARGO_PKG_VERSION").to_owned(),
            only: input.only.clone(),
            replicates: input.evidence.replicates,
            files: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.to_owned(), fsio::sha256_hex(bytes));
    }

    pub(super) fn bytes(&self) -> Result<Vec<u8>> {
        record_bytes(self)
    }
}
