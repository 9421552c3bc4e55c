//! Which verified files a run reads, and the hashes of them that enter its id.

use super::Context;
use crate::data::presence::{self, Depth};
use crate::data::{Folder, registry};
use crate::error::BadInput;
use crate::fsio;
use crate::manifest::{
    Check, DataKind, ImageReport, Places, SetReport, SetState, VerifyMode, WeightsReport, WeightsState, verify_set,
    verify_weights,
};
use crate::model::head::DEIT_NAME;
use crate::model::registry::BACKBONES;
use crate::model::{Pretrained, WeightsFile};
use crate::spec::protocol::{Duplicates, MhaBody};
use crate::study::{HeadKind, Inputs, Protocol, RunSpec, Scale};
use anyhow::{Context as _, Result};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What stands for the weights of a tiny model in run ids: it has no file, its values are drawn.
const SEEDED: &str = "medft tiny model, weights drawn from seed 0 by their names in the backbone";

/// Reports on all inputs of a list of runs; each data set and weights file is looked at once.
pub struct Inventory {
    pub sets: BTreeMap<String, SetReport>,
    pub weights: BTreeMap<String, WeightsReport>,
    /// Data sets and label files whose images were looked at.
    looked_at: BTreeSet<(String, Vec<PathBuf>)>,
    pub look: Look,
}

/// How inputs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What changed since it was hashed is hashed, and every image that label files list is looked at.
    Whole,
    /// As [`Self::Whole`] but for the images, of which a task of an array is one of many readers: that the list's files are there
    /// is enough, and what cannot be decoded is named when it is decoded.
    Listed,
    /// No file of data or weights is read, on the login node of a cluster: what was hashed before counts where it has not changed;
    /// phantoms, which are written where they are used, are what their list says.
    Unread,
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

/// The folder and kind of a set's data in a study: phantoms for tiny models where the set has one, else the user's.
///
/// # Errors
/// For an unknown set.
pub fn data_dir(c: &Context, scale: Scale, set: &str) -> Result<(DataKind, PathBuf)> {
    Ok(match scale {
        Scale::Tiny if registry::find(set)?.has_phantom() => (DataKind::Phantom, c.global.data_dir.join("phantom")),
        _ => (DataKind::Real, c.global.data_dir.clone()),
    })
}

/// Whether the backbone of a run is read from a file: a published one of full size, or a user's own.
fn has_file(r: &RunSpec) -> bool {
    r.scale == Scale::Full || BACKBONES.get(&r.backbone).is_some_and(|e| e.own.is_some())
}

/// Whether a run's head has the published body.
pub(super) fn has_deit(r: &RunSpec) -> bool {
    r.head == HeadKind::Mha && r.protocol.mha_body == MhaBody::DeitBase
}

/// Role and name of the weights a run reads: its backbone, and DeiT-B for the faithful MHA head.
pub fn weight_names(r: &RunSpec) -> Vec<(&'static str, String)> {
    let mut out = Vec::new();
    if has_file(r) {
        out.push(("backbone", r.backbone.clone()));
    }
    if r.scale == Scale::Full && has_deit(r) {
        out.push(("deit", DEIT_NAME.to_owned()));
    }
    out
}

impl Inventory {
    /// Looks at everything the runs read. Hashes only what changed since it was hashed.
    ///
    /// # Errors
    /// For a set or backbone that nobody knows; what is wrong with one is in its report.
    pub fn take(c: &Context, scale: Scale, runs: &[RunSpec], look: Look) -> Result<Self> {
        let mut out = Self {
            sets: BTreeMap::new(),
            weights: BTreeMap::new(),
            looked_at: BTreeSet::new(),
            look,
        };
        let check = match look {
            Look::Unread => Check::NoRead,
            _ => Check::Cached,
        };
        let places = Places::new(&c.global.weights_dir);
        for r in runs {
            out.look_at_set(c, scale, r)?;
            for (_, name) in weight_names(r) {
                if let Entry::Vacant(slot) = out.weights.entry(name.clone()) {
                    let bar = c.progress.bytes(&name);
                    let report = verify_weights(c.catalogue, &name, &places, check, &bar.verified())?;
                    slot.insert(report);
                }
            }
        }
        Ok(out)
    }

