//! What was found of a study's published values and claims, as every page reads it.

use super::claims::Judged;
use super::compare::Comparison;
use super::paper_level::PaperLevel;

/// Every value, every data set, every claim.
pub type Findings<'a> = (&'a [Comparison], &'a PaperLevel, &'a [Judged]);
