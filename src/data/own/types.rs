//! What the user said, and the images as he lists them.

use super::shares::Shares;
use crate::data::ImageArray;
use crate::data::table::{PARTS, TableTask};
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What the user said of his data.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the set in studies.
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
    pub(super) fn bad(&mut self, at: impl fmt::Display, what: impl Into<String>) {
        self.problems.push(Problem {
            at: at.to_string(),
            what: what.into(),
        });
    }
}

/// The part of this name, as people write it.
pub(super) fn part(name: &str) -> Option<usize> {
    match name.to_lowercase().as_str() {
        "training" => Some(0),
        "valid" | "validation" | "dev" => Some(1),
        "testing" => Some(2),
        w => PARTS.iter().position(|p| *p == w),
    }
}
