//! Which verified files a run reads, and the hashes of them that enter its id.

use super::Context;
use crate::data::registry;
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::{
    Check, Kind, Mode, Places, SetReport, SetState, WeightsReport, WeightsState, verify_set, verify_weights,
};
use crate::model::{Pretrained, WeightsFile};
use crate::study::protocol::MhaBody;
use crate::study::{HeadKind, Inputs, RunSpec, Scale};
use anyhow::Result;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;

/// What stands for the weights of a tiny model in run ids: it has no file, its values are drawn.
const SEEDED: &str = "medft tiny model, weights drawn from seed 0 by their names in the backbone";

/// Reports on all inputs of a list of runs; each data set and weights file is looked at once.
pub struct Inventory {
    pub data_dir: PathBuf,
    pub sets: BTreeMap<String, SetReport>,
    pub weights: BTreeMap<String, WeightsReport>,
}

/// The verified inputs of one run.
#[derive(Clone)]
pub struct RunInputs {
    pub data_root: String,
    /// Role → SHA-256.
    pub weights: BTreeMap<String, String>,
    pub pretrained: Pretrained,
    pub ids: Inputs,
}

/// The folder and kind of the data of a study: phantoms for tiny models, else the user's.
pub fn data_dir(c: &Context, scale: Scale) -> (Kind, PathBuf) {
    match scale {
        Scale::Tiny => (Kind::Phantom, c.global.data_dir.join("phantom")),
        Scale::Full => (Kind::Real, c.global.data_dir.clone()),
    }
}

/// Role and name of the weights a run reads: its backbone, and DeiT-B for the faithful MHA head.
pub(super) fn weight_names(r: &RunSpec) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if r.scale == Scale::Full {
        out.push(("backbone", r.backbone.clone()));
        if r.head == HeadKind::Mha && r.protocol.mha_body == MhaBody::DeitBase {
            out.push(("deit", "deit-b".to_owned()));
        }
    }
    out
}

impl Inventory {
    /// Looks at everything the runs read. Hashes only what changed since it was hashed.
    pub fn take(c: &Context, scale: Scale, runs: &[RunSpec]) -> Result<Self> {
        let (kind, data_dir) = data_dir(c, scale);
        let mut out = Self {
            data_dir,
            sets: BTreeMap::new(),
            weights: BTreeMap::new(),
        };
        let places = Places::new(&c.global.weights_dir);
        for r in runs {
            if let Entry::Vacant(slot) = out.sets.entry(r.dataset.clone()) {
                slot.insert(verify(c, &r.dataset, kind, &out.data_dir, Mode::SinceLock)?);
            }
            for (_, name) in weight_names(r) {
                if let Entry::Vacant(slot) = out.weights.entry(name.clone()) {
                    let bar = c.progress.bytes(&name);
                    slot.insert(verify_weights(
                        c.catalogue,
                        &name,
                        &places,
                        Check::Cached,
                        &bar.verified(),
                    )?);
                }
            }
        }
        Ok(out)
    }

    /// The inputs of a run.
    ///
    /// # Errors
    /// [`BadInput`]: the first thing that is missing or wrong, with the way to get it.
    pub fn of(&self, r: &RunSpec) -> Result<RunInputs, BadInput> {
        let data_root = self.sets[&r.dataset].require()?.to_string();
        let mut weights = BTreeMap::new();
        let mut pretrained = Pretrained::default();
        for (role, name) in weight_names(r) {
            let w = self.weights[&name].require()?;
            weights.insert(role.to_owned(), w.sha256.to_string());
            let file = Some(WeightsFile {
                path: w.path,
                layout: w.pin.layout,
            });
            match role {
                "deit" => pretrained.deit = file,
                _ => pretrained.backbone = file,
            }
        }
        if r.scale == Scale::Tiny {
            weights.insert("backbone".to_owned(), fsio::sha256_hex(SEEDED.as_bytes()));
        }
        let pairs: Vec<(&str, &str)> = weights.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let ids = Inputs::new(&data_root, &pairs)?;
        Ok(RunInputs {
            data_root,
            weights,
            pretrained,
            ids,
        })
    }

    /// Whether an input of a run is here but is not what it should be.
    pub fn differs(&self, r: &RunSpec) -> bool {
        self.sets[&r.dataset].state == SetState::Differs
            || weight_names(r)
                .iter()
                .any(|(_, name)| self.weights[name].state == WeightsState::WrongHash)
    }

    /// Notes on weights that are used without a published hash.
    pub fn notes(&self) -> Vec<String> {
        self.weights
            .values()
            .filter_map(|w| w.require().ok()?.note.map(|n| format!("{}: {n}", w.backbone)))
            .collect()
    }
}

/// Verifies a set with a bar.
pub fn verify(c: &Context, set: &str, kind: Kind, data_dir: &std::path::Path, mode: Mode) -> Result<SetReport> {
    let bar = c.progress.bytes(set);
    verify_set(c.catalogue, set, kind, data_dir, mode, &bar.verified())
}

/// Generates the phantoms that are not here, or not whole.
pub fn synthesise_missing(c: &Context, runs: &[RunSpec]) -> Result<()> {
    let (kind, dir) = data_dir(c, Scale::Tiny);
    let mut seen = Vec::new();
    for r in runs {
        if seen.contains(&&r.dataset) {
            continue;
        }
        seen.push(&r.dataset);
        let source = registry::find(&r.dataset)?;
        let report = verify(c, &r.dataset, kind, &dir, Mode::SinceLock)?;
        // Also where an earlier writing was cut short: what is there is kept, what is missing is written, and a file with
        // other content is an error that names it.
        if report.state != SetState::Verified {
            let folder = dir.join(source.info(&r.protocol).folder);
            c.progress.say(&format!("writing phantom {}", folder.display()));
            source.synth(&folder, source.phantom_images())?;
        }
    }
    Ok(())
}
