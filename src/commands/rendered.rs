//! What a report says in a few lines: the best cells, the verdicts, and what to open.

use super::stations::put;
use crate::data::registry;
use crate::eval::metric_title;
use crate::model;
use crate::report::{ReportOutput, VerdictCounts};
use crate::runner::plan::Plan;
use crate::text::clock;
use crate::train::evaluate::direction;
use anyhow::Result;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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
