//! `medft plan`: for every run, whether it is done, can start, or what blocks it.

use super::Context;
use super::disk::Disk;
use super::estimate::{Basis, Estimate, Estimator, Machine};
use super::inventory::{Inventory, RunInputs};
use crate::cli::StudyArgs;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::manifest::{SetState, WeightsState};
use crate::results::{Listing, RunState, Store};
use crate::study::{Freeze, RunId, RunSpec, Study};
use crate::text as ui;
use anyhow::Result;
use serde::Serialize;

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "why")]
pub enum State {
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
}

/// A run with its id (where its inputs are known) and state.
pub struct Entry {
    pub spec: RunSpec,
    pub id: Option<RunId>,
    pub inputs: Option<RunInputs>,
    pub state: State,
}

/// Everything `run`, `report` and the gap notes need to know.
pub struct Plan {
    pub study: Study,
    pub inventory: Inventory,
    pub store: Store,
    pub listing: Listing,
    pub entries: Vec<Entry>,
}

impl Plan {
    /// Looks at inputs and records; changes nothing.
    pub fn make(c: &Context, study: Study, runs: Vec<RunSpec>) -> Result<Self> {
        let inventory = Inventory::take(c, study.scale, &runs)?;
        let store = Store::new(&c.global.results_dir, &study.name);
        let listing = store.all()?;
        let entries = runs
            .into_iter()
            .map(|spec| match inventory.of(&spec) {
                Err(e) => {
                    let id = recorded(&inventory, &listing, &spec);
                    Entry {
                        spec,
                        state: id
                            .as_ref()
                            .map_or_else(|| State::Blocked(e.to_string()), |_| State::Done),
                        id,
                        inputs: None,
                    }
                }
                Ok(inputs) => {
                    let id = RunId::new(&spec, &inputs.ids);
                    let state = match store.state(id.full()) {
                        RunState::Done => State::Done,
                        RunState::Partial { .. } => State::Resume,
                        RunState::Failed(why) => State::Failed(why),
                        RunState::Broken(why) => State::Stale(format!("its record is not usable: {why}")),
                        RunState::Absent => match listing.done.iter().find(|r| r.spec.run == spec) {
                            Some(r) if r.spec.data_sha256 != inputs.data_root => {
                                State::Stale("the data changed".into())
                            }
                            Some(r) if r.spec.weights != inputs.weights => State::Stale("the weights changed".into()),
                            Some(_) => State::Stale("the meaning of the protocol changed".into()),
                            None => State::Fresh,
                        },
                    };
                    Entry {
                        spec,
                        id: Some(id),
                        inputs: Some(inputs),
                        state,
                    }
                }
            })
            .collect();
        Ok(Self {
            study,
            inventory,
            store,
            listing,
            entries,
        })
    }

