//! `medft plan`: for every run, whether it is done, can start, or what blocks it.

use super::code;
use super::stations::{put, say_missing};
use crate::cli::PlanArgs;
use crate::device::CPU;
use crate::print::columns;
use crate::runner::Context;
use crate::runner::cluster::{self, Now};
use crate::runner::disk::Disk;
use crate::runner::estimate::{Basis, Estimate, Machine, by_card, times};
use crate::runner::inventory::weight_names;
use crate::runner::memory;
use crate::runner::plan::{Entry, Plan, State, one_line};
use crate::study::{RunId, Study};
use crate::text::{clock, hours, quoted, table, wrapped};
use crate::{outln, print};
use anyhow::Result;
use serde::Serialize;
use std::time::Instant;

#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a str>,
    #[serde(flatten)]
    state: &'a State,
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
        match c.global.verbose {
            0 => cells(c, &plan, &times, &machine)?,
            _ => rows(&plan, &times, &now, &machine)?,
        }
        outln!("\n{}", plan.summary())?;
        let width = columns(std::io::stdout());
        outln!("{}", wrapped(&total(&times, &machine), width, 0))?;
        cards(c, &plan, &machine)?;
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
    let blocked = plan.entries.iter().any(|e| matches!(e.state, State::Blocked(_)));
    Ok(code(&plan, !blocked))
}

/// Runs of a plan with their times.
type Runs<'a> = Vec<(&'a Entry, &'a Estimate)>;

/// Every run, a line each.
fn rows(plan: &Plan, times: &[Estimate], now: &[Now], machine: &Machine) -> Result<()> {
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
    let rows: Vec<Vec<String>> = plan
        .entries
        .iter()
        .zip(times)
        .zip(now)
        .map(|((e, time), now)| row(&plan.study, e, time, now))
        .collect();
    outln!("{}", table(&head, &rows))
}

/// A line a data set and backbone: 14 × 4 of the paper instead of 672. What blocks runs is said once, below.
fn cells(c: &Context, plan: &Plan, times: &[Estimate], machine: &Machine) -> Result<()> {
    let mut lines: Vec<((String, &str), Runs<'_>)> = Vec::new();
    for (e, t) in plan.entries.iter().zip(times) {
        let key = (
            plan.study.table(&e.spec.dataset, &e.spec.protocol),
            e.spec.backbone.as_str(),
        );
        match lines.iter_mut().find(|l| l.0 == key) {
            Some(l) => l.1.push((e, t)),
            None => lines.push((key, vec![(e, t)])),
        }
    }
    let mut why: Vec<(String, usize)> = Vec::new();
    for e in &plan.entries {
        if let (word, Some(text)) = state(e) {
            let text = format!("{word}: {text}");
            match why.iter_mut().find(|w| w.0 == text) {
                Some(w) => w.1 += 1,
                None => why.push((text, 1)),
            }
        }
    }
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|((set, backbone), runs)| {
            let mut counts: Vec<(&str, usize)> = Vec::new();
            for (e, _) in runs {
                let word = state(e).0;
                match counts.iter_mut().find(|c| c.0 == word) {
                    Some(c) => c.1 += 1,
                    None => counts.push((word, 1)),
                }
            }
            let counts: Vec<String> = counts.iter().map(|(w, n)| format!("{n} {w}")).collect();
            let known: Option<f64> = runs.iter().map(|(_, t)| t.hours).sum();
            vec![
                set.clone(),
                (*backbone).to_owned(),
                counts.join(", "),
                known.map_or_else(|| "?".to_owned(), hours),
                peak(runs, machine).map_or_else(|| "?".to_owned(), |gb| format!("{gb:.1}")),
                download(c, plan, runs),
            ]
        })
        .collect();
    let head = [
        "data set",
        "backbone",
        "runs",
        machine.hours(),
        "GB memory",
        "GB download",
    ];
    outln!("{}", table(&head, &rows))?;
    put(
        "GB memory: a training step of the largest run, by estimate; where the device has less, activations are recomputed.",
    )?;
    let width = columns(std::io::stdout());
    for (text, n) in &why {
        outln!("{}", wrapped(&format!("{n} {text}"), width, 0))?;
    }
    Ok(())
}

