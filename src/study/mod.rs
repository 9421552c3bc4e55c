//! What is to be run: TOML spec → matrix of [`RunSpec`] → content-addressed run id. Imports no other module.
//!
//! Read in this order: [`protocol`], [`spec`] and [`split_rule`] are the words, [`switches`] says what each word means, [`file`](mod@file)
//! turns a study file into runs, [`sweep`] those of several values of a switch, [`filter`] keeps some of them, [`id`] names them. [`papers`] finds what
//! belongs to a paper: studies, [`published`] values, [`claims`] and [`tolerance`].

pub mod claims;
pub mod file;
pub mod filter;
pub mod id;
mod located;
mod new;
pub mod papers;
pub mod protocol;
pub mod published;
mod published_csv;
mod read_protocol;
pub mod spec;
mod split_rule;
pub mod sweep;
pub mod switches;
pub mod tolerance;

pub use claims::{Claim, ClaimSource, ClaimTest, Claims, Regimes};
pub use file::{Known, ReportOptions, Study};
pub use filter::Filter;
pub use id::{Inputs, PROTOCOL_REVISION, RunId};
pub use new::NewStudy;
pub use papers::Paper;
pub use protocol::{Preset, Protocol};
pub use published::{AuthorsCode, BackboneNote, Caveat, Checked, Outdated, Published, PublishedValue, caveats};
pub use spec::{Freeze, HeadKind, KeepWeights, RunSpec, Scale, SplitRule};
pub use sweep::Swept;
pub use switches::{LOSS, Scope, Switch};
pub use tolerance::{Tolerance, Tolerances};
