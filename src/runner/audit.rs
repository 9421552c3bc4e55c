//! What a data set is made of, what its parts share, what is in it twice.

use super::{Context, inventory, report_place};
use crate::data::audit::{self, Balance};
use crate::data::{Dataset, Pixels, Sample, fraction, leaks, registry};
use crate::error::BadInput;
use crate::manifest::{DataKind, FoundCounts, check_counts, check_labels};
use crate::privacy::without_places;
use crate::report::data::{DataPage, RuleAudit, RuleOutcome, SetAudit, render};
use crate::spec::protocol::Duplicates;
use crate::study::{Protocol, SplitRule, Study};
use anyhow::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// How far an audit looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Label files alone.
    Labels,
    /// Every image as well.
    Images,
}

/// Audits one set and writes `reports/data/<set>.md`; also returns where the page is.
///
/// # Errors
/// [`BadInput`] when the set is not there, its label files cannot be read, or none of its images can.
pub fn write_set(
    c: &Context,
    set: &str,
    protocol: &Protocol,
    phantom: bool,
    depth: Depth,
) -> Result<(SetAudit, PathBuf)> {
    let found = audit_set(c, set, protocol, phantom, &data_dir(c, phantom), depth)?;
    let templates = report_place::templates(c)?;
    let page = DataPage {
        title: &format!("The data of {}", found.title),
        sets: std::slice::from_ref(&found),
        absent: &[],
        templates: templates.as_deref(),
    };
    let path = render(&page, &c.global.reports_dir.join("data"), set)?.swap_remove(0);
    Ok((found, path))
}

/// What [`write_study`] found and wrote.
pub struct StudyAudit {
    pub audits: Vec<SetAudit>,
    /// Set and reason, for those that could not be audited.
    pub absent: Vec<(String, String)>,
    /// The page first.
    pub files: Vec<PathBuf>,
}

/// Audits the sets of a study and writes `reports/<study>/data.md` with its figure: one section a table of the study.
///
/// # Errors
/// When a file cannot be written. What is wrong with a set is among the absent ones.
pub fn write_study(c: &Context, study: &Study, depth: &dyn Fn(&str) -> Depth) -> Result<StudyAudit> {
    let (mut audits, mut absent) = (Vec::new(), Vec::new());
    for (set, protocol) in study.tables() {
        let (kind, dir) = inventory::data_dir(c, study.scale, set)?;
        match audit_set(c, set, &protocol, kind == DataKind::Phantom, &dir, depth(set)) {
            Ok(found) => audits.push(found),
            Err(e) => absent.push((study.table(set, &protocol), without_places(&format!("{e:#}")))),
        }
    }
    let templates = report_place::templates(c)?;
    let page = DataPage {
        title: &format!("The data of: {}", study.title),
        sets: &audits,
        absent: &absent,
        templates: templates.as_deref(),
    };
    let files = render(&page, &c.global.reports_dir.join(&study.name), "data")?;
    Ok(StudyAudit { audits, absent, files })
}

fn data_dir(c: &Context, phantom: bool) -> PathBuf {
    match phantom {
        true => c.global.data_dir.join("phantom"),
        false => c.global.data_dir.clone(),
    }
}

/// Audits one set below `dir` under `p`.
///
/// # Errors
/// [`BadInput`] when the set is not there, its label files cannot be read, or none of its images can.
fn audit_set(c: &Context, set: &str, p: &Protocol, phantom: bool, dir: &Path, depth: Depth) -> Result<SetAudit> {
    let source = registry::find(set)?;
    let info = source.info(p);
    let manifest = c.catalogue.set(set)?;
    let root = dir.join(info.folder);
    if !root.is_dir() {
        let remedy = if phantom {
            format!("Generate it with `medft data synth {set}`.")
        } else {
            manifest.how_to_get()
        };
        return Err(BadInput::new(root.display(), format!("the folder of {}", info.title), "none", remedy).into());
    }
    let mut d = source.load(&root, p)?;
    let (label_files, counts) = if phantom {
        (Vec::new(), Vec::new())
    } else {
        let values = protocol_values(set, p);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        (
            check_labels(manifest, &root),
            check_counts(manifest, &values, &found_counts(&d)),
        )
    };
    // The manifest counts all of a set.
    fraction::keep(&mut d, p.train_fraction);
    let labels = audit::labels(&d);
    let used = SplitRule::of(set, p);
    let rule = |rule: SplitRule| {
        let mut q = p.clone();
        rule.set(set, &mut q);
        RuleAudit {
            rule: rule.as_str(),
            used: used == Some(rule),
            outcome: match source.load(&root, &q) {
                Ok(d) if blind(&d, &q) => RuleOutcome::Impossible(
                    "copies of one image are found by the bytes of the images, and they are not all here".to_owned(),
                ),
                Ok(d) => RuleOutcome::Cut {
                    images: [d.train.len(), d.val.len(), d.test.len()],
                    leaks: leaks(&d),
                },
                Err(e) => RuleOutcome::Impossible(without_places(&format!("{e:#}"))),
            },
        }
    };
    Ok(SetAudit {
        set: set.to_owned(),
        title: info.title.to_owned(),
        folder: root.clone(),
        phantom,
        preset: p.preset.to_string(),
        split: SplitRule::name(set, p).to_owned(),
        label_files,
        labels,
        counts,
        rules: SplitRule::of_set(set).into_iter().map(rule).collect(),
        pictures: match depth {
            Depth::Labels => None,
            Depth::Images => Some(pictures(c, &d, p, info.title)?),
        },
    })
}

/// Whether copies of one image were to be kept together and could not be looked for.
fn blind(d: &Dataset, p: &Protocol) -> bool {
    let gone = |s: &Sample| matches!(&s.pixels, Pixels::File(f) if !d.root.join(f).is_file());
    let unnamed = || registry::SETS.get(d.info.name).is_some_and(|s| !s.names_groups());
    p.duplicates == Duplicates::Together && unnamed() && d.samples.iter().any(gone)
}

fn pictures(c: &Context, d: &Dataset, p: &Protocol, title: &str) -> Result<audit::PictureAudit> {
    let bar = c.progress.items(&format!("{title} images"), 0);
    audit::pictures(d, p, &bar.counted())
}

/// The protocol's values, by which the manifest's counts say under which choices they hold; none where they hold under none.
fn protocol_values(set: &str, p: &Protocol) -> Vec<String> {
    if registry::SETS.get(set).is_some_and(|s| !s.counts_hold(p)) {
        return Vec::new();
    }
    match serde_json::to_value(p) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .filter_map(|(_, v)| v.as_str().map(str::to_owned))
            .collect(),
        _ => Vec::new(),
    }
}

fn found_counts(d: &Dataset) -> Vec<FoundCounts> {
    let all: Vec<u32> = (0..d.samples.len() as u32).collect();
    let parts = [("train", &d.train), ("val", &d.val), ("test", &d.test), ("all", &all)];
    let found = |(name, part): (&'static str, &Vec<u32>)| {
        let Balance { images, classes, .. } = audit::balance(d, name, part);
        FoundCounts {
            split: name.to_owned(),
            images: images as u64,
            classes: d
                .info
                .classes
                .iter()
                .cloned()
                .zip(classes.into_iter().map(|n| n as u64))
                .collect(),
        }
    };
    parts.into_iter().map(found).collect()
}
