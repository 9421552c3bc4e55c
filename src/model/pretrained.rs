//! Which files the pretrained parts of a model are read from.

use std::path::PathBuf;

/// A file of pretrained weights and the name map to read it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    pub path: PathBuf,
    /// A layout of the backbone's registry entry (`hub`, `hf`, …).
    pub layout: String,
    /// What the file must hash to; `None` for a file that nobody verified.
    pub sha256: Option<String>,
}

/// Where the pretrained parts of a model come from; `None` where they are seeded (tiny models).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pretrained {
    pub backbone: Option<WeightsFile>,
    /// DeiT-B, for the MHA head of the faithful protocol.
    pub deit: Option<WeightsFile>,
}
