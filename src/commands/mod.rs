//! One file a verb. Each tells the story of its verb; how anything is done is in the rooms.

mod bundle;
mod card;
mod data;
mod data_add;
mod doctor;
mod weights;

use crate::cli::exit::OK;
use crate::cli::{Cli, Global, Verb};
use crate::data::Source as _;
use crate::data::registry::SETS;
use crate::data::table::TableSource;
use crate::error::BadInput;
use crate::manifest::{Catalogue, DataManifest};
use crate::runner::{Context, bench, fit, plan, report, reproduce, verify_results};
use crate::train::Trainer;
use crate::train::fit::CandleTrainer;
use anyhow::Result;
use std::borrow::Cow;
use std::path::Path;

/// Runs a verb and returns the exit code.
///
/// # Errors
/// For wrong use and broken input (exit code 2).
pub fn run(cli: Cli) -> Result<u8> {
    crate::device::instructions()?;
    run_with(cli, &CandleTrainer)
}

/// As [`run`], with another trainer: tests of scheduling and crashes use the scripted one.
///
/// # Errors
/// As [`run`].
pub fn run_with(cli: Cli, trainer: &'static dyn Trainer) -> Result<u8> {
    let catalogue = catalogue(&cli.global)?;
    let c = Context {
        global: cli.global,
        catalogue,
        trainer,
    };
    match cli.verb {
        Verb::Data(v) => data::run(&c, v),
        Verb::Weights(v) => weights::run(&c, v),
        Verb::Plan(a) => plan::run(&c, &a),
        Verb::Run(a) => fit::run(&c, &a),
        Verb::Report(a) => report::run(&c, &a),
        Verb::Compare(a) => report::compare(&c, &a),
        Verb::VerifyResults { studies } => verify_results::run(&c, &studies),
        Verb::Reproduce(a) => reproduce::run(&c, &a),
        Verb::Bundle(a) => bundle::run(&c, &a),
        Verb::Bench(a) => bench::run(&c, &a),
        Verb::Doctor => doctor::run(&c),
        Verb::Completions { shell } => {
            let mut command = <Cli as clap::CommandFactory>::command();
            clap_complete::generate(shell, &mut command, "medft", &mut std::io::stdout());
            Ok(OK)
        }
    }
}

/// The manifests compiled in, or those of the folder that `MEDFT_MANIFESTS` names (another mirror, another pin, a test), with those
/// of the user's own data sets, which become sources, and those that registered data sets bring.
fn catalogue(global: &Global) -> Result<&'static Catalogue> {
    let own = own_sets(global.own_manifests())?;
    let given = global
        .manifests_dir
        .as_deref()
        .filter(|d| !d.as_os_str().is_empty() && replaces(d));
    let all = match given {
        // A folder that holds the user's own sets alone adds to the built-in ones.
        None => Cow::Borrowed(Catalogue::embedded()),
        Some(dir) => Cow::Owned(Catalogue::from_dir(dir)?),
    };
    for source in own {
        // A process that runs several verbs finds it registered.
        if SETS.get(source.name()).is_none() {
            SETS.register(Box::leak(Box::new(source)))?;
        }
    }
    let brought = SETS.all().into_iter().filter_map(|s| Some((s.name(), s.manifest()?)));
    let new: Vec<_> = brought.filter(|(set, _)| all.set(set).is_err()).collect();
    Ok(match all {
        Cow::Borrowed(built_in) if new.is_empty() => built_in,
        all => Box::leak(Box::new(all.with(new.into_iter())?)),
    })
}

/// Whether a folder of manifests stands for the built-in ones: it holds something besides tables.
fn replaces(dir: &Path) -> bool {
    let other = |e: std::fs::DirEntry| {
        let path = e.path();
        let manifest = path.extension().is_some_and(|x| x == "toml" || x == "sha256");
        path.is_dir() || (manifest && !std::fs::read_to_string(&path).is_ok_and(|t| is_table(&t)))
    };
    std::fs::read_dir(dir).is_ok_and(|all| all.flatten().any(other))
}

/// Whether a manifest says `layout = "table"`.
fn is_table(text: &str) -> bool {
    let plain = |l: &str| l.split_whitespace().collect::<String>() == "layout=\"table\"";
    text.lines().any(plain)
}

/// The data sets that manifests of `layout = "table"` in a folder describe.
fn own_sets(dir: &Path) -> Result<Vec<TableSource>> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Ok(Vec::new());
    };
    let mut files = entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    files.sort();
    let mut own = Vec::new();
    for path in files {
        let text = crate::fsio::read_to_string(&path)?;
        let at = path.display().to_string();
        if !is_table(&text) {
            continue;
        }
        let m = DataManifest::parse(&text, &at)?;
        let bad = |e: String| {
            BadInput::new(
                &at,
                "a [table] that describes the set",
                e,
                "Correct it, or add the set again.",
            )
        };
        if SETS.built_in().iter().any(|s| s.name() == m.set) {
            return Err(bad(format!("`{}`, the name of a built-in data set", m.set)).into());
        }
        let table = m.table.clone().ok_or_else(|| bad("none".into()))?;
        let spec = table
            .try_into()
            .map_err(|e: toml::de::Error| bad(e.message().to_owned()))?;
        own.push(TableSource::new(&m.set, &m.title, &m.folder, spec, &text)?);
    }
    Ok(own)
}
