//! `runs.html`: every planned run with its result or with the reason why it has none.

use crate::report::cell_details::{CellDetails, Run};
use crate::report::input::{ReportInput, regime_title};
use crate::report::text::{PLACES, fixed};
use serde::Serialize;

/// One planned run.
#[derive(Debug, Serialize)]
pub struct RunLine<'a> {
    dataset: &'a str,
    backbone: &'a str,
    regime: String,
    seed: u64,
    value: String,
    /// Why there is no value.
    gap: &'a str,
    folder: &'a str,
    device: &'a str,
    hours: String,
    commit: String,
    data: &'a str,
    weights: String,
    rerun: &'a str,
}

/// Every planned run, cell by cell, seed by seed.
pub fn lines<'a>(input: &'a ReportInput, details: &'a [CellDetails<'a>]) -> Vec<RunLine<'a>> {
    let mut all = Vec::new();
    for d in details {
        let mut own: Vec<RunLine> = d.runs.iter().map(|r| line(input, d, r)).collect();
        for m in &d.missing {
            own.extend(m.seeds.iter().map(|&seed| RunLine {
                seed,
                gap: m.reason,
                rerun: &d.rerun,
                ..blank(input, d)
            }));
        }
        own.sort_by_key(|r| r.seed);
        all.extend(own);
    }
    all
}

fn blank<'a>(input: &'a ReportInput, d: &'a CellDetails) -> RunLine<'a> {
    RunLine {
        dataset: input.dataset(d.dataset).map_or(d.dataset, |x| &x.title),
        backbone: input.backbone_title(d.backbone),
        regime: regime_title(d.freeze, d.head),
        seed: 0,
        value: String::new(),
        gap: "",
        folder: "",
        device: "",
        hours: String::new(),
        commit: String::new(),
        data: "",
        weights: String::new(),
        rerun: "",
    }
}

fn line<'a>(input: &'a ReportInput, d: &'a CellDetails, r: &'a Run) -> RunLine<'a> {
    let p = r.provenance;
    let short = |s: &str| s.get(..12).unwrap_or(s).to_owned();
    RunLine {
        seed: r.seed,
        value: fixed(r.value, PLACES + 2),
        folder: r.folder,
        device: p.map_or("unknown", |p| &p.device),
        hours: p.map_or_else(String::new, |p| fixed(p.seconds() / 3600.0, 3)),
        commit: p.map_or_else(String::new, |p| {
            p.commit.as_deref().map_or_else(|| "unknown".to_owned(), short)
        }),
        data: r
            .record
            .map_or("", |x| x.spec.data_sha256.get(..12).unwrap_or_default()),
        weights: r.record.map_or_else(String::new, |x| {
            let all: Vec<String> = x.spec.weights.values().map(|w| short(w)).collect();
            all.join(" ")
        }),
        rerun: &r.rerun,
        ..blank(input, d)
    }
}
