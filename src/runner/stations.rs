//! What `run` and `reproduce` say on their way, a line a station on stderr.

use super::disk::Disk;
use super::plan::Plan;
use super::{Context, tensorboard};
use crate::device::Chosen;
use crate::study::{RunSpec, Scale, Study};
use crate::text::{clock, count};
use anyhow::Result;
use medft_nn::isa::{self, Isa};
use std::collections::BTreeSet;
use std::time::Duration;

/// What is made, on what.
pub fn head(c: &Context, study: &Study, runs: &[RunSpec]) {
    let cell = |r: &RunSpec| {
        (
            study.table(&r.dataset, &r.protocol),
            r.backbone.clone(),
            r.freeze,
            r.head,
        )
    };
    let cells: BTreeSet<_> = runs.iter().map(cell).collect();
    let seeds: BTreeSet<u64> = runs.iter().map(|r| r.seed).collect();
    let runs = match (cells.len(), seeds.len(), runs.len()) {
        (c, s, n) if c * s == n && n > 1 => format!("{} × {} = {n} runs", count(c, "cell"), count(s, "seed")),
        (_, _, n) => count(n, "run"),
    };
    c.progress.say(&format!(
        "medft {} · study {} · {runs} · {}",
        env!("CARGO_PKG_VERSION"),
        study.name,
        device(c)
    ));
    if let Ok(Chosen { all, why: Some(why) }) = c.opened() {
        c.progress.say(&format!("device   {}: {why}", all[0].name));
    }
}

/// What runs leave besides their records: said, and made sure of, before the first begins.
///
/// # Errors
/// Where curves cannot be written; where there is no room for weights.
pub fn before_runs(c: &Context, plan: &Plan) -> Result<()> {
    if let Some(dir) = &c.fit.tensorboard {
        tensorboard::check(dir)?;
    }
    if let Some(text) = Disk::weights_to_come(c, plan)? {
        c.progress.say(&text);
    }
    Ok(())
}

/// The device that is asked for; of a CPU, what computes on it.
fn device(c: &Context) -> String {
    match c.opened() {
        Ok(chosen) if chosen.all.iter().all(|d| d.memory.is_some()) => {
            let names: Vec<&str> = chosen.all.iter().map(|d| d.name.as_str()).collect();
            names.join(", ")
        }
        Ok(_) => {
            let vectors = match isa::chosen() {
                Ok(Isa::Avx512) => "AVX-512",
                Ok(Isa::Avx2) => "AVX2",
                Ok(Isa::Generic) | Err(_) => "no vector instructions",
            };
            format!("cpu, {vectors}, {}", count(rayon::current_num_threads(), "thread"))
        }
        Err(_) => c.global.device.to_string(),
    }
}

/// Data, weights and runs, a line each.
pub fn inputs(c: &Context, plan: &Plan, time: Duration) {
    let sets = &plan.inventory.sets;
    let drawn = plan.study.scale == Scale::Tiny;
    let set = if drawn { "phantom set" } else { "data set" };
    let bad: Vec<&str> = sets
        .iter()
        .filter(|(_, r)| r.root.is_none())
        .map(|(s, _)| s.as_str())
        .collect();
    c.progress
        .say(&format!("data     {}   {}", usable(sets.len(), set, &bad), clock(time)));
    let weights = &plan.inventory.weights;
    let bad: Vec<&str> = weights
        .iter()
        .filter(|(_, r)| r.require().is_err())
        .map(|(w, _)| w.as_str())
        .collect();
    c.progress.say(&match (weights.len(), drawn) {
        (0, true) => "weights  none needed (tiny models from seeds)".to_owned(),
        (n, _) => format!("weights  {}", usable(n, "file", &bad)),
    });
    let counts = plan.counts();
    let states: Vec<String> = counts
        .iter()
        .filter(|c| c.1 > 0)
        .map(|(w, n)| format!("{n} {w}"))
        .collect();
    c.progress
        .say(&format!("runs     {}: {}", plan.entries.len(), states.join(", ")));
}

/// How many of so many things are verified, and which are not.
fn usable(all: usize, what: &str, bad: &[&str]) -> String {
    match bad.len() {
        0 => format!("{} verified", count(all, what)),
        n => format!(
            "{} of {} verified; not usable: {}",
            all - n,
            count(all, what),
            bad.join(", ")
        ),
    }
}
