//! `medft new`: writes a commented study file to begin with.

use crate::cli::NewArgs;
use crate::cli::exit::OK;
use crate::error::BadInput;
use crate::runner::Context;
use crate::study::{NewStudy, Study};
use crate::{fsio, outln, print};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Refuses a name that is taken; what is written can be run.
pub(super) fn run(c: &Context, a: NewArgs) -> Result<u8> {
    let path = match a.study.ends_with(".toml") || a.study.contains('/') {
        true => PathBuf::from(&a.study).with_extension("toml"),
        false => c.global.experiments_dir.join(format!("{}.toml", a.study)),
    };
    let name = path.file_stem().and_then(|s| s.to_str()).unwrap_or_default().to_owned();
    let taken = |found: String| BadInput::new(path.display(), "a new study", found, "Choose another name.");
    if Study::names(&c.global.experiments_dir).contains(&name) {
        return Err(taken(format!("`{name}`, the name of a built-in one")).into());
    }
    if path.symlink_metadata().is_ok() {
        return Err(taken("a file that is there already".into()).into());
    }
    let study = NewStudy {
        name,
        title: a.title,
        preset: a.preset,
        scale: a.scale,
        datasets: a.dataset,
        backbones: a.backbone,
        freeze: a.freeze,
        heads: a.heads,
        seeds: a.seeds,
        set: a.set,
    };
    let at = path.display().to_string();
    let (text, read) = c.known(|known| study.text(&at, known))?;
    fsio::write_atomic(&path, text.as_bytes())?;
    let name = argument(&path, &c.global.experiments_dir, &read.name);
    let (cells, runs) = (read.cells(), read.runs().len());
    if c.global.json {
        print::json(&serde_json::json!({ "study": read.name, "file": at, "cells": cells, "runs": runs }))?;
        return Ok(OK);
    }
    outln!("{at}: {} cells, {} runs", cells, runs)?;
    outln!("Next: `medft plan {name}`, `medft run {name}`, `medft report {name}`.")?;
    Ok(OK)
}

/// The study as a command line names it.
fn argument(path: &Path, experiments: &Path, name: &str) -> String {
    match path.parent() == Some(experiments) {
        true => name.to_owned(),
        false => path.display().to_string(),
    }
}
