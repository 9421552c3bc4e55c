//! `medft bundle`: a study as one archive, and what holds of such an archive.

use super::verify_results;
use crate::bundle::{Contents, unpack, write};
use crate::cli::BundleArgs;
use crate::cli::exit::{BROKEN, OK};
use crate::device::Devices;
use crate::runner::verify_results::verify;
use crate::runner::{Context, catalogue};
use crate::study::Study;
use crate::{outln, print, tell};
use anyhow::{Context as _, Result};
use serde_json::json;
use std::path::{Path, PathBuf};

pub(super) fn run(c: &Context, a: &BundleArgs) -> Result<u8> {
    match (&a.verify, &a.study) {
        (Some(file), _) => open(c, file),
        (None, Some(study)) => pack(c, a, study),
        (None, None) => Ok(BROKEN),
    }
}

fn pack(c: &Context, a: &BundleArgs, name: &str) -> Result<u8> {
    let study = c.read_study(name)?;
    let contents = Contents {
        study: &study.name,
        title: &study.title,
        study_text: Study::text(name, &c.global.experiments_dir)?,
        results: &c.global.results_dir.join(&study.name),
        report: &c.global.reports_dir.join(&study.name),
        manifests: c.catalogue.texts(),
        predictions: !a.without_predictions,
        weights: a.weights,
    };
    let to = a
        .out
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.crate.zip", study.name)));
    let summary = write(&contents, &to)?;
    if c.global.json {
        print::json(&summary)?;
    } else {
        outln!("{}  {}", summary.sha256, summary.file.display())?;
        tell!(
            "{} runs, {} files, {} bytes; `medft bundle --verify {}` says what holds",
            summary.runs,
            summary.files,
            summary.bytes,
            summary.file.display()
        );
    }
    Ok(OK)
}

fn open(c: &Context, file: &Path) -> Result<u8> {
    let place = tempfile::tempdir().context("cannot make a folder to unpack into")?;
    let found = unpack(file, place.path())?;
    if !c.global.json {
        for f in &found.findings {
            outln!("{f}")?;
        }
        outln!("{} files hold, {} do not", found.files, found.findings.len())?;
    }
    if found.without_predictions > 0 {
        tell!(
            "{} runs are without their predictions: records and metrics were not computed again",
            found.without_predictions
        );
        if c.global.json {
            print::json(&json!({ "archive": found, "inside": null }))?;
        }
        return Ok(if found.findings.is_empty() { OK } else { BROKEN });
    }
    // Checkpoints of the author's own are backbones of the archive.
    let own = catalogue::weights(&place.path().join("data-manifests"));
    let known = c.catalogue.weight_names().map(str::to_owned).collect::<Vec<_>>();
    let new: Vec<_> = own.into_iter().filter(|p| !known.contains(&p.name)).collect();
    // The records and the report, as `medft verify-results` looks at them.
    let mut global = c.global.clone();
    global.results_dir = place.path().join("results");
    global.reports_dir = place.path().join("reports");
    global.experiments_dir = place.path().join("experiments");
    let inside = Context {
        global,
        devices: Devices::default(),
        fit: c.fit.clone(),
        catalogue: Box::leak(Box::new(c.catalogue.with_weights(&new)?)),
        progress: c.progress.clone(),
        ..*c
    };
    let checked = verify(&inside, &found.studies)?;
    match c.global.json {
        true => print::json(&json!({ "archive": found, "inside": checked }))?,
        false => verify_results::say(&checked)?,
    }
    let code = verify_results::code(&checked);
    Ok(if found.findings.is_empty() { code } else { BROKEN })
}
