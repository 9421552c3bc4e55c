//! Is every stored number the one that was stored, and does every rendered number follow from them?

use super::plan::Plan;
use super::{Context, report, report_place};
use crate::cli::{ReportArgs, StudyArgs};
use crate::fsio;
use crate::model::WeightsFile;
use crate::model::kept::About;
use crate::report::{AUDIT_SEAL, AuditSeal, RENDERED, Rendered, ReportOutput, SEAL, Sealed, replaced_templates};
use crate::results::{Content, Expected, Finding, ModelFacts, SeenRuns, Store, TrainedFile, read_record, record_bytes};
use crate::study::{RunSpec, Study};
use crate::train::fit::weights_hash;
use crate::train::schedule::Schedule;
use crate::{data, model};
use anyhow::{Context as _, Result};
use candle_core::Device;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The caches, below the results.
const CACHE: &str = crate::cache::FOLDER;

/// What was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Checked {
    pub runs: usize,
    pub files: usize,
    /// What could not be checked, and why: sentences.
    pub notes: Vec<String>,
    pub findings: Vec<Finding>,
}

/// Checks the named studies, or every folder of results and reports.
///
/// # Errors
/// Where a folder cannot be read, or a name is none of a study.
pub fn verify(c: &Context, studies: &[String]) -> Result<Checked> {
    let mut checked = Checked::default();
    let (results, reports) = (&c.global.results_dir, &c.global.reports_dir);
    let mut names = stray(
        results,
        &[CACHE, ".gitignore", "README.md"],
        !studies.is_empty(),
        &mut checked,
    )?;
    if reports.is_dir() {
        for name in stray(reports, &[], !studies.is_empty(), &mut checked)? {
            let path = reports.join(&name);
            if names.contains(&name) {
                continue;
            }
            match path.join(RENDERED).exists() {
                true => names.push(name),
                false => checked.notes.push(format!(
                    "{} is not the report of a study and was not checked",
                    path.display()
                )),
            }
        }
    }
    if !studies.is_empty() {
        names = studies.to_vec();
    }
    names.sort();
    let mut seen = SeenRuns::default();
    for name in &names {
        check(c, name, &mut seen, &mut checked)?;
    }
    Ok(checked)
}

