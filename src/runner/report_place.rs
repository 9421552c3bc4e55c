//! Where a study's report lies, and what makes it.

use super::Context;
use crate::error::BadInput;
use crate::fsio;
use crate::study::Study;
use anyhow::Result;
use std::path::PathBuf;

/// Where the report of a study lies, or of the part of it that `only` names: a folder of its own within the study's, so that a
/// part never stands where the whole was.
pub fn folder(c: &Context, study: &Study, only: &[String]) -> PathBuf {
    let whole = c.global.reports_dir.join(&study.name);
    if only.is_empty() { whole } else { whole.join(part(only)) }
}

/// The folder's name for a part: the filter as typed. Other characters are written by their number, so that two filters never share
/// a folder; a name too long for a file system ends in its hash.
fn part(only: &[String]) -> String {
    use std::fmt::Write as _;
    const LONGEST: usize = 120;
    let mut name = String::from("only-");
    for c in only.join(",").chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '=' | ',' | '.' | '-' | '_' => name.push(c),
            other => {
                let _ = write!(name, "%{:X}", u32::from(other));
            }
        }
    }
    if name.len() > LONGEST {
        let hash = fsio::sha256_hex(name.as_bytes());
        name.truncate(LONGEST - 17);
        let _ = write!(name, "-{}", &hash[..16]);
    }
    name
}

/// What pages are made with: this binary and the templates.
///
/// # Errors
/// When a template cannot be read.
pub fn maker(c: &Context) -> Result<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_has_a_folder_of_its_own() {
        let of = |only: &[&str]| part(&only.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["dataset=ddsm,seed=0"]), "only-dataset=ddsm,seed=0");
        assert_eq!(of(&["backbone=dinov2-*"]), "only-backbone=dinov2-%2A");
        assert_eq!(of(&["dataset=../a b"]), "only-dataset=..%2Fa%20b");
        assert_eq!(of(&["dataset=ddsm", "seed=0"]), "only-dataset=ddsm,seed=0");
        let long = |end: &str| of(&[&format!("backbone={}{end}", "x".repeat(300))]);
        assert_eq!(long("a").len(), 120);
        assert_ne!(long("a"), long("b"));
    }
}
