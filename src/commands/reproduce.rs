//! `medft reproduce`: verify → run → audit → report → compare.

use super::code::code;
use super::ran::{Ran, done, say};
use super::rendered::{Rendered, closing};
use super::stations::{put, say_missing};
use crate::cli::ReportArgs;
use crate::cli::exit::INTERRUPTED;
use crate::print;
use crate::runner::plan::Plan;
use crate::runner::schedule::Tally;
use crate::runner::stations::{before_runs, head, inputs};
use crate::runner::{Context, reproduce};
use crate::text::clock;
use anyhow::Result;
use serde_json::{Value, json};
use std::time::Instant;

/// Exit code 0 when every run has a result and the paper does not differ; 1 where something is missing, which is listed.
pub(super) fn run(c: &Context, a: &ReportArgs) -> Result<u8> {
    let start = Instant::now();
    let (study, runs) = c.study(&a.study)?;
    head(c, &study, &runs);
    let plan = reproduce::verify(c, study, runs, false)?;
    inputs(c, &plan, start.elapsed());
    let before = plan.counts();
    let tell = |plan: &Plan, tally: &Tally, report: Value| -> Result<()> {
        print::json(&json!({ "run": Ran::new(plan, before, tally, start.elapsed()), "report": report }))
    };
    if plan.entries.iter().all(|e| e.id.is_none()) {
        // Nothing can run and nothing was run: leave no trace.
        match c.global.json {
            true => tell(&plan, &Tally::default(), Value::Null)?,
            false => {
                say_missing(&plan)?;
                let time = clock(start.elapsed());
                put(&format!(
                    "done     nothing: what every run needs is missing, see above   after {time}"
                ))?;
            }
        }
        return Ok(code(&plan, false));
    }
    before_runs(c, &plan)?;
    let (plan, tally) = reproduce::fit(c, plan, &a.study)?;
    say(&tally);
    if tally.interrupted {
        if c.global.json {
            tell(&plan, &tally, Value::Null)?;
        }
        return Ok(INTERRUPTED);
    }
    reproduce::audit(c, &plan);
    let out = reproduce::report(c, &plan, a)?;
    if c.global.json {
        tell(
            &plan,
            &tally,
            serde_json::to_value(Rendered::new(&plan, &out, start.elapsed()))?,
        )?;
    } else {
        say_missing(&plan)?;
        put(&done(&tally, plan.entries.len(), start.elapsed()))?;
        closing(&plan, &out, start.elapsed())?;
    }
    let complete = out.done == out.planned && (plan.study.report.demo || !out.paper.differs());
    Ok(code(&plan, complete))
}
