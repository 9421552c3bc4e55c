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
mod sheet;
mod words;

use super::table::{PARTS, TableSpec, TableTask};
use super::types::ImageArray;
use crate::error::BadInput;
use anyhow::Result;
use look::Seen;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

pub use cut::Shares;

/// What the user said of his data.
#[derive(Debug, Clone)]
pub struct Request {
    /// Word for the set in studies.
    pub name: String,
    /// Folder of the images, or an npz file.
    pub images: PathBuf,
    /// The table; without one the images lie in one folder a class.
    pub labels: Option<PathBuf>,
    /// Columns of the table.
    pub id: String,
    pub label: Vec<String>,
    pub split: Option<String>,
    pub group: Option<String>,
    /// How it is cut where nothing says so.
    pub shares: Shares,
    pub task: Option<TableTask>,
    /// Names of the classes in their order; empty for all that are found, sorted.
    pub classes: Vec<String>,
    pub target: Option<String>,
    pub grey: bool,
    pub title: Option<String>,
    pub licence: Option<String>,
}

/// Where the pixels of an image are now.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    File(PathBuf),
    Array(Arc<ImageArray>),
}

/// One image as the user lists it.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// Where it is listed: a file and line, or the path of the image.
    pub at: String,
    /// Below the folder of images: plain names joined by `/`.
    pub name: String,
    pub origin: Origin,
    /// The class, or the labels that are 1.
    pub labels: Vec<String>,
    pub group: Option<String>,
    /// Index into [`PARTS`].
    pub part: Option<usize>,
}

/// Something that is wrong, where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub at: String,
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.what)
    }
}

/// Images with all that was found wrong of them, in the order found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub images: Vec<Image>,
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
    /// Whether an image has any number of labels.
    pub several: bool,
    /// Names of the labels, where the form of the data fixes them.
    pub names: Vec<String>,
    /// Images whose group is blank.
    pub without_group: usize,
    /// How the parts came about, in words; `None` where they are still to be made.
    pub split: Option<String>,
}

impl Listing {
    fn bad(&mut self, at: impl fmt::Display, what: impl Into<String>) {
        self.problems.push(Problem {
            at: at.to_string(),
            what: what.into(),
        });
    }
}

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
        listing.split = Some(r.shares.words(listing.images.iter().any(|i| i.group.is_some())));
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

/// The part of this name, as people write it.
fn part(word: &str) -> Option<usize> {
    match word.to_lowercase().as_str() {
        "training" => Some(0),
        "valid" | "validation" | "dev" => Some(1),
        "testing" => Some(2),
        w => PARTS.iter().position(|p| *p == w),
    }
}