/// What the rest of the study takes on other cards and in other arithmetic, so that it is seen before it is begun.
fn cards(c: &Context, plan: &Plan, machine: &Machine) -> Result<()> {
    let cards = by_card(c, plan, machine)?;
    if cards.is_empty() {
        return Ok(());
    }
    let head = ["GPU-hours on one", "float32", "authors", "bfloat16", "rates"];
    let rows: Vec<Vec<String>> = cards
        .iter()
        .map(|card| {
            let time = |h: Option<f64>| h.map_or_else(|| "?".to_owned(), |h| format!("{h:.0} ({:.0} d)", h / 24.0));
            let [f32, authors, bf16] = card.hours.map(time);
            let rates = if card.nominal { "nominal" } else { "measured" };
            vec![card.card.clone(), f32, authors, bf16, rates.to_owned()]
        })
        .collect();
    outln!("{}", table(&head, &rows))?;
    put(
        "nominal: 70 % of a card's peak in float32, 30 % on its tensor cores; `medft bench` on the card measures (docs/GPU.md)",
    )
}

/// What a training step of the largest of some runs holds at its peak on a device, in GB; `None` where a model cannot be built.
fn peak(runs: &[(&Entry, &Estimate)], machine: &Machine) -> Option<f64> {
    // Seeds have the same model.
    let mut seen = Vec::new();
    let mut most = None;
    for (e, _) in runs {
        let kind = (e.spec.freeze, e.spec.head);
        if !seen.contains(&kind) {
            seen.push(kind);
            let gb = memory::peak(&e.spec, machine.device != CPU)?.kept / 1e9;
            most = Some(f64::max(most.unwrap_or(0.0), gb));
        }
    }
    most
}

/// Weights that some runs read and that are not here yet, in GB.
fn download(c: &Context, plan: &Plan, runs: &[(&Entry, &Estimate)]) -> String {
    let mut names: Vec<String> = runs
        .iter()
        .flat_map(|(e, _)| weight_names(&e.spec))
        .map(|w| w.1)
        .collect();
    names.sort();
    names.dedup();
    names.retain(|n| plan.inventory.weights.get(n).is_some_and(|w| w.require().is_err()));
    let size = |n: &String| c.catalogue.pins(n).ok()?.first()?.size;
    match names.iter().map(size).sum::<Option<u64>>() {
        Some(0) => "0".to_owned(),
        Some(bytes) => format!("{:.1}", bytes as f64 / 1e9),
        None => "?".to_owned(),
    }
}

fn line<'a>(study: &Study, e: &'a Entry, time: &'a Estimate, now: &'a Now) -> Line<'a> {
    Line {
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

/// A run's state in a word, and the reason where there is one.
fn state(e: &Entry) -> (&'static str, Option<String>) {
    match &e.state {
        State::Done => ("done", None),
        State::Resume => ("resume", None),
        State::Fresh => ("fresh", None),
        State::Stale(w) => ("stale", Some(w.clone())),
        State::Failed(w) => ("failed", Some(one_line(w))),
        State::Blocked(w) => ("blocked", Some(one_line(w))),
        State::Queued(w) => ("queued", Some(w.clone())),
        State::Running(w) => ("running", Some(w.clone())),
    }
}

fn row(study: &Study, e: &Entry, time: &Estimate, now: &Now) -> Vec<String> {
    let (state, why) = state(e);
    let ended = now
        .ended
        .clone()
        .filter(|ended| why.as_ref().is_none_or(|w| !w.contains(ended)));
    let why: Vec<String> = why.into_iter().chain(ended).collect();
    vec![
        e.id.as_ref().map_or_else(|| "–".into(), |i| i.short().to_owned()),
        e.spec.dataset.clone(),
        match study.point(&e.spec.protocol) {
            point if point.is_empty() => e.spec.split().to_owned(),
            point => format!("{}, {point}", e.spec.split()),
        },
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
        why.join("; "),
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
    let nominal = sum(&|b| matches!(b, Basis::Nominal(_)));
    let unknown = times.iter().filter(|t| t.hours.is_none()).count();
    let mut text = format!("{} to go: {} by measurements", machine.hours(), hours(measured));
    if guessed > 0.0 {
        text.push_str(&format!(
            ", {} by guess (other backbones' speed, scaled by multiply-adds)",
            hours(guessed)
        ));
    }
    if nominal > 0.0 {
        text.push_str(&format!(", {} by the card's nominal rate", hours(nominal)));
    }
    if unknown > 0 {
        text.push_str(&format!(", {unknown} runs unknown"));
    }
    text
}
