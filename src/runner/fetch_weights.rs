//! Downloads the published weights of backbones.

use super::Context;
use super::inventory::has_deit;
use crate::cli::StudyArgs;
use crate::error::BadInput;
use crate::fetch::{Client, ErrorKind, FetchError, Hub};
use crate::manifest::{
    Check, Obtained, Places, WeightsManifest, WeightsReport, WeightsState, obtain_weights, verify_weights,
};
use crate::model::head::DEIT_NAME;
use crate::tell;
use anyhow::Result;
use indicatif::HumanBytes;
use serde::Serialize;
use std::path::PathBuf;

/// What came of one backbone.
#[derive(Serialize)]
pub struct WeightsOutcome<'a> {
    pub backbone: &'a str,
    pub pin: &'a str,
    pub state: FetchState,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "crate::fsio::lossy_path_if_any")]
    pub path: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Over the network, now.
    pub received: u64,
    /// Taken over from an earlier, unfinished download.
    pub resumed_from: u64,
    pub seconds: f64,
    pub licence: Option<&'a str>,
    pub notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<ErrorKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchState {
    Fetched,
    AlreadyHere,
    Failed,
}

/// Fetches the preferred file of each backbone (where none is named, of those of the study), or the pins that are named;
/// `on_line` is told what came of each.
///
/// # Errors
/// For an unknown name, a proxy or certificate that cannot be used, and what `on_line` returns. What is wrong with one file
/// stands in its line.
pub fn weights<'a>(
    c: &'a Context,
    backbones: &[String],
    study: &str,
    pins: &[String],
    on_line: &mut dyn FnMut(&WeightsOutcome<'_>) -> Result<()>,
) -> Result<Vec<WeightsOutcome<'a>>> {
    let chosen = choose(c, backbones, study, pins)?;
    let places = Places::new(&c.global.weights_dir);
    let hub = Hub::from_env(|k| std::env::var_os(k), places.hub.clone())?;
    let client = Client::from_env(|w| tell!("warning: {w}"));
    let mut lines = Vec::new();
    for pin in chosen {
        let line = match already_here(c, pin, &places)? {
            Some(report) => here(pin, &report),
            None => {
                c.progress.say(&announce(pin));
                let bar = c.progress.bytes(&pin.file);
                let got = obtain_weights(pin, &places, &client, &hub, &|e| bar.on_event(e));
                drop(bar);
                finished(pin, got)
            }
        };
        on_line(&line)?;
        lines.push(line);
    }
    Ok(lines)
}

fn choose<'a>(c: &'a Context, backbones: &[String], study: &str, pins: &[String]) -> Result<Vec<&'a WeightsManifest>> {
    let names = match (backbones.is_empty(), pins.is_empty()) {
        (false, _) => backbones.to_vec(),
        (true, false) => Vec::new(),
        (true, true) => of_the_study(c, study)?,
    };
    let mut named = Vec::new();
    for name in pins {
        let known: Vec<_> = c
            .catalogue
            .backbones()
            .iter()
            .filter(|b| names.is_empty() || names.iter().any(|n| n == *b))
            .flat_map(|b| c.catalogue.pins(b).unwrap_or_default())
            .collect();
        named.push(*known.iter().find(|p| p.name == *name).ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(|p| p.name.as_str()).collect();
            BadInput::new(
                "--pin",
                format!("one of {}", known.join(", ")),
                format!("`{name}`"),
                "Correct the name; `medft weights list` shows them.",
            )
        })?);
    }
    let mut out = Vec::new();
    for b in &names {
        let all = c.catalogue.pins(b)?;
        let own: Vec<_> = named.iter().copied().filter(|p| p.backbone == *b).collect();
        out.extend(if own.is_empty() { vec![all[0]] } else { own });
    }
    if names.is_empty() {
        out = named;
    }
    Ok(out)
}

/// The backbones of a study, and the body of its attention head where that is the published one.
fn of_the_study(c: &Context, study: &str) -> Result<Vec<String>> {
    let (study, runs) = c.study(&StudyArgs {
        study: study.into(),
        only: Vec::new(),
    })?;
    let mut names = study.backbones.clone();
    if runs.iter().any(has_deit) {
        names.push(DEIT_NAME.into());
    }
    Ok(names)
}

/// The report, where this very pin's file is here and right.
fn already_here(c: &Context, pin: &WeightsManifest, places: &Places) -> Result<Option<WeightsReport>> {
    let bar = c.progress.bytes(&pin.backbone);
    let r = verify_weights(c.catalogue, &pin.backbone, places, Check::Cached, &bar.verified())?;
    drop(bar);
    if let Some(bad) = r.rejected.iter().find(|r| r.pin == pin.name)
        && bad.path.starts_with(&places.weights_dir)
        && pin.repo.is_none()
    {
        return Err(BadInput::new(
            bad.path.display(),
            &bad.expected,
            &bad.found,
            "Delete the file, then fetch it again.",
        )
        .into());
    }
    let usable = matches!(r.state, WeightsState::Present | WeightsState::PresentUnverified { .. });
    Ok((usable && r.pin.as_ref().is_some_and(|p| p.name == pin.name)).then_some(r))
}

fn announce(pin: &WeightsManifest) -> String {
    let size = match (pin.size, &pin.size_shown) {
        (Some(n), _) => format!("{}", HumanBytes(n)),
        (None, Some(s)) => format!("about {s}"),
        (None, None) => "size not published".into(),
    };
    let licence = pin.licence.as_deref().unwrap_or("unknown");
    let conflict = pin
        .licence_conflict
        .as_ref()
        .map_or_else(String::new, |c| format!(". {c}"));
    format!(
        "{}: fetching {} ({size}), pin {}; licence: {licence}{conflict}",
        pin.backbone, pin.file, pin.name
    )
}

fn line<'a>(pin: &'a WeightsManifest, state: FetchState) -> WeightsOutcome<'a> {
    WeightsOutcome {
        backbone: &pin.backbone,
        pin: &pin.name,
        state,
        path: None,
        sha256: None,
        received: 0,
        resumed_from: 0,
        seconds: 0.0,
        licence: pin.licence.as_deref(),
        notes: Vec::new(),
        why: None,
        error: None,
    }
}

fn here<'a>(pin: &'a WeightsManifest, r: &WeightsReport) -> WeightsOutcome<'a> {
    let mut notes = r.notes.clone();
    if let WeightsState::PresentUnverified { why } = &r.state {
        notes.push(why.clone());
    }
    WeightsOutcome {
        path: r.path.clone(),
        sha256: r.sha256.map(|s| s.to_string()),
        notes,
        ..line(pin, FetchState::AlreadyHere)
    }
}

fn finished<'a>(pin: &'a WeightsManifest, got: Result<Obtained, FetchError>) -> WeightsOutcome<'a> {
    match got {
        Ok(o) => {
            let d = o.download.as_ref();
            WeightsOutcome {
                path: Some(o.path),
                sha256: Some(o.sha256.to_string()),
                received: d.map_or(0, |d| d.received),
                resumed_from: d.map_or(0, |d| d.resumed_from),
                seconds: d.map_or(0.0, |d| d.seconds),
                notes: o.note.into_iter().chain(o.warnings).collect(),
                ..line(pin, FetchState::Fetched)
            }
        }
        Err(e) => WeightsOutcome {
            why: Some(e.kind),
            error: Some(e.to_string()),
            ..line(pin, FetchState::Failed)
        },
    }
}
