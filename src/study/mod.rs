//! What is to be run: TOML → matrix of [`RunSpec`] → content-addressed run id.
//!
//! Read in this order: [`crate::spec`] says what a run is, [`split_rule`] says how each data set is cut, [`file`](mod@file) turns a study
//! file into runs, [`sweep`] those of several values of a switch, [`filter`] keeps some of them, [`id`] names them. [`papers`] finds what
//! belongs to a paper: studies, [`published`] values, [`claims`] and [`tolerance`].

pub mod claims;
pub mod file;
pub mod filter;
pub mod id;
mod located;
mod new;
pub mod papers;
pub mod published;
mod published_csv;
mod read_protocol;
mod split_rule;
pub mod sweep;
pub mod tolerance;

pub use crate::spec::protocol::FeatureDtype;
pub use crate::spec::{Freeze, HeadKind, KeepWeights, Preset, Protocol, RunSpec, Scale, Scope, SplitRule, Switch};
pub use claims::{Claim, ClaimSource, ClaimTest, Claims, Regimes};
pub use file::{Known, ReportOptions, Study};
pub use filter::Filter;
pub use id::{Inputs, PROTOCOL_REVISION, RunId};
pub use new::NewStudy;
pub use papers::Paper;
pub use published::{AuthorsCode, BackboneNote, Caveat, Checked, Outdated, Published, caveats};
pub use published_csv::PublishedValue;
pub use sweep::Swept;
pub use tolerance::{Tolerance, Tolerances};
