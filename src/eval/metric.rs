//! The metrics: an entry each, with its name, title, direction and what it is a function of.
//!
//! What a metric is measured on is [`ClassTable`] or [`LabelTable`]; a metric that both kinds of task have (accuracy) is one entry
//! with two functions. Most are functions of counts ([`OfClasses::Confusion`], [`OfLabels::Counts`]), which is also how they are
//! resampled; the others say how.

use super::auc::{average_precision, column, roc_auc_ovr};
use super::block::Statistic;
use super::confusion::{Confusion, mean};
use super::error::{EvalError, Result};
use super::labels::LabelCounts;
use super::statistic;
use super::tables::{ClassTable, LabelTable};
use crate::registry::{Named, Registry};

/// Which values of a metric are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Higher,
    Lower,
}

impl Direction {
    /// The value, turned so that more is better.
    pub fn oriented(self, value: f64) -> f64 {
        match self {
            Self::Higher => value,
            Self::Lower => -value,
        }
    }
}

/// What a metric of a multi-class task is a function of.
#[derive(Clone, Copy)]
pub enum OfClasses {
    /// The confusion matrix, and whether macro means run over all classes.
    Confusion(fn(&Confusion, bool) -> f64),
    /// The whole table.
    Table {
        /// Whether it is defined for that many classes.
        defined: fn(usize) -> bool,
        of: fn(&ClassTable<'_>) -> Result<f64>,
        resampled: fn(&ClassTable<'_>) -> Box<dyn Statistic>,
    },
}

/// What a metric of a multi-label task is a function of.
#[derive(Clone, Copy)]
pub enum OfLabels {
    /// The counts of every label: means over labels, 0/0 counting 0.
    Counts(fn(&LabelCounts) -> f64),
    /// The whole table.
    Table {
        of: fn(&LabelTable<'_>) -> Result<f64>,
        resampled: fn(&LabelTable<'_>) -> Box<dyn Statistic>,
    },
}

/// A metric.
pub struct Metric {
    /// The authors' key where they have one.
    pub name: &'static str,
    /// As printed.
    pub title: &'static str,
    pub direction: Direction,
    /// Whether an epoch may be selected by it (`selection_metric`).
    pub selectable: bool,
    /// Whether it is the area under the curve on two classes, whose error DeLong's components give.
    pub delong: bool,
    /// On multi-class tasks; `None` where it has no meaning there.
    pub classes: Option<OfClasses>,
    /// On multi-label tasks.
    pub labels: Option<OfLabels>,
}

impl Metric {
    /// A metric that is better the higher it is, may select epochs and is measured on nothing yet: the rest of an entry is what it
    /// differs in.
    pub const fn new(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            direction: Direction::Higher,
            selectable: true,
            delong: false,
            classes: None,
            labels: None,
        }
    }

    /// Of the confusion matrix on multi-class tasks.
    pub const fn on_confusion(self, of: fn(&Confusion, bool) -> f64) -> Self {
        Self {
            classes: Some(OfClasses::Confusion(of)),
            ..self
        }
    }

    /// Of the counts on multi-label tasks.
    pub const fn on_counts(self, of: fn(&LabelCounts) -> f64) -> Self {
        Self {
            labels: Some(OfLabels::Counts(of)),
            ..self
        }
    }

    /// Reported, but no metric to select epochs by.
    const fn reported_only(self) -> Self {
        Self {
            selectable: false,
            ..self
        }
    }

    /// Whether it is defined for a task of that many classes.
    pub fn on_classes(&self, n: usize) -> bool {
        match self.classes {
            None => false,
            Some(OfClasses::Confusion(_)) => true,
            Some(OfClasses::Table { defined, .. }) => defined(n),
        }
    }

    /// Its value on a multi-class test set; `None` where it is not defined for the task.
    ///
    /// # Errors
    /// As [`ClassTable::new`].
    pub fn of_classes(&self, t: &ClassTable<'_>) -> Result<Option<f64>> {
        Ok(match self.classes.filter(|_| self.on_classes(t.classes)) {
            None => None,
            Some(OfClasses::Confusion(of)) => Some(of(&t.confusion(), t.all_classes)),
            Some(OfClasses::Table { of, .. }) => Some(of(t)?),
        })
    }

    /// Its value on a multi-label test set; `None` where it is not defined for such tasks.
    ///
    /// # Errors
    /// As [`LabelTable::new`].
    pub fn of_labels(&self, t: &LabelTable<'_>) -> Result<Option<f64>> {
        Ok(match self.labels {
            None => None,
            Some(OfLabels::Counts(of)) => Some(of(t.counts())),
            Some(OfLabels::Table { of, .. }) => Some(of(t)?),
        })
    }
}

impl Named for Metric {
    fn name(&self) -> &str {
        self.name
    }
}

impl std::fmt::Debug for Metric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn any(_: usize) -> bool {
    true
}

const fn two(n: usize) -> bool {
    n == 2
}

/// All metrics, in the order in which they are offered.
pub static METRICS: Registry<Metric> = Registry::new(&[
    // Column 1 of two classes, one-vs-one macro mean of more; of labels the mean over all, one without positives counting 0.5.
    &Metric {
        delong: true,
        classes: Some(OfClasses::Table {
            defined: any,
            of: |t| t.authors(),
            resampled: |t| statistic::class_areas(t, 0.5),
        }),
        labels: Some(OfLabels::Table {
            of: |t| {
                let areas = t.areas()?;
                Ok(mean((0..t.labels).map(|k| {
                    let without_positives = !t.positive(k).contains(&true);
                    if without_positives { 0.5 } else { areas[k] }
                })))
            },
            resampled: |t| statistic::label_areas(t, true),
        }),
        ..Metric::new("roc_auc", "ROC-AUC")
    },
    &Metric::new("recall", "macro recall")
        .on_confusion(Confusion::macro_recall)
        .on_counts(LabelCounts::recall),
    &Metric::new("quadratic_kappa", "quadratic weighted kappa").on_confusion(|c, _| c.quadratic_kappa()),
    &Metric::new("accuracy", "accuracy")
        .on_confusion(|c, _| c.accuracy())
        .on_counts(LabelCounts::exact_match),
    &Metric::new("precision", "macro precision")
        .on_confusion(Confusion::macro_precision)
        .on_counts(LabelCounts::precision),
    &Metric::new("f1", "macro F1")
        .on_confusion(Confusion::macro_f1)
        .on_counts(LabelCounts::f1),
    &Metric::new("cohen_kappa", "Cohen's kappa").on_confusion(|c, _| c.cohen_kappa()),
    &Metric::new("balanced_accuracy", "balanced accuracy").on_confusion(|c, _| c.balanced_accuracy()),
    &Metric {
        classes: Some(OfClasses::Table {
            defined: any,
            of: |t| roc_auc_ovr(t.probs, t.classes, t.truth),
            resampled: statistic::one_vs_rest,
        }),
        ..Metric::new("roc_auc_ovr", "ROC-AUC (one against rest)")
    },
    &Metric {
        labels: Some(OfLabels::Table {
            of: |t| {
                let of = |k| average_precision(&column(t.probs, t.labels, k), &t.positive(k));
                let all = (0..t.labels).map(of).collect::<Result<Vec<f64>>>()?;
                Ok(mean(all.into_iter()))
            },
            resampled: statistic::label_precisions,
        }),
        ..Metric::new("mAP", "mean average precision")
    },
    // NaN instead of the authors' 0.5.
    &Metric {
        classes: Some(OfClasses::Table {
            defined: any,
            of: |t| t.strict(),
            resampled: |t| statistic::class_areas(t, f64::NAN),
        }),
        ..Metric::new("roc_auc_strict", "ROC-AUC (strict)").reported_only()
    },
    // The mean over the labels that have both classes.
    &Metric {
        labels: Some(OfLabels::Table {
            of: |t| Ok(mean(t.areas()?.iter().copied().filter(|a| !a.is_nan()))),
            resampled: |t| statistic::label_areas(t, false),
        }),
        ..Metric::new("roc_auc_defined", "ROC-AUC (defined labels)").reported_only()
    },
    &Metric {
        classes: Some(OfClasses::Table {
            defined: two,
            of: |t| average_precision(&column(t.probs, 2, 1), &t.positive()),
            resampled: statistic::average_precision,
        }),
        ..Metric::new("average_precision", "average precision").reported_only()
    },
]);

/// The metrics that an epoch may be selected by. Which of them a data set's task has, [`Metric`] says.
pub fn selectable() -> Vec<&'static str> {
    let all = METRICS.all().into_iter();
    all.filter(|m| m.selectable).map(|m| m.name).collect()
}

/// The score of guessing with `classes` classes or labels: of an area under the curve, of a recall averaged over classes, of an
/// agreement beyond chance; `None` where it depends on the shares of the classes.
pub fn chance(metric: &str, classes: usize) -> Option<f64> {
    match metric {
        "roc_auc" => Some(0.5),
        "recall" if classes > 0 => Some(1.0 / classes as f64),
        "quadratic_kappa" => Some(0.0),
        _ => None,
    }
}

/// A metric as printed; one that is not ours (a published value's) by its own words.
pub fn metric_title(name: &str) -> String {
    METRICS
        .get(name)
        .map_or_else(|| name.replace('_', " "), |m| m.title.to_owned())
}

/// The metric of that name among those that fit, and its complaint otherwise.
pub(super) fn find(name: &str, fits: impl Fn(&Metric) -> bool) -> Result<&'static Metric> {
    METRICS.get(name).filter(|m| fits(m)).ok_or_else(|| EvalError::Metric {
        found: name.into(),
        allowed: {
            let fit = METRICS.all().into_iter().filter(|m| fits(m));
            fit.map(|m| m.name).collect::<Vec<_>>().join(", ")
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_chooses_from_is_offered_in_this_order() {
        assert_eq!(
            selectable(),
            [
                "roc_auc",
                "recall",
                "quadratic_kappa",
                "accuracy",
                "precision",
                "f1",
                "cohen_kappa",
                "balanced_accuracy",
                "roc_auc_ovr",
                "mAP"
            ]
        );
    }

    #[test]
    fn every_metric_is_measured_somewhere() {
        for m in METRICS.built_in() {
            assert!(m.classes.is_some() || m.labels.is_some(), "{}", m.name);
        }
    }
}
