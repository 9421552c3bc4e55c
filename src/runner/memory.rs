//! Whether a run fits into a device's memory: as it is, with its activations recomputed, or not at all.

use super::Context;
use super::plan::{Plan, State};
use crate::data::{DatasetInfo, registry};
use crate::device::{CPU, Opened};
use crate::model::activations::{Peak, peak};
use crate::study::{RunSpec, Scale};
use anyhow::anyhow;

/// The part of a device's memory that a run may be estimated to fill: estimates are off by up to 15 %, and the driver, libraries and
/// kernels take some.
const USABLE: f64 = 0.85;

fn of(spec: &RunSpec, info: &DatasetInfo) -> Option<Peak> {
    match spec.scale {
        Scale::Tiny => None,
        Scale::Full => peak(spec, info.channels, info.task.outputs()).ok(),
    }
}

fn fits(bytes: f64, memory: u64) -> bool {
    bytes <= USABLE * memory as f64
}

/// Bytes as people write them.
fn gb(bytes: f64) -> String {
    format!("{:.0} GB", (bytes / 1e9).ceil())
}

/// Whether runs that are made together need their activations recomputed on a device with `memory` bytes (that are known).
pub(super) fn recomputes(specs: &[&RunSpec], info: &DatasetInfo, memory: Option<u64>) -> bool {
    let Some(memory) = memory else { return false };
    let sum: f64 = specs.iter().filter_map(|s| of(s, info)).map(|p| p.kept).sum();
    !fits(sum, memory)
}

/// What a run says that the device's memory was too small for, also with its activations recomputed.
pub(super) fn ran_out(spec: &RunSpec, info: &DatasetInfo, device: &Opened, e: &anyhow::Error) -> anyhow::Error {
    let has = device
        .memory
        .map_or_else(String::new, |m| format!(", which has {}", gb(m as f64)));
    let needs = of(spec, info).map_or_else(String::new, |p| {
        format!("; by estimate it needs {}", gb(p.recomputed / USABLE))
    });
    anyhow!(
        "out of memory on {}{has}, also with activations recomputed{needs} ({e:#}). Its checkpoint is kept: end other programs on the device, \
         or run the same command on a larger one; a smaller `batch` is another study",
        device.name
    )
}

/// The runs that [`look`] has blocked, by their reasons.
pub fn blocked(plan: &Plan) -> Vec<(Vec<String>, &str)> {
    let mut out: Vec<(Vec<String>, &str)> = Vec::new();
    for e in &plan.entries {
        if let State::Blocked(why) = &e.state
            && e.inputs.is_some()
        {
            match out.iter_mut().find(|o| o.1 == why) {
                Some(o) => o.0.push(e.spec.to_string()),
                None => out.push((vec![e.spec.to_string()], why)),
            }
        }
    }
    out
}

/// Blocks the runs of a plan that the device is too small for, whatever is done.
pub fn look(c: &Context, plan: &mut Plan) {
    let Some(memory) = c.devices.memory(&c.global.device) else {
        return;
    };
    let name = c.devices.name(&c.global.device);
    for e in &mut plan.entries {
        if !matches!(
            e.state,
            State::Fresh | State::Resume | State::Failed(_) | State::Stale(_)
        ) {
            continue;
        }
        let Ok(source) = registry::find(&e.spec.dataset) else {
            continue;
        };
        let Some(peak) = of(&e.spec, &source.info(&e.spec.protocol)) else {
            continue;
        };
        if !fits(peak.recomputed, memory) {
            let what = if name == CPU {
                "this machine".to_owned()
            } else {
                name.clone()
            };
            e.state = State::Blocked(format!(
                "needs about {} ({} with activations kept); {what} has {}",
                gb(peak.recomputed / USABLE),
                gb(peak.kept / USABLE),
                gb(memory as f64)
            ));
        }
    }
}
