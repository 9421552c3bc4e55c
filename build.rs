//! Puts the papers into the binary: every file of `experiments/papers/`, so that adding a paper is adding a folder.
#![allow(clippy::disallowed_methods)] // What it writes is of the build.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=experiments/papers");
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or(io::ErrorKind::NotFound);
    let papers = variable("CARGO_MANIFEST_DIR")?.join("experiments").join("papers");
    let mut out = String::from("&[\n");
    for key in names(&papers)?.into_iter().filter(|key| papers.join(key).is_dir()) {
        for file in names(&papers.join(&key))? {
            // From the checkout that is compiled, not the one this program ran in: two may share a target folder.
            let path = format!("/experiments/papers/{key}/{file}");
            let text = format!("include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))");
            writeln!(out, "    ({key:?}, {file:?}, {text}),").map_err(io::Error::other)?;
        }
    }
    out.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("papers.rs"), out)
}

/// What a folder holds, in order; what an editor or a system hides there is none of it.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        all.push(entry?.file_name().to_string_lossy().into_owned());
    }
    all.retain(|name| !name.starts_with('.') && !name.ends_with('~'));
    all.sort();
    Ok(all)
}
