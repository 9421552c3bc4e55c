//! `medft man`: a page a verb.

use crate::cli::exit::OK;
use crate::runner::Context;
use crate::{outln, print};
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};

/// Writes the man pages.
pub(super) fn run(c: &Context, dir: &Path) -> Result<u8> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut files = Vec::new();
    let mut command = crate::cli::command().disable_help_subcommand(true);
    command.build();
    pages(&command, dir, &mut files)?;
    if c.global.json {
        print::json(&files)?;
    } else {
        files.iter().try_for_each(|f| outln!("{}", f.display()))?;
    }
    Ok(OK)
}

/// The page of a verb, then those of its own verbs.
fn pages(command: &clap::Command, dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    let mut page = Vec::new();
    man.render(&mut page)?;
    let file = dir.join(man.get_filename());
    crate::fsio::write_atomic(&file, &page)?;
    files.push(file);
    command.get_subcommands().try_for_each(|verb| pages(verb, dir, files))
}
