//! A toy metric: the recall of the class that fares worst.

use medft::eval::{Confusion, Metric};

/// The entry.
pub(crate) static WORST_RECALL: Metric = Metric::new("worst_recall", "worst recall").on_confusion(worst);

fn worst(c: &Confusion, _all_classes: bool) -> f64 {
    let recalls = c.per_class_recall().into_iter().filter(|r| !r.is_nan());
    recalls.fold(f64::NAN, f64::min)
}
