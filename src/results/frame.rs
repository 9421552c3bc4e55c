//! Records as a polars frame: all that the report knows of a run.

use super::types::{RunRecord, WhichWeights};
use anyhow::Result;
use polars::prelude::*;
use std::collections::BTreeMap;

/// One row a run, in the order given.
///
/// Columns: `id`, `dataset`, `backbone`, `family`, `scale`, `freeze`, `head`, `preset`, `split`, `seed`, `metric`, `value` (null where the
/// metric is not a number), `best` and `last` (the same metric under either weights), `headline`, `images`, `params` (of the backbone), `trainable`, `total`, `device`, `hours`, `medft`,
/// `commit` and `dirty` (null where the binary did not know them).
///
/// # Errors
/// Only when polars refuses a column.
pub fn frame(runs: &[RunRecord]) -> Result<DataFrame> {
    let text = |name: &str, f: &dyn Fn(&RunRecord) -> String| {
        Column::new(name.into(), runs.iter().map(f).collect::<Vec<String>>())
    };
    let count =
        |name: &str, f: &dyn Fn(&RunRecord) -> u64| Column::new(name.into(), runs.iter().map(f).collect::<Vec<u64>>());
    let under = |name: &str, f: &dyn Fn(&RunRecord) -> &BTreeMap<String, f64>| {
        let value = |r: &RunRecord| f(r).get(&r.metrics.target).copied().filter(|v| v.is_finite());
        Column::new(name.into(), runs.iter().map(value).collect::<Vec<Option<f64>>>())
    };
    let preset = |r: &RunRecord| match r.spec.run.protocol.preset {
        crate::spec::protocol::Preset::Faithful => "faithful",
        crate::spec::protocol::Preset::Corrected => "corrected",
    };
    let headline = |r: &RunRecord| match r.metrics.headline {
        WhichWeights::Best => "best",
        WhichWeights::Last => "last",
    };
    let columns = vec![
        text("id", &|r| r.spec.id.clone()),
        text("dataset", &|r| r.spec.run.dataset.clone()),
        text("backbone", &|r| r.spec.run.backbone.clone()),
        text("family", &|r| r.metrics.model.family.clone()),
        text("scale", &|r| r.spec.run.scale.to_string()),
        text("freeze", &|r| r.spec.run.freeze.to_string()),
        text("head", &|r| r.spec.run.head.to_string()),
        text("preset", &|r| preset(r).to_owned()),
        text("split", &|r| r.spec.run.split().to_owned()),
        count("seed", &|r| r.spec.run.seed),
        text("metric", &|r| r.metrics.target.clone()),
        Column::new(
            "value".into(),
            runs.iter()
                .map(|r| Some(r.metrics.value).filter(|v| v.is_finite()))
                .collect::<Vec<Option<f64>>>(),
        ),
        under("best", &|r| &r.metrics.best),
        under("last", &|r| &r.metrics.last),
        text("headline", &|r| headline(r).to_owned()),
        count("images", &|r| r.metrics.predictions.images),
        count("params", &|r| r.metrics.model.backbone_params),
        count("trainable", &|r| r.metrics.model.trainable_params),
        count("total", &|r| r.metrics.model.total_params),
        text("device", &|r| r.provenance.device.clone()),
        Column::new(
            "hours".into(),
            runs.iter()
                .map(|r| r.provenance.seconds() / 3600.0)
                .collect::<Vec<f64>>(),
        ),
        text("medft", &|r| r.provenance.medft.clone()),
        Column::new(
            "commit".into(),
            runs.iter()
                .map(|r| r.provenance.commit.clone())
                .collect::<Vec<Option<String>>>(),
        ),
        Column::new(
            "dirty".into(),
            runs.iter().map(|r| r.provenance.dirty).collect::<Vec<Option<bool>>>(),
        ),
    ];
    Ok(DataFrame::new(runs.len(), columns)?)
}
