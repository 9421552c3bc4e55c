//! An npz file: MedMNIST's members (`train_images`, `train_labels`, `val_…`, `test_…`), or `images` and `labels` alone.

use super::types::{Image, Listing, Origin, Request};
use crate::data::Folder;
use crate::data::npz::Npz;
use crate::data::table::PARTS;
use crate::error::BadInput;
use anyhow::Result;
use std::path::Path;
use std::sync::Arc;

pub(super) fn read(r: &Request) -> Result<Listing> {
    let folder = r
        .images
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let file = r.images.file_name().unwrap_or_default();
    let mut npz = Npz::open(&Folder::unverified(folder), file.as_ref())?;
    let members = npz.members();
    let has = |m: &str| members.iter().any(|x| x == m);
    let mut out = Listing::default();
    if has("images") && has("labels") {
        member(r, &mut npz, ("images", "labels"), None, &mut out)?;
    } else {
        for (k, part) in PARTS.iter().enumerate() {
            let (images, labels) = (format!("{part}_images"), format!("{part}_labels"));
            if has(&images) && has(&labels) {
                member(r, &mut npz, (&images, &labels), Some(k), &mut out)?;
            } else {
                out.bad(
                    r.images.display(),
                    format!("no arrays {images} and {labels}, only {}", members.join(", ")),
                );
            }
        }
        out.split = Some("the arrays of train, val and test".to_owned());
    }
    Ok(out)
}

/// The images of one array; a row of several numbers has a label a number, named by its place or by `--classes`.
fn member(
    r: &Request,
    npz: &mut Npz,
    (images, labels): (&str, &str),
    part: Option<usize>,
    out: &mut Listing,
) -> Result<()> {
    let channels = if npz.shape(images)?.get(3) == Some(&3) { 3 } else { 1 };
    let pixels = npz.images(images, channels)?;
    let width = match npz.shape(labels)?.as_slice() {
        [_, w] => *w,
        _ => 1,
    };
    let rows = npz.labels(labels, width)?;
    let name = |class: i64| {
        let given = usize::try_from(class).ok().and_then(|c| r.classes.get(c).cloned());
        given.unwrap_or_else(|| class.to_string())
    };
    if width > 1 {
        out.several = true;
        out.names = (0..width as i64).map(name).collect();
    }
    if rows.len() != pixels.len() {
        let (expected, found) = (
            format!("{} rows, one for each of {images}", pixels.len()),
            rows.len().to_string(),
        );
        return Err(BadInput::new(npz.at(labels), expected, found, "Save both arrays again.").into());
    }
    for (i, (pixels, row)) in pixels.into_iter().zip(rows).enumerate() {
        let at = format!("{}[{i}]", npz.at(labels));
        let own = match row.as_slice() {
            [class] => vec![name(*class)],
            many => {
                if let Some(odd) = many.iter().find(|v| !matches!(v, 0 | 1)) {
                    out.bad(&at, format!("a label of {odd}, not 0 or 1"));
                }
                (0..)
                    .zip(many)
                    .filter(|(_, v)| **v == 1)
                    .map(|(k, _)| name(k))
                    .collect()
            }
        };
        out.images.push(Image {
            at,
            name: format!("{}/{i:06}.png", images.strip_suffix("_images").unwrap_or(images)),
            origin: Origin::Array(Arc::new(pixels)),
            labels: own,
            group: None,
            part,
        });
    }
    Ok(())
}
