//! Whether a run fits into a device's memory: as it is, with its activations recomputed, or not at all.

use super::Context;
use super::plan::{Plan, PlanState};
use crate::data::{DatasetInfo, registry};
use crate::device::{CPU, Opened};
use crate::model::activations::{self, Peak};
use crate::study::{RunSpec, Scale};
use anyhow::anyhow;

/// The part of a device's memory that a run may be estimated to fill: estimates are off by up to 15 %, and the driver, libraries and
/// kernels take some.
const USABLE: f64 = 0.85;

/// The peaks of a run of any scale on the CPU or on a GPU; `None` where its model cannot be built.
pub fn peak(spec: &RunSpec, gpu: bool) -> Option<Peak> {
    let info = registry::find(&spec.dataset).ok()?.info(&spec.protocol);
    estimated(spec, &info, gpu)
}

/// The same of models whose size matters.
fn of(spec: &RunSpec, info: &DatasetInfo, gpu: bool) -> Option<Peak> {
    match spec.scale {
        Scale::Tiny => None,
        Scale::Full => estimated(spec, info, gpu),
    }
}

fn estimated(spec: &RunSpec, info: &DatasetInfo, gpu: bool) -> Option<Peak> {
    let peak = activations::peak(spec, info.channels, info.task.outputs()).ok()?;
    Some(if gpu { peak.on_a_gpu(spec.precision()) } else { peak })
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
    let sum: f64 = specs.iter().filter_map(|s| of(s, info, true)).map(|p| p.kept).sum();
    !fits(sum, memory)
}

/// What a run says that the device's memory was too small for, also with its activations recomputed.
pub(super) fn ran_out(spec: &RunSpec, info: &DatasetInfo, device: &Opened, e: &anyhow::Error) -> anyhow::Error {
    let has = device
        .memory
        .map_or_else(String::new, |m| format!(", which has {}", gb(m as f64)));
    let needs = of(spec, info, device.memory.is_some()).map_or_else(String::new, |p| {
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
        if let PlanState::Blocked(why) = &e.state
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

/// Blocks the runs of a plan that the device is too small for, whatever is done; `elsewhere` names a GPU that is not here, which may
/// say its memory in its name.
pub fn look(c: &Context, plan: &mut Plan, elsewhere: Option<&str>) {
    let (name, memory) = match elsewhere {
        Some(name) => (name.to_owned(), bytes_in_name(name)),
        None => (c.devices.name(&c.global.device), c.devices.memory(&c.global.device)),
    };
    let Some(memory) = memory else { return };
    // Seeds follow one another and have the same model.
    let mut last: Option<(RunSpec, Option<Peak>)> = None;
    for e in &mut plan.entries {
        if !matches!(
            e.state,
            PlanState::Fresh | PlanState::Resume | PlanState::Failed(_) | PlanState::Stale(_)
        ) {
            continue;
        }
        let any = RunSpec {
            seed: 0,
            ..e.spec.clone()
        };
        let (_, peak) = match last.take().filter(|l| l.0 == any) {
            Some(known) => last.insert(known),
            None => {
                let info = registry::find(&any.dataset).map(|s| s.info(&any.protocol));
                let peak = info.ok().and_then(|info| of(&any, &info, name != CPU));
                last.insert((any, peak))
            }
        };
        let Some(peak) = *peak else { continue };
        if !fits(peak.recomputed, memory) {
            let what = if name == CPU {
                "this machine".to_owned()
            } else {
                name.clone()
            };
            e.state = PlanState::Blocked(format!(
                "needs about {} ({} with activations kept); {what} has {}",
                gb(peak.recomputed / USABLE),
                gb(peak.kept / USABLE),
                gb(memory as f64)
            ));
        }
    }
}

/// `NVIDIA H100 80GB HBM3` has 80 GB.
fn bytes_in_name(name: &str) -> Option<u64> {
    let before = name.split("GB").next().filter(|b| b.len() < name.len())?;
    let digits: String = before
        .trim_end()
        .chars()
        .rev()
        .take_while(char::is_ascii_digit)
        .collect();
    let gb: u64 = digits.chars().rev().collect::<String>().parse().ok()?;
    Some(gb << 30)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Freeze, HeadKind, Protocol};

    #[test]
    fn a_name_says_its_memory() {
        assert_eq!(bytes_in_name("NVIDIA H100 80GB HBM3"), Some(80 << 30));
        assert_eq!(bytes_in_name("NVIDIA A100-SXM4-40GB"), Some(40 << 30));
        for unknown in ["NVIDIA L4", "GB", "NVIDIA GB200"] {
            assert_eq!(bytes_in_name(unknown), None, "{unknown}");
        }
    }

    /// The largest model at the paper's batch: too large for a small card whatever is done, recomputed on a middle one, plain on a
    /// large one.
    #[test]
    fn what_does_not_fit_is_recomputed_or_blocked() {
        let spec = RunSpec {
            dataset: "ddsm".into(),
            backbone: "mae-h".into(),
            scale: Scale::Full,
            freeze: Freeze::Unfrozen,
            head: HeadKind::Mha,
            seed: 0,
            protocol: Protocol::faithful(),
        };
        let info = registry::find("ddsm").unwrap().info(&spec.protocol);
        let p = of(&spec, &info, true).unwrap();
        assert!(p.parameters < p.recomputed && p.recomputed < p.kept, "{p:?}");
        let card = |bytes: f64| (bytes / USABLE) as u64;
        let (between, large) = (card((p.recomputed + p.kept) / 2.0), card(p.kept * 1.01));
        assert!(recomputes(&[&spec], &info, Some(between)) && !recomputes(&[&spec], &info, Some(large)));
        assert!(!fits(p.recomputed, card(p.recomputed * 0.9)) && fits(p.recomputed, between));
        // The CPU is never asked: its memory is the machine's, and a plan has looked at that.
        assert!(!recomputes(&[&spec], &info, None));
    }
}
