//! `medft verify-results`: is every stored number the one that was stored, and does every rendered number follow from them?

use crate::cli::exit::{BROKEN, OK};
use crate::runner::Context;
use crate::runner::verify_results::{Checked, verify};
use crate::{outln, print, tell};
use anyhow::Result;

/// Checks the named studies, or every folder of results; exit code 2 where anything is not what it should be.
pub(super) fn run(c: &Context, studies: &[String]) -> Result<u8> {
    let checked = verify(c, studies)?;
    match c.global.json {
        true => print::json(&checked)?,
        false => say(&checked)?,
    }
    Ok(code(&checked))
}

/// What was found, in words.
pub(super) fn say(checked: &Checked) -> Result<()> {
    for n in &checked.notes {
        tell!("note: {n}");
    }
    for f in &checked.findings {
        outln!("{f}")?;
    }
    let Checked { runs, files, .. } = checked;
    outln!(
        "{runs} runs and {files} rendered files checked: {} not as they should be",
        match checked.findings.len() {
            0 => "none".to_owned(),
            n => n.to_string(),
        }
    )
}

/// The exit code of what was found.
pub(super) fn code(checked: &Checked) -> u8 {
    if checked.findings.is_empty() { OK } else { BROKEN }
}
