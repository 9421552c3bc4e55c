//! `medft data`: what the data sets are, and whether the files here are they.

use crate::cli::DataVerb;
use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::data::registry;
use crate::error::BadInput;
use crate::manifest::{Kind, Mode, SetState, list_path, lock_phantom, lock_set};
use crate::runner::Context;
use crate::runner::inventory::verify;
use crate::study::Protocol;
use crate::text as ui;
use anyhow::Result;

pub fn run(c: &Context, v: DataVerb) -> Result<u8> {
    match v {
        DataVerb::List => list(c),
        DataVerb::Verify {
            sets,
            since_lock,
            full: _,
            phantom,
        } => verify_sets(c, &sets, if since_lock { Mode::SinceLock } else { Mode::Full }, phantom),
        DataVerb::Audit(a) => crate::runner::audit::run(c, &a),
        DataVerb::Card { set, phantom } => super::card::run(c, &set, phantom),
        DataVerb::Fetch {
            sets,
            copy,
            accept_terms,
        } => crate::runner::acquire::fetch(c, &sets, copy.as_deref(), accept_terms),
        DataVerb::Import { set, archives, copy } => crate::runner::acquire::import(c, &set, &archives, copy.as_deref()),
        DataVerb::Lock { sets } => lock(c, &sets),
        DataVerb::Synth {
            sets,
            images,
            write_lists,
        } => synth(c, &sets, images, write_lists.as_deref()),
    }
}

fn list(c: &Context) -> Result<u8> {
    let mut rows = Vec::new();
    let mut json = Vec::new();
    for m in c.catalogue.sets() {
        let folder = c.global.data_dir.join(&m.folder);
        let here = match (
            folder.is_dir(),
            c.catalogue.list(&m.set).is_some() || list_path(&c.global.data_dir, &m.set).is_file(),
        ) {
            (false, _) => "not here",
            (true, true) => "here, locked",
            (true, false) => "here, not locked",
        };
        let licence = m.licence.images.clone().unwrap_or_else(|| "unknown".to_owned());
        rows.push(vec![m.set.clone(), m.title.clone(), here.to_owned(), licence.clone()]);
        json.push(serde_json::json!({
            "set": m.set, "title": m.title, "folder": folder, "state": here, "licence": licence,
            "get": m.how_to_get(), "manifest": m,
        }));
    }
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(OK);
    }
    println!("{}", ui::table(&["set", "title", "state", "licence"], &rows));
    for m in c.catalogue.sets() {
        let doi = m
            .citation
            .doi
            .as_ref()
            .map_or_else(String::new, |d| format!(", doi:{d}"));
        println!(
            "\n{}: images: {}; labels: {}",
            m.set,
            m.licence.text(),
            m.licence.labels
        );
        println!("  cite: {}{doi}", m.citation.text);
        if c.global.verbose > 0 {
            println!("  get: {}", m.how_to_get().replace('\n', "\n  "));
            if !m.by_hand().is_empty() {
                println!("  by hand, in the data directory:{}", m.by_hand());
            }
        }
    }
    Ok(OK)
}

fn verify_sets(c: &Context, sets: &[String], mode: Mode, phantom: bool) -> Result<u8> {
    let (kind, dir) = if phantom {
        (Kind::Phantom, c.global.data_dir.join("phantom"))
    } else {
        (Kind::Real, c.global.data_dir.clone())
    };
    let all = sets.is_empty();
    let names: Vec<String> = match (all, phantom) {
        (false, _) => sets.to_vec(),
        (true, true) => of_paper().map(str::to_owned).collect(),
        (true, false) => registry::names().iter().map(|s| (*s).to_owned()).collect(),
    };
    let mut reports = Vec::new();
    for set in &names {
        let r = verify(c, set, kind, &dir, mode)?;
        if r.state == SetState::Verified && kind == Kind::Real {
            read_labels(c, set)?;
        }
        if all && !phantom && r.state == SetState::Missing {
            continue;
        }
        if !c.global.json {
            println!("{}", r.text(20));
            if !r.remedy.is_empty() {
                println!("  {}", r.remedy.replace('\n', "\n  "));
            }
        }
        reports.push(r);
    }
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    } else if reports.is_empty() {
        println!("no data set in {}", dir.display());
    }
    Ok(if reports.iter().any(|r| r.state == SetState::Differs) {
        BROKEN
    } else if !reports.is_empty() && reports.iter().all(|r| r.state == SetState::Verified) {
        OK
    } else {
        INCOMPLETE
    })
}

fn lock(c: &Context, sets: &[String]) -> Result<u8> {
    let mut reports = Vec::new();
    for set in sets {
        // A set whose labels cannot be read is not worth a list.
        read_labels(c, set)?;
        let bar = ui::bar(0, ui::Unit::Bytes);
        bar.set_prefix(set.clone());
        let on = |p: crate::manifest::Progress| {
            bar.set_length(p.bytes_total);
            bar.set_position(p.bytes_done);
        };
        let r = lock_set(c.catalogue, set, &c.global.data_dir, &on)?;
        bar.finish_and_clear();
        if !c.global.json {
            println!(
                "{}: {} files, root {}, list {}",
                r.set,
                r.files,
                r.root,
                r.list.display()
            );
        }
        reports.push(r);
    }
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(OK)
}

/// Reads the label files of a real set and forms its splits.
fn read_labels(c: &Context, set: &str) -> Result<()> {
    let source = registry::find(set)?;
    let root = c.global.data_dir.join(source.info(&Protocol::faithful()).folder);
    if root.is_dir() {
        crate::runner::acquire::read_labels_in(set, &root)?;
    }
    Ok(())
}

/// The sets of the paper.
fn of_paper() -> impl Iterator<Item = &'static str> {
    registry::all().into_iter().filter(|s| s.of_paper()).map(|s| s.name())
}

fn synth(c: &Context, sets: &[String], images: Option<usize>, lists: Option<&std::path::Path>) -> Result<u8> {
    let dir = c.global.data_dir.join("phantom");
    let names: Vec<&str> = if sets.is_empty() {
        of_paper().collect()
    } else {
        sets.iter().map(String::as_str).collect()
    };
    for name in names {
        let source = registry::find(name)?;
        let folder = dir.join(source.info(&Protocol::faithful()).folder);
        if folder.exists() && !registry::shares_folder(source) {
            let here = verify(c, name, Kind::Phantom, &dir, Mode::SinceLock)?;
            if here.state == SetState::Verified && images.is_none() {
                println!("{name}: already there and verified, {}", folder.display());
                continue;
            }
            return Err(BadInput::new(
                folder.display(),
                "no folder, so that no file is mixed with older ones",
                "one with other content",
                "Remove it, then run the same command again.",
            )
            .into());
        }
        source.synth(&folder, images.unwrap_or_else(|| source.phantom_images()))?;
        println!("{name}: {}", folder.display());
        if let Some(lists) = lists {
            let r = lock_phantom(c.catalogue, name, &dir, lists)?;
            println!("{name}: list {}", r.list.display());
        }
    }
    Ok(OK)
}