/// The folders in `dir` that may be a study's; everything else there is told, but what is `known`. Where studies were `named`, no
/// other folder is asked for.
fn stray(dir: &Path, known: &[&str], named: bool, checked: &mut Checked) -> Result<Vec<String>> {
    let mut names = Vec::new();
    if named && !dir.is_dir() {
        return Ok(names);
    }
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry.with_context(|| format!("cannot list {}", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_folder = entry.path().is_dir();
        match name.starts_with('.') {
            false if is_folder => {
                if !named {
                    names.push(name);
                }
            }
            _ if known.contains(&name.as_str()) => {}
            _ => checked.notes.push(format!(
                "{} is not of medft and was not checked",
                entry.path().display()
            )),
        }
    }
    names.sort();
    Ok(names)
}

fn check(c: &Context, name: &str, seen: &mut SeenRuns, checked: &mut Checked) -> Result<()> {
    let study = c.known(|known| Study::resolve(name, &c.global.experiments_dir, known));
    let folder = study.as_ref().map_or(name, |s| s.name.as_str()).to_owned();
    let store = Store::new(&c.global.results_dir, &folder);
    let reports = c.global.reports_dir.join(&folder);
    let mut whole = true;
    if store.folder().is_dir() {
        let _bar = c.progress.items(name, 0);
        let audit = store.audit(&expected, seen)?;
        checked.runs += audit.runs;
        whole = audit.findings.is_empty();
        checked.findings.extend(audit.findings);
        checked.notes.extend(audit.notes);
    } else if let (false, Err(e)) = (reports.is_dir(), &study) {
        // A name that is neither a study nor a folder of results is a slip of the pen.
        return Err(e.clone().into());
    } else {
        checked
            .notes
            .push(format!("{} has no results", store.folder().display()));
        if !reports.is_dir() {
            return Ok(());
        }
    }
    if !reports.is_dir() {
        checked.notes.push(format!("{} is not there", reports.display()));
        return Ok(());
    }
    // What it would be rendered from again, or why it cannot be.
    let study = match study {
        Err(e) => Err(e.to_string()),
        Ok(_) if !whole => Err("it follows from records, and those are not whole".to_owned()),
        Ok(study) => Ok(study),
    };
    let mut told = false;
    for folder in parts(&reports)? {
        let again = check_folder(c, name, &study, &reports, &folder, checked)?;
        if let Err(why) = again
            && !std::mem::replace(&mut told, true)
        {
            checked.notes.push(format!(
                "{} was held against its own hashes and not rendered again: {why}",
                reports.display()
            ));
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

/// Checks one report: every file against what `report.json` says, and, where the study is known and its records are whole, against
/// the report rendered again from the records alone. Says why it was not rendered.
///
/// `whole` is the folder of the whole study's report, which has the page on the data; `reports` that one, or a part's within it.
fn check_folder(
    c: &Context,
    name: &str,
    study: &Result<Study, String>,
    whole: &Path,
    reports: &Path,
    checked: &mut Checked,
) -> Result<Result<(), String>> {
    let path = reports.join(RENDERED);
    let rendered = match path.exists() || !only_data(reports) {
        true => record::<Rendered>(&path, &mut checked.findings),
        // The data were audited, and nothing is rendered yet.
        false => None,
    };
    let shown = rendered.as_ref().map_or_else(BTreeMap::new, |r| r.audit.clone());
    let audit = check_audit(whole, &shown, checked);
    let stated = rendered.as_ref().map_or_else(BTreeMap::new, |r| r.files.clone());
    // The page on the data lies beside the whole report alone.
    let beside = (reports == whole).then_some(&audit.files);
    tell_unknown(reports, &stated, beside, checked);
    let Some(rendered) = rendered else {
        return Ok(Ok(()));
    };
    let why_not = match study {
        Err(why) => Some(why.clone()),
        Ok(_) if replaced_templates(report_place::templates(c)?.as_deref())? != rendered.templates => {
            Some("it was made with other templates than those that are given here (--templates)".to_owned())
        }
        Ok(_) => None,
    };
    let (Ok(study), None) = (study, &why_not) else {
        check_stated(reports, &stated, checked);
        check_seal(reports, None, checked)?;
        return Ok(why_not.map_or(Ok(()), Err));
    };
    let args = ReportArgs {
        study: StudyArgs {
            study: name.to_owned(),
            only: rendered.only.clone(),
        },
        replicates: rendered.replicates,
    };
    let (_, runs) = c.study(&args.study)?;
    let plan = Plan::make(c, study.clone(), runs)?;
    let again = tempfile::tempdir().context("cannot create a folder to render into")?;
    let out = report::write_to(c, &plan, &args, again.path())?;
    let mut stated = stated;
    for file in &out.files {
        let name = file.strip_prefix(again.path()).unwrap_or(file);
        let there = reports.join(name);
        checked.files += 1;
        let expected = fsio::read(file)?;
        let hash = stated.remove(&*name.to_string_lossy());
        let Ok(found) = fsio::read(&there) else {
            checked
                .findings
                .push(finding(&there, "this file of the report", "none"));
            continue;
        };
        let untouched = hash == Some(fsio::sha256_hex(&found)) || name == Path::new(RENDERED);
        if expected == found || (untouched && !audit.whole) {
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
    // Files that the report of these records would not have.
    check_stated(reports, &stated, checked);
    // Without the page on the data it names other files.
    let found = out.below(again.path());
    check_seal(reports, audit.whole.then_some(&found), checked)?;
    Ok(Ok(()))
}

/// Whether there is nothing in a report's folder but what `medft data audit` writes.
fn only_data(reports: &Path) -> bool {
    let of_audit = |f: &PathBuf| {
        let name = f.strip_prefix(reports).unwrap_or(f).to_string_lossy();
        name == AUDIT_SEAL || name.starts_with("data.")
    };
    fsio::below(reports).iter().all(of_audit)
}

/// Files against the hashes that `report.json` has of them.
fn check_stated(reports: &Path, stated: &BTreeMap<String, String>, checked: &mut Checked) {
    for (name, hash) in stated {
        let path = reports.join(name);
        checked.files += 1;
        let inside = Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
        let found = match inside {
            true => fsio::sha256_file(&path, |_| {}).map_err(|e| format!("{e:#}")),
            false => Err("a name that leads out of the report".to_owned()),
        };
        let expected = format!("a file that hashes to {hash}, as {RENDERED} says");
        match found {
            Ok(found) if found == *hash => {}
            Ok(found) => checked.findings.push(finding(
                &path,
                &expected,
                format!("an edited one that hashes to {found}"),
            )),
            Err(e) => checked.findings.push(finding(&path, &expected, e)),
        }
    }
}

/// Names the files of a report's folder that no record of it knows.
fn tell_unknown(
    reports: &Path,
    stated: &BTreeMap<String, String>,
    audit: Option<&BTreeSet<String>>,
    checked: &mut Checked,
) {
    let known = |f: &Path| {
        let name = f.strip_prefix(reports).unwrap_or(f);
        let shown = name.to_string_lossy();
        stated.contains_key(&*shown)
            || audit.is_some_and(|a| a.contains(&*shown) || shown == AUDIT_SEAL)
            || [RENDERED, SEAL].contains(&&*shown)
            // Of a part, which is checked by itself.
            || f.ancestors().skip(1).take_while(|a| *a != reports).any(|a| a.join(RENDERED).exists())
    };
    for f in fsio::below(reports).iter().filter(|f| !known(f)) {
        checked
            .notes
            .push(format!("{} is not of this report and was not checked", f.display()));
    }
}

/// What the seal says was found, against what is found now, where it was rendered again.
fn check_seal(reports: &Path, found: Option<&ReportOutput>, checked: &mut Checked) -> Result<()> {
    let path = reports.join(SEAL);
    if !path.exists() {
        checked.notes.push(format!(
            "{} is not there: the report is made anew when it is asked for",
            path.display()
        ));
        return Ok(());
    }
    checked.files += 1;
    let seal = record::<Sealed>(&path, &mut checked.findings);
    if let (Some(seal), Some(found)) = (seal, found) {
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

/// The page on the data.
struct DataPage {
    /// Whether it is as it was written, and the one that the report shows.
    whole: bool,
    /// Its files by name.
    files: BTreeSet<String>,
}

/// The page on the data and its pictures: as they were written, and those that the report shows (`shown`: name → hash).
fn check_audit(reports: &Path, shown: &BTreeMap<String, String>, checked: &mut Checked) -> DataPage {
    let before = checked.findings.len();
    let seal = reports.join(AUDIT_SEAL);
    let mut page = DataPage {
        whole: true,
        files: BTreeSet::new(),
    };
    if !seal.exists() && shown.is_empty() {
        return page;
    }
    checked.files += 1;
    let Some(sealed) = record::<AuditSeal>(&seal, &mut checked.findings) else {
        page.whole = false;
        page.files.extend(shown.keys().cloned());
        return page;
    };
    checked.files += sealed.files.len();
    for (name, then, now) in sealed.changed(reports) {
        let expected = format!("a file that hashes to {then}, as {AUDIT_SEAL} says");
        checked.findings.push(finding(&reports.join(name), &expected, now));
    }
    for (name, shown) in shown {
        if checked.findings.len() == before && sealed.files.get(name) != Some(shown) {
            let found = sealed.files.get(name).cloned().unwrap_or_else(|| "none".to_owned());
            let expected = format!("the page that {RENDERED} names, which hashes to {shown}");
            checked.findings.push(finding(&reports.join(name), &expected, found));
        }
    }
    page.whole = checked.findings.len() == before;
    page.files.extend(sealed.files.into_keys());
    page
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
