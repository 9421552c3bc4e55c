//! `medft data fetch` and `medft data import`: from a publisher, or from archives a user brings, to a folder that verifies.

use super::weights_fetch::code;
use crate::error::BadInput;
use crate::manifest::DataManifest;
use crate::runner::Context;
use crate::runner::acquire::{self, SetOutcome, terms};
use crate::{outln, print, tell};
use anyhow::Result;
use indicatif::HumanBytes;
use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

/// Downloads sets.
pub(super) fn fetch(c: &Context, sets: &[String], copy: Option<&str>, accepted: bool) -> Result<u8> {
    let accept = |m: &DataManifest| accept(m, accepted);
    let mut on_line = |l: &SetOutcome| if c.global.json { Ok(()) } else { say(l) };
    let lines = acquire::fetch(c, sets, copy, &accept, &mut on_line)?;
    if c.global.json {
        print::json(&lines)?;
    }
    Ok(code(lines.iter().filter_map(|l| l.why)))
}

/// Takes in archives that the user has.
pub(super) fn import(c: &Context, set: &str, archives: &[PathBuf], copy: Option<&str>) -> Result<u8> {
    let line = acquire::import(c, set, archives, copy)?;
    match c.global.json {
        true => print::json(&[&line])?,
        false => say(&line)?,
    }
    Ok(code(line.why.into_iter()))
}

fn say(l: &SetOutcome) -> Result<()> {
    for a in &l.archives {
        let resumed = match a.resumed_from {
            0 => String::new(),
            n => format!(", {} of it from an earlier download", HumanBytes(n)),
        };
        outln!("  {}: {} from {}{resumed}", a.file, HumanBytes(a.bytes), a.from)?;
    }
    for n in &l.notes {
        outln!("  note       {n}")?;
    }
    let root = l.root.as_ref().map_or("", |r| &r[..12.min(r.len())]);
    match (l.state, &l.error) {
        (_, Some(e)) => {
            outln!("{}: not complete", l.set)?;
            tell!("error: {e}");
        }
        ("already-here", _) => outln!(
            "{}: already here and verified, {}, root {root}",
            l.set,
            l.folder.display()
        )?,
        (state, _) => outln!("{}: {state} and verified, {}, root {root}", l.set, l.folder.display())?,
    }
    Ok(())
}

/// Shows the terms and has them accepted, before the first byte.
fn accept(m: &DataManifest, accepted: bool) -> Result<(), BadInput> {
    tell!("{}", terms(m));
    if accepted {
        return Ok(());
    }
    let declined = |found: &str| {
        BadInput::new(
            format!("data fetch {}", m.set),
            "licence and terms to be accepted",
            found,
            "Read them; then run the same command with --accept-terms.",
        )
    };
    if !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        return Err(declined("no terminal to ask on"));
    }
    let _ = write!(std::io::stderr(), "Do you accept licence and terms? Type yes: ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let _ = std::io::stdin().lock().read_line(&mut answer);
    match answer.trim().eq_ignore_ascii_case("yes") {
        true => Ok(()),
        false => Err(declined("another answer than yes")),
    }
}
