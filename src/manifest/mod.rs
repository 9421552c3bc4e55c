//! Proves that the inputs are the right ones: manifests of data sets, lists of their files, pins of weights.
//!
//! What medft knows of its inputs stands in `data-manifests/` and is compiled in ([`Catalogue`]). Commands ask two
//! questions: [`verify_set`] whether a data set in the user's data directory is what a list says (and [`lock_set`]
//! writes that list), [`verify_weights`] which file serves a backbone and whether it is the published one. Both answer with
//! a report that serialises, names every file that is wrong, says what to do, and yields the hash that enters run ids
//! only where everything fits ([`SetReport::require`], [`WeightsReport::require`]).
//!
//! Knows no model and no reader of data: numbers to be checked against the expected counts are passed in
//! ([`check_counts`]).

pub mod card;
pub mod catalogue;
pub mod dataset;
mod embedded;
pub mod hash;
pub mod images;
pub mod labels;
pub mod list;
pub mod obtain;
pub mod pin;
pub mod places;
pub mod report;
pub mod set;
pub mod staging;
mod stat;
mod verifier;
pub mod verify;
mod walk;
pub mod weights;

pub use catalogue::{Catalogue, own_folder};
pub use dataset::{Archive, DataManifest};
pub use hash::{OnProgress, Progress, Sha, hash_file, quiet};
pub use images::{AbsentImage, ImageFault, ImageReport};
pub use labels::{CountCheck, FoundCounts, LabelCheck, LabelOutcome, check_counts, check_labels};
pub use list::{HashList, RelPath};
pub use obtain::{Obtained, obtain_weights};
pub use pin::{Format, WeightsManifest};
pub use places::{Check, Places, hub_cache};
pub use report::{Changed, LockReport, Moved, Unreadable, VerifyMode, VerifyReport};
pub use set::{DataKind, DataPlaces, SetReport, SetState, lock_phantom, lock_set, verify_set};
pub use verify::{Target, lock, verify};
pub(crate) use walk::walk;
pub use weights::{Weights, WeightsReport, WeightsState, verify_weights};
