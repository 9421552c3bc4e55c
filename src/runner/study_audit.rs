//! The audit of a study's data beside its report: made once for the same data, and never in the report's way.
//!
//! A set whose images are here and verified is audited with them, any other by its label files alone. What the page was
//! made from and the hash of each of its files stand in a file beside it; while both hold, nothing is read again.

use super::audit::{Depth, StudyAudit, write_study};
use super::plan::Plan;
use super::{Context, inventory, report_place};
use crate::data::registry;
use crate::fsio;
use crate::report::{AUDIT_SEAL, AuditSeal};
use crate::results::write_record;
use crate::study::Study;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The stem of the page and its figure.
const STEM: &str = "data";

/// Writes `data.md` with its figure into the folder of the whole study's report, unless they are there and hold. The reports of
/// parts show the same page.
///
/// A page that cannot be written is said on stderr and leaves the report without this section.
pub fn ensure(c: &Context, plan: &Plan) {
    let folder = report_place::folder(c, &plan.study, &[]);
    if let Err(e) = make(c, plan, &folder) {
        c.progress.say(&format!("warning: the data were not audited: {e:#}"));
    }
}

fn make(c: &Context, plan: &Plan, folder: &Path) -> Result<()> {
    let inputs = inputs(c, plan)?;
    let known = AuditSeal::read(folder).ok();
    if known.is_some_and(|k| k.inputs == inputs && !k.files.is_empty() && k.changed(folder).is_empty()) {
        return Ok(());
    }
    let depth = |set: &str| match verified(plan, set) {
        Some(_) => Depth::Images,
        None => Depth::Labels,
    };
    write(c, &plan.study, inputs, &depth).map(|_| ())
}

/// Audits the data of a study because it was asked for, and writes the page. [`ensure`] makes it anew, since nothing says here that
/// the data are verified.
///
/// # Errors
/// When a file cannot be written. What is wrong with a set is among the absent ones.
pub fn by_hand(c: &Context, study: &Study, depth: Depth) -> Result<StudyAudit> {
    let inputs = fsio::sha256_hex(format!("{}by hand: {depth:?}", report_place::maker(c)?).as_bytes());
    write(c, study, inputs, &|_| depth)
}

/// Writes the page and its figure, and then what they hash to.
fn write(c: &Context, study: &Study, inputs: String, depth: &dyn Fn(&str) -> Depth) -> Result<StudyAudit> {
    let folder = report_place::folder(c, study, &[]);
    let found = write_study(c, study, depth)?;
    let mut files = BTreeMap::new();
    for path in &found.files {
        if let Some(name) = path.file_name().and_then(|n| n.to_str()) {
            files.insert(name.to_owned(), fsio::sha256_file(path, |_| {})?);
        }
    }
    // A drawing of an earlier page would be taken for one of this page.
    for end in ["svg", "png"] {
        let name = format!("{STEM}.{end}");
        if !files.contains_key(&name) {
            let _ = fs::remove_file(folder.join(name));
        }
    }
    write_record(&folder.join(AUDIT_SEAL), &AuditSeal { inputs, files })?;
    Ok(found)
}

/// The root hash of a set that is whole.
fn verified(plan: &Plan, set: &str) -> Option<String> {
    let report = plan.inventory.sets.get(set)?;
    report.require().ok().map(|root| root.to_string())
}

/// The hash of everything the page is made from, this binary included.
fn inputs(c: &Context, plan: &Plan) -> Result<String> {
    use std::fmt::Write as _;
    let mut text = report_place::maker(c)?;
    let _ = writeln!(text, "{}", plan.study.title);
    for (set, protocol) in plan.study.tables() {
        let source = registry::find(set)?;
        let dir = inventory::data_dir(c, plan.study.scale, set)?.1;
        let root = dir.join(source.info(&protocol).folder);
        let _ = writeln!(
            text,
            "{set} {} {}",
            source.info(&protocol).folder,
            serde_json::to_string(&protocol)?
        );
        let _ = writeln!(text, "{}", serde_json::to_string(c.catalogue.set(set)?)?);
        if let Some(root) = verified(plan, set) {
            let _ = writeln!(text, "whole {root}");
            continue;
        }
        let (labels, more) = (source.label_files(&protocol), source.optional_files(&protocol));
        for file in labels.iter().chain(&more) {
            let hash = fsio::sha256_file(&root.join(file), |_| {}).unwrap_or_else(|e| format!("unreadable: {e:#}"));
            let _ = writeln!(text, "{} {hash}", file.display());
        }
    }
    Ok(fsio::sha256_hex(text.as_bytes()))
}
