//! The stations of `medft reproduce`, in the order in which data flows: verify → run → audit → report (which compares).

use super::plan::Plan;
use super::schedule::{Tally, fit_all};
use super::{Context, inventory, memory, report, study_audit};
use crate::cli::{ReportArgs, StudyArgs};
use crate::report::ReportOutput;
use crate::study::{RunSpec, Scale, Study};
use anyhow::Result;

/// Looks at data, weights and records; writes the phantoms of a tiny study where they are not whole. A task of a batch system's array
/// looks at no image: the job that prepared the study did.
///
/// # Errors
/// [`crate::error::BadInput`] for a study that cannot be read, and for phantoms with other content.
pub fn verify(c: &Context, study: Study, runs: Vec<RunSpec>, task: bool) -> Result<Plan> {
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
    }
    let mut plan = match task {
        true => Plan::of_task(c, study, runs)?,
        false => Plan::make(c, study, runs)?,
    };
    memory::look(c, &mut plan, None);
    for (runs, why) in memory::blocked(&plan) {
        c.progress.say(&format!("blocked  {}: {why}", runs.join(", ")));
    }
    Ok(plan)
}

/// Fits what is missing; the plan that comes back knows of it.
///
/// # Errors
/// As [`fit_all`].
pub fn fit(c: &Context, plan: Plan, a: &StudyArgs) -> Result<(Plan, Tally)> {
    let tally = fit_all(c, &plan)?;
    if tally.interrupted || !tally.changed() {
        return Ok((plan, tally));
    }
    let (study, runs) = c.study(a)?;
    Ok((Plan::make(c, study, runs)?, tally))
}

/// Audits the study's data beside its report, unless that was done for the same data. What is wrong with them is on the page.
pub fn audit(c: &Context, plan: &Plan) {
    study_audit::ensure(c, plan);
}

/// Renders the report with its comparison.
///
/// # Errors
/// Where the records cannot be read or the report not written.
pub fn report(c: &Context, plan: &Plan, a: &ReportArgs) -> Result<ReportOutput> {
    report::write(c, plan, a)
}
