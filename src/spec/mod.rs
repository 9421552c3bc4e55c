//! What a run is described by, below everything that reads data, builds models or trains. Imports no module that does.
//!
//! [`protocol`] holds every choice that changes a number, `switches` what each choice means, and [`RunSpec`] one run of the matrix.

pub mod protocol;
mod run;
mod switches;

pub use protocol::{Preset, Protocol};
pub use run::{Freeze, HeadKind, KeepWeights, RunSpec, Scale, SplitRule};
pub use switches::{LOSS, Later, Scope, Switch, Values, selections};
