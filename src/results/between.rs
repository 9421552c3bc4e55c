//! What finished runs say of each other: copies of one under another's name, and values that equal runs share.
//!
//! Each rule looks a run up among those before it, so that many runs cost no more than their number.

use super::store::{EPOCHS, METRICS, PREDICTIONS, PROVENANCE};
use super::verify::Finding;
use crate::study::{Freeze, HeadKind, RunSpec};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What of a finished run is held against others.
pub(super) struct Seen {
    /// Its folder.
    pub at: String,
    pub spec: RunSpec,
    pub data: String,
    pub predictions: String,
    pub epochs: String,
    /// Name → hash of each set of weights that was trained: an untrained head follows from its seed and its shape alone, so
    /// that two runs may well have the same.
    pub weights: BTreeMap<String, String>,
    /// Hash over ids and truth of the test images.
    pub images: String,
    /// The learning rate of every epoch: what the number of steps an epoch shows in.
    pub rates: Vec<u64>,
    /// Commit, and version and crates of a clean build of it.
    pub build: Option<(String, String)>,
    /// Whether it went astray: what is not finite is alike in every such run.
    pub diverged: bool,
}

impl Seen {
    /// What no two runs that come to the same differ in: those that differ only in switches may.
    fn identity(&self) -> (&str, &str, Freeze, HeadKind, u64) {
        let s = &self.spec;
        (&s.dataset, &s.backbone, s.freeze, s.head, s.seed)
    }
}

/// The runs that were seen with a hash: two of other identities at most, which is enough to find another than any.
#[derive(Default)]
struct Known<'a>(BTreeMap<(&'a str, bool), Vec<&'a Seen>>);

impl<'a> Known<'a> {
    /// Another run with this hash, of which none should be; enters `run`.
    fn other(&mut self, hash: &'a str, run: &'a Seen) -> Option<&'a Seen> {
        let of = |diverged| self.0.get(&(hash, diverged)).into_iter().flatten();
        let found = of(false)
            .chain(of(true).filter(|_| !run.diverged))
            .find(|s| s.identity() != run.identity())
            .copied();
        let same = self.0.entry((hash, run.diverged)).or_default();
        if same.len() < 2 && same.iter().all(|s| s.identity() != run.identity()) {
            same.push(run);
        }
        found
    }
}

/// What runs say that was seen so far, of any study of a folder of results: a copy is one in whichever study it lies.
#[derive(Default)]
pub struct SeenRuns(pub(super) Vec<Seen>);

