//! What opens behind a number: the cell's runs, where they were made and with what, what is missing, how to make them again.

use crate::report::cards::facts;
use crate::report::cell_details::{CellDetails, Gap, Run, gaps};
use crate::report::compare::Comparison;
use crate::report::text::{PLACES, fixed, signed, thousands};
use serde::Serialize;

/// The details of a cell as the page prints them.
#[derive(Debug, Serialize)]
pub(crate) struct Cell<'a> {
    key: &'a str,
    title: &'a str,
    score: Option<String>,
    /// Over test images.
    interval: Option<String>,
    n: usize,
    planned: usize,
    runs: Vec<CellRun<'a>>,
    facts: Vec<Fact>,
    missing: Vec<Gap>,
    comparisons: Vec<Published>,
    rerun: &'a str,
}

#[derive(Debug, Serialize)]
struct CellRun<'a> {
    seed: u64,
    value: String,
    folder: &'a str,
    id: &'a str,
}

/// A fact of provenance: once for all runs, or seed by seed where they differ.
#[derive(Debug, Serialize)]
struct Fact {
    name: String,
    /// (seeds, value); the seeds are empty where all runs agree.
    values: Vec<(String, String)>,
}

#[derive(Debug, Serialize)]
struct Published {
    published: String,
    difference: String,
    interval: String,
    verdict: &'static str,
    why: String,
    /// The numbers behind the verdict, (name, value).
    behind: Vec<(&'static str, String)>,
}

/// The details of one cell.
pub(crate) fn cell<'a>(d: &'a CellDetails<'a>) -> Cell<'a> {
    let score = d.mean.map(|m| {
        let sd = d.sd.map_or_else(String::new, |sd| format!(" ± {}", fixed(sd, PLACES)));
        format!("{}{sd}", fixed(m, PLACES))
    });
    let interval = d.interval.map(|i| {
        let (low, high) = (fixed(i.low, PLACES), fixed(i.high, PLACES));
        format!(
            "{low} to {high}, from {} resamples of {}",
            thousands(i.replicates),
            match i.groups {
                Some(n) => format!("{} patients, lesions or cases", thousands(n)),
                None => format!("{} test images", thousands(i.images)),
            }
        )
    });
    Cell {
        key: &d.key,
        title: &d.title,
        score,
        interval,
        n: d.n,
        planned: d.planned,
        runs: d
            .runs
            .iter()
            .map(|r| CellRun {
                seed: r.seed,
                value: fixed(r.value, PLACES + 2),
                folder: r.folder,
                id: r.id,
            })
            .collect(),
        facts: shared(&d.runs),
        missing: gaps(std::iter::once(d)),
        comparisons: d.comparisons.iter().map(|c| published(c)).collect(),
        rerun: &d.rerun,
    }
}

fn published(c: &Comparison) -> Published {
    Published {
        published: format!("{} ± {}", fixed(c.published, PLACES), fixed(c.uncertainty, 5)),
        difference: c.difference.map_or_else(|| "–".to_owned(), signed),
        interval: c
            .interval
            .map_or_else(String::new, |(l, h)| format!("{} to {}", signed(l), signed(h))),
        verdict: c.name(),
        why: c.why().to_owned(),
        behind: crate::report::compare_page::behind(c),
    }
}

/// The facts of all runs, equal values said once.
fn shared(runs: &[Run]) -> Vec<Fact> {
    let mut names = Vec::<String>::new();
    let mut all = Vec::<(String, u64, String)>::new();
    for run in runs {
        let Some(record) = run.record else { continue };
        let mut own: Vec<(String, String)> = vec![("Data, SHA-256".to_owned(), record.spec.data_sha256.clone())];
        for (role, hash) in &record.spec.weights {
            own.push((format!("Weights ({role}), SHA-256"), hash.clone()));
        }
        own.push((
            "Predictions, SHA-256".to_owned(),
            record.metrics.predictions.sha256.clone(),
        ));
        own.extend(facts(record).into_iter().map(|(n, v)| (n.to_owned(), v)));
        for (name, value) in own {
            if !names.contains(&name) {
                names.push(name.clone());
            }
            all.push((name, run.seed, value));
        }
    }
    let fact = |name: String| {
        let mut values = Vec::<(String, Vec<u64>)>::new();
        for (_, seed, value) in all.iter().filter(|f| f.0 == name) {
            match values.iter_mut().find(|v| v.0 == *value) {
                Some((_, seeds)) => seeds.push(*seed),
                None => values.push((value.clone(), vec![*seed])),
            }
        }
        let one = values.len() == 1;
        let seeds = |s: Vec<u64>| {
            let list: Vec<String> = s.iter().map(u64::to_string).collect();
            if one {
                String::new()
            } else {
                format!("seed {}", list.join(", "))
            }
        };
        Fact {
            values: values.into_iter().map(|(v, s)| (seeds(s), v)).collect(),
            name,
        }
    };
    names.into_iter().map(fact).collect()
}
