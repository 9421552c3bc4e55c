//! `medft data`: what the data sets are, and whether the files here are they.

use crate::cli::exit::{BROKEN, INCOMPLETE, OK};
use crate::cli::{DataVerb, ImageArgs};
use crate::data::presence::Depth;
use crate::data::registry;
use crate::error::BadInput;
use crate::manifest::{ImageReport, Kind, Mode, SetReport, SetState, lock_phantom, lock_set};
use crate::runner::Context;
use crate::runner::acquire::{protocol_of, read_labels_in};
use crate::runner::inventory::{hold_images, look_at_images, verify};
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
            images,
        } => verify_sets(
            c,
            &sets,
            if since_lock { Mode::SinceLock } else { Mode::Full },
            phantom,
            images,
        ),
        DataVerb::Audit(a) => crate::runner::audit::run(c, &a),
        DataVerb::Card { set, phantom } => super::card::run(c, &set, phantom),
        DataVerb::Fetch {
            sets,
            copy,
            accept_terms,
        } => crate::runner::acquire::fetch(c, &sets, copy.as_deref(), accept_terms),
        DataVerb::Import { set, archives, copy } => crate::runner::acquire::import(c, &set, &archives, copy.as_deref()),
        DataVerb::Add(a) => super::data_add::run(c, &a),
        DataVerb::Lock {
            sets,
            accept_labels,
            images,
        } => lock(c, &sets, accept_labels, images),
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
            c.catalogue.list(&m.set).is_some() || c.places(&c.global.data_dir).list(&m.set).is_some(),
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

fn verify_sets(c: &Context, sets: &[String], mode: Mode, phantom: bool, images: ImageArgs) -> Result<u8> {
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
        // An unknown name ends the command; what is wrong with a set does not end the look at the others.
        let m = c.catalogue.set(set)?;
        let look = || -> Result<SetReport> {
            let mut r = verify(c, set, kind, &dir, mode)?;
            if r.state == SetState::Verified && kind == Kind::Real {
                read_labels_in(set, &r.folder)?;
                let p = protocol_of(set, &r.folder)?;
                hold_images(c, &mut r, &p, depth(images))?;
            }
            Ok(r)
        };
        let r = look().unwrap_or_else(|e| SetReport::unusable(set, &m.title, kind, dir.join(&m.folder), &e));
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
    let damaged = |r: &SetReport| r.images.as_ref().is_some_and(|i| !i.remarks.is_empty());
    Ok(
        if reports
            .iter()
            .any(|r| r.state == SetState::Differs || images.strict && damaged(r))
        {
            BROKEN
        } else if !reports.is_empty() && reports.iter().all(|r| r.state == SetState::Verified) {
            OK
        } else {
            INCOMPLETE
        },
    )
}

/// How far the images are looked at.
fn depth(images: ImageArgs) -> Depth {
    match images.decode {
        true => Depth::Decode,
        false => Depth::Heads,
    }
}

/// Locks the sets; one that cannot be locked does not keep the others from it.
fn lock(c: &Context, sets: &[String], accept_labels: bool, images: ImageArgs) -> Result<u8> {
    let (mut reports, mut failed) = (Vec::new(), false);
    for set in sets {
        match lock_one(c, set, accept_labels, images) {
            Ok(report) => reports.push(report),
            Err(e) => {
                eprintln!("error: {e:#}");
                failed = true;
            }
        }
    }
    if c.global.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(if failed { BROKEN } else { OK })
}

fn lock_one(c: &Context, set: &str, accept_labels: bool, images: ImageArgs) -> Result<serde_json::Value> {
    let m = c.catalogue.set(set)?;
    let root = c.global.data_dir.join(&m.folder);
    let mut found = None;
    if root.is_dir() {
        // A set whose labels cannot be read, or whose images are not there, is not worth a list.
        read_labels_in(set, &root)?;
        if m.files.is_none() {
            let held = look_at_images(set, &root, &protocol_of(set, &root)?, depth(images))?;
            refuse_images(&m.title, &root, &held, images.strict)?;
            found = Some(held);
        }
    }
    let bar = ui::bar(0, ui::Unit::Bytes);
    bar.set_prefix(set.to_owned());
    let on = |p: crate::manifest::Progress| {
        bar.set_length(p.bytes_total);
        bar.set_position(p.bytes_done);
    };
    let places = c.places(&c.global.data_dir);
    let r = lock_set(c.catalogue, set, places, accept_labels, &on);
    bar.finish_and_clear();
    let r = r?;
    if !c.global.json {
        let list = r.list.display();
        println!("{}: {} files, root {}, list {list}", r.set, r.files, r.root);
        if let Some(found) = &found {
            println!("  images     {}{}", found.summary(), found.lines(20));
        }
        if r.left_out > 0 {
            println!(
                "  left out   {} files or folders that a system left there (._x, .DS_Store, __MACOSX and the like)",
                r.left_out
            );
        }
    }
    let mut json = serde_json::to_value(&r)?;
    if let Some(found) = &found {
        json["images"] = serde_json::to_value(found)?;
    }
    Ok(json)
}

/// The complaint about images that are listed and not there, or unreadable: all of them, by kind.
fn refuse_images(title: &str, root: &std::path::Path, held: &ImageReport, strict: bool) -> Result<()> {
    let damaged = strict && !held.remarks.is_empty();
    if held.ok() && !damaged {
        return Ok(());
    }
    let remedy = match (held.ok(), held.remedies.is_empty()) {
        (true, _) => "Get the damaged images again, or leave --strict out.".to_owned(),
        (false, true) => "Bring the images that the label files list, then lock the set again.".to_owned(),
        (false, false) => format!("{} Then lock the set again.", held.remedies.join(" ")),
    };
    let expected = format!("every image that the label files of {title} list");
    let found = format!("{}{}", held.summary(), held.lines(20));
    Err(BadInput::new(root.display(), expected, found, remedy).into())
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
