//! `medft data audit`: what a data set is made of, what its parts share, what is in it twice.

use crate::cli::exit::{INCOMPLETE, OK};
use crate::cli::{AuditArgs, StudyArgs};
use crate::data::registry;
use crate::error::BadInput;
use crate::report::data::SetAudit;
use crate::runner::Context;
use crate::runner::audit::{Depth, write_set};
use crate::runner::study_audit;
use crate::{outln, print, tell};
use anyhow::Result;
use std::path::PathBuf;

/// Audits the sets and writes the pages; exit code 1 where a set is not here or this copy of it is faulty.
pub(super) fn run(c: &Context, a: &AuditArgs) -> Result<u8> {
    let depth = if a.labels_only { Depth::Labels } else { Depth::Images };
    if let Some(study) = &a.study {
        let study_args = StudyArgs {
            study: study.clone(),
            only: Vec::new(),
        };
        let (study, _) = c.study(&study_args)?;
        let found = study_audit::by_hand(c, &study, depth)?;
        return say(c, &found.audits, &found.absent, &found.files[..1], a.strict);
    }
    if a.sets.is_empty() {
        let remedy = "Name one or more, or a study with --study.";
        return Err(BadInput::new("medft data audit", registry::names().join(", "), "no data set", remedy).into());
    }
    let protocol = a.preset.protocol();
    let (mut audits, mut pages) = (Vec::new(), Vec::new());
    for set in &a.sets {
        let (found, page) = write_set(c, set, &protocol, a.phantom, depth)?;
        audits.push(found);
        pages.push(page);
    }
    say(c, &audits, &[], &pages, a.strict)
}

fn say(c: &Context, audits: &[SetAudit], absent: &[(String, String)], pages: &[PathBuf], strict: bool) -> Result<u8> {
    if c.global.json {
        print::json(&audits)?;
    } else {
        pages.iter().try_for_each(|p| outln!("{}", p.display()))?;
    }
    for a in audits {
        tell!("{}", line(a));
    }
    for (set, why) in absent {
        tell!("{set}: not audited: {why}");
    }
    let damaged = |a: &SetAudit| a.pictures.as_ref().is_some_and(|p| p.damaged > 0);
    let whole = absent.is_empty() && !audits.iter().any(|a| a.faulty() || strict && damaged(a));
    Ok(if whole { OK } else { INCOMPLETE })
}

/// The audit in a line.
fn line(a: &SetAudit) -> String {
    let wrong = a.counts.iter().filter(|c| !c.ok).count();
    let test = &a.labels.leaks.test_in_train;
    let mut out = format!(
        "{} ({} split): {} images; {} of {} numbers differ from the manifest; {} test images whose group is in train",
        a.set,
        a.split,
        a.labels.images,
        wrong,
        a.counts.len(),
        test.images_of_shared_groups
    );
    if let Some(p) = &a.pictures {
        out.push_str(&format!(
            "; {} images with a twin of the same pixels, {} of the same looks; {} unreadable",
            p.same_pixels.images,
            p.same_looks.images,
            p.failed.len()
        ));
    }
    out
}
