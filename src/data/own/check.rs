//! What only the whole of a user's set shows: its classes, groups and copies across parts, and what is worth knowing before training.

use super::look::Seen;
use super::types::{Image, Listing, Request};
use crate::data::format::Format;
use crate::data::table::{PARTS, TableTask};
use std::collections::{BTreeMap, BTreeSet};

/// The task that the rows speak of.
pub(super) fn task(r: &Request, l: &Listing) -> TableTask {
    match r.label.len() > 1 || l.several {
        true => TableTask::Multilabel,
        false => TableTask::Multiclass,
    }
}

/// The metric that counts where none is named.
pub(super) fn target(task: TableTask, classes: usize) -> &'static str {
    match task {
        TableTask::Multiclass if classes > 2 => "recall",
        _ => "roc_auc",
    }
}

/// Names of the classes in order: as given, as the columns have them, or all that occur, numbers by their value.
pub(super) fn classes(r: &Request, task: TableTask, l: &mut Listing) -> Vec<String> {
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for i in &l.images {
        for label in &i.labels {
            first.entry(label.clone()).or_insert_with(|| i.at.clone());
        }
    }
    if !r.classes.is_empty() {
        let strange = l.images.iter().flat_map(|i| i.labels.iter().map(move |w| (i, w)));
        let strange: Vec<(String, String)> = strange
            .filter(|(_, w)| !r.classes.contains(w))
            .map(|(i, w)| {
                (
                    i.at.clone(),
                    format!("{w:?} is none of --classes {}", r.classes.join(", ")),
                )
            })
            .collect();
        strange.into_iter().for_each(|(at, what)| l.bad(at, what));
        return r.classes.clone();
    }
    if task == TableTask::Multilabel && !l.names.is_empty() {
        return l.names.clone();
    }
    let plain = |s: &str| s.to_lowercase().split_whitespace().collect::<String>();
    let mut alike: BTreeMap<String, &str> = BTreeMap::new();
    for (class, at) in &first {
        if let Some(other) = alike.insert(plain(class), class) {
            let what = format!(
                "the class {class:?} and {other:?} ({}) differ in capitals or blanks only",
                first[other]
            );
            l.bad(at, what);
        }
    }
    let mut all: Vec<String> = first.into_keys().collect();
    let number = |s: &String| s.parse::<f64>().ok().filter(|x| x.is_finite());
    if all.iter().all(|c| number(c).is_some()) {
        all.sort_by(|a, b| number(a).unwrap_or(0.0).total_cmp(&number(b).unwrap_or(0.0)));
    }
    all
}

/// Looks at the whole.
pub(super) fn whole(r: &Request, task: TableTask, classes: &[String], seen: &[Option<Seen>], l: &mut Listing) {
    of_classes(task, classes, l);
    parts(l);
    copies(seen, l);
    if r.target.as_deref() == Some("quadratic_kappa")
        && r.classes.is_empty()
        && classes.iter().any(|c| c.parse::<f64>().is_err())
    {
        let order = classes.join(",");
        l.bad(
            "--target quadratic_kappa",
            format!("wants the order of the grades: name them with --classes, as in --classes {order}"),
        );
    }
    if l.without_group > 0 {
        l.notes.push(format!(
            "{} images name no group; each is taken for one of its own",
            l.without_group
        ));
    }
    pixels(r, seen, l);
}

fn of_classes(task: TableTask, classes: &[String], l: &mut Listing) {
    if classes.len() < 2 && task != TableTask::Multilabel && !l.images.is_empty() {
        let at = l.images[0].at.clone();
        l.bad(
            at,
            format!(
                "every image is of the class {:?}; a task has two at least",
                classes.join(", ")
            ),
        );
    }
    for class in classes {
        let with: Vec<&Image> = l.images.iter().filter(|i| i.labels.contains(class)).collect();
        let here: BTreeSet<usize> = with.iter().filter_map(|i| i.part).collect();
        match with.as_slice() {
            [] if l.images.is_empty() => {}
            [] => {
                let at = l.images[0].at.clone();
                l.bad(at, format!("{class:?} is the label of no image, here or below"));
            }
            [one] => {
                let at = one.at.clone();
                l.bad(
                    at,
                    format!("{class:?} has this image only, so it cannot be both trained on and tested"),
                );
            }
            _ => {
                let absent: Vec<&str> = (0..3).filter(|k| !here.contains(k)).map(|k| PARTS[k]).collect();
                if !absent.is_empty() {
                    l.notes
                        .push(format!("{class:?} has no image in {}", absent.join(" and ")));
                }
            }
        }
    }
}

