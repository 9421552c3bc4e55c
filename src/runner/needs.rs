//! What runs need beside time: memory, and weights that are not here yet.

use super::Context;
use super::inventory::weight_names;
use super::memory;
use super::plan::{Plan, PlanEntry};

/// What a training step of the largest of some runs holds at its peak on a device, in GB; `None` where a model cannot be built.
pub fn peak<'a>(runs: impl IntoIterator<Item = &'a PlanEntry>, gpu: bool) -> Option<f64> {
    // Seeds have the same model.
    let mut seen = Vec::new();
    let mut most = None;
    for e in runs {
        let kind = (e.spec.freeze, e.spec.head);
        if !seen.contains(&kind) {
            seen.push(kind);
            let gb = memory::peak(&e.spec, gpu)?.kept / 1e9;
            most = Some(f64::max(most.unwrap_or(0.0), gb));
        }
    }
    most
}

/// Bytes of the weights that some runs read and that are not here yet; `None` where a size is not known.
pub fn download<'a>(c: &Context, plan: &Plan, runs: impl IntoIterator<Item = &'a PlanEntry>) -> Option<u64> {
    let mut names: Vec<String> = runs
        .into_iter()
        .flat_map(|e| weight_names(&e.spec))
        .map(|w| w.1)
        .collect();
    names.sort();
    names.dedup();
    names.retain(|n| plan.inventory.weights.get(n).is_some_and(|w| w.require().is_err()));
    let size = |n: &String| c.catalogue.pins(n).ok()?.first()?.size;
    names.iter().map(size).sum()
}
