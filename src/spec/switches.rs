//! What a switch of the protocol is: its name, the values it takes, what it decides and since when.
//!
//! The switches themselves are the table in [`super::protocol`]; others can be registered behind them.

use crate::eval;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::{PoisonError, RwLock};

macro_rules! switch {
    ($(#[$m:meta])* $name:ident { $($(#[$vm:meta])* $v:ident),+ $(,)? }) => {
        $(#[$m])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$vm])* $v),+ }

        impl $name {
            /// Every value, in order of declaration.
            pub const ALL: &[Self] = &[$(Self::$v),+];

            /// The names a study may use, in the order of [`Self::ALL`].
            pub fn names() -> Vec<String> {
                Self::ALL.iter().map(value_name).collect()
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|v| value_name(v) == s);
                found.copied().ok_or_else(|| Self::names().join(" or "))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&value_name(self))
            }
        }
    };
}
pub(super) use switch;

/// The name serde writes for a unit variant, so that studies, records and tables can never spell a value differently.
pub(super) fn value_name<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(s)) => s,
        other => unreachable!("a switch serialises to a name, not to {other:?}"),
    }
}

switch!(/// Which of the two published recipes a protocol started from; printed in every table.
    Preset { Faithful, Corrected });

/// What a switch decides; whatever comes later on the way from files to a number follows from it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Which images there are, how they are cut into parts, and what a network is shown of each in validation and test.
    Images,
    /// What a backbone makes of an image.
    Features,
    /// How training goes: views of the training images, head, optimiser, schedule.
    Fit,
    /// Which epoch is chosen and what is measured.
    Select,
}

/// The values a switch takes.
#[derive(Debug, Clone, Copy)]
pub enum Values {
    /// One of these names.
    Names(fn() -> Vec<String>),
    Flag,
    /// A whole number in this range.
    Count(u32, u32),
    /// A number for which the function holds, and the same in words.
    Real(fn(f64) -> bool, &'static str),
    /// Two such numbers; that they are in order is checked with the other combinations.
    Pair(fn(f64) -> bool, &'static str),
    /// A name or `{ epochs = n }` or `{ iterations = n }`.
    Warmup,
    /// A metric by which an epoch may be selected.
    Metric,
    /// As before, or the validation loss.
    Selection,
}

/// A switch that came after the first results: their records lack it, and their ids must stay.
///
/// It is hashed only where it says something: for a data set that it concerns, at another value than `before`.
#[derive(Debug, Clone, Copy)]
pub struct Later {
    /// The value that means what medft did before, under a preset.
    pub before: fn(Preset) -> Value,
}

/// One field of [`super::Protocol`].
#[derive(Debug, Clone, Copy)]
pub struct Switch {
    /// Name of the field, the key in `[protocol]`.
    pub field: &'static str,
    /// The quirks of `docs/PROTOCOL.md`, section 10, that it decides; empty where it is a plain setting of the recipe.
    pub quirks: &'static [u8],
    pub values: Values,
    /// One line for people.
    pub why: &'static str,
    pub scope: Scope,
    /// Whether a split rule decides it; a study sets either it or the rule.
    pub by_split_rule: bool,
    pub since: Option<Later>,
}

static REGISTERED: RwLock<Vec<&'static Switch>> = RwLock::new(Vec::new());

/// The value of `selection_metric` for the validation loss, which is no metric: it is the mean of batches, and less is better.
pub const LOSS: &str = "loss";

/// What an epoch may be selected by.
pub fn selections() -> Vec<&'static str> {
    eval::selectable().into_iter().chain([LOSS]).collect()
}

impl Values {
    /// What may be written, in words.
    pub fn allowed(self) -> String {
        match self {
            Self::Names(names) => names().join(", "),
            Self::Flag => "true, false".into(),
            Self::Count(lo, hi) => format!("whole number, {lo} to {hi}"),
            Self::Real(_, what) | Self::Pair(_, what) => what.into(),
            Self::Warmup => "per-dataset, none, { epochs = n }, { iterations = n }".into(),
            Self::Metric => eval::selectable().join(", "),
            Self::Selection => selections().join(", "),
        }
    }
}

impl Switch {
    /// The switches that were registered behind those of the struct.
    pub(super) fn registered() -> Vec<&'static Self> {
        REGISTERED.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(switch: &'static Self) -> Result<(), String> {
        let mut all = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
        if all.iter().any(|s| s.field == switch.field) {
            return Err(format!("there is a switch `{}` already", switch.field));
        }
        all.push(switch);
        Ok(())
    }
}