    /// How many runs are in each state, in a fixed order.
    pub fn counts(&self) -> [(&'static str, usize); 6] {
        let n = |f: fn(&State) -> bool| self.entries.iter().filter(|e| f(&e.state)).count();
        [
            ("done", n(|s| *s == State::Done)),
            ("resume", n(|s| *s == State::Resume)),
            ("fresh", n(|s| *s == State::Fresh)),
            ("stale", n(|s| matches!(s, State::Stale(_)))),
            ("failed", n(|s| matches!(s, State::Failed(_)))),
            ("blocked", n(|s| matches!(s, State::Blocked(_)))),
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

    /// The exit code where nothing else decides: 2 for broken inputs, 1 for missing ones or runs.
    pub fn code(&self, complete: bool) -> u8 {
        match (self.broken_inputs(), complete) {
            (true, _) => BROKEN,
            (false, false) => INCOMPLETE,
            (false, true) => OK,
        }
    }

    /// The table of what is missing, why, and how to get it; empty where nothing is.
    pub fn missing(&self) -> Option<String> {
        let mut rows = Vec::new();
        let used = |f: &dyn Fn(&RunSpec) -> bool| self.entries.iter().filter(|e| f(&e.spec)).count().to_string();
        for (set, r) in &self.inventory.sets {
            if let Err(e) = r.require() {
                rows.push(vec![
                    "data".into(),
                    set.clone(),
                    used(&|s| s.dataset == *set),
                    e.found,
                    first(&e.remedy),
                ]);
            }
        }
        for (word, r) in &self.inventory.weights {
            if let Err(e) = r.require() {
                let runs = if word == "deit-b" {
                    used(&|s| s.head == crate::study::HeadKind::Mha)
                } else {
                    used(&|s| s.backbone == *word)
                };
                rows.push(vec!["weights".into(), word.clone(), runs, e.found, first(&e.remedy)]);
            }
        }
        (!rows.is_empty()).then(|| ui::table(&["what", "name", "runs", "found", "how to get it"], &rows))
    }
}

fn first(s: &str) -> String {
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

#[derive(Serialize)]
struct Line<'a> {
    id: Option<&'a str>,
    #[serde(flatten)]
    state: &'a State,
    dataset: &'a str,
    backbone: &'a str,
    freeze: &'static str,
    head: &'static str,
    seed: u64,
    #[serde(flatten)]
    time: Estimate,
}

/// The time of each run that is still to be made. Runs that share a frozen backbone share its time.
fn times(c: &Context, plan: &Plan) -> Result<Vec<Estimate>> {
    let mut estimator = Estimator::new(c, &plan.inventory, &plan.listing)?;
    let open = |e: &Entry| e.state != State::Done;
    let times = plan.entries.iter().map(|e| {
        let together = |o: &&Entry| {
            open(o)
                && RunSpec {
                    head: e.spec.head,
                    ..o.spec.clone()
                } == e.spec
        };
        let heads = match e.spec.freeze {
            Freeze::Frozen => plan.entries.iter().filter(together).count().max(1),
            Freeze::Unfrozen => 1,
        };
        match open(e) {
            true => estimator.estimate(&e.spec, heads),
            false => Estimate {
                hours: Some(0.0),
                basis: Basis::Runs(1),
            },
        }
    });
    Ok(times.collect())
}

/// What the study still takes, and how far the figure is measured.
fn total(times: &[Estimate], machine: &Machine) -> String {
    let sum =
        |f: &dyn Fn(&Basis) -> bool| -> f64 { times.iter().filter(|t| f(&t.basis)).filter_map(|t| t.hours).sum() };
    let guessed = sum(&|b| matches!(b, Basis::Guess(_)));
    let measured = sum(&|b| matches!(b, Basis::Runs(_) | Basis::Bench));
    let unknown = times.iter().filter(|t| t.hours.is_none()).count();
    let mut text = format!("{} to go: {} by measurements", machine.hours(), ui::hours(measured));
    if guessed > 0.0 {
        text.push_str(&format!(
            ", {} by guess (other backbones' speed, scaled by multiply-adds)",
            ui::hours(guessed)
        ));
    }
    if unknown > 0 {
        text.push_str(&format!(", {unknown} runs unknown"));
    }
    text
}

/// Prints the plan; exit code 1 where something blocks a run.
pub fn run(c: &Context, a: &StudyArgs) -> Result<u8> {
    let (study, runs) = c.study(a)?;
    let plan = Plan::make(c, study, runs)?;
    let times = times(c, &plan)?;
    let machine = Machine::this(c);
    let lines: Vec<Line> = plan
        .entries
        .iter()
        .zip(&times)
        .map(|(e, time)| Line {
            time: time.clone(),
            id: e.id.as_ref().map(RunId::full),
            state: &e.state,
            dataset: &e.spec.dataset,
            backbone: &e.spec.backbone,
            freeze: e.spec.freeze.as_str(),
            head: e.spec.head.as_str(),
            seed: e.spec.seed,
        })
        .collect();
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        let rows: Vec<Vec<String>> = plan
            .entries
            .iter()
            .zip(&times)
            .map(|(e, time)| {
                let (word, why) = match &e.state {
                    State::Done => ("done", String::new()),
                    State::Resume => ("resume", String::new()),
                    State::Fresh => ("fresh", String::new()),
                    State::Stale(w) => ("stale", w.clone()),
                    State::Failed(w) => ("failed", w.clone()),
                    State::Blocked(w) => ("blocked", first(w)),
                };
                vec![
                    e.id.as_ref().map_or_else(|| "–".into(), |i| i.short().to_owned()),
                    e.spec.dataset.clone(),
                    e.spec.backbone.clone(),
                    e.spec.freeze.to_string(),
                    e.spec.head.to_string(),
                    e.spec.seed.to_string(),
                    word.to_owned(),
                    time.hours.map_or_else(|| "?".into(), ui::hours),
                    match e.state {
                        State::Done => String::new(),
                        _ => time.basis.to_string(),
                    },
                    why,
                ]
            })
            .collect();
        let head = [
            "run",
            "data set",
            "backbone",
            "backbone is",
            "head",
            "seed",
            "state",
            machine.hours(),
            "from",
            "why",
        ];
        println!("{}", ui::table(&head, &rows));
        println!("\n{}", plan.summary());
        println!("{}", total(&times, &machine));
        println!("{}", Disk::of(c, &plan)?.text(c));
        if let Some(t) = plan.missing() {
            println!("\n{t}");
        }
    }
    let blocked = plan.entries.iter().any(|e| matches!(e.state, State::Blocked(_)));
    Ok(plan.code(!blocked))
}
