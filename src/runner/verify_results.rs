//! Is every stored number the one that was stored, and does every rendered number follow from them?

use super::plan::Plan;
use super::{Context, report};
use crate::cli::{ReportArgs, StudyArgs};
use crate::fsio;
use crate::model::WeightsFile;
use crate::model::kept::About;
use crate::report::{AUDIT_SEAL, AuditSeal, RENDERED, Rendered, ReportOutput, SEAL, Sealed};
use crate::results::{Content, Expected, Finding, ModelFacts, Store, TrainedFile, read_record, record_bytes};
use crate::study::{RunSpec, Study};
use crate::train::fit::weights_hash;
use crate::train::schedule::Schedule;
use crate::{data, model};
use anyhow::{Context as _, Result};
use candle_core::Device;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};

/// What was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Checked {
    pub runs: usize,
    pub files: usize,
    /// What could not be checked, and why: sentences.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
}

/// Checks the named studies, or every folder of results.
///
/// # Errors
/// Where a folder cannot be read, or a name is none of a study.
pub fn verify(c: &Context, studies: &[String]) -> Result<Checked> {
    let names = if studies.is_empty() { all(c)? } else { studies.to_vec() };
    let mut checked = Checked::default();
    for name in &names {
        check(c, name, &mut checked)?;
    }
    Ok(checked)
}

