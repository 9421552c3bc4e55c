//! Is every stored number the one that was stored, and does every rendered number follow from them?

use super::plan::Plan;
use super::{Context, report};
use crate::cli::{ReportArgs, StudyArgs};
use crate::fsio;
use crate::report::{RENDERED, Rendered};
use crate::results::{Finding, Store, read_record};
use crate::study::{Known, Study};
use anyhow::{Context as _, Result};
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
    let (datasets, backbones) = (crate::data::registry::names(), crate::model::registry::names());
    let known = Known {
        datasets: &datasets,
        backbones: &backbones,
    };
    let study = Study::resolve(name, &c.global.experiments_dir, &known);
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
    let audit = store.audit()?;
    checked.runs += audit.runs;
    let whole = audit.findings.is_empty();
    checked.findings.extend(audit.findings);
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
                check_report(c, name, study.clone(), &folder, checked)?;
            }
        }
    }
    Ok(())
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

/// Renders the report again from the records alone and holds it against what lies there.
fn check_report(c: &Context, name: &str, study: Study, reports: &Path, checked: &mut Checked) -> Result<()> {
    let finding = |at: &Path, expected: &str, found: String| Finding {
        at: at.display().to_string(),
        expected: expected.to_owned(),
        found,
    };
    let path = reports.join(RENDERED);
    let rendered = match read_record::<Rendered>(&path) {
        Ok((r, _)) => r,
        Err(e) => {
            checked
                .findings
                .push(finding(&path, "what the report was made with", format!("{e:#}")));
            return Ok(());
        }
    };
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
        let Ok(found) = fs::read(&there) else {
            checked
                .findings
                .push(finding(&there, "this file of the report", "none".to_owned()));
            continue;
        };
        if expected == found {
            continue;
        }
        let stated = rendered.files.get(&*name.to_string_lossy());
        if stated == Some(&fsio::sha256_hex(&found)) || name == Path::new(RENDERED) {
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
    Ok(())
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
