//! Metrics, intervals, tests: pure functions. Imports no other room.
//!
//! *Metrics* ([`multiclass`], [`multilabel`]) turn probabilities and labels into the numbers the authors' code reports,
//! under its names (PROTOCOL 7.2, 7.3). *Selection* ([`select`]) replays which epoch that code would have kept
//! (PROTOCOL 7.1).
//!
//! Counts stay integers until the last division, so a metric is the same for any order of the images. NaN means
//! *undefined*, never *zero*.

mod auc;
mod calibration;
mod confusion;
mod error;
mod labels;
mod metrics;
mod scores;
mod select;

pub use auc::{AucRule, RocPoint, average_precision, label_aucs, roc_auc, roc_auc_ovo, roc_auc_ovr, roc_curve};
pub use calibration::{Calibration, CalibrationBin, calibration, top_label};
pub use confusion::Confusion;
pub use error::EvalError;
pub use labels::LabelCounts;
pub use metrics::{MULTICLASS_METRICS, MULTILABEL_METRICS, Metrics, multiclass, multilabel};
pub use scores::{argmax, round_f32, round3, sigmoid, softmax};
pub use select::select;
