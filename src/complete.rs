//! What a shell offers after a Tab: studies, data sets, backbones, and keys and values of `--only`, asked of this binary when the
//! key is pressed, so that a study of one's own is known too.

use crate::study::{Filter, Known, Published, Study};
use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};
use std::ffi::OsStr;
use std::path::PathBuf;

/// Names of studies: those built in and those of the folder of studies. Paths are offered too.
pub fn studies() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let mut names = Study::names(&experiments_dir());
        names.extend(below(&experiments_dir(), ""));
        if typed.contains('/') {
            let (folder, _) = typed.rsplit_once('/').unwrap_or_default();
            let own = below(&PathBuf::from(format!("{folder}/")), ".toml");
            names.extend(own.into_iter().map(|n| format!("{folder}/{n}")));
        }
        names.sort();
        names.dedup();
        offer(names, &typed)
    })
}

/// Names of data sets.
pub fn sets() -> ArgValueCandidates {
    ArgValueCandidates::new(|| plain(crate::data::registry::names()))
}

/// Names of backbones.
pub fn backbones() -> ArgValueCandidates {
    ArgValueCandidates::new(|| plain(crate::model::registry::names()))
}

/// Names of everything that has weights of its own: the backbones, and what heads bring.
pub fn weights() -> ArgValueCandidates {
    ArgValueCandidates::new(|| plain(crate::manifest::Catalogue::embedded().backbones()))
}

/// `key=` and, after it, what the study on the command line has of it.
pub fn only() -> ArgValueCompleter {
    ArgValueCompleter::new(|typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let study = study_of_command_line();
        let all = match &study {
            Some(study) => Filter::choices(study),
            None => Filter::keys().into_iter().map(|k| (k, Vec::new())).collect(),
        };
        match typed.split_once('=') {
            None => offer(all.iter().map(|(key, _)| format!("{key}=")), &typed),
            Some((key, _)) => {
                let values = all.into_iter().find(|(k, _)| *k == key).map(|(_, v)| v);
                offer(values.unwrap_or_default().iter().map(|v| format!("{key}={v}")), &typed)
            }
        }
    })
}

fn plain<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Vec<CompletionCandidate> {
    names.into_iter().map(|n| CompletionCandidate::new(n.into())).collect()
}

fn offer(names: impl IntoIterator<Item = String>, typed: &str) -> Vec<CompletionCandidate> {
    plain(names.into_iter().filter(|n| n.starts_with(typed)))
}

/// Stems of the TOML files of a folder, `end` added; nothing where it cannot be read.
fn below(folder: &std::path::Path, end: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let stem = |f: std::fs::DirEntry| Some(f.file_name().to_str()?.strip_suffix(".toml")?.to_owned() + end);
    files.filter_map(stem).collect()
}

/// The arguments of the command line that is being completed.
fn args() -> Vec<String> {
    let all: Vec<String> = std::env::args_os().map(|w| w.to_string_lossy().into_owned()).collect();
    let begin = all.iter().position(|w| w == "--").map_or(all.len(), |i| i + 1);
    all[begin..].to_vec()
}

fn experiments_dir() -> PathBuf {
    let args = args();
    let typed = args
        .iter()
        .position(|w| w == "--experiments-dir")
        .and_then(|i| args.get(i + 1));
    let joined = args.iter().find_map(|w| w.strip_prefix("--experiments-dir="));
    match (
        typed.map(String::as_str).or(joined),
        std::env::var_os("MEDFT_EXPERIMENTS_DIR"),
    ) {
        (Some(dir), _) => dir.into(),
        (None, Some(dir)) => dir.into(),
        (None, None) => "experiments".into(),
    }
}

/// The study that the line being completed names.
fn study_of_command_line() -> Option<Study> {
    let dir = experiments_dir();
    let published = Published::names(&dir);
    let known = Known {
        datasets: &crate::data::registry::names(),
        backbones: &crate::model::registry::names(),
        published: &published.iter().map(String::as_str).collect::<Vec<_>>(),
    };
    let resolve = |w: &String| Study::resolve(w, &dir, &known).ok();
    args().iter().skip(2).filter(|w| !w.starts_with('-')).find_map(resolve)
}
