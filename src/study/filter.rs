//! `--only backbone=dinov2-*,dataset=ddsm,split=grouped,seed=0`: a part of a study's runs.
//!
//! Pairs of the same key are alternatives, different keys must all hold; several `--only` are read as one. `*` stands for
//! any run of characters in names of backbones and data sets. A switch that the study sweeps is a key as well: `lr=1e-4`. A value that no run of the study has is an error: a filter
//! that silently selects nothing looks like work already done.

use super::file::Study;
use super::sweep::Swept;
use crate::error::BadInput;
use crate::names::{did_you_mean, glob, or_list};
use crate::spec::{RunSpec, SplitRule};

const KEYS: [&str; 6] = ["backbone", "dataset", "head", "freeze", "split", "seed"];

/// Which runs of a study are meant. The default one keeps all.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    /// Alternatives for each of `KEYS`; none means all.
    wanted: [Vec<String>; 6],
    /// The same for the switches that the study sweeps.
    swept: Vec<(Swept, Vec<String>)>,
}

impl Filter {
    /// Reads the values of all `--only` given, each `key=value[,key=value…]`, for this study.
    ///
    /// # Errors
    /// [`BadInput`] listing the keys, or the values that the study has.
    pub fn parse<S: AsRef<str>>(only: &[S], study: &Study) -> Result<Self, BadInput> {
        let mut filter = Self {
            swept: study.sweep.iter().map(|s| (s.clone(), Vec::new())).collect(),
            ..Self::default()
        };
        let keys: Vec<&str> = KEYS.into_iter().chain(study.sweep.iter().map(|s| s.field)).collect();
        for pair in only
            .iter()
            .flat_map(|s| s.as_ref().split(','))
            .map(str::trim)
            .filter(|p| !p.is_empty())
        {
            let Some((key, value)) = pair.split_once('=').map(|(k, v)| (k.trim(), v.trim())) else {
                return Err(bad(
                    format!("key=value with a key of {}", or_list(&keys)),
                    pair,
                    "Write both, with `=`.",
                ));
            };
            if let Some((s, wanted)) = filter.swept.iter_mut().find(|s| s.0.field == key) {
                let has = s.names();
                let number = |w: &str| w.parse::<f64>().ok();
                let same = |w: &&String| *w == value || number(w).is_some_and(|x| number(value) == Some(x));
                match has.iter().find(same) {
                    Some(name) => wanted.push(name.clone()),
                    None => {
                        let expected = format!("a {key} of the study {}: {}", study.name, or_list(&has));
                        return Err(bad(expected, value, did_you_mean(value, &has)));
                    }
                }
                continue;
            }
            let Some(k) = KEYS.iter().position(|&known| known == key) else {
                return Err(bad(
                    format!("a key of {}", or_list(&keys)),
                    key,
                    did_you_mean(key, &keys),
                ));
            };
            let has = values(study, k);
            if !has.iter().any(|v| matches(k, value, v)) {
                let expected = format!("a {key} of the study {}: {}", study.name, or_list(&has));
                return Err(bad(expected, value, did_you_mean(value, &has)));
            }
            filter.wanted[k].push(value.to_string());
        }
        Ok(filter)
    }

    /// The keys.
    pub fn keys() -> Vec<&'static str> {
        KEYS.to_vec()
    }

    /// Every key with the values that a study has of it.
    pub fn choices(study: &Study) -> Vec<(&'static str, Vec<String>)> {
        KEYS.iter()
            .enumerate()
            .map(|(k, key)| (*key, values(study, k)))
            .chain(study.sweep.iter().map(|s| (s.field, s.names())))
            .collect()
    }

    /// Whether this run is meant.
    pub fn matches(&self, run: &RunSpec) -> bool {
        let seed = run.seed.to_string();
        let have = [
            &run.backbone,
            &run.dataset,
            run.head.as_str(),
            run.freeze.as_str(),
            run.split(),
            seed.as_str(),
        ];
        let swept = |(s, wanted): &(Swept, Vec<String>)| wanted.is_empty() || wanted.contains(&s.name(&run.protocol));
        (0..KEYS.len()).all(|k| self.wanted[k].is_empty() || self.wanted[k].iter().any(|w| matches(k, w, have[k])))
            && self.swept.iter().all(swept)
    }

    /// Whether every run is meant.
    pub fn is_all(&self) -> bool {
        self.wanted.iter().all(Vec::is_empty) && self.swept.iter().all(|s| s.1.is_empty())
    }
}

fn bad(expected: String, found: &str, remedy: impl Into<String>) -> BadInput {
    BadInput::new("--only", expected, format!("`{found}`"), remedy)
}

/// Only names of backbones and data sets may hold `*`.
fn matches(key: usize, wanted: &str, have: &str) -> bool {
    if key < 2 { glob(wanted, have) } else { wanted == have }
}

fn values(study: &Study, key: usize) -> Vec<String> {
    match key {
        0 => study.backbones.clone(),
        1 => study.datasets.clone(),
        2 => study.heads.iter().map(ToString::to_string).collect(),
        3 => study.freeze.iter().map(ToString::to_string).collect(),
        4 => {
            let mut names = Vec::new();
            for (dataset, protocol) in study.tables() {
                let name = SplitRule::name(dataset, &protocol).to_owned();
                if !names.contains(&name) {
                    names.push(name);
                }
            }
            names
        }
        _ => study.seeds.iter().map(ToString::to_string).collect(),
    }
}
