//! The authors' metric dictionaries: every number their code reports on a test set, under its name and unrounded.

use std::collections::BTreeMap;

use super::auc::{AucRule, average_precision, column, label_aucs, roc_auc_ovo, roc_auc_ovr};
use super::confusion::{Confusion, mean};
use super::error::{Result, label_table, table};
use super::labels::LabelCounts;
use super::scores::argmax;

/// Metrics by name; NaN where undefined. Round with [`super::round3`] to compare with what the authors' code prints.
pub type Metrics = BTreeMap<String, f64>;

/// What [`multiclass`] reports. `average_precision` is there for two classes only.
pub const MULTICLASS_METRICS: [&str; 11] = [
    "accuracy",
    "precision",
    "recall",
    "f1",
    "cohen_kappa",
    "quadratic_kappa",
    "roc_auc",
    "balanced_accuracy",
    "roc_auc_strict",
    "roc_auc_ovr",
    "average_precision",
];

/// What [`multilabel`] reports.
pub const MULTILABEL_METRICS: [&str; 7] = [
    "accuracy",
    "precision",
    "recall",
    "f1",
    "roc_auc",
    "mAP",
    "roc_auc_defined",
];

/// Metrics of a multi-class task from (n, classes) probabilities, row-major, and one label an image (PROTOCOL 7.2).
///
/// `accuracy`; `precision`, `recall`, `f1`: macro means over the classes in truth or prediction, or over all classes
/// when `all_classes` [Q46]; `cohen_kappa`, `quadratic_kappa`: over the full class list; `roc_auc`: column 1 of two
/// classes, one-vs-one macro of more, with the authors' 0.5 where scikit-learn raises ([`AucRule::Authors`]). Beside
/// the authors' keys: `balanced_accuracy` (mean recall over the classes in truth), `roc_auc_strict` (NaN instead of
/// 0.5), `roc_auc_ovr` (one-vs-rest macro), and for two classes `average_precision`.
///
/// Errors: no images, lengths that do not fit, a label out of range, a probability that is not finite.
pub fn multiclass(probs: &[f64], classes: usize, truth: &[u32], all_classes: bool) -> Result<Metrics> {
    table(probs, classes, truth)?;
    let confusion = Confusion::new(classes, truth, &argmax(probs, classes));
    let mut out = Metrics::new();
    for name in MULTICLASS_METRICS {
        if let Some(value) = confusion.metric(name, all_classes) {
            out.insert(name.into(), value);
        }
    }
    let strict = roc_auc_ovo(probs, classes, truth, AucRule::Strict)?;
    let authors = if strict.is_nan() {
        roc_auc_ovo(probs, classes, truth, AucRule::Authors)?
    } else {
        strict
    };
    out.insert("roc_auc".into(), authors);
    out.insert("roc_auc_strict".into(), strict);
    out.insert("roc_auc_ovr".into(), roc_auc_ovr(probs, classes, truth)?);
    if classes == 2 {
        let positive: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
        out.insert(
            "average_precision".into(),
            average_precision(&column(probs, 2, 1), &positive)?,
        );
    }
    Ok(out)
}

