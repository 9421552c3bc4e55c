//! `medft weights fetch`: downloads the published weights of backbones.

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::fetch::ErrorKind;
use crate::runner::Context;
use crate::runner::fetch_weights::{FetchState, WeightsOutcome, weights};
use crate::text::duration;
use crate::{outln, print, tell};
use anyhow::Result;
use indicatif::HumanBytes;

/// Fetches the preferred file of each backbone, or the pins that are named.
pub(super) fn run(c: &Context, backbones: &[String], study: &str, pins: &[String]) -> Result<u8> {
    let mut on_line = |l: &WeightsOutcome<'_>| if c.global.json { Ok(()) } else { say(l) };
    let lines = weights(c, backbones, study, pins, &mut on_line)?;
    if c.global.json {
        print::json(&lines)?;
    }
    Ok(code(lines.iter().filter_map(|l| l.why)))
}

/// 0 where nothing failed, 2 where bytes were wrong or the disk or request was, 1 where something is only missing.
pub(super) fn code(failures: impl Iterator<Item = ErrorKind>) -> u8 {
    let of = |why| match why {
        ErrorKind::Unreachable | ErrorKind::Refused | ErrorKind::Gone | ErrorKind::Offline => INCOMPLETE,
        ErrorKind::WrongBytes | ErrorKind::NoSpace | ErrorKind::Disk | ErrorKind::Archive | ErrorKind::Input => BROKEN,
    };
    failures.map(of).max().unwrap_or(OK)
}

fn say(l: &WeightsOutcome) -> Result<()> {
    let path = l.path.as_ref().map_or_else(String::new, |p| p.display().to_string());
    match l.state {
        FetchState::AlreadyHere => outln!("{}: already here, {path}", l.backbone)?,
        FetchState::Fetched => outln!(
            "{}: fetched, {path} ({} in {}{})",
            l.backbone,
            HumanBytes(l.received),
            duration(l.seconds),
            match l.resumed_from {
                0 => String::new(),
                n => format!(", {} from an earlier download", HumanBytes(n)),
            }
        )?,
        FetchState::Failed => outln!("{}: not fetched", l.backbone)?,
    }
    for n in &l.notes {
        outln!("  note       {n}")?;
    }
    if let Some(e) = &l.error {
        tell!("error: {e}");
    }
    Ok(())
}
