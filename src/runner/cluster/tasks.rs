//! From the runs that are missing to the tasks of an array: groups of runs that share a backbone's features, each as the filters of
//! `--only`, and several of them together up to a number of hours.

use crate::runner::estimate::Estimate;
use crate::runner::plan::{Plan, PlanEntry, PlanState};
use crate::study::Freeze;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What one task of an array makes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArrayTask {
    /// What `--only` takes, one call of `medft run` each.
    pub only: Vec<String>,
    /// Ids of the runs.
    pub runs: Vec<String>,
    /// Expected hours; `None` where nothing was measured.
    pub hours: Option<f64>,
}

/// A task for each group of runs that `wanted` wants, in the plan's order.
pub(super) fn groups(plan: &Plan, times: &[Estimate], wanted: &dyn Fn(&PlanEntry) -> bool) -> Vec<ArrayTask> {
    let mut names: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, e) in plan.entries.iter().enumerate() {
        if e.id.is_some() && wanted(e) {
            let name = e.only(&plan.study);
            if !groups.contains_key(&name) {
                names.push(name.clone());
            }
            groups.entry(name).or_default().push(i);
        }
    }
    let task = |name: String| {
        let members = &groups[&name];
        let entries = || members.iter().map(|i| &plan.entries[*i]);
        ArrayTask {
            only: filters(plan, &name, &entries().collect::<Vec<_>>()),
            runs: entries()
                .filter_map(|e| Some(e.id.as_ref()?.full().to_owned()))
                .collect(),
            hours: members.iter().map(|i| times[*i].hours).sum(),
        }
    };
    names.into_iter().map(task).collect()
}

/// What `--only` takes for these runs of a group and for no run that is made elsewhere: the group's name where every other run of
/// it is done, else heads and seeds too.
fn filters(plan: &Plan, name: &str, entries: &[&PlanEntry]) -> Vec<String> {
    let of_group = |e: &&PlanEntry| e.only(&plan.study) == name;
    let all = plan
        .entries
        .iter()
        .filter(of_group)
        .filter(|e| e.state != PlanState::Done)
        .count();
    let matrix = plan.study.heads.len() * plan.study.seeds.len();
    let seen = plan.entries.iter().filter(of_group).count();
    let whole = entries.len() == all && seen == matrix;
    if whole || entries.iter().any(|e| e.spec.freeze == Freeze::Unfrozen) {
        return vec![name.to_owned()];
    }
    let mut seeds: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for e in entries {
        seeds.entry(e.spec.head.as_str()).or_default().insert(e.spec.seed);
    }
    let mut heads: BTreeMap<BTreeSet<u64>, Vec<&str>> = BTreeMap::new();
    for (head, seeds) in seeds {
        heads.entry(seeds).or_default().push(head);
    }
    let line = |(seeds, heads): (BTreeSet<u64>, Vec<&str>)| {
        let heads: String = heads.iter().map(|h| format!(",head={h}")).collect();
        let seeds: String = seeds.iter().map(|s| format!(",seed={s}")).collect();
        format!("{name}{heads}{seeds}")
    };
    heads.into_iter().map(line).collect()
}

/// Puts groups together, each into the first task that it fits into, up to `most` hours; a group whose hours nobody knows stays
/// alone. The longest come first, so that none is begun when the others are about to end.
pub(super) fn pack(groups: Vec<ArrayTask>, most: Option<f64>) -> Vec<ArrayTask> {
    let mut tasks: Vec<ArrayTask> = Vec::new();
    for g in groups {
        let fits = |t: &&mut ArrayTask| {
            let together = t.hours.zip(g.hours).map(|(a, b)| a + b);
            together.zip(most).is_some_and(|(hours, most)| hours <= most)
        };
        match tasks.iter_mut().find(fits) {
            Some(t) => {
                t.hours = t.hours.zip(g.hours).map(|(a, b)| a + b);
                t.only.extend(g.only);
                t.runs.extend(g.runs);
            }
            None => tasks.push(g),
        }
    }
    let length = |t: &ArrayTask| t.hours.unwrap_or(f64::INFINITY);
    tasks.sort_by(|a, b| length(b).total_cmp(&length(a)).then(b.runs.len().cmp(&a.runs.len())));
    tasks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, hours: Option<f64>) -> ArrayTask {
        ArrayTask {
            only: vec![name.into()],
            runs: vec![format!("{name}-run")],
            hours,
        }
    }

    #[test]
    fn groups_are_packed_by_hours_and_unknown_ones_stay_alone() {
        let all = || {
            [
                ("a", Some(3.0)),
                ("b", None),
                ("c", Some(2.0)),
                ("d", Some(1.0)),
                ("e", Some(9.0)),
                ("f", Some(2.0)),
                ("g", None),
            ]
            .map(|(n, h)| group(n, h))
            .to_vec()
        };
        let names = |tasks: Vec<ArrayTask>| tasks.into_iter().map(|t| t.only.concat()).collect::<Vec<_>>();
        assert_eq!(names(pack(all(), Some(4.0))), ["b", "g", "e", "ad", "cf"]);
        assert_eq!(names(pack(all(), None)), ["b", "g", "e", "a", "c", "f", "d"]);
        let packed = pack(all(), Some(4.0));
        assert_eq!(packed[3].hours, Some(4.0));
        assert_eq!(packed[3].runs, ["a-run", "d-run"]);
    }
}