/// Metrics of a multi-label task from (n, labels) probabilities and 0/1 labels, both row-major (PROTOCOL 7.3).
///
/// `roc_auc`: mean area over all labels, a label without positives counting 0.5, NaN if a label has no negatives;
/// `mAP`: mean average precision, 0 for a label without positives; with p > 0.5: `accuracy` (all labels right), macro
/// `precision`, `recall`, `f1`. Beside the authors' keys: `roc_auc_defined`, the mean over the labels that have both
/// classes.
///
/// Errors: no images, lengths that do not fit, a label that is neither 0 nor 1, a probability that is not finite.
pub fn multilabel(probs: &[f64], labels: usize, truth: &[u8]) -> Result<Metrics> {
    label_table(probs, labels, truth)?;
    let counts = LabelCounts::new(probs, labels, truth);
    let mut out = Metrics::new();
    for name in MULTILABEL_METRICS {
        if let Some(value) = counts.metric(name) {
            out.insert(name.into(), value);
        }
    }
    let areas = label_aucs(probs, labels, truth)?;
    let authors = mean(areas.iter().enumerate().map(|(k, &a)| {
        let without_positives = (k..truth.len()).step_by(labels).all(|i| truth[i] == 0);
        if without_positives { 0.5 } else { a }
    }));
    out.insert("roc_auc".into(), authors);
    out.insert(
        "roc_auc_defined".into(),
        mean(areas.into_iter().filter(|a| !a.is_nan())),
    );
    let mut precisions = Vec::with_capacity(labels);
    for k in 0..labels {
        let positive: Vec<bool> = truth.iter().skip(k).step_by(labels).map(|&t| t == 1).collect();
        precisions.push(average_precision(&column(probs, labels, k), &positive)?);
    }
    out.insert("mAP".into(), mean(precisions.into_iter()));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::EvalError;

    #[test]
    fn wrong_tables_are_refused_by_name() {
        let p = [0.5, 0.5, 0.9, 0.1];
        assert!(matches!(multiclass(&[], 2, &[], false), Err(EvalError::Empty { .. })));
        assert!(matches!(multiclass(&p, 2, &[0], false), Err(EvalError::Length { .. })));
        assert!(matches!(
            multiclass(&p, 1, &[0; 4], false),
            Err(EvalError::Argument { .. })
        ));
        assert_eq!(
            multiclass(&p, 2, &[0, 2], false),
            Err(EvalError::Label {
                image: 1,
                label: 2,
                classes: 2
            })
        );
        assert!(matches!(
            multiclass(&[0.5, f64::NAN, 0.9, 0.1], 2, &[0, 1], false),
            Err(EvalError::NotFinite { at: 1, .. })
        ));
        assert!(matches!(
            multilabel(&p, 3, &[0, 1, 0, 1]),
            Err(EvalError::Argument { .. })
        ));
        assert!(matches!(multilabel(&p, 2, &[0, 1, 0]), Err(EvalError::Length { .. })));
        assert!(matches!(
            multilabel(&p, 2, &[0, 1, 2, 1]),
            Err(EvalError::Label { image: 1, .. })
        ));
        assert!(matches!(multilabel(&[], 2, &[]), Err(EvalError::Empty { .. })));
    }

    #[test]
    fn the_reported_names_are_the_listed_names() {
        let two = multiclass(&[0.5, 0.5, 0.9, 0.1], 2, &[0, 1], false).unwrap();
        let mut names: Vec<_> = MULTICLASS_METRICS.to_vec();
        names.sort_unstable();
        assert!(two.keys().eq(names.iter()));
        let three = multiclass(&[0.5, 0.4, 0.1, 0.8, 0.1, 0.1], 3, &[0, 1], false).unwrap();
        assert_eq!(three.len(), MULTICLASS_METRICS.len() - 1);
        let many = multilabel(&[0.5, 0.4], 2, &[0, 1]).unwrap();
        let mut names: Vec<_> = MULTILABEL_METRICS.to_vec();
        names.sort_unstable();
        assert!(many.keys().eq(names.iter()));
    }

    /// The order of the images must not change a bit of any metric that is a ratio of counts or ranks.
    #[test]
    fn the_order_of_images_changes_nothing() {
        let p = [0.6, 0.3, 0.1, 0.2, 0.5, 0.3, 0.25, 0.25, 0.5, 0.4, 0.35, 0.25];
        let t = [0, 1, 2, 1];
        let a = multiclass(&p, 3, &t, false).unwrap();
        let (mut q, mut u) = (Vec::new(), Vec::new());
        for i in [2, 0, 3, 1] {
            q.extend_from_slice(&p[i * 3..i * 3 + 3]);
            u.push(t[i]);
        }
        assert_eq!(a, multiclass(&q, 3, &u, false).unwrap());
    }
}