/// Every folder of results that is not a cache.
fn all(c: &Context) -> Result<Vec<String>> {
    let folder = &c.global.results_dir;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn check(c: &Context, name: &str, checked: &mut Checked) -> Result<()> {
    let study = c.known(|known| Study::resolve(name, &c.global.experiments_dir, known));
    let folder = study.as_ref().map_or(name, |s| s.name.as_str()).to_owned();
    let store = Store::new(&c.global.results_dir, &folder);
    if !store.folder().is_dir() {
        // A name that is neither a study nor a folder of results is a slip of the pen.
        study?;
        checked
            .notes
            .push(format!("{} has no results", store.folder().display()));
        return Ok(());
    }
    let audit = store.audit(&expected)?;
    checked.runs += audit.runs;
    let whole = audit.findings.is_empty();
    checked.findings.extend(audit.findings);
    let others = audit.others.iter();
    checked
        .notes
        .extend(others.map(|f| format!("{f} is not of medft and was not checked")));
    let reports = c.global.reports_dir.join(&folder);
    match study {
        _ if !reports.is_dir() => checked.notes.push(format!("{} is not there", reports.display())),
        Err(e) => checked.notes.push(format!("{} is not checked: {e}", reports.display())),
        Ok(_) if !whole => checked.notes.push(format!(
            "{} is not checked: it follows from records, and those are not whole",
            reports.display()
        )),
        Ok(study) => {
            for folder in parts(&reports)? {
                check_report(c, name, study.clone(), &reports, &folder, checked)?;
            }
        }
    }
    Ok(())
}

/// What a record must say because its spec does.
fn expected(spec: &RunSpec) -> Result<Expected> {
    let info = data::registry::find(&spec.dataset)?.info(&spec.protocol);
    let outputs = info.task.outputs();
    let counts = model::Classifier::sizes(spec, info.channels, outputs)?;
    let protocol = spec.protocol.clone();
    let (run, channels) = (spec.clone(), info.channels);
    Ok(Expected {
        trained: Box::new(move |path| {
            let about = About::read(path, None)?;
            let file = WeightsFile {
                path: path.to_owned(),
                layout: about.layout,
                sha256: None,
            };
            let model = model::Classifier::trained(&run, channels, outputs, &file, &Device::Cpu)?;
            Ok(TrainedFile {
                run: about.run,
                weights: about.weights,
                sha256: weights_hash(&model)?,
            })
        }),
        target: info.target.to_owned(),
        outputs,
        one_class: matches!(info.task, data::Task::MultiClass(_)),
        model: ModelFacts {
            family: model::registry::find(&spec.backbone)?.family.to_owned(),
            backbone_params: counts.backbone,
            trainable_params: counts.trainable,
            total_params: counts.total,
        },
        rate: Box::new(move |steps, epoch| {
            Schedule::new(&protocol, info.warmup, steps).lr(steps.saturating_mul(u64::from(epoch)))
        }),
    })
}

/// The folder of a study's report, then those within it that hold the report of a part.
fn parts(reports: &Path) -> Result<Vec<PathBuf>> {
    let mut parts = Vec::new();
    for entry in fs::read_dir(reports).with_context(|| format!("cannot list {}", reports.display()))? {
        let path = entry
            .with_context(|| format!("cannot list {}", reports.display()))?
            .path();
        if path.join(RENDERED).is_file() {
            parts.push(path);
        }
    }
    parts.sort();
    if parts.is_empty() || reports.join(RENDERED).is_file() {
        parts.insert(0, reports.to_owned());
    }
    Ok(parts)
}

fn finding(at: &Path, expected: &str, found: impl Into<String>) -> Finding {
    Finding {
        at: at.display().to_string(),
        expected: expected.to_owned(),
        found: found.into(),
    }
}

/// A record of a report, whose every byte follows from its content; a finding where it is not.
fn record<T: Content>(path: &Path, findings: &mut Vec<Finding>) -> Option<T> {
    let read = read_record::<T>(path).and_then(|(r, _)| Ok((record_bytes(&r)?, fsio::read(path)?, r)));
    match read {
        Ok((expected, found, r)) if expected == found => return Some(r),
        Ok(_) => findings.push(finding(
            path,
            "a record as medft writes it",
            "one written by another hand",
        )),
        Err(e) => findings.push(finding(path, "a record that hashes to what it says", format!("{e:#}"))),
    }
    None
}

/// Renders the report again from the records alone and holds it against what lies there.
///
/// `whole` is the folder of the whole study's report, which has the page on the data; `reports` that one, or a part's within it.
fn check_report(
    c: &Context,
    name: &str,
    study: Study,
    whole: &Path,
    reports: &Path,
    checked: &mut Checked,
) -> Result<()> {
    let Some(rendered) = record::<Rendered>(&reports.join(RENDERED), &mut checked.findings) else {
        return Ok(());
    };
    let audit = check_audit(whole, &rendered, checked);
    let args = ReportArgs {
        study: StudyArgs {
            study: name.to_owned(),
            only: rendered.only.clone(),
        },
        replicates: rendered.replicates,
    };
    let (_, runs) = c.study(&args.study)?;
    let plan = Plan::make(c, study, runs)?;
    let again = tempfile::tempdir().context("cannot create a folder to render into")?;
    let out = report::write_to(c, &plan, &args, again.path(), None)?;
    for file in &out.files {
        let name = file.strip_prefix(again.path()).unwrap_or(file);
        let there = reports.join(name);
        checked.files += 1;
        let expected = fsio::read(file)?;
        let Ok(found) = fsio::read(&there) else {
            checked
                .findings
                .push(finding(&there, "this file of the report", "none"));
            continue;
        };
        let stated = rendered.files.get(&*name.to_string_lossy());
        let untouched = stated == Some(&fsio::sha256_hex(&found)) || name == Path::new(RENDERED);
        if expected == found || (untouched && !audit) {
            // Where the data's page was edited, what shows it cannot be made again: it is the page that is named.
            continue;
        }
        if untouched {
            // Not touched since it was rendered, so what it was rendered from has changed.
            let why = format!(
                "one of other records, inputs or templates, or of medft {}",
                rendered.medft
            );
            checked.findings.push(finding(&there, "what the records give", why));
        } else {
            checked.findings.push(edited(&there, &expected, &found));
        }
    }
    check_seal(reports, &out.below(again.path()), checked)?;
    let known = |f: &Path| {
        let name = f.strip_prefix(reports).unwrap_or(f);
        let shown = name.to_string_lossy();
        rendered.files.contains_key(&*shown)
            || [RENDERED, SEAL, AUDIT_SEAL].contains(&&*shown)
            || shown.starts_with("data.")
            || shown.rsplit('/').next().is_some_and(|n| n.starts_with(".medft-"))
            // Of a part, which is checked by itself.
            || f.ancestors().skip(1).take_while(|a| *a != reports).any(|a| a.join(RENDERED).exists())
    };
    for f in fsio::below(reports).iter().filter(|f| !known(f)) {
        checked
            .notes
            .push(format!("{} is not of this report and was not checked", f.display()));
    }
    Ok(())
}

/// What the seal says was found, against what is found now.
fn check_seal(reports: &Path, found: &ReportOutput, checked: &mut Checked) -> Result<()> {
    let path = reports.join(SEAL);
    if !path.exists() {
        checked.notes.push(format!(
            "{} is not there: the report is made anew when it is asked for",
            path.display()
        ));
        return Ok(());
    }
    checked.files += 1;
    if let Some(seal) = record::<Sealed>(&path, &mut checked.findings) {
        let (expected, stated) = (serde_json::to_value(found)?, serde_json::to_value(&seal.output)?);
        for (key, value) in expected.as_object().into_iter().flatten() {
            if stated.get(key) != Some(value) {
                let at = Path::new(&path).join(key);
                checked
                    .findings
                    .push(finding(&at, "what the records give", "something else"));
            }
        }
    }
    Ok(())
}

/// The page on the data and its pictures: as they were written, and those that the report shows. Says whether they are.
fn check_audit(reports: &Path, rendered: &Rendered, checked: &mut Checked) -> bool {
    let before = checked.findings.len();
    let seal = reports.join(AUDIT_SEAL);
    if !seal.exists() && rendered.audit.is_empty() {
        return true;
    }
    checked.files += 1;
    let Some(sealed) = record::<AuditSeal>(&seal, &mut checked.findings) else {
        return false;
    };
    checked.files += sealed.files.len();
    for (name, then, now) in sealed.changed(reports) {
        let expected = format!("a file that hashes to {then}, as {AUDIT_SEAL} says");
        checked.findings.push(finding(&reports.join(name), &expected, now));
    }
    for (name, shown) in &rendered.audit {
        if checked.findings.len() == before && sealed.files.get(name) != Some(shown) {
            let found = sealed.files.get(name).cloned().unwrap_or_else(|| "none".to_owned());
            let expected = format!("the page that {RENDERED} names, which hashes to {shown}");
            checked.findings.push(finding(&reports.join(name), &expected, found));
        }
    }
    checked.findings.len() == before
}

/// Names the first line that was edited; a picture only has its hash.
fn edited(at: &Path, expected: &[u8], found: &[u8]) -> Finding {
    let (Ok(e), Ok(f)) = (std::str::from_utf8(expected), std::str::from_utf8(found)) else {
        return Finding {
            at: at.display().to_string(),
            expected: format!("a file that hashes to {}", fsio::sha256_hex(expected)),
            found: format!("an edited one that hashes to {}", fsio::sha256_hex(found)),
        };
    };
    let (mut e, mut f) = (e.lines(), f.lines());
    for line in 1.. {
        let pair = (e.next(), f.next());
        if pair.0 != pair.1 || pair.0.is_none() {
            let quote = |l: Option<&str>| l.map_or_else(|| "the end".to_owned(), |l| format!("`{l}`"));
            return Finding {
                at: format!("{}:{line}", at.display()),
                expected: format!("{}, as the records give", quote(pair.0)),
                found: quote(pair.1),
            };
        }
    }
    unreachable!("texts that differ have a first line that differs")
}
