//! The best cell of each data set.

use super::plan::Plan;
use crate::data::registry;
use crate::eval::metric_title;
use crate::model;
use crate::train::evaluate::direction;
use std::collections::{BTreeMap, BTreeSet};

/// The best cell of each data set, its mean over seeds: a line each.
pub fn best(plan: &Plan) -> Vec<String> {
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
