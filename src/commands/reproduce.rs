//! `medft reproduce`: verify → run → audit → report → compare.

use super::run::{before, say};
use super::{code, missing};
use crate::cli::ReportArgs;
use crate::cli::exit::INTERRUPTED;
use crate::report::VerdictCounts;
use crate::runner::plan::Plan;
use crate::runner::{Context, reproduce};
use crate::{outln, tell};
use anyhow::Result;

/// Exit code 0 when every run has a result and the paper does not differ; 1 with a table of what is missing otherwise.
pub(super) fn run(c: &Context, a: &ReportArgs) -> Result<u8> {
    let plan = reproduce::verify(c, &a.study)?;
    say_inputs(&plan);
    if plan.entries.iter().all(|e| e.id.is_none()) {
        // Nothing can run and nothing was run: leave no trace.
        if let Some(t) = missing(&plan) {
            outln!("{t}")?;
        }
        return Ok(code(&plan, false));
    }
    before(c, &plan)?;
    let (plan, tally) = reproduce::fit(c, plan, &a.study)?;
    say(&tally);
    if tally.interrupted {
        return Ok(INTERRUPTED);
    }
    reproduce::audit(c, &plan);
    let out = reproduce::report(c, &plan, a)?;
    outln!("{}", out.path("README.md").display())?;
    if out.verdicts != VerdictCounts::default() && !plan.study.report.demo {
        let v = out.verdicts;
        outln!(
            "{} reproduced, {} consistent, {} differ, {} inconclusive, {} not run",
            v.reproduced,
            v.consistent,
            v.differs,
            v.inconclusive,
            v.not_run
        )?;
        for s in out.paper.best() {
            outln!("{}: {} ({})", s.dataset, s.verdict.word(), s.hypothesis.title())?;
        }
    }
    if let Some(t) = missing(&plan) {
        outln!("\n{t}")?;
    }
    let complete = out.done == out.planned && (plan.study.report.demo || !out.paper.differs());
    Ok(code(&plan, complete))
}

fn say_inputs(plan: &Plan) {
    let usable = |yes| if yes { "verified" } else { "not usable" };
    for (set, r) in &plan.inventory.sets {
        tell!("data     {set}: {}", usable(r.root.is_some()));
    }
    for (name, r) in &plan.inventory.weights {
        tell!("weights  {name}: {}", usable(r.require().is_ok()));
    }
    tell!("{}", plan.summary());
}
