//! One run of the matrix, without any path in it.

use super::protocol::{Normalisation, Precision, Protocol, TestWeights};
use super::switches::Scope;
use crate::canonical::canonical_json;
use serde::{Deserialize, Serialize};
use serde_json::json;

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
    /// The arithmetic of this run's passes: the protocol's, where `authors` is float16 under a linear head and float32 under MHA.
    pub fn precision(&self) -> Precision {
        match (self.protocol.precision, self.head) {
            (Precision::Authors, HeadKind::Linear) => Precision::F16,
            (Precision::Authors, HeadKind::Mha) => Precision::F32,
            (p, _) => p,
        }
    }

    /// What the images of the run depend on, given the root hash of the data set: runs of equal keys may share them.
    pub fn image_key(&self, data_root: &str) -> String {
        // The backbone's own statistics make the images depend on the backbone.
        let backbone = match self.protocol.normalisation {
            Normalisation::Dataset => "",
            Normalisation::Backbone => &self.backbone,
        };
        let key = json!([
            self.dataset,
            data_root,
            backbone,
            self.protocol.scoped(&[Scope::Images])
        ]);
        canonical_json(&key)
    }
}

/// Which trained weights a run leaves behind. No part of the run: its id and its numbers are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeepWeights {
    None,
    /// Those that the protocol's own rule selects.
    #[default]
    Best,
    /// Those after the last step.
    Last,
    Both,
}

impl KeepWeights {
    /// The sets of weights, in order.
    pub fn sets(self) -> &'static [TestWeights] {
        match self {
            Self::None => &[],
            Self::Best => &[TestWeights::Best],
            Self::Last => &[TestWeights::Last],
            Self::Both => &[TestWeights::Best, TestWeights::Last],
        }
    }
}

/// How a data set is cut into train, val and test; what each rule means for a set is its [`crate::data::DatasetReader::cut`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitRule {
    /// The split of the published code, quirks included.
    Authors,
    /// No lesion, patient or case in two parts.
    Grouped,
    /// The parts that the data set's publisher made.
    Official,
}

macro_rules! names {
    ($t:ty { $($v:path => $s:literal),+ }) => {
        impl $t {
            /// Every value, in order of declaration.
            pub const ALL: &[Self] = &[$($v),+];

            /// The name used in studies, file names and tables.
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
names!(Freeze { Freeze::Frozen => "frozen", Freeze::Unfrozen => "unfrozen" });
names!(HeadKind { HeadKind::Linear => "linear", HeadKind::Mha => "mha" });
names!(Scale { Scale::Full => "full", Scale::Tiny => "tiny" });
names!(KeepWeights { KeepWeights::None => "none", KeepWeights::Best => "best", KeepWeights::Last => "last", KeepWeights::Both => "both" });
names!(SplitRule { SplitRule::Authors => "authors", SplitRule::Grouped => "grouped", SplitRule::Official => "official" });
