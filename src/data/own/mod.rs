//! A user's own images, in whatever form he has them, as rows of one kind: what was understood, and all that is wrong, by place.
//!
//! Read in this order: [`sheet`] makes rows of a text table in any usual dialect, [`listed`] makes images of its rows; [`folders`] and
//! [`arrays`] do the same for one folder a class and for npz files. [`look`] decodes every image, [`cut`] parts them where no column
//! does, [`check`] sees what only the whole shows. Nothing is written here: [`manifest`] gives the texts that a new set consists of.

mod arrays;
mod check;
mod cut;
mod folders;
mod listed;
mod look;
pub mod manifest;
mod shares;
mod sheet;
mod summary;
mod types;

use super::table::TableSpec;
use super::types::ImageArray;
use crate::error::BadInput;
use anyhow::Result;
use look::Seen;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use types::{Listing, Origin};

pub use shares::Shares;
pub use types::{Problem, Request};

/// What was understood of the user's data, and what is wrong with it.
#[derive(Debug)]
pub struct Understood {
    listing: Listing,
    seen: Vec<Option<Seen>>,
    pub spec: TableSpec,
    pub groups: usize,
}

/// Reads everything the user named and opens every image; writes nothing.
///
/// # Errors
/// [`BadInput`] where a table or folder cannot be read at all. What is wrong within is among the problems.
pub fn read(r: &Request, on: &(dyn Fn(usize, usize) + Sync)) -> Result<Understood> {
    let npz = r.images.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) && r.images.is_file();
    if !npz && !r.images.is_dir() {
        let found = if r.images.exists() {
            "another file"
        } else {
            "nothing there"
        };
        let remedy = "Name the folder that the paths of the table begin in.";
        return Err(BadInput::new(r.images.display(), "a folder of images, or an npz file", found, remedy).into());
    }
    let mut listing = match &r.labels {
        Some(labels) if npz => {
            let found = format!("both an npz file and {}", labels.display());
            let remedy = "Leave --labels out: an npz file holds its labels.";
            return Err(BadInput::new(r.images.display(), "one source of labels", found, remedy).into());
        }
        Some(labels) => listed::read(r, labels)?,
        None if npz => arrays::read(r)?,
        None => folders::read(r)?,
    };
    let task = r.task.unwrap_or_else(|| check::task(r, &listing));
    let classes = check::classes(r, task, &mut listing);
    let channels = if r.grey { 1 } else { 3 };
    let seen = look::all(&mut listing, channels, on);
    if listing.split.is_none() {
        cut::cut(&mut listing.images, &seen, &classes, r.shares);
        listing.split = Some(r.shares.description(listing.images.iter().any(|i| i.group.is_some())));
    }
    check::whole(r, task, &classes, &seen, &mut listing);
    let (mean, std) = look::moments(&listing.images, &seen, channels);
    let spec = TableSpec {
        task,
        channels,
        mean,
        std,
        target: r
            .target
            .clone()
            .unwrap_or_else(|| check::target(task, classes.len()).to_owned()),
        classes,
        groups: listing.images.iter().any(|i| i.group.is_some()),
        split: listing.split.clone().unwrap_or_default(),
    };
    if listing.problems.is_empty()
        && let Some(fault) = spec.fault()
    {
        listing.bad(r.labels.as_ref().unwrap_or(&r.images).display(), fault);
    }
    // As a reader goes through his file, whichever look found it.
    listing.problems.sort_by_key(
        |p| match p.at.rsplit_once(':').map(|(file, line)| (file, line.parse::<u64>())) {
            Some((file, Ok(line))) => (file.to_owned(), line),
            _ => (p.at.clone(), 0),
        },
    );
    let groups: BTreeSet<&String> = listing.images.iter().filter_map(|i| i.group.as_ref()).collect();
    let groups = groups.len();
    Ok(Understood {
        listing,
        seen,
        spec,
        groups,
    })
}

impl Understood {
    /// Everything that is wrong, in the order of the files.
    pub fn problems(&self) -> &[Problem] {
        &self.listing.problems
    }

    /// What a careful user wants to know, though nothing of it is wrong.
    pub fn notes(&self) -> &[String] {
        &self.listing.notes
    }

    /// Number of images listed.
    pub fn images(&self) -> usize {
        self.listing.images.len()
    }

    /// Images of each class (rows) and part, and of all classes in the last row.
    pub fn counts(&self) -> Vec<(String, [usize; 3])> {
        let mut of: BTreeMap<&str, [usize; 3]> = BTreeMap::new();
        let mut all = [0; 3];
        for i in &self.listing.images {
            let Some(part) = i.part else { continue };
            all[part] += 1;
            i.labels.iter().for_each(|l| of.entry(l).or_default()[part] += 1);
        }
        let row = |c: &String| (c.clone(), of.get(c.as_str()).copied().unwrap_or_default());
        let classes = self.spec.classes.iter().map(row);
        classes.chain([("all".to_owned(), all)]).collect()
    }

    /// Images in files, with their names below the set's folder of images.
    pub fn files(&self) -> impl Iterator<Item = (&PathBuf, &str)> {
        self.listing.images.iter().filter_map(|i| match &i.origin {
            Origin::File(path) => Some((path, i.name.as_str())),
            Origin::Array(_) => None,
        })
    }

    /// Images in arrays, with the names they get.
    pub fn arrays(&self) -> impl Iterator<Item = (&ImageArray, &str)> {
        self.listing.images.iter().filter_map(|i| match &i.origin {
            Origin::File(_) => None,
            Origin::Array(pixels) => Some((&**pixels, i.name.as_str())),
        })
    }
}
