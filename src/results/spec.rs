//! What a run was, as its folder says it.

use crate::study::RunSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `spec.json`: what was to be run, on exactly which inputs. Written before training starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The whole run id; the folder carries its first [`super::FOLDER_DIGITS`] characters.
    pub id: String,
    pub run: RunSpec,
    /// Root hash of the data manifest.
    pub data_sha256: String,
    /// Name → SHA-256 of every weight file that enters (backbone, and the body of the MHA head where it has one).
    pub weights: BTreeMap<String, String>,
    /// Revision of the meaning of the protocol's switches.
    pub protocol_revision: u32,
}
