//! The page a reader opens first: what was planned, what is there, what is missing and why.

use super::cells::Cells;
use super::compare::VerdictCounts;
use super::findings::Findings;
use super::input::{PlannedState, ReportInput};
use super::text::fixed;
use anyhow::Result;
use polars::prelude::*;
use serde::Serialize;

/// What `summary.md.tera` prints.
#[derive(Debug, Serialize)]
pub(super) struct Page<'a> {
    warning: Option<&'static str>,
    partial: Option<String>,
    title: &'a str,
    description: &'a str,
    expected: &'a str,
    protocol: String,
    planned: usize,
    done: usize,
    datasets: Vec<DatasetLine>,
    gaps: Vec<GapLine>,
    #[serde(flatten)]
    makers: Makers,
    compared: usize,
    published: usize,
    counts: VerdictCounts,
    /// Which hypothesis fits best, and the verdict of every data set under it.
    sentences: Vec<String>,
    sets: Vec<SetLine>,
    claims: Vec<ClaimLine>,
    /// The Markdown tables as they are.
    tables: &'a [String],
}

#[derive(Debug, Serialize)]
struct SetLine {
    title: String,
    hypothesis: String,
    values: usize,
    verdict: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct ClaimLine {
    id: String,
    text: String,
    verdict: &'static str,
    why: String,
}

#[derive(Debug, Serialize)]
struct DatasetLine {
    name: String,
    title: String,
    metric: String,
    planned: usize,
    done: usize,
}

#[derive(Debug, Serialize)]
struct GapLine {
    reason: String,
    runs: usize,
}

/// What computed the planned runs, and which builds of medft.
#[derive(Debug, Default, Serialize)]
pub(super) struct Makers {
    devices: Vec<DeviceLine>,
    builds: Vec<BuildLine>,
}

#[derive(Debug, Serialize)]
struct DeviceLine {
    device: String,
    runs: u32,
    hours: String,
}

#[derive(Debug, Serialize)]
struct BuildLine {
    medft: String,
    commit: String,
    runs: u32,
}

pub(super) fn page<'a>(
    input: &'a ReportInput,
    cells: &Cells,
    (comparisons, paper, claims): Findings,
    tables: &'a [String],
) -> Result<Page<'a>> {
    let datasets: Vec<DatasetLine> = input
        .datasets
        .iter()
        .map(|d| {
            let of = || cells.iter().filter(|(k, _)| k.0 == d.name).map(|(_, s)| s);
            DatasetLine {
                name: d.name.clone(),
                title: d.title.clone(),
                metric: d.metric_title.clone(),
                planned: of().map(|s| s.planned).sum(),
                done: of().map(super::Score::n).sum(),
            }
        })
        .collect();
    let mut gaps = Vec::<GapLine>::new();
    for (reason, runs) in cells.iter().flat_map(|(_, s)| s.reasons()) {
        match gaps.iter_mut().find(|g| g.reason == reason) {
            Some(g) => g.runs += runs,
            None => gaps.push(GapLine {
                reason: reason.to_owned(),
                runs,
            }),
        }
    }
    gaps.sort_by(|a, b| b.runs.cmp(&a.runs).then_with(|| a.reason.cmp(&b.reason)));
    Ok(Page {
        warning: input.warning(),
        partial: input.partial(datasets.iter().map(|d| d.done).sum()),
        title: &input.title,
        description: &input.description,
        expected: &input.expected,
        protocol: input.protocol.sentence(),
        planned: input.planned.len(),
        done: datasets.iter().map(|d| d.done).sum(),
        datasets,
        gaps,
        makers: makers(input)?,
        compared: comparisons.len(),
        published: input.published.len(),
        counts: VerdictCounts::of(comparisons),
        sentences: paper.sentences.clone(),
        sets: paper
            .best()
            .map(|s| SetLine {
                title: input
                    .dataset(&s.dataset)
                    .map_or_else(|| s.dataset.clone(), |d| d.title.clone()),
                hypothesis: s.hypothesis.title(),
                values: s.rows.len(),
                verdict: s.verdict.name(),
                why: s.verdict.why().to_owned(),
            })
            .collect(),
        claims: claims
            .iter()
            .map(|j| ClaimLine {
                id: j.claim.id.clone(),
                text: j.claim.text.clone(),
                verdict: j.verdict.name(),
                why: j.verdict.why().to_owned(),
            })
            .collect(),
        tables,
    })
}

/// Asks the frame who made the planned runs.
///
/// # Errors
/// When the frame lacks a column.
pub(super) fn makers(input: &ReportInput) -> Result<Makers> {
    let ids: Vec<&str> = input
        .planned
        .iter()
        .filter_map(|p| match &p.state {
            PlannedState::Done(id) => Some(id.as_str()),
            PlannedState::Gap(_) => None,
        })
        .collect();
    let plan = DataFrame::new(ids.len(), vec![Column::new("id".into(), ids)])?.lazy();
    let runs = plan.inner_join(input.runs.clone().lazy(), col("id"), col("id"));
    // Sorted first, so that the sum of hours does not depend on the order of the plan.
    let devices = runs
        .clone()
        .sort(["device", "id"], SortMultipleOptions::default())
        .select([col("device"), col("hours")])
        .collect()?;
    let mut lines = Vec::<(String, u32, f64)>::new();
    for (device, hours) in devices
        .column("device")?
        .str()?
        .iter()
        .zip(devices.column("hours")?.f64()?.iter())
    {
        let (device, hours) = (device.unwrap_or("unknown"), hours.unwrap_or(0.0));
        match lines.last_mut().filter(|l| l.0 == device) {
            Some(l) => {
                l.1 += 1;
                l.2 += hours;
            }
            None => lines.push((device.to_owned(), 1, hours)),
        }
    }
    let builds = runs
        .group_by([col("medft"), col("commit"), col("dirty")])
        .agg([col("id").count().alias("runs")])
        .sort(["medft", "commit", "dirty"], SortMultipleOptions::default())
        .collect()?;
    let medft = builds.column("medft")?.str()?;
    let (commit, dirty) = (builds.column("commit")?.str()?, builds.column("dirty")?.bool()?);
    let runs = builds.column("runs")?.u32()?;
    let builds = (0..builds.height())
        .map(|i| BuildLine {
            medft: medft.get(i).unwrap_or("unknown").to_owned(),
            commit: match (commit.get(i), dirty.get(i)) {
                (Some(c), Some(true)) => format!("{c} with uncommitted changes"),
                (Some(c), _) => c.to_owned(),
                (None, _) => "unknown".to_owned(),
            },
            runs: runs.get(i).unwrap_or(0),
        })
        .collect();
    let devices = lines
        .into_iter()
        .map(|(device, runs, hours)| DeviceLine {
            device,
            runs,
            hours: fixed(hours, 2),
        })
        .collect();
    Ok(Makers { devices, builds })
}