    /// Looks at the data of a run, once, and at the images that its label files list, once for each choice of label files.
    /// What is wrong with a set is in its report, so that the other sets go on.
    fn look_at_set(&mut self, c: &Context, scale: Scale, r: &RunSpec) -> Result<()> {
        let source = registry::find(&r.dataset)?;
        let (kind, dir) = data_dir(c, scale, &r.dataset)?;
        if let Entry::Vacant(slot) = self.sets.entry(r.dataset.clone()) {
            let mode = match self.look {
                Look::Unread => VerifyMode::NoRead,
                _ => VerifyMode::SinceLock,
            };
            let found = verify(c, &r.dataset, kind, &dir, mode);
            slot.insert(found.or_else(|e| unusable(c, &r.dataset, kind, &dir, &e))?);
        }
        let labels = (r.dataset.clone(), source.label_files(&r.protocol));
        if self.look == Look::Whole
            && self.looked_at.insert(labels)
            && let Some(report) = self.sets.get_mut(&r.dataset)
            && let Err(e) = hold_images(c, report, &r.protocol, Depth::Names)
        {
            *report = unusable(c, &r.dataset, kind, &dir, &e)?;
        }
        Ok(())
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
                sha256: Some(w.sha256.to_string()),
            });
            match role {
                "deit" => pretrained.deit = file,
                _ => pretrained.backbone = file,
            }
        }
        if !has_file(r) {
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

    /// The folder of a run's data set, of which only what was verified may be used.
    ///
    /// # Errors
    /// Where the set was not verified.
    pub fn folder(&self, r: &RunSpec) -> Result<Folder> {
        let set = self
            .sets
            .get(&r.dataset)
            .and_then(|s| Some((s.folder.clone(), s.list.clone()?)));
        let (root, list) = set.with_context(|| format!("{} was not verified", r.dataset))?;
        Ok(Folder::verified(root, list))
    }

    /// Whether an input of a run is here but is not what it should be.
    pub fn differs(&self, r: &RunSpec) -> bool {
        self.sets[&r.dataset].state == SetState::Differs
            || weight_names(r)
                .iter()
                .any(|(_, name)| self.weights[name].state == WeightsState::WrongHash)
    }

    /// Notes on weights that are used without a published hash, and on label files that are not the published ones.
    pub fn notes(&self) -> Vec<String> {
        let weights = self.weights.values();
        let weights = weights.filter_map(|w| w.require().ok()?.note.map(|n| format!("{}: {n}", w.backbone)));
        let own = self.weights.values().filter_map(|w| {
            let pin = w.pin.as_ref()?;
            let (like, licence) = (pin.like.as_ref()?, pin.licence.as_deref().unwrap_or("unknown"));
            let name = &w.backbone;
            Some(format!(
                "{name}: a checkpoint of one's own with the architecture of {like}, licence {licence}"
            ))
        });
        let labels = self.sets.values().flat_map(|s| {
            let notes = s.label_notes().into_iter();
            notes.map(|n| format!("{}: label file {n}", s.set))
        });
        weights.chain(own).chain(labels).collect()
    }
}

/// The report on a set that could not be looked at.
fn unusable(c: &Context, set: &str, kind: DataKind, data_dir: &Path, e: &anyhow::Error) -> Result<SetReport> {
    let m = c.catalogue.set(set)?;
    Ok(SetReport::unusable(set, &m.title, kind, data_dir.join(&m.folder), e))
}

/// Verifies a set with a bar.
///
/// # Errors
/// For an unknown set; what is wrong with its files is in the report.
pub fn verify(c: &Context, set: &str, kind: DataKind, data_dir: &Path, mode: VerifyMode) -> Result<SetReport> {
    let bar = c.progress.bytes(set);
    verify_set(c.catalogue, set, kind, c.places(data_dir), mode, &bar.verified())
}

/// Holds the images that the label files list under `p` against the set's folder, where the set is whole otherwise and has its
/// images in files.
///
/// # Errors
/// Where the label files cannot be read.
pub fn hold_images(c: &Context, report: &mut SetReport, p: &Protocol, depth: Depth) -> Result<()> {
    let in_files = c.catalogue.set(&report.set)?.files.is_none();
    if report.state != SetState::Verified || report.kind != DataKind::Real || !in_files {
        return Ok(());
    }
    let folder = match &report.list {
        Some(list) => Folder::verified(&report.folder, list.clone()),
        None => Folder::unverified(&report.folder),
    };
    let images = look_at_images(c, &report.set, &folder, p, depth)?;
    report.hold_images(images);
    Ok(())
}

/// Looks at the images that the label files in `root` list under `p`.
///
/// # Errors
/// Where the label files cannot be read.
pub fn look_at_images(c: &Context, set: &str, root: &Folder, p: &Protocol, depth: Depth) -> Result<ImageReport> {
    // Which images are copies of one another does not matter here, and is found by reading them all.
    let mut p = p.clone();
    p.duplicates = Duplicates::Ignored;
    let d = registry::find(set)?.load_from(root, &p)?;
    let bar = c.progress.items(&format!("{set} images"), 0);
    Ok(presence::of(&d, &p, depth, &bar.counted()))
}

/// Generates the phantoms that are not here, or not whole.
///
/// # Errors
/// For an unknown set, or where files cannot be written.
pub fn synthesise_missing(c: &Context, runs: &[RunSpec]) -> Result<()> {
    let mut seen = Vec::new();
    for r in runs {
        if seen.contains(&&r.dataset) {
            continue;
        }
        seen.push(&r.dataset);
        let source = registry::find(&r.dataset)?;
        let (kind, dir) = data_dir(c, Scale::Tiny, &r.dataset)?;
        if kind == DataKind::Real {
            continue;
        }
        let report = verify(c, &r.dataset, kind, &dir, VerifyMode::SinceLock)?;
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