/// What contradicts itself between finished runs; of the first `known`, which were looked at before, nothing is said again.
pub(super) fn between(seen: &[Seen], known: usize) -> Vec<Finding> {
    let mut out = Vec::new();
    let (mut predictions, mut epochs, mut weights) = (Known::default(), Known::default(), Known::default());
    let (mut alike, mut builds) = (BTreeMap::new(), BTreeMap::new());
    for (number, a) in seen.iter().enumerate() {
        let mut add = |run: &Seen, file: &str, expected: String, found: String| {
            let at = format!("{}/{file}", run.at);
            if number >= known {
                out.push(Finding { at, expected, found });
            }
        };
        let protocol = serde_json::to_string(&a.spec.protocol).unwrap_or_default();
        match alike.entry((&a.data, &a.spec.dataset, protocol)) {
            Entry::Vacant(e) => {
                e.insert(a);
            }
            Entry::Occupied(e) => {
                let b = e.get();
                let of = |what: &str| format!("{what} of {}, which has the same data and protocol", b.at);
                if a.images != b.images {
                    add(a, PREDICTIONS, of("the test images and truths"), "others".to_owned());
                }
                if a.rates != b.rates {
                    add(a, &format!("{EPOCHS}: lr"), of("the rates"), "others".to_owned());
                }
            }
        }
        if let Some((commit, build)) = &a.build {
            let first = *builds.entry(commit).or_insert((build, a));
            if first.0 != build {
                let expected = format!("what {} says of the same commit", first.1.at);
                add(a, &format!("{PROVENANCE}: medft, crates"), expected, build.clone());
            }
        }
        let own = |what: &str| format!("{what} of its own");
        let same = |b: &Seen| format!("those of {}, another run", b.at);
        if let Some(b) = predictions.other(&a.predictions, a) {
            add(a, PREDICTIONS, own("predictions"), same(b));
        }
        if let Some(b) = epochs.other(&a.epochs, a) {
            add(a, EPOCHS, own("epochs"), same(b));
        }
        let mut shared = None;
        for (set, hash) in &a.weights {
            shared = shared.or(weights.other(hash, a).map(|b| (set, b)));
        }
        if let Some((set, b)) = shared {
            let at = format!("{METRICS}: weights_sha256.{set}");
            add(a, &at, own("trained weights"), same(b));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Protocol;
    use std::time::{Duration, Instant};

    fn run(n: usize, backbone: &str, seed: u64) -> Seen {
        let spec = serde_json::json!({
            "dataset": "aptos2019", "backbone": backbone, "freeze": "frozen", "head": "linear", "seed": seed,
            "scale": "tiny", "protocol": Protocol::faithful(),
        });
        Seen {
            at: format!("run{n}"),
            spec: serde_json::from_value(spec).unwrap(),
            data: "d".into(),
            predictions: format!("p{n}"),
            epochs: format!("e{n}"),
            weights: BTreeMap::from([("last".to_owned(), format!("w{n}"))]),
            images: "i".into(),
            rates: vec![1, 2],
            build: Some(("c".into(), "medft 1".into())),
            diverged: false,
        }
    }

    fn at(seen: &[Seen]) -> Vec<String> {
        between(seen, 0).into_iter().map(|f| f.at).collect()
    }

    #[test]
    fn what_is_not_a_runs_own_is_found_once_and_named() {
        let three = || [run(0, "dinov2-b", 0), run(1, "mae-b", 0), run(2, "mae-b", 1)];
        assert!(at(&three()).is_empty());
        let with = |change: &dyn Fn(&mut Seen)| {
            let mut runs = three();
            change(&mut runs[2]);
            at(&runs)
        };
        assert_eq!(with(&|r| r.predictions = "p0".into()), ["run2/predictions.parquet"]);
        assert_eq!(with(&|r| r.epochs = "e1".into()), ["run2/epochs.json"]);
        let copied = |r: &mut Seen| {
            r.weights.insert("best".into(), "w0".into());
        };
        assert_eq!(with(&copied), ["run2/metrics.json: weights_sha256.best"]);
        assert_eq!(with(&|r| r.images = "j".into()), ["run2/predictions.parquet"]);
        assert_eq!(with(&|r| r.rates[1] = 3), ["run2/epochs.json: lr"]);
        let other = |r: &mut Seen| r.build = Some(("c".into(), "medft 2".into()));
        assert_eq!(with(&other), ["run2/provenance.json: medft, crates"]);
        // Of another commit, or of none, anything may be.
        assert!(with(&|r| r.build = None).is_empty());
        // Runs that went astray may be alike, and those that differ in switches alone.
        let mut runs = three();
        for r in &mut runs {
            (r.diverged, r.predictions) = (true, "p".into());
        }
        assert!(at(&runs).is_empty());
        runs[1].diverged = false;
        assert_eq!(at(&runs), ["run1/predictions.parquet", "run2/predictions.parquet"]);
        let mut runs = [run(0, "mae-b", 0), run(1, "mae-b", 0)];
        runs[1].predictions = "p0".into();
        runs[1].spec.protocol.lr *= 2.0;
        assert!(at(&runs).is_empty());
        // What was looked at before is held against, and not named again.
        let mut runs = three();
        (runs[1].epochs, runs[2].predictions) = ("e0".into(), "p0".into());
        assert_eq!(at(&runs), ["run1/epochs.json", "run2/predictions.parquet"]);
        let later = between(&runs, 2);
        assert!(
            later.len() == 1 && later[0].at == "run2/predictions.parquet",
            "{later:?}"
        );
    }

    /// By pairs, 40,000 runs would be 800 million comparisons.
    #[test]
    fn many_runs_cost_no_more_than_their_number() {
        let runs: Vec<Seen> = (0..40_000).map(|n| run(n, "mae-b", n as u64)).collect();
        let start = Instant::now();
        assert!(at(&runs).is_empty());
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
