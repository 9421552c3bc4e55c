//! Where a study's report lies, and what makes it.

use super::Context;
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
pub fn maker() -> Result<String> {
    use std::fmt::Write as _;
    let mut text = format!(
        "{} {:?}\n",
        env!("CARGO_PKG_VERSION"),
        crate::build_info::BuildInfo::get().commit
    );
    // Two builds of one commit with uncommitted changes differ in size or time.
    if let Ok(m) = std::env::current_exe().and_then(std::fs::metadata) {
        let _ = writeln!(text, "{} {:?}", m.len(), m.modified().ok());
    }
    if let Some(folder) = templates() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)?
            .map(|e| Ok(e?.path()))
            .collect::<Result<_>>()?;
        files.sort();
        for f in files.iter().filter(|f| f.extension().is_some_and(|e| e == "tera")) {
            let _ = writeln!(text, "{} {}", f.display(), fsio::sha256_file(f, |_| {})?);
        }
    }
    Ok(text)
}

/// The folder of templates that replace the built-in ones, where there is one.
pub fn templates() -> Option<PathBuf> {
    Some(PathBuf::from("templates")).filter(|t| t.is_dir())
}
