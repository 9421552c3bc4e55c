//! For every run of a study, whether it is done, can start, or what blocks it.

use super::Context;
use super::inventory::{Inventory, Look, RunInputs, weight_names};
use crate::error::BadInput;
use crate::manifest::{SetState, WeightsState};
use crate::results::{Listing, RunState, Store};
use crate::study::{Freeze, RunId, RunSpec, Study};
use anyhow::Result;
use serde::Serialize;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum PlanState {
    Done,
    /// Started before; goes on from its checkpoint where it has one.
    Resume,
    Fresh,
    /// Done before with inputs or a protocol that have changed since; will run anew.
    Stale(String),
    /// Ended without a result.
    Failed(String),
    /// An input is missing or wrong.
    Blocked(String),
    /// A batch system has it in a task: which, and what it waits for. Only where somebody asks, see [`super::cluster::look`].
    Queued(String),
    /// A process is at it: where, and how far.
    Running(String),
}

/// A run with its id (where its inputs are known) and state.
pub struct PlanEntry {
    pub spec: RunSpec,
    pub id: Option<RunId>,
    pub inputs: Option<RunInputs>,
    pub state: PlanState,
}

impl PlanEntry {
    /// What `--only` takes for the group that the run is made in: a frozen backbone's heads and seeds share images and features,
    /// any other run is made alone.
    pub fn only(&self, study: &Study) -> String {
        let s = &self.spec;
        let swept = study
            .sweep
            .iter()
            .map(|w| format!(",{}={}", w.field, w.name(&s.protocol)));
        let group = format!(
            "dataset={},split={},backbone={},freeze={}",
            s.dataset,
            s.split(),
            s.backbone,
            s.freeze
        );
        let group: String = std::iter::once(group).chain(swept).collect();
        match s.freeze {
            Freeze::Frozen => group,
            Freeze::Unfrozen => format!("{group},head={},seed={}", s.head, s.seed),
        }
    }
}

/// Everything `run`, `report` and the gap notes need to know.
pub struct Plan {
    pub study: Study,
    pub inventory: Inventory,
    pub store: Store,
    pub listing: Listing,
    pub entries: Vec<PlanEntry>,
}

impl Plan {
    /// Looks at inputs and records; changes nothing.
    ///
    /// # Errors
    /// Where the inputs cannot be looked at or the records not be listed.
    pub fn make(c: &Context, study: Study, runs: Vec<RunSpec>) -> Result<Self> {
        let inventory = Inventory::take(c, study.scale, &runs, Look::Whole)?;
        Self::of(c, study, runs, inventory)
    }

    /// As [`Self::make`] for a task of an array, which makes a few runs of many: the records of all others, which tell stale runs
    /// from fresh ones and hours by experience, are not read. With every task they would be, and a shared disk is asked n² times.
    ///
    /// # Errors
    /// As [`Self::make`].
    pub fn of_task(c: &Context, study: Study, runs: Vec<RunSpec>) -> Result<Self> {
        let inventory = Inventory::take(c, study.scale, &runs, Look::Listed)?;
        let store = Store::new(&c.global.results_dir, &study.name);
        // What an input is missing of may be done all the same.
        let blocked = runs.iter().any(|r| inventory.of(r).is_err());
        let listing = if blocked { store.all()? } else { Listing::default() };
        Ok(Self::assemble(study, runs, inventory, store, listing))
    }

    /// As [`Self::make`], from inputs that were looked at.
    pub(super) fn of(c: &Context, study: Study, runs: Vec<RunSpec>, inventory: Inventory) -> Result<Self> {
        let store = Store::new(&c.global.results_dir, &study.name);
        let listing = store.all()?;
        Ok(Self::assemble(study, runs, inventory, store, listing))
    }

