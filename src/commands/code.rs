//! The exit code of a verb that works on a study.

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::runner::plan::Plan;

/// The exit code of a study where nothing else decides: 2 for broken inputs, 1 for missing ones or runs.
pub(super) fn code(plan: &Plan, complete: bool) -> u8 {
    match (plan.broken_inputs(), complete) {
        (true, _) => BROKEN,
        (false, false) => INCOMPLETE,
        (false, true) => OK,
    }
}
