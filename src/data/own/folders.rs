//! One folder a class: `mel/1.png`, `nevus/2.png`; or that once for each part: `train/mel/1.png`, `test/mel/2.png`.

use super::types::{Image, Listing, Origin, Request, part};
use crate::error::BadInput;
use crate::manifest::walk;
use anyhow::Result;
use std::collections::BTreeSet;

/// The endings of files that are taken for images; what they are is seen by their first bytes.
pub(super) const ENDINGS: [&str; 7] = ["png", "jpg", "jpeg", "tif", "tiff", "dcm", "dicom"];

/// Whether a file is one of images by its name. DICOM files often have none: a name without an ending, or with digits in its place.
pub(super) fn is_image_name(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        Some((_, end)) => ENDINGS.contains(&end.to_lowercase().as_str()) || end.bytes().all(|b| b.is_ascii_digit()),
        None => true,
    }
}

pub(super) fn read(r: &Request) -> Result<Listing> {
    let found = walk(&r.images, None)?;
    let mut out = Listing::default();
    for odd in found.odd {
        out.bad(r.images.join(odd.path.to_string()).display(), odd.why);
    }
    let mut paths = Vec::new();
    for f in found.files {
        let file = || f.path.below(&r.images);
        match std::str::from_utf8(f.path.as_bytes()) {
            Ok(path) if is_image_name(path) => paths.push(path.to_owned()),
            Ok(_) => out.bad(
                file().display(),
                "no image by its name: move it away, or give a table with --labels",
            ),
            Err(_) => out.bad(file().display(), "a name that is no UTF-8: rename it"),
        }
    }
    let tops: BTreeSet<&str> = paths.iter().filter_map(|p| Some(p.split_once('/')?.0)).collect();
    let in_parts = !tops.is_empty() && tops.iter().all(|t| part(t).is_some());
    for path in &paths {
        let at = r.images.join(path);
        let at = at.display();
        let (part, rest) = match (in_parts, path.split_once('/')) {
            (true, Some((top, rest))) => (part(top), rest),
            _ => (None, path.as_str()),
        };
        let Some((class, _)) = rest.split_once('/') else {
            out.bad(at, "lies in no folder of a class");
            continue;
        };
        out.images.push(Image {
            at: at.to_string(),
            name: path.clone(),
            origin: Origin::File(r.images.join(path)),
            labels: vec![class.to_owned()],
            group: None,
            part,
        });
    }
    out.split = in_parts.then(|| "folders train, val and test".to_owned());
    if out.images.is_empty() && out.problems.is_empty() {
        let remedy = "Give one folder a class, or a table with --labels.";
        let expected = "a folder of images for each class";
        return Err(BadInput::new(r.images.display(), expected, "no image", remedy).into());
    }
    Ok(out)
}
