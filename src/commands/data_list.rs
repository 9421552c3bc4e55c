//! `medft data list`: what each data set is, where it comes from, and whether it is here.

use crate::cli::exit::OK;
use crate::runner::Context;
use crate::{outln, print, text};
use anyhow::Result;

/// Every set with where it comes from, its licence, and whether it is here.
pub(super) fn run(c: &Context) -> Result<u8> {
    let mut rows = Vec::new();
    let mut json = Vec::new();
    for m in c.catalogue.sets() {
        let folder = c.global.data_dir.join(&m.folder);
        let here = match (
            folder.is_dir(),
            c.catalogue.list(&m.set).is_some() || c.places(&c.global.data_dir).list(&m.set).is_some(),
        ) {
            (false, _) => "not here",
            (true, true) => "here, locked",
            (true, false) => "here, not locked",
        };
        let licence = m.licence.images.clone().unwrap_or_else(|| "unknown".to_owned());
        rows.push(vec![m.set.clone(), m.title.clone(), here.to_owned(), licence.clone()]);
        json.push(serde_json::json!({
            "set": m.set, "title": m.title, "folder": folder.display().to_string(), "state": here, "licence": licence,
            "get": m.how_to_get(), "manifest": m,
        }));
    }
    if c.global.json {
        print::json(&json)?;
        return Ok(OK);
    }
    outln!("{}", text::table(&["set", "title", "state", "licence"], &rows))?;
    for m in c.catalogue.sets() {
        let doi = m
            .citation
            .doi
            .as_ref()
            .map_or_else(String::new, |d| format!(", doi:{d}"));
        outln!(
            "\n{}: images: {}; labels: {}",
            m.set,
            m.licence.text(),
            m.licence.labels
        )?;
        outln!("  cite: {}{doi}", m.citation.text)?;
        if c.global.verbose > 0 {
            outln!("  get: {}", m.how_to_get().replace('\n', "\n  "))?;
            if !m.by_hand().is_empty() {
                outln!("  by hand, in the data directory:{}", m.by_hand())?;
            }
        }
    }
    Ok(OK)
}