    fn assemble(study: Study, runs: Vec<RunSpec>, inventory: Inventory, store: Store, listing: Listing) -> Self {
        let entries = runs
            .into_iter()
            .map(|spec| match inventory.of(&spec) {
                Err(e) => {
                    let id = recorded(&inventory, &listing, &spec);
                    PlanEntry {
                        spec,
                        state: id
                            .as_ref()
                            .map_or_else(|| PlanState::Blocked(e.to_string()), |_| PlanState::Done),
                        id,
                        inputs: None,
                    }
                }
                Ok(inputs) => {
                    let id = RunId::new(&spec, &inputs.ids);
                    let state = match store.state(id.full()) {
                        RunState::Done => PlanState::Done,
                        RunState::Partial { .. } => PlanState::Resume,
                        RunState::Failed(why) => PlanState::Failed(why),
                        RunState::Broken(why) => PlanState::Stale(format!("its record is not usable: {why}")),
                        RunState::Absent => match listing.done.iter().find(|r| r.spec.run == spec) {
                            Some(r) if r.spec.data_sha256 != inputs.data_root => {
                                PlanState::Stale("the data changed".into())
                            }
                            Some(r) if r.spec.weights != inputs.weights => {
                                PlanState::Stale("the weights changed".into())
                            }
                            Some(_) => PlanState::Stale("the meaning of the protocol changed".into()),
                            None => PlanState::Fresh,
                        },
                    };
                    PlanEntry {
                        spec,
                        id: Some(id),
                        inputs: Some(inputs),
                        state,
                    }
                }
            })
            .collect();
        Self {
            study,
            inventory,
            store,
            listing,
            entries,
        }
    }

    /// How many runs are in each state, in a fixed order.
    pub fn counts(&self) -> [(&'static str, usize); 8] {
        let n = |f: fn(&PlanState) -> bool| self.entries.iter().filter(|e| f(&e.state)).count();
        [
            ("done", n(|s| *s == PlanState::Done)),
            ("resume", n(|s| *s == PlanState::Resume)),
            ("fresh", n(|s| *s == PlanState::Fresh)),
            ("stale", n(|s| matches!(s, PlanState::Stale(_)))),
            ("failed", n(|s| matches!(s, PlanState::Failed(_)))),
            ("blocked", n(|s| matches!(s, PlanState::Blocked(_)))),
            ("queued", n(|s| matches!(s, PlanState::Queued(_)))),
            ("running", n(|s| matches!(s, PlanState::Running(_)))),
        ]
    }

    /// One line with the counts.
    pub fn summary(&self) -> String {
        let counts = self.counts();
        let parts: Vec<String> = counts
            .iter()
            .filter(|c| c.1 > 0)
            .map(|(w, n)| format!("{n} {w}"))
            .collect();
        format!("{}: {} runs: {}", self.study.name, self.entries.len(), parts.join(", "))
    }

    /// Whether an input is there but is not what it should be.
    pub fn broken_inputs(&self) -> bool {
        self.inventory.sets.values().any(|s| s.state == SetState::Differs)
            || self
                .inventory
                .weights
                .values()
                .any(|w| w.state == WeightsState::WrongHash)
    }

    /// What is missing or wrong, why, and how to get it; empty where nothing is.
    pub fn missing(&self) -> Vec<Missing> {
        let used = |f: &dyn Fn(&RunSpec) -> bool| self.entries.iter().filter(|e| f(&e.spec)).count();
        let row = |what, name: &str, runs, e: BadInput| Missing {
            what,
            name: name.to_owned(),
            runs,
            found: e.found,
            remedy: one_line(&e.remedy),
        };
        let mut out = Vec::new();
        for (set, r) in &self.inventory.sets {
            if let Err(e) = r.require() {
                out.push(row("data", set, used(&|s| s.dataset == *set), e));
            }
        }
        for (name, r) in &self.inventory.weights {
            if let Err(e) = r.require() {
                let reads = |s: &RunSpec| weight_names(s).iter().any(|(_, n)| n == name);
                out.push(row("weights", name, used(&reads), e));
            }
        }
        out
    }
}

/// An input that is missing or wrong.
#[derive(Serialize)]
pub struct Missing {
    /// `data` or `weights`.
    pub what: &'static str,
    pub name: String,
    /// Runs that read it.
    pub runs: usize,
    pub found: String,
    /// How to get it.
    pub remedy: String,
}

/// A text without its line breaks.
pub fn one_line(s: &str) -> String {
    s.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The finished run of a spec whose inputs are not here (any more): a results folder is worth reading without the data. Not
/// where an input is here and is another one, and not where two runs could be meant.
fn recorded(inventory: &Inventory, listing: &Listing, spec: &RunSpec) -> Option<RunId> {
    if inventory.differs(spec) {
        return None;
    }
    let mut found = listing.done.iter().filter(|r| r.spec.run == *spec);
    let one = found.next().filter(|_| found.next().is_none())?;
    one.id().parse().ok()
}
