//! What `run` and `reproduce` say on their way, a line a station on stderr, and at its end on stdout: what was done, how long it
//! took, what to open or to do next.

use crate::data::registry;
use crate::device::Chosen;
use crate::eval::metric_title;
use crate::print::columns;
use crate::report::{ReportOutput, VerdictCounts};
use crate::runner::disk::Disk;
use crate::runner::plan::{Missing, Plan};
use crate::runner::schedule::Tally;
use crate::runner::{Context, tensorboard};
use crate::study::{RunSpec, Scale, Study};
use crate::text::{clock, command, folded, wrapped};
use crate::train::evaluate::direction;
use crate::{model, outln, tell};
use anyhow::Result;
use medft_nn::isa::{self, Isa};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is made, on what.
pub(super) fn head(c: &Context, study: &Study, runs: &[RunSpec]) {
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
pub(super) fn before_runs(c: &Context, plan: &Plan) -> Result<()> {
    if let Some(dir) = &c.fit.tensorboard {
        tensorboard::check(dir)?;
    }
    if let Some(text) = Disk::weights_to_come(c, plan)? {
        tell!("{text}");
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

fn count(n: usize, what: &str) -> String {
    if n == 1 {
        format!("1 {what}")
    } else {
        format!("{n} {what}s")
    }
}

/// Data, weights and runs, a line each.
pub(super) fn inputs(c: &Context, plan: &Plan, time: Duration) {
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

/// What became of the runs, for machines.
#[derive(Serialize)]
pub(super) struct Ran<'a> {
    pub study: &'a str,
    pub planned: usize,
    /// How many runs were in each state before.
    pub states: BTreeMap<&'static str, usize>,
    /// How many were to be made now.
    pub wanted: usize,
    pub done: usize,
    pub failed: Vec<Failed<'a>>,
    /// Left to other processes.
    pub claimed: &'a [String],
    /// Finished by other processes meanwhile.
    pub finished: usize,
    pub lost_devices: &'a [String],
    pub interrupted: bool,
    pub seconds: f64,
    pub missing: Vec<Missing>,
}

#[derive(Serialize)]
pub(super) struct Failed<'a> {
    pub run: &'a str,
    pub why: &'a str,
}

impl<'a> Ran<'a> {
    pub(super) fn new(plan: &'a Plan, states: [(&'static str, usize); 8], tally: &'a Tally, time: Duration) -> Self {
        Self {
            study: &plan.study.name,
            planned: plan.entries.len(),
            states: states.into_iter().collect(),
            wanted: tally.wanted,
            done: tally.done,
            failed: tally.failed.iter().map(|(run, why)| Failed { run, why }).collect(),
            claimed: &tally.claimed,
            finished: tally.finished,
            lost_devices: &tally.lost,
            interrupted: tally.interrupted,
            seconds: time.as_secs_f64(),
            missing: plan.missing(),
        }
    }
}

/// What was made, in a line.
pub(super) fn done(tally: &Tally, planned: usize, time: Duration) -> String {
    let before = planned - tally.wanted.min(planned);
    let mut line = format!(
        "done     {} in {}, {} failed",
        count(tally.done, "run"),
        clock(time),
        tally.failed.len()
    );
    let others = tally.finished + tally.claimed.len();
    for (n, what) in [(others, "with another process"), (before, "done before or blocked")] {
        if n > 0 {
            line.push_str(&format!(", {n} {what}"));
        }
    }
    line
}

/// What did not get a result and why; after a signal, how to go on.
pub(super) fn say(tally: &Tally) {
    for paragraph in tally.summary() {
        tell!("{paragraph}");
    }
    if tally.interrupted {
        let words: Vec<String> = std::env::args().collect();
        let ended = tally.done + tally.finished + tally.failed.len();
        tell!(
            "stopped at {ended} of {}; go on with `{}`",
            tally.wanted,
            command(&words)
        );
    }
}

/// A line on stdout, as wide as the terminal.
pub(super) fn put(line: &str) -> Result<()> {
    outln!("{}", folded(line, columns(std::io::stdout()), 9))
}

/// What is missing, why, and how to get it: a paragraph each, as wide as the terminal; nothing where nothing is.
pub(super) fn say_missing(plan: &Plan) -> Result<()> {
    let width = columns(std::io::stdout());
    for m in plan.missing() {
        put(&format!(
            "missing  {} {} ({}): {}",
            m.what,
            m.name,
            count(m.runs, "run"),
            m.found
        ))?;
        outln!("{}", wrapped(&m.remedy, width, 9))?;
    }
    Ok(())
}

