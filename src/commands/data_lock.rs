//! `medft data lock`: hashes data sets that a user brought and writes their lists.

use crate::cli::exit::OK;
use crate::manifest::lock_set;
use crate::runner::{Context, acquire};
use crate::{outln, print};
use anyhow::Result;

/// Writes a list of every set named.
pub(super) fn run(c: &Context, sets: &[String]) -> Result<u8> {
    let mut reports = Vec::new();
    for set in sets {
        // A set whose labels cannot be read is not worth a list.
        acquire::read_labels(c, set)?;
        let bar = c.progress.bytes(set);
        let r = lock_set(c.catalogue, set, &c.global.data_dir, &bar.verified())?;
        drop(bar);
        if !c.global.json {
            outln!(
                "{}: {} files, root {}, list {}",
                r.set,
                r.files,
                r.root,
                r.list.display()
            )?;
        }
        reports.push(r);
    }
    if c.global.json {
        print::json(&reports)?;
    }
    Ok(OK)
}
