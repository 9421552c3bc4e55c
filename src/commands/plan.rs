//! `medft plan`: for every run, whether it is done, can start, or what blocks it.

use super::{code, missing};
use crate::cli::PlanArgs;
use crate::runner::Context;
use crate::runner::cluster::{self, Now};
use crate::runner::disk::Disk;
use crate::runner::estimate::{Basis, Estimate, Machine, times};
use crate::runner::plan::{Entry, Plan, State, one_line};
use crate::study::RunId;
use crate::text::{hours, table};
use crate::{outln, print};
use anyhow::Result;
use serde::Serialize;

#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a str>,
    #[serde(flatten)]
    state: &'a State,
    dataset: &'a str,
    split: &'a str,
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
    let (study, runs) = c.study(&a.study)?;
    let mut plan = Plan::make(c, study, runs)?;
    let now = cluster::look(c, &mut plan);
    let mut machine = Machine::this(c);
    if let Some(device) = &a.as_device {
        machine.device.clone_from(device);
    }
    let times = times(c, &plan, &machine)?;
    let both = || plan.entries.iter().zip(&times).zip(&now);
    if c.global.json {
        print::json(&both().map(|((e, time), now)| line(e, time, now)).collect::<Vec<_>>())?;
    } else {
        let head = [
            "run",
            "data set",
            "split",
            "backbone",
            "backbone is",
            "head",
            "seed",
            "state",
            machine.hours(),
            "from",
            "why",
        ];
        let rows: Vec<Vec<String>> = both().map(|((e, time), now)| row(e, time, now)).collect();
        outln!("{}", table(&head, &rows))?;
        outln!("\n{}", plan.summary())?;
        outln!("{}", total(&times, &machine))?;
        outln!("{}", Disk::of(c, &plan)?.text(c))?;
        if let Some(t) = missing(&plan) {
            outln!("\n{t}")?;
        }
    }
    let blocked = plan.entries.iter().any(|e| matches!(e.state, State::Blocked(_)));
    Ok(code(&plan, !blocked))
}

fn line<'a>(e: &'a Entry, time: &'a Estimate, now: &'a Now) -> Line<'a> {
    Line {
        id: e.id.as_ref().map(RunId::full),
        state: &e.state,
        dataset: &e.spec.dataset,
        split: e.spec.split(),
        backbone: &e.spec.backbone,
        freeze: e.spec.freeze.as_str(),
        head: e.spec.head.as_str(),
        seed: e.spec.seed,
        only: e.only(),
        time,
        now,
    }
}

fn row(e: &Entry, time: &Estimate, now: &Now) -> Vec<String> {
    let (state, mut why) = match &e.state {
        State::Done => ("done", String::new()),
        State::Resume => ("resume", String::new()),
        State::Fresh => ("fresh", String::new()),
        State::Stale(w) => ("stale", w.clone()),
        State::Failed(w) => ("failed", one_line(w)),
        State::Blocked(w) => ("blocked", one_line(w)),
        State::Queued(w) => ("queued", w.clone()),
        State::Running(w) => ("running", w.clone()),
    };
    if let Some(ended) = &now.ended
        && !why.contains(ended)
    {
        why = [why, ended.clone()]
            .into_iter()
            .filter(|w| !w.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
    }
    vec![
        e.id.as_ref().map_or_else(|| "–".into(), |i| i.short().to_owned()),
        e.spec.dataset.clone(),
        e.spec.split().to_owned(),
        e.spec.backbone.clone(),
        e.spec.freeze.to_string(),
        e.spec.head.to_string(),
        e.spec.seed.to_string(),
        state.to_owned(),
        time.hours.map_or_else(|| "?".into(), hours),
        match e.state {
            State::Done => String::new(),
            _ => time.basis.to_string(),
        },
        why,
    ]
}

/// What the study still takes, and how far the figure is measured.
fn total(times: &[Estimate], machine: &Machine) -> String {
    let sum = |f: &dyn Fn(&Basis) -> bool| -> f64 {
        times
            .iter()
            .filter(|t| f(&t.basis))
            .filter_map(|t| t.hours)
            .fold(0.0, |a, h| a + h)
    };
    let guessed = sum(&|b| matches!(b, Basis::Guess(_)));
    let measured = sum(&|b| matches!(b, Basis::Runs(_) | Basis::Bench));
    let unknown = times.iter().filter(|t| t.hours.is_none()).count();
    let mut text = format!("{} to go: {} by measurements", machine.hours(), hours(measured));
    if guessed > 0.0 {
        text.push_str(&format!(
            ", {} by guess (other backbones' speed, scaled by multiply-adds)",
            hours(guessed)
        ));
    }
    if unknown > 0 {
        text.push_str(&format!(", {unknown} runs unknown"));
    }
    text
}
