//! `medft data card`: a data set's Croissant card on stdout.

use crate::cli::exit::{INCOMPLETE, OK};
use crate::data::csv::CsvTable;
use crate::data::registry;
use crate::manifest::card::{Columns, card};
use crate::manifest::{HashList, RelPath};
use crate::runner::Context;
use crate::study::Protocol;
use crate::{print, tell};
use anyhow::Result;
use std::borrow::Cow;

/// Exit code 1 where a file had to be left out because its SHA-256 is not known.
pub(super) fn run(c: &Context, set: &str, phantom: bool) -> Result<u8> {
    let source = registry::find(set)?;
    let m = c.catalogue.set(set)?;
    let dir = if phantom {
        c.global.data_dir.join("phantom")
    } else {
        c.global.data_dir.clone()
    };
    let root = dir.join(&m.folder);
    let own = c.places(&dir).list(set);
    let list: Option<Cow<HashList>> = if phantom {
        c.catalogue.phantom(set).map(Cow::Borrowed)
    } else if let Some(own) = own {
        Some(Cow::Owned(HashList::read(&own)?))
    } else {
        c.catalogue.list(set).map(Cow::Borrowed)
    };
    // Columns are those of the files here; without the files a card has none.
    let p = Protocol::faithful();
    let mut tables = Vec::new();
    for path in source.label_files(&p) {
        if path.extension().is_some_and(|e| e == "csv") && root.join(&path).is_file() {
            tables.push(Columns {
                names: CsvTable::open(&root.clone().into(), path.as_ref())?.header().to_vec(),
                path: path.display().to_string(),
            });
        }
    }
    let size = |path: &RelPath| Some(std::fs::metadata(path.below(&root)).ok()?.len());
    let made = card(m, list.as_deref(), size, &tables, phantom);
    print::json(&made.json)?;
    for what in &made.left_out {
        tell!("left out, since a card wants the SHA-256 of every file: {what}");
    }
    if !made.left_out.is_empty() {
        tell!("Bring the set and run `medft data lock {set}`: the card then lists all its files.");
        return Ok(INCOMPLETE);
    }
    Ok(OK)
}
