//! `medft plan`: for every run, whether it is done, can start, or what blocks it.

use super::code::code;
use super::stations::{put, say_missing};
use crate::cli::PlanArgs;
use crate::print::columns;
use crate::runner::Context;
use crate::runner::cluster::{self, Now};
use crate::runner::disk::Disk;
use crate::runner::estimate::{Estimate, Machine, times};
use crate::runner::memory;
use crate::runner::plan::{Plan, PlanEntry, PlanState};
use crate::runner::plan_table::{MEMORY_NOTE, RATES_NOTE, cards, cells, rows, total};
use crate::study::{RunId, Study};
use crate::text::{clock, quoted, wrapped};
use crate::{outln, print};
use anyhow::Result;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct PlanLine<'a> {
    id: Option<&'a str>,
    #[serde(flatten)]
    state: &'a PlanState,
    dataset: &'a str,
    split: &'a str,
    /// Of the sweep.
    #[serde(skip_serializing_if = "String::is_empty")]
    point: String,
    backbone: &'a str,
    freeze: &'static str,
    head: &'static str,
    seed: u64,
    /// What `--only` takes for the group that this run is made in.
    only: String,
    #[serde(flatten)]
    time: &'a Estimate,
    #[serde(flatten)]
    now: &'a Now,
}

/// Prints the plan; exit code 1 where something blocks a run.
pub(super) fn run(c: &Context, a: &PlanArgs) -> Result<u8> {
    let start = Instant::now();
    let (study, runs) = c.study(&a.study)?;
    let mut plan = Plan::make(c, study, runs)?;
    let now = cluster::look(c, &mut plan);
    memory::look(c, &mut plan, a.as_device.as_deref());
    let machine = Machine::asked(c, a.as_device.as_deref());
    let times = times(c, &plan, &machine)?;
    let both = || plan.entries.iter().zip(&times).zip(&now);
    if c.global.json {
        print::json(
            &both()
                .map(|((e, time), now)| line(&plan.study, e, time, now))
                .collect::<Vec<_>>(),
        )?;
    } else {
        let width = columns(std::io::stdout());
        if c.global.verbose == 0 {
            let cells = cells(c, &plan, &times, &machine);
            outln!("{}", cells.table)?;
            put(MEMORY_NOTE)?;
            for why in &cells.why {
                outln!("{}", wrapped(why, width, 0))?;
            }
        } else {
            outln!("{}", rows(&plan, &times, &now, &machine))?;
        }
        outln!("\n{}", plan.summary())?;
        outln!("{}", wrapped(&total(&times, &machine), width, 0))?;
        if let Some(table) = cards(c, &plan, &machine)? {
            outln!("{table}")?;
            put(RATES_NOTE)?;
        }
        for line in Disk::of(c, &plan)?.text(c).lines() {
            outln!("{}", wrapped(line, width, 0))?;
        }
        say_missing(&plan)?;
        let open = plan.entries.len() - plan.counts()[0].1;
        let verb = if open == 0 { "report" } else { "run" };
        put(&format!(
            "next     medft {verb} {}   after {}",
            quoted(&a.study.study),
            clock(start.elapsed())
        ))?;
    }
    let blocked = plan.entries.iter().any(|e| matches!(e.state, PlanState::Blocked(_)));
    Ok(code(&plan, !blocked))
}

fn line<'a>(study: &Study, e: &'a PlanEntry, time: &'a Estimate, now: &'a Now) -> PlanLine<'a> {
    PlanLine {
        id: e.id.as_ref().map(RunId::full),
        state: &e.state,
        dataset: &e.spec.dataset,
        split: e.spec.split(),
        backbone: &e.spec.backbone,
        freeze: e.spec.freeze.as_str(),
        head: e.spec.head.as_str(),
        seed: e.spec.seed,
        point: study.point(&e.spec.protocol),
        only: e.only(study),
        time,
        now,
    }
}
