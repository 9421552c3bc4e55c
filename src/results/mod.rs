//! The only module that writes run records: one folder a run, atomic, self-hashed, finished by a marker written last.
//!
//! A number counts only when its run folder is whole: `DONE` is there, every file has the hash that `DONE` names, and
//! every JSON record has the hash that it carries itself. Everything else is reported by name and never read. Tables
//! and figures see the records only through [`frame()`]. The files are described in `docs/FORMATS.md`.

mod between;
mod checks;
mod evidence;
mod evidence_cache;
mod finding;
mod frame;
mod predictions;
mod provenance;
mod record;
mod spec;
mod store;
mod types;
mod verify;

pub use between::SeenRuns;
pub use checks::{Expected, TrainedFile};
pub use evidence::{DECISION, Evidences, Prepared, REPLICATES, Unusable, images_of};
pub use evidence_cache::Evidence;
pub use finding::Finding;
pub use frame::frame;
pub use predictions::{Predictions, Truth};
pub use provenance::{Provenance, cpu_name, crate_versions, utc, utc_now};
pub use record::{Content, read_record, record_bytes, write_record};
pub use spec::Spec;
pub use store::{Claim, FOLDER_DIGITS, JOBS, LAST_WEIGHTS, Listing, RunState, Store, Taken, WEIGHTS};
pub use types::{
    Divergence, Epoch, Epochs, Failure, Metrics, ModelFacts, PredictionFile, RuleMetrics, RunOutput, RunRecord,
    Selected, Steps, WhichWeights,
};
pub use verify::Audit;
