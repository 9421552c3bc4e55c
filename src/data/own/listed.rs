//! The rows of a user's table as images: every row is looked at, and everything wrong with it is told.

use super::sheet::Sheet;
use super::types::{Image, Listing, Origin, Request, part};
use crate::data::files;
use crate::data::table::{PARTS, TableTask};
use crate::manifest::walk;
use crate::names::did_you_mean;
use anyhow::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What people and programs write where nothing is known.
const BLANK: [&str; 9] = ["", "na", "n/a", "#n/a", "nan", "null", "<na>", "-", "?"];
/// Between several labels in one field.
const LABEL_ENDS: [char; 2] = ['|', ';'];

/// Positions of the columns that are read.
struct Columns {
    id: usize,
    label: Vec<usize>,
    split: Option<usize>,
    group: Option<usize>,
}

pub(super) fn read(r: &Request, path: &Path) -> Result<Listing> {
    let named = std::iter::once(&r.id).chain(&r.label).chain(&r.split).chain(&r.group);
    let wanted: Vec<&str> = named.map(String::as_str).collect();
    let mut sheet = Sheet::read(path, &wanted)?;
    let mut out = Listing {
        problems: std::mem::take(&mut sheet.problems),
        split: r.split.as_ref().map(|s| format!("column {s:?} of {}", file_name(path))),
        names: if r.label.len() > 1 { r.label.clone() } else { Vec::new() },
        ..Listing::default()
    };
    if sheet.separator != ',' {
        out.notes.push(format!(
            "{}: fields are separated by {:?}",
            path.display(),
            sheet.separator
        ));
    }
    let Some(columns) = columns(r, &sheet, &wanted, &mut out) else {
        return Ok(out);
    };
    if sheet.rows.is_empty() && out.problems.is_empty() {
        out.bad(sheet.at(1), "a header and no row below it");
    }
    let folder = Folder::of(&r.images)?;
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut parts: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    for (line, fields) in &sheet.rows {
        let at = sheet.at(*line);
        let group = columns.group.map(|g| fields[g].as_str()).filter(|g| !blank(g));
        if let Some((group, part)) = group.zip(columns.split.and_then(|s| part(&fields[s]))) {
            let (first, place) = parts.entry(group).or_insert_with(|| (part, at.clone()));
            if *first != part {
                let (here, there) = (PARTS[part], PARTS[*first]);
                out.bad(
                    &at,
                    format!("the group {group:?} is in {here} here and in {there} at {place}"),
                );
            }
        }
        let image = row(r, &columns, &folder, &at, fields, &mut out);
        let Some(image) = image else { continue };
        match seen.get(&image.name) {
            Some(first) => out.bad(&at, format!("{:?} again, first at {first}", fields[columns.id])),
            None => {
                seen.insert(image.name.clone(), at);
                out.images.push(image);
            }
        }
    }
    let unlisted = folder.images.iter().filter(|i| !seen.contains_key(*i)).count();
    if unlisted > 0 && !out.images.is_empty() {
        out.notes.push(format!(
            "{unlisted} images in {} are in no row and are left out",
            r.images.display()
        ));
    }
    Ok(out)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All columns that are missing or there twice are told at once.
fn columns(r: &Request, sheet: &Sheet, wanted: &[&str], out: &mut Listing) -> Option<Columns> {
    let find = |name: &str| sheet.header.iter().position(|h| h == name);
    let before = out.problems.len();
    for name in wanted.iter().collect::<BTreeSet<_>>() {
        match sheet.header.iter().filter(|h| h == name).count() {
            0 => {
                let near = did_you_mean(name, &sheet.header);
                out.bad(
                    sheet.at(1),
                    format!("no column {name:?}, only {}. {near}", sheet.header.join(", ")),
                );
            }
            1 => {}
            n => out.bad(sheet.at(1), format!("the column {name:?} {n} times")),
        }
    }
    if let Some(twice) = wanted.iter().find(|w| wanted.iter().filter(|x| x == w).count() > 1) {
        out.bad(sheet.at(1), format!("the column {twice:?} is named for two things"));
    }
    (out.problems.len() == before).then(|| Columns {
        id: find(&r.id).unwrap_or_default(),
        label: r.label.iter().filter_map(|l| find(l)).collect(),
        split: r.split.as_deref().and_then(find),
        group: r.group.as_deref().and_then(find),
    })
}

/// One row; `None` where it names no image that is there.
fn row(r: &Request, c: &Columns, folder: &Folder, at: &str, fields: &[String], out: &mut Listing) -> Option<Image> {
    let id = &fields[c.id];
    let name = match id.as_str() {
        id if blank(id) => {
            out.bad(at, format!("the column {:?} is blank", r.id));
            None
        }
        id => folder.find(id).map_err(|what| out.bad(at, what)).ok(),
    };
    let labels = labels(r, c, at, fields, out);
    let part = c.split.and_then(|s| {
        let text = &fields[s];
        let part = part(text);
        match part {
            None if blank(text) => out.bad(
                at,
                format!("the column {:?} is blank", r.split.as_deref().unwrap_or_default()),
            ),
            None => out.bad(at, format!("the part {text:?} is not train, val or test")),
            Some(_) => {}
        }
        part
    });
    let group = c.group.map(|g| fields[g].as_str()).filter(|g| !blank(g));
    let name = name?;
    out.without_group += usize::from(c.group.is_some() && group.is_none());
    Some(Image {
        at: at.to_owned(),
        origin: Origin::File(r.images.join(&name)),
        name,
        labels,
        group: group.map(str::to_owned),
        part,
    })
}

fn labels(r: &Request, c: &Columns, at: &str, fields: &[String], out: &mut Listing) -> Vec<String> {
    let several = r.task == Some(TableTask::Multilabel) || (r.task.is_none() && r.label.len() > 1);
    if several && r.label.len() > 1 {
        let mut own = Vec::new();
        for (label, &column) in r.label.iter().zip(&c.label) {
            match fields[column].to_lowercase().as_str() {
                "1" | "1.0" | "true" | "yes" => own.push(label.clone()),
                "0" | "0.0" | "false" | "no" => {}
                w if blank(w) => out.bad(at, format!("the column {label:?} is blank")),
                _ => out.bad(at, format!("the label {label:?} is {:?}, not 0 or 1", fields[column])),
            }
        }
        return own;
    }
    let text = fields[c.label[0]].as_str();
    if blank(text) {
        out.bad(at, format!("the column {:?} is blank", r.label[0]));
        return Vec::new();
    }
    if text.chars().any(char::is_control) {
        out.bad(at, format!("the label {text:?} has a line break in it"));
        return Vec::new();
    }
    match several {
        false => vec![text.to_owned()],
        true => {
            let labels = text.split(LABEL_ENDS).map(str::trim).filter(|w| !w.is_empty());
            let labels: BTreeSet<&str> = labels.collect();
            labels.into_iter().map(str::to_owned).collect()
        }
    }
}

fn blank(text: &str) -> bool {
    BLANK.contains(&text.to_lowercase().as_str())
}

/// What is in the folder of images, by every name that a table may call it.
struct Folder {
    shown: String,
    images: BTreeSet<String>,
    /// Path without its ending → paths.
    by_stem: BTreeMap<String, Vec<String>>,
    /// Last name in small letters, with and without its ending → paths.
    by_name: BTreeMap<String, Vec<String>>,
}

impl Folder {
    fn of(root: &Path) -> Result<Self> {
        let mut out = Self {
            shown: root.display().to_string(),
            images: BTreeSet::new(),
            by_stem: BTreeMap::new(),
            by_name: BTreeMap::new(),
        };
        for found in walk(root, None)?.files {
            let Ok(path) = std::str::from_utf8(found.path.as_bytes()) else {
                continue;
            };
            if !super::folders::is_image_name(path) {
                continue;
            }
            let name = Path::new(path)
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .to_lowercase();
            out.by_stem
                .entry(stem(path).to_owned())
                .or_default()
                .push(path.to_owned());
            out.by_name
                .entry(stem(&name).to_owned())
                .or_default()
                .push(path.to_owned());
            out.by_name.entry(name).or_default().push(path.to_owned());
            out.images.insert(path.to_owned());
        }
        Ok(out)
    }

    /// The image that an id means: the path itself, or one that lacks its ending only. Else what is wrong.
    fn find(&self, id: &str) -> Result<String, String> {
        let path = id.trim_start_matches("./");
        if path.contains('\\') {
            return Err(format!(
                "{id:?} is no path that other systems know: write / in place of \\"
            ));
        }
        if files::relative("", path).is_err() {
            return Err(format!(
                "{id:?} leads out of the folder of images, or is no plain path below it"
            ));
        }
        if self.images.contains(path) {
            return Ok(path.to_owned());
        }
        match self.by_stem.get(path).map(Vec::as_slice) {
            Some([one]) => Ok(one.clone()),
            Some(several) => Err(format!(
                "{id:?} may be {}: write which, with its ending",
                several.join(" or ")
            )),
            None => Err(format!("no image {id:?} in {}{}", self.shown, self.hint(path))),
        }
    }

    /// What is there in place of a path that is not.
    fn hint(&self, path: &str) -> String {
        let name = Path::new(path)
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        let near = self.by_name.get(&name).or_else(|| self.by_name.get(stem(&name)));
        match near.and_then(|n| n.first()) {
            Some(near) => format!("; {near:?} is there"),
            None => String::new(),
        }
    }
}

/// A path without the ending of its last name, where that is one of images.
fn stem(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, end)) if super::folders::ENDINGS.contains(&end.to_lowercase().as_str()) => stem,
        _ => path,
    }
}
