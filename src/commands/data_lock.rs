//! `medft data lock`: hashes data sets that a user brought and writes their lists.

use super::data_verify::depth;
use crate::cli::ImageArgs;
use crate::cli::exit::{BROKEN, OK};
use crate::data::Folder;
use crate::error::BadInput;
use crate::manifest::{ImageReport, lock_set};
use crate::runner::Context;
use crate::runner::acquire::{protocol_of, read_labels_in};
use crate::runner::inventory::look_at_images;
use crate::{outln, print, tell};
use anyhow::Result;

/// Locks the sets; one that cannot be locked does not keep the others from it.
pub(super) fn run(c: &Context, sets: &[String], accept_labels: bool, images: ImageArgs) -> Result<u8> {
    let (mut reports, mut failed) = (Vec::new(), false);
    for set in sets {
        match lock_one(c, set, accept_labels, images) {
            Ok(report) => reports.push(report),
            Err(e) => {
                tell!("error: {e:#}");
                failed = true;
            }
        }
    }
    if c.global.json {
        print::json(&reports)?;
    }
    Ok(if failed { BROKEN } else { OK })
}

fn lock_one(c: &Context, set: &str, accept_labels: bool, images: ImageArgs) -> Result<serde_json::Value> {
    let m = c.catalogue.set(set)?;
    let root = c.global.data_dir.join(&m.folder);
    let mut found = None;
    if root.is_dir() {
        // A set whose labels cannot be read, or whose images are not there, is not worth a list.
        read_labels_in(c, set, &root)?;
        if m.files.is_none() {
            let held = look_at_images(
                c,
                set,
                &Folder::unverified(&root),
                &protocol_of(set, &root)?,
                depth(images),
            )?;
            refuse_images(&m.title, &root, &held, images.strict)?;
            found = Some(held);
        }
    }
    let bar = c.progress.bytes(set);
    let places = c.places(&c.global.data_dir);
    let r = lock_set(c.catalogue, set, places, accept_labels, &bar.verified());
    drop(bar);
    let r = r?;
    if !c.global.json {
        let list = r.list.display();
        outln!("{}: {} files, root {}, list {list}", r.set, r.files, r.root)?;
        if let Some(found) = &found {
            outln!("  images     {}{}", found.summary(), found.lines(20))?;
        }
        if r.left_out > 0 {
            outln!(
                "  left out   {} files or folders that a system left there (._x, .DS_Store, __MACOSX and the like)",
                r.left_out
            )?;
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
