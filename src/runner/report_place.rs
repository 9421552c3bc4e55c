//! Where a study's report lies, and what makes it.

use super::Context;
use crate::error::BadInput;
use crate::fsio;
use crate::study::Study;
use anyhow::Result;
use std::path::PathBuf;

/// Where the report of a study lies.
pub fn folder(c: &Context, study: &Study) -> PathBuf {
    c.global.reports_dir.join(&study.name)
}

/// What pages are made with: this binary and the templates.
///
/// # Errors
/// When a template cannot be read.
pub fn maker(c: &Context) -> Result<String> {
    use std::fmt::Write as _;
    let mut text = format!("{} {:?}\n", env!("CARGO_PKG_VERSION"), crate::build_info::BuildInfo::get().commit);
    // Two builds of one commit with uncommitted changes differ in size or time.
    if let Ok(m) = std::env::current_exe().and_then(std::fs::metadata) {
        let _ = writeln!(text, "{} {:?}", m.len(), m.modified().ok());
    }
    if let Some(folder) = templates(c)? {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
            .map(|e| Ok(e?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        for f in files.iter().filter(|f| f.extension().is_some_and(|e| e == "tera")) {
            let name = f.file_name().unwrap_or_default().display();
            let _ = writeln!(text, "{name} {}", fsio::sha256_file(f, |_| {})?);
        }
    }
    Ok(text)
}

/// The folder of templates that replace the built-in ones, where one was asked for.
///
/// # Errors
/// [`BadInput`] where it is not there.
pub fn templates(c: &Context) -> Result<Option<PathBuf>> {
    match &c.global.templates {
        Some(folder) if !folder.is_dir() => Err(BadInput::new(
            format!("--templates {}", folder.display()),
            "a folder",
            "none",
            "Name the folder of your templates, or leave the option out to use the built-in ones.",
        )
        .into()),
        folder => Ok(folder.clone()),
    }
}
