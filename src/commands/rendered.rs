//! What a report says in a few lines: the best cells, the verdicts, and what to open.

use super::stations::put;
use crate::report::{ReportOutput, VerdictCounts};
use crate::runner::best::best;
use crate::runner::plan::Plan;
use crate::text::clock;
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

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
                s.verdict.name(),
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
                .map(|s| (s.dataset.as_str(), s.verdict.name()))
                .collect(),
            best: best(plan),
            seconds: time.as_secs_f64(),
        }
    }
}
