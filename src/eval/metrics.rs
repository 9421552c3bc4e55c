//! The authors' metric dictionaries: every number their code reports on a test set, under its name and unrounded.

use super::block::Statistic;
use super::error::Result;
use super::metric::{METRICS, OfClasses, OfLabels, find};
use super::statistic;
use super::tables::{ClassTable, LabelTable};
use std::collections::BTreeMap;

/// Metrics by name; NaN where undefined. Round with [`super::round3`] to compare with what the authors' code prints.
pub type Metrics = BTreeMap<String, f64>;

/// Metrics of a multi-class task from (n, classes) probabilities, row-major, and one label an image (PROTOCOL 7.2).
///
/// `accuracy`; `precision`, `recall`, `f1`: macro means over the classes in truth or prediction, or over all classes
/// when `all_classes` (Q46); `cohen_kappa`, `quadratic_kappa`: over the full class list; `roc_auc`: column 1 of two
/// classes, one-vs-one macro of more, with the authors' 0.5 where scikit-learn raises ([`super::AucRule::Authors`]). Beside
/// the authors' keys: `balanced_accuracy` (mean recall over the classes in truth), `roc_auc_strict` (NaN instead of
/// 0.5), `roc_auc_ovr` (one-vs-rest macro), and for two classes `average_precision`.
///
/// # Errors
/// No images, lengths that do not fit, a label out of range, a probability that is not finite.
pub fn multiclass(probs: &[f64], classes: usize, truth: &[u32], all_classes: bool) -> Result<Metrics> {
    let table = ClassTable::new(probs, classes, truth, all_classes)?;
    let mut out = Metrics::new();
    for metric in METRICS.all() {
        if let Some(value) = metric.of_classes(&table)? {
            out.insert(metric.name.into(), value);
        }
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
/// # Errors
/// No images, lengths that do not fit, a label that is neither 0 nor 1, a probability that is not finite.
pub fn multilabel(probs: &[f64], labels: usize, truth: &[u8]) -> Result<Metrics> {
    let table = LabelTable::new(probs, labels, truth)?;
    let mut out = Metrics::new();
    for metric in METRICS.all() {
        if let Some(value) = metric.of_labels(&table)? {
            out.insert(metric.name.into(), value);
        }
    }
    Ok(out)
}

/// The metric `name` of [`multiclass`], prepared for resampling.
///
/// # Errors
/// As [`multiclass`]; for a metric that such a task does not have.
pub fn multiclass_statistic(
    name: &str,
    probs: &[f64],
    classes: usize,
    truth: &[u32],
    all_classes: bool,
) -> Result<Box<dyn Statistic>> {
    let t = ClassTable::new(probs, classes, truth, all_classes)?;
    let metric = find(name, |m| m.on_classes(classes))?;
    Ok(match metric.classes {
        Some(OfClasses::Table { resampled, .. }) => resampled(&t),
        Some(OfClasses::Confusion(of)) => statistic::confusion_cells(&t, of),
        None => unreachable!("found among those that the task has"),
    })
}

/// The metric `name` of [`multilabel`], prepared for resampling.
///
/// # Errors
/// As [`multilabel`]; for a metric that such a task does not have.
pub fn multilabel_statistic(name: &str, probs: &[f64], labels: usize, truth: &[u8]) -> Result<Box<dyn Statistic>> {
    let t = LabelTable::new(probs, labels, truth)?;
    let metric = find(name, |m| m.labels.is_some())?;
    Ok(match metric.labels {
        Some(OfLabels::Table { resampled, .. }) => resampled(&t),
        Some(OfLabels::Counts(of)) => statistic::label_cells(&t, of),
        None => unreachable!("found among those that the task has"),
    })
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

    /// The authors' keys and ours, by hand.
    #[test]
    fn each_task_has_its_metrics() {
        let names = |m: Metrics| m.into_keys().collect::<Vec<_>>();
        let two = multiclass(&[0.5, 0.5, 0.9, 0.1], 2, &[0, 1], false).unwrap();
        let all = "accuracy average_precision balanced_accuracy cohen_kappa f1 precision quadratic_kappa recall roc_auc \
                   roc_auc_ovr roc_auc_strict";
        assert_eq!(names(two).join(" "), all);
        let three = multiclass(&[0.5, 0.4, 0.1, 0.8, 0.1, 0.1], 3, &[0, 1], false).unwrap();
        assert_eq!(names(three).join(" "), all.replace(" average_precision", ""));
        let many = multilabel(&[0.5, 0.4], 2, &[0, 1]).unwrap();
        assert_eq!(
            names(many).join(" "),
            "accuracy f1 mAP precision recall roc_auc roc_auc_defined"
        );
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
