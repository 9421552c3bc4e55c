//! The trained weights of a finished run, found and held against their hash.

use super::Context;
use crate::error::BadInput;
use crate::model::about::About;
use crate::model::{Classifier, WeightsFile};
use crate::results::{RunRecord, Store};
use anyhow::Result;
use candle_core::Device;
use std::fs;
use std::path::{Path, PathBuf};

/// A finished run with trained weights.
pub struct TrainedRun {
    pub record: RunRecord,
    pub about: About,
    pub file: WeightsFile,
}

impl TrainedRun {
    /// The run of an id, of its first digits or of its folder, with the set of weights that is asked for, else the first that it kept.
    ///
    /// # Errors
    /// [`BadInput`] where no run or several are meant, the run is not whole, or it kept no such weights.
    pub fn find(c: &Context, run: &str, which: Option<&str>) -> Result<Self> {
        let dir = folder(&c.global.results_dir, run)?;
        let (store, record) = Store::of_run(&dir)?;
        let mut found = Vec::new();
        for (path, sha256) in store.kept(record.id())? {
            let about = About::read(&path, Some(&sha256))?;
            if which.is_none_or(|w| w == about.weights) && about.run == record.id() {
                let file = WeightsFile {
                    path,
                    layout: about.layout.clone(),
                    sha256: Some(sha256),
                };
                return Ok(Self { record, about, file });
            }
            found.push(about.weights);
        }
        let found = if found.is_empty() {
            "none".to_owned()
        } else {
            format!("the {} ones alone", found.join(" and "))
        };
        let remedy = format!(
            "Move the folder away and run the study again with --keep-weights {}: the same seed gives the same weights.",
            which.unwrap_or("best")
        );
        let expected = format!("{} trained weights that the run kept", which.unwrap_or("any"));
        Err(BadInput::new(dir.display(), expected, found, remedy).into())
    }

    /// The model.
    ///
    /// # Errors
    /// As [`Classifier::trained`].
    pub fn model(&self, device: &Device) -> Result<Classifier> {
        let a = &self.about;
        Classifier::trained(&self.record.spec.run, a.channels, a.classes.len(), &self.file, device)
    }
}

/// The folder of a run: what is named, or the one below the results whose name begins so.
fn folder(results: &Path, run: &str) -> Result<PathBuf, BadInput> {
    if Path::new(run).join("spec.json").is_file() {
        return Ok(run.into());
    }
    let name = run.get(..crate::results::FOLDER_DIGITS).unwrap_or(run);
    let below = |dir: &Path| {
        fs::read_dir(dir)
            .into_iter()
            .flatten()
            .flatten()
            .map(|e| e.path())
            .collect::<Vec<_>>()
    };
    let named = |p: &Path| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name));
    let mut found: Vec<PathBuf> = below(results).iter().flat_map(|study| below(study)).collect();
    found.retain(|p| named(p) && p.join("spec.json").is_file());
    found.sort();
    let remedy = "`medft plan STUDY --json` prints the ids of its runs; the path of a run's folder is taken too.";
    let expected = format!(
        "one run below {} whose id begins so, or a run's folder",
        results.display()
    );
    let hex = !name.is_empty() && name.chars().all(|c| c.is_ascii_hexdigit());
    match found.as_slice() {
        [one] if hex => Ok(one.clone()),
        _ if !hex => Err(BadInput::new(
            "RUN",
            expected,
            format!("`{run}`, which is neither"),
            remedy,
        )),
        [] => Err(BadInput::new(
            "RUN",
            expected,
            format!("`{run}`, and none that does"),
            remedy,
        )),
        several => Err(BadInput::new(
            "RUN",
            expected,
            format!("`{run}`, and {} that do", several.len()),
            "Give more digits, or the folder.",
        )),
    }
}
