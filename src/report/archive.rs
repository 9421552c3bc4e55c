//! What stands behind the numbers: records, epochs and predictions of the finished runs, and the audit of the data.
//!
//! Tables and verdicts need none of it. Per-run figures, provenance, model cards and `results.json` do.

use crate::results::{RunRecord, Store};
use std::collections::BTreeMap;

/// Everything behind the numbers that is at hand; the default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// The records of finished runs by their whole id; may hold more runs than the plan.
    pub records: BTreeMap<String, RunRecord>,
    /// Where epochs and predictions are read from, on demand.
    pub store: Option<Store>,
    /// How the study is named on the command line, to run a cell again.
    pub study_argument: String,
    /// `data.md` of the report's folder, where the data were audited: Markdown.
    pub audit: Option<String>,
    /// Licence notes by the word of a data set or a backbone: sentences.
    pub licences: BTreeMap<String, Vec<String>>,
}
