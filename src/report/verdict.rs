//! What can be said of a published value, and of a claim.

use serde::{Deserialize, Serialize};

/// What a comparison of published numbers with ours gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why")]
pub enum Verdict {
    /// The difference is smaller than the margin (both one-sided tests reject).
    Reproduced,
    /// Not shown to be within the margin, but no further away than another run of this code would be.
    Consistent,
    /// The difference is larger than the margin, and no run of this code would give it.
    Differs,
    /// None of these can be said.
    Inconclusive(String),
    /// There is no value of ours.
    NotRun(String),
}

impl Verdict {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Reproduced => "Reproduced",
            Self::Consistent => "Consistent",
            Self::Differs => "Differs",
            Self::Inconclusive(_) => "Inconclusive",
            Self::NotRun(_) => "NotRun",
        }
    }

    /// Its reason, where it has one.
    pub fn why(&self) -> &str {
        match self {
            Self::Inconclusive(why) | Self::NotRun(why) => why,
            Self::Reproduced | Self::Consistent | Self::Differs => "",
        }
    }
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why")]
pub enum ClaimVerdict {
    /// The effect is larger than the smallest one that matters.
    Supported,
    /// The effect is below 0, or smaller than matters; which of the two.
    Refuted(String),
    /// What is missing.
    Undetermined(String),
}

impl ClaimVerdict {
    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Supported => "Supported",
            Self::Refuted(_) => "Refuted",
            Self::Undetermined(_) => "Undetermined",
        }
    }

    /// Its reason, where it has one.
    pub fn why(&self) -> &str {
        match self {
            Self::Refuted(why) | Self::Undetermined(why) => why,
            Self::Supported => "",
        }
    }
}
