//! `medft reproduce`: verify data → verify weights → run what is missing → report → compare.

use super::plan::Plan;
use super::schedule::fit_all;
use super::{Context, inventory, report};
use crate::cli::ReportArgs;
use crate::cli::exit::INTERRUPTED;
use crate::study::Scale;
use anyhow::Result;

/// Exit code 0 when every run has a result and the paper does not differ; 1 with a table of what is missing otherwise.
pub fn run(c: &Context, a: &ReportArgs) -> Result<u8> {
    let (study, runs) = c.study(&a.study)?;
    if study.scale == Scale::Tiny {
        inventory::synthesise_missing(c, &runs)?;
    }
    let plan = Plan::make(c, study.clone(), runs.clone())?;
    for (set, r) in &plan.inventory.sets {
        eprintln!(
            "data     {set}: {}",
            if r.root.is_some() { "verified" } else { "not usable" }
        );
    }
    for (word, r) in &plan.inventory.weights {
        eprintln!(
            "weights  {word}: {}",
            if r.require().is_ok() { "verified" } else { "not usable" }
        );
    }
    eprintln!("{}", plan.summary());
    if plan.entries.iter().all(|e| e.id.is_none()) {
        // Nothing can run and nothing was run: leave no trace.
        if let Some(t) = plan.missing() {
            println!("{t}");
        }
        return Ok(plan.code(false));
    }
    let tally = fit_all(c, &plan)?;
    let plan = if tally.done + tally.failed + tally.elsewhere > 0 {
        Plan::make(c, study, runs)?
    } else {
        plan
    };
    let out = report::write(c, &plan, a)?;
    println!("{}", out.path("README.md").display());
    if out.verdicts != crate::report::VerdictCounts::default() && !plan.study.report.demo {
        let v = out.verdicts;
        println!(
            "{} reproduced, {} consistent, {} differ, {} inconclusive, {} not run",
            v.reproduced, v.consistent, v.differs, v.inconclusive, v.not_run
        );
        for s in out.paper.best() {
            println!("{}: {} ({})", s.dataset, s.verdict.word(), s.hypothesis.title());
        }
    }
    if tally.interrupted {
        return Ok(INTERRUPTED);
    }
    if let Some(t) = plan.missing() {
        println!("\n{t}");
    }
    let complete = out.done == out.planned && (plan.study.report.demo || !out.paper.differs());
    Ok(plan.code(complete))
}
