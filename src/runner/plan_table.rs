//! The plan as tables for people.

use super::cluster::Now;
use super::estimate::{Basis, Estimate, Machine, by_card};
use super::plan::{Plan, PlanEntry, PlanState, one_line};
use super::{Context, needs};
use crate::device::CPU;
use crate::study::Study;
use crate::text::{hours, table};
use anyhow::Result;

/// Runs of a plan with their times.
type Runs<'a> = Vec<(&'a PlanEntry, &'a Estimate)>;

/// Every run, a line each.
pub fn rows(plan: &Plan, times: &[Estimate], now: &[Now], machine: &Machine) -> String {
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
    table(&head, &rows)
}

/// The plan by cells.
pub struct PlanCells {
    /// A line a data set and backbone: 14 × 4 of the paper instead of 672.
    pub table: String,
    /// What blocks runs, once each, with their number.
    pub why: Vec<String>,
}

/// What [`PlanCells::table`] says of memory.
pub const MEMORY_NOTE: &str = "GB memory: a training step of the largest run, by estimate; where the device has less, activations are recomputed.";

/// What [`cards`] says of rates.
pub const RATES_NOTE: &str = "nominal: 70 % of a card's peak in float32, 30 % on its tensor cores; `medft bench` on the card measures (docs/GPU.md)";

/// The plan, a line a data set and backbone.
pub fn cells(c: &Context, plan: &Plan, times: &[Estimate], machine: &Machine) -> PlanCells {
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
        if let (name, Some(text)) = state(e) {
            let text = format!("{name}: {text}");
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
                let name = state(e).0;
                match counts.iter_mut().find(|c| c.0 == name) {
                    Some(c) => c.1 += 1,
                    None => counts.push((name, 1)),
                }
            }
            let counts: Vec<String> = counts.iter().map(|(w, n)| format!("{n} {w}")).collect();
            let known: Option<f64> = runs.iter().map(|(_, t)| t.hours).sum();
            vec![
                set.clone(),
                (*backbone).to_owned(),
                counts.join(", "),
                known.map_or_else(|| "?".to_owned(), hours),
                needs::peak(runs.iter().map(|r| r.0), machine.device != CPU)
                    .map_or_else(|| "?".to_owned(), |gb| format!("{gb:.1}")),
                match needs::download(c, plan, runs.iter().map(|r| r.0)) {
                    Some(0) => "0".to_owned(),
                    Some(bytes) => format!("{:.1}", bytes as f64 / 1e9),
                    None => "?".to_owned(),
                },
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
    PlanCells {
        table: table(&head, &rows),
        why: why.iter().map(|(text, n)| format!("{n} {text}")).collect(),
    }
}

/// What the rest of the study takes on other cards and in other arithmetic, so that it is seen before it is begun; `None`
/// where nothing is known of any.
///
/// # Errors
/// As [`by_card`].
pub fn cards(c: &Context, plan: &Plan, machine: &Machine) -> Result<Option<String>> {
    let cards = by_card(c, plan, machine)?;
    if cards.is_empty() {
        return Ok(None);
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
    Ok(Some(table(&head, &rows)))
}

/// A run's state in a word, and the reason where there is one.
fn state(e: &PlanEntry) -> (&'static str, Option<String>) {
    match &e.state {
        PlanState::Done => ("done", None),
        PlanState::Resume => ("resume", None),
        PlanState::Fresh => ("fresh", None),
        PlanState::Stale(w) => ("stale", Some(w.clone())),
        PlanState::Failed(w) => ("failed", Some(one_line(w))),
        PlanState::Blocked(w) => ("blocked", Some(one_line(w))),
        PlanState::Queued(w) => ("queued", Some(w.clone())),
        PlanState::Running(w) => ("running", Some(w.clone())),
    }
}

fn row(study: &Study, e: &PlanEntry, time: &Estimate, now: &Now) -> Vec<String> {
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
            PlanState::Done => String::new(),
            _ => time.basis.to_string(),
        },
        why.join("; "),
    ]
}

/// What the study still takes, and how far the figure is measured.
pub fn total(times: &[Estimate], machine: &Machine) -> String {
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
