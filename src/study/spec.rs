//! One run of the matrix, without any path in it.

use super::protocol::Protocol;
use super::split_rule::SplitRule;
use serde::{Deserialize, Serialize};

/// Whether the backbone's parameters train.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    Frozen,
    Unfrozen,
}

/// The paper's two classifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadKind {
    /// One fully connected layer on the pooled feature.
    Linear,
    /// "Multi-head attention": projected tokens through a DeiT body (PROTOCOL section 4).
    Mha,
}

/// The published sizes, or small seeded-random models of the same code for the demo and the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    Full,
    Tiny,
}

/// One cell of the matrix with one seed. Serialisable; holds no path, device or thread count.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    pub dataset: String,
    pub backbone: String,
    pub scale: Scale,
    pub freeze: Freeze,
    pub head: HeadKind,
    pub seed: u64,
    pub protocol: Protocol,
}

impl RunSpec {
    /// The word for how the data set is cut: a [`SplitRule`], or `mixed`.
    pub fn split(&self) -> &'static str {
        SplitRule::word(&self.dataset, &self.protocol)
    }
}

/// One line for people: `ddsm dinov2-b frozen linear seed 0 (faithful)`; a split that is not the preset's is named.
impl std::fmt::Display for RunSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            dataset,
            backbone,
            freeze,
            head,
            seed,
            protocol,
            ..
        } = self;
        write!(
            f,
            "{dataset} {backbone} {freeze} {head} seed {seed} ({})",
            protocol.preset
        )?;
        match self.split() {
            own if own == SplitRule::word(dataset, &protocol.preset.protocol()) => Ok(()),
            other => write!(f, ", {other} split"),
        }
    }
}

macro_rules! words {
    ($t:ty { $($v:path => $s:literal),+ }) => {
        impl $t {
            /// Every value, in order of declaration.
            pub const ALL: &[Self] = &[$($v),+];

            /// The word used in studies, file names and tables.
            pub fn as_str(self) -> &'static str {
                match self { $($v => $s),+ }
            }
        }
        impl std::fmt::Display for $t {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::str::FromStr for $t {
            type Err = String;
            fn from_str(s: &str) -> Result<Self, String> {
                match s { $($s => Ok($v),)+ _ => Err([$($s),+].join(" or ")) }
            }
        }
    };
}
words!(Freeze { Freeze::Frozen => "frozen", Freeze::Unfrozen => "unfrozen" });
words!(HeadKind { HeadKind::Linear => "linear", HeadKind::Mha => "mha" });
words!(Scale { Scale::Full => "full", Scale::Tiny => "tiny" });