/// The best cell of each data set, its mean over seeds: a line each.
pub(super) fn best(plan: &Plan) -> Vec<String> {
    let planned: BTreeSet<&str> = plan
        .entries
        .iter()
        .filter_map(|e| Some(e.id.as_ref()?.full()))
        .collect();
    let mut cells: BTreeMap<_, (f64, usize, &str)> = BTreeMap::new();
    for r in plan.listing.done.iter().filter(|r| planned.contains(r.id())) {
        let s = &r.spec.run;
        let cell = (
            &s.dataset,
            plan.study.table(&s.dataset, &s.protocol),
            &s.backbone,
            s.freeze,
            s.head,
        );
        let (sum, n, metric) = cells.entry(cell).or_insert((0.0, 0, r.metrics.target.as_str()));
        (*sum, *n, *metric) = (*sum + r.metrics.value, *n + 1, r.metrics.target.as_str());
    }
    let mut best: BTreeMap<&String, (f64, String)> = BTreeMap::new();
    for ((set, table, backbone, freeze, head), (sum, n, metric)) in &cells {
        let mean = sum / *n as f64;
        let oriented = direction(metric).oriented(mean);
        let better = best.get(table).is_none_or(|b| oriented > b.0);
        if oriented.is_nan() || !better {
            continue;
        }
        let p = plan
            .entries
            .iter()
            .find(|e| e.spec.dataset == **set)
            .map(|e| &e.spec.protocol);
        let title = match (registry::find(set), p) {
            (Ok(source), Some(p)) if *table == **set => source.info(p).title.to_owned(),
            _ => table.clone(),
        };
        let backbone = model::registry::find(backbone).map_or_else(|_| (*backbone).clone(), |b| b.title.to_owned());
        let seeds = if *n == 1 {
            "1 seed".to_owned()
        } else {
            format!("mean of {n} seeds")
        };
        best.insert(
            table,
            (
                oriented,
                format!(
                    "{title}: {backbone} {freeze} {head}, {} {mean:.3} ({seeds})",
                    metric_title(metric)
                ),
            ),
        );
    }
    best.into_values().map(|b| b.1).collect()
}

/// The end of a report: the best cells, the verdicts, and what to open.
pub(super) fn closing(plan: &Plan, out: &ReportOutput, time: Duration) -> Result<()> {
    for (i, line) in best(plan).iter().enumerate() {
        put(&format!("{}{line}", if i == 0 { "best     " } else { "         " }))?;
    }
    let v = out.verdicts;
    if plan.study.report.demo {
        put("verdict  none: a demo, whose verdicts are an example")?;
    } else if v != VerdictCounts::default() {
        let VerdictCounts {
            reproduced,
            consistent,
            differs,
            inconclusive,
            not_run,
            ..
        } = v;
        put(&format!(
            "verdict  {reproduced} reproduced, {consistent} consistent, {differs} differ, {inconclusive} inconclusive, {not_run} not run"
        ))?;
        for s in out.paper.best() {
            put(&format!(
                "         {}: {} ({})",
                s.dataset,
                s.verdict.word(),
                s.hypothesis.title()
            ))?;
        }
    }
    put(&format!(
        "open     {}   after {}",
        out.path("index.html").display(),
        clock(time)
    ))
}

/// A rendered report, for machines.
#[derive(Serialize)]
pub(super) struct Rendered<'a> {
    pub study: &'a str,
    pub folder: String,
    pub page: String,
    pub planned: usize,
    pub done: usize,
    pub demo: bool,
    pub verdicts: VerdictCounts,
    /// Data set → verdict under the hypothesis that fits best.
    pub data_sets: BTreeMap<&'a str, &'a str>,
    pub best: Vec<String>,
    pub seconds: f64,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(plan: &'a Plan, out: &'a ReportOutput, time: Duration) -> Self {
        let page = out.path("index.html");
        Self {
            study: &plan.study.name,
            folder: page.parent().unwrap_or(&page).display().to_string(),
            page: page.display().to_string(),
            planned: out.planned,
            done: out.done,
            demo: plan.study.report.demo,
            verdicts: out.verdicts,
            data_sets: out
                .paper
                .best()
                .map(|s| (s.dataset.as_str(), s.verdict.word()))
                .collect(),
            best: best(plan),
            seconds: time.as_secs_f64(),
        }
    }
}
