//! `results.json`: the report for machines. Its schema is named in it and described in `docs/FORMATS.md`.

use super::cell_details::CellDetails;
use super::cells::Cells;
use super::claims::Judged;
use super::compare::{Comparison, VerdictCounts};
use super::findings::Findings;
use super::input::ReportInput;
use super::paper_level::PaperLevel;
use anyhow::Result;
use serde::Serialize;

/// Name and version of the schema. The number grows when a field changes its meaning or goes; new fields do not change it.
pub const SCHEMA: &str = "medft.report/2";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    /// In a demo, that its numbers mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
    study: &'a str,
    title: &'a str,
    description: &'a str,
    protocol: Protocol<'a>,
    /// Level of each of the two one-sided tests behind the verdicts.
    alpha: f64,
    planned: usize,
    done: usize,
    verdicts: VerdictCounts,
    datasets: Vec<Dataset<'a>>,
    backbones: Vec<Backbone<'a>>,
    cells: &'a [CellDetails<'a>],
    /// The paper as a whole, by data set and hypothesis.
    paper: &'a PaperLevel,
    /// The claims of the paper, each with the test that decides it.
    claims: &'a [Judged],
    /// Published values that no planned regime can be compared with.
    unplanned: Vec<&'a Comparison>,
    sources: &'a [String],
    caveats: &'a [String],
}

#[derive(Serialize)]
struct Protocol<'a> {
    preset: &'a str,
    sentence: String,
    changes: serde_json::Map<String, serde_json::Value>,
}

#[derive(Serialize)]
struct Dataset<'a> {
    name: &'a str,
    title: &'a str,
    metric: &'a str,
    classes: &'a [String],
    margin: Option<f64>,
    margin_reason: &'a str,
}

#[derive(Serialize)]
struct Backbone<'a> {
    name: &'a str,
    title: &'a str,
    family: &'a str,
    parameters: Option<u64>,
}

/// The file. A number that is not finite is `null`.
pub(super) fn bytes(
    input: &ReportInput,
    cells: &Cells,
    details: &[CellDetails],
    (comparisons, paper, claims): Findings,
) -> Result<Vec<u8>> {
    let changes = input.protocol.changes.iter();
    let document = Document {
        schema: SCHEMA,
        warning: input.warning(),
        study: &input.study,
        title: &input.title,
        description: &input.description,
        protocol: Protocol {
            preset: &input.protocol.preset,
            sentence: input.protocol.sentence(),
            changes: changes.map(|(k, v)| (k.clone(), v.clone().into())).collect(),
        },
        alpha: input.alpha,
        planned: input.planned.len(),
        done: cells.iter().map(|(_, s)| s.n()).sum(),
        verdicts: VerdictCounts::of(comparisons),
        datasets: input
            .datasets
            .iter()
            .map(|d| Dataset {
                name: &d.name,
                title: &d.title,
                metric: &d.metric,
                classes: &d.classes,
                margin: d.margin,
                margin_reason: &d.margin_reason,
            })
            .collect(),
        backbones: input
            .backbones
            .iter()
            .map(|b| Backbone {
                name: &b.name,
                title: &b.title,
                family: &b.family,
                parameters: b.params,
            })
            .collect(),
        cells: details,
        paper,
        claims,
        unplanned: comparisons.iter().filter(|c| c.regime.is_none()).collect(),
        sources: &input.sources,
        caveats: &input.caveats,
    };
    let mut bytes = serde_json::to_vec_pretty(&document)?;
    bytes.push(b'\n');
    Ok(bytes)
}
