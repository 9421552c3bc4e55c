//! A toy switch: whether the toy data set's images are shown as negatives.

use medft::spec::{Later, Values};
use medft::study::{Scope, Switch};

/// The entry.
pub(crate) static NEGATIVE: Switch = Switch {
    field: "toy_negative",
    quirks: &[],
    values: Values::Flag,
    why: "Whether light and dark change places.",
    scope: Scope::Images,
    by_split_rule: false,
    since: Some(Later {
        before: |_| false.into(),
    }),
};