fn parts(l: &mut Listing) {
    for (k, part) in PARTS.iter().enumerate() {
        if !l.images.is_empty() && l.images.iter().all(|i| i.part != Some(k)) {
            let at = l.images[0].at.clone();
            l.bad(at, format!("no image, here or below, is in {part}"));
        }
    }
}

/// Images of the same pixels: told, since nobody knows which one the user means.
fn copies(seen: &[Option<Seen>], l: &mut Listing) {
    let mut first: BTreeMap<&str, &Image> = BTreeMap::new();
    let mut notes = Vec::new();
    for (i, s) in l.images.iter().zip(seen) {
        let Some(s) = s else { continue };
        let Some(other) = first.get(s.hash.as_str()) else {
            first.insert(&s.hash, i);
            continue;
        };
        let mut note = format!(
            "{}: {:?} has the pixels of {:?} ({})",
            i.at, i.name, other.name, other.at
        );
        if let (Some(a), Some(b)) = (i.part, other.part)
            && a != b
        {
            note.push_str(&format!(", which is in {} and this one in {}", PARTS[b], PARTS[a]));
        }
        if i.labels != other.labels {
            note.push_str(&format!(
                ", and another label: {} there, {} here",
                other.labels.join("|"),
                i.labels.join("|")
            ));
        }
        notes.push(note);
    }
    l.notes.extend(notes);
}

/// What the files hold that their use leaves out or changes.
fn pixels(r: &Request, seen: &[Option<Seen>], l: &mut Listing) {
    let count = |f: &dyn Fn(&Seen) -> bool| seen.iter().flatten().filter(|s| f(s)).count();
    let of = |f: fn(&crate::data::decode::Stored) -> bool| count(&|s| s.stored.as_ref().is_some_and(f));
    let all = seen.iter().flatten().count();
    let grey = of(|s| s.channels == 1);
    if grey == all && all > 0 && !r.grey {
        l.notes.push(
            "every image is grey: with --grey one channel is read, which is a third of the work before training".into(),
        );
    }
    if r.grey && grey < of(|_| true) {
        l.notes.push(format!(
            "{} images have colours, which --grey leaves out",
            of(|_| true) - grey
        ));
    }
    let deep = of(|s| s.deep);
    if deep > 0 {
        l.notes.push(deep_note(deep));
        let most = seen
            .iter()
            .flatten()
            .filter(|s| s.stored.as_ref().is_some_and(|s| s.deep))
            .map(|s| s.most)
            .max();
        if let Some(most) = most.filter(|m| *m < 64) {
            l.notes.push(format!(
                "the brightest value of all 16-bit images is about {most}/255 of what 16 bits can hold: scale them to the whole range, or \
                 the network sees them nearly black"
            ));
        }
    }
    if of(|s| s.alpha) > 0 {
        l.notes.push(format!(
            "{} images have transparency, which is left out",
            of(|s| s.alpha)
        ));
    }
    let dicom = count(&|s| s.format == Some(Format::Dicom));
    if dicom > 0 {
        l.notes.push(format!(
            "{dicom} images are DICOM; of their tags these are read: {}",
            crate::data::DICOM_TAGS.join(", ")
        ));
    }
}

/// What must be known of 16-bit images, here and in the manifest.
pub(super) fn deep_note(images: usize) -> String {
    format!(
        "{images} images have 16 bits a sample: preset \"corrected\" (image_loading = \"sane\") scales them to 8, preset \"faithful\" clips \
         grey ones at 255 as the authors' loader does"
    )
}
