//! Metrics, intervals, tests: pure functions. Imports no other module.
//!
//! Three layers. *Metrics* ([`multiclass`], [`multilabel`]) turn probabilities and labels into the numbers the authors'
//! code reports, under its names (PROTOCOL 7.2, 7.3). *Selection* ([`select()`]) replays which epoch that code would have
//! kept (PROTOCOL 7.1). *Inference* says how far a number may be trusted: over seeds ([`Sample`], [`tost`], [`welch`]),
//! over test images ([`Resamples`], [`delong()`]) and over many comparisons ([`holm()`]).
//!
//! Counts stay integers until the last division, so a metric is the same for any order of the images, and a bootstrap
//! replicate is the same for any number of threads. Randomness comes in as a closure; NaN means *undefined*, never
//! *zero*.

mod agreement;
mod auc;
mod block;
mod calibration;
mod confusion;
mod delong;
mod error;
mod estimate;
mod interval;
mod labels;
mod metric;
mod metrics;
mod passes;
mod power;
mod reproduction;
mod resample;
mod sample;
mod scores;
mod select;
mod statistic;
mod student;
mod tables;
#[cfg(test)]
mod vectors;

pub use agreement::{Order, holm, kendall_permutation, kendall_tau_b, rmse};
pub use auc::{AucRule, RocPoint, average_precision, label_aucs, roc_auc, roc_auc_ovo, roc_auc_ovr, roc_curve};
pub use block::{Block, LANES, Statistic};
pub use calibration::{Calibration, CalibrationBin, calibration, top_label};
pub use confusion::Confusion;
pub use delong::{Components, Delong, DelongTest, delong};
pub use error::EvalError;
pub use estimate::{Estimate, VarianceSource};
pub use interval::{Equivalence, Interval, Percentile, equivalence, percentile};
pub use labels::LabelCounts;
pub use metric::{Direction, METRICS, Metric, OfClasses, OfLabels, chance, metric_title, selectable};
pub use metrics::{Metrics, multiclass, multiclass_statistic, multilabel, multilabel_statistic};
pub use power::{Outlook, Prospect, detects, outlook};
pub use reproduction::{Point, PublishedRun, Reproduction, Together, reproduction, together};
pub use resample::Resamples;
pub use sample::{Sample, Tost, TwoSample, paired_t, tost, welch};
pub use scores::{argmax, round_f32, round3, sigmoid, softmax};
pub use select::select;
pub use student::{f_quantile, f_upper_tail, normal_quantile, normal_two_sided, t_quantile, t_upper_tail};
pub use tables::{ClassTable, LabelTable};
