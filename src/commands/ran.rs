//! What became of the runs that `run` and `reproduce` made.

use crate::runner::plan::{Missing, Plan};
use crate::runner::schedule::Tally;
use crate::tell;
use crate::text::{clock, command, count};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What became of the runs, for machines.
#[derive(Serialize)]
pub(super) struct Ran<'a> {
    pub study: &'a str,
    pub planned: usize,
    /// How many runs were in each state before.
    pub states: BTreeMap<&'static str, usize>,
    /// How many were to be made now.
    pub wanted: usize,
    pub done: usize,
    pub failed: Vec<Failed<'a>>,
    /// Left to other processes.
    pub claimed: &'a [String],
    /// Finished by other processes meanwhile.
    pub finished: usize,
    pub lost_devices: &'a [String],
    pub interrupted: bool,
    pub seconds: f64,
    pub missing: Vec<Missing>,
}

#[derive(Serialize)]
pub(super) struct Failed<'a> {
    pub run: &'a str,
    pub why: &'a str,
}

impl<'a> Ran<'a> {
    pub(super) fn new(plan: &'a Plan, states: [(&'static str, usize); 8], tally: &'a Tally, time: Duration) -> Self {
        Self {
            study: &plan.study.name,
            planned: plan.entries.len(),
            states: states.into_iter().collect(),
            wanted: tally.wanted,
            done: tally.done,
            failed: tally.failed.iter().map(|(run, why)| Failed { run, why }).collect(),
            claimed: &tally.claimed,
            finished: tally.finished,
            lost_devices: &tally.lost,
            interrupted: tally.interrupted,
            seconds: time.as_secs_f64(),
            missing: plan.missing(),
        }
    }
}

/// What was made, in a line.
pub(super) fn done(tally: &Tally, planned: usize, time: Duration) -> String {
    let before = planned - tally.wanted.min(planned);
    let mut line = format!(
        "done     {} in {}, {} failed",
        count(tally.done, "run"),
        clock(time),
        tally.failed.len()
    );
    let others = tally.finished + tally.claimed.len();
    for (n, what) in [(others, "with another process"), (before, "done before or blocked")] {
        if n > 0 {
            line.push_str(&format!(", {n} {what}"));
        }
    }
    line
}

/// What did not get a result and why; after a signal, how to go on.
pub(super) fn say(tally: &Tally) {
    for paragraph in tally.summary() {
        tell!("{paragraph}");
    }
    if tally.interrupted {
        let args: Vec<String> = std::env::args().collect();
        let ended = tally.done + tally.finished + tally.failed.len();
        tell!(
            "stopped at {ended} of {}; go on with `{}`",
            tally.wanted,
            command(&args)
        );
    }
}
