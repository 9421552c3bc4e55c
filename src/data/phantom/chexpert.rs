//! The phantom of CheXpert-v1.0-small (PROTOCOL 1.2): chest films of patients with several studies, 14 labels.
//!
//! `train.csv` has the real columns and the real disorder: patients ascend, studies within a patient do not, and in the
//! sorted list `study10` stands before `study2`; so the rows that the authors' label slices cut at are not where their
//! numbers say. Labels are 1.0, 0.0, −1.0 or empty, one set for all views of a study. An uncertain finding (−1) shows
//! faintly. `valid.csv` is as in the release: later patients, one study each, every label 0.0 or 1.0.
//!
//! Labels are dealt out in blocks of ten studies along the sorted list. The authors' cuts are contiguous in that list,
//! so every part holds positive and negative studies of every label.

use super::chest::{self, Sign, Signs};
use super::draw::{between, once_in, whole};
use super::{Of, Phantom, Picture, Set, at_least, stream};
use crate::rng::Stream;
use anyhow::Result;
use std::path::Path;

/// 210 rows in `train.csv`, 30 in `valid.csv`.
pub const DEFAULT_IMAGES: usize = 240;
/// 140 rows: the authors' cut then leaves 22 each to val and test.
const LEAST: usize = 160;
const RELEASE: &str = "CheXpert-v1.0-small";

/// Column, sign on the film, positive studies in a block of ten.
const LABELS: [(&str, Option<Sign>, usize); 14] = [
    ("No Finding", None, 2),
    ("Enlarged Cardiomediastinum", Some(Sign::Mediastinum), 1),
    ("Cardiomegaly", Some(Sign::Heart), 2),
    ("Lung Opacity", Some(Sign::Opacity), 3),
    ("Lung Lesion", Some(Sign::Nodule), 1),
    ("Edema", Some(Sign::Edema), 2),
    ("Consolidation", Some(Sign::Consolidation), 1),
    ("Pneumonia", Some(Sign::Pneumonia), 1),
    ("Atelectasis", Some(Sign::Atelectasis), 2),
    ("Pneumothorax", Some(Sign::Pneumothorax), 1),
    ("Pleural Effusion", Some(Sign::Effusion), 3),
    ("Pleural Other", Some(Sign::Pleural), 1),
    ("Fracture", Some(Sign::Fracture), 1),
    ("Support Devices", Some(Sign::Devices), 4),
];
const OPACITY: usize = 3;
const DEVICES: usize = 13;
const BLOCK: usize = 10;

/// A cell of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Empty,
    No,
    Maybe,
    Yes,
}

impl Cell {
    fn text(self) -> &'static str {
        match self {
            Self::Empty => "",
            Self::No => "0.0",
            Self::Maybe => "-1.0",
            Self::Yes => "1.0",
        }
    }
}

/// The films of one visit.
struct Study {
    patient: usize,
    number: usize,
    /// Whether each view is lateral.
    views: Vec<bool>,
    cells: [Cell; 14],
}

/// Writes both tables and `images` films below `root`, one in eight of them for `valid.csv`.
///
/// # Errors
/// [`crate::error::BadInput`] for too few images, for a file that is already there with other content, or when the disk
/// refuses.
pub fn write(root: &Path, images: usize) -> Result<()> {
    plan(images)?.write(root, super::WRITERS)
}

pub(super) fn plan(images: usize) -> Result<Phantom> {
    at_least("CheXpert", images, LEAST)?;
    let mut rng = stream(Set::CheXpert, Of::Table(0));
    let valid_rows = images / 8;
    let mut train = studies(&mut rng, images - valid_rows);
    train.sort_by_key(|s| path("train", s));
    fill(&mut rng, &mut train, false);
    disorder(&mut rng, &mut train);
    let single = |i| Study {
        patient: 64_541 + i,
        number: 1,
        views: vec![false],
        cells: [Cell::Empty; 14],
    };
    let mut valid: Vec<Study> = (0..valid_rows).map(single).collect();
    fill(&mut rng, &mut valid, true);
    let mut pictures = Vec::new();
    let labels = vec![
        ("train.csv".into(), table("train", &train, &mut pictures)),
        ("valid.csv".into(), table("valid", &valid, &mut pictures)),
    ];
    Ok(Phantom { labels, pictures })
}

/// Patients with one to four studies, and one with eleven, of one or two views, until there are `rows` views.
fn studies(rng: &mut Stream, rows: usize) -> Vec<Study> {
    let mut studies = Vec::new();
    let (mut left, mut patient, mut patients) = (rows, 0, 0);
    while left > 0 {
        patient += if patient == 0 { 1 } else { whole(rng, 1, 2) };
        patients += 1;
        let visits = if patients == 12 {
            11
        } else {
            [1, 1, 2, 2, 3, 4][whole(rng, 0, 5)]
        };
        for number in 1..=visits {
            let views = if once_in(rng, 5) { 2 } else { 1 };
            let views: Vec<bool> = (0..views.min(left)).map(|v| v == 1).collect();
            left -= views.len();
            if !views.is_empty() {
                studies.push(Study {
                    patient,
                    number,
                    views,
                    cells: [Cell::Empty; 14],
                });
            }
        }
    }
    studies
}

/// `patient00001/study1`, the part of a path that orders studies.
fn path(part: &str, s: &Study) -> String {
    format!("{RELEASE}/{part}/patient{:05}/study{}", s.patient, s.number)
}

/// Patients in ascending order, the studies of each shuffled; the real file begins with patient 1, then patient 2's
/// second study and its first.
fn disorder(rng: &mut Stream, studies: &mut [Study]) {
    for patient in studies.chunk_by_mut(|a, b| a.patient == b.patient) {
        rng.shuffle(patient);
    }
}

/// Labels in blocks of ten studies; `sure` leaves no cell empty or uncertain.
fn fill(rng: &mut Stream, studies: &mut [Study], sure: bool) {
    for (number, block) in studies.chunks_mut(BLOCK).enumerate() {
        let mut order: Vec<usize> = (0..block.len()).collect();
        rng.shuffle(&mut order);
        let (healthy, ill) = order.split_at(LABELS[0].2.min(block.len()));
        for &i in healthy {
            block[i].cells[0] = Cell::Yes;
        }
        for (label, &(_, _, positive)) in LABELS.iter().enumerate().skip(1) {
            let mut pool = if label == DEVICES { order.clone() } else { ill.to_vec() };
            rng.shuffle(&mut pool);
            pool.iter()
                .take(positive)
                .for_each(|&i| block[i].cells[label] = Cell::Yes);
        }
        for &i in ill {
            let cells = &mut block[i].cells;
            if cells[1..DEVICES].iter().all(|&c| c == Cell::Empty) {
                cells[OPACITY] = Cell::Yes;
            }
        }
        // Some reports come to no conclusion; the protocol's rule for a row without a 1.0 needs one.
        if let (Some(&i), false, 1) = (healthy.last(), sure, number % 3) {
            block[i].cells = [Cell::Empty; 14];
            block[i].cells[OPACITY] = Cell::Maybe;
        }
        for study in block {
            fill_gaps(rng, &mut study.cells, sure);
        }
    }
}

/// Says no, or perhaps, to some of what a report does not mention.
fn fill_gaps(rng: &mut Stream, cells: &mut [Cell; 14], sure: bool) {
    let healthy = cells[0] == Cell::Yes;
    for (label, cell) in cells.iter_mut().enumerate().filter(|(_, c)| **c == Cell::Empty) {
        let draw = rng.below(12);
        *cell = match draw {
            _ if sure => Cell::No,
            0 if label > 0 => Cell::No,
            1 if label > 0 && label < DEVICES && !healthy => Cell::Maybe,
            _ => Cell::Empty,
        };
    }
}

/// The CSV text, and its films in row order appended to `pictures`.
fn table(part: &str, studies: &[Study], pictures: &mut Vec<Picture>) -> Vec<u8> {
    let mut text = "Path,Sex,Age,Frontal/Lateral,AP/PA".to_owned();
    for (label, _, _) in LABELS {
        text += &format!(",{label}");
    }
    text.push('\n');
    for study in studies {
        let mut facts = stream(Set::CheXpert, Of::Facts(study.patient));
        let sex = if once_in(&mut facts, 2) { "Female" } else { "Male" };
        let age = whole(&mut facts, 25, 80) + study.number;
        let position = if once_in(&mut facts, 5) { "PA" } else { "AP" };
        let labels: Vec<&str> = study.cells.iter().map(|c| c.text()).collect();
        for (view, &lateral) in study.views.iter().enumerate() {
            let (name, title) = if lateral {
                ("lateral", "Lateral")
            } else {
                ("frontal", "Frontal")
            };
            let position = if lateral { "" } else { position };
            let file = format!("{}/view{}_{name}.jpg", path(part, study), view + 1);
            text += &format!("{file},{sex},{age},{title},{position},{}\n", labels.join(","));
            let name = file[RELEASE.len() + 1..].to_owned();
            let (row, patient, signs) = (pictures.len(), study.patient, signs(&study.cells, &mut facts.clone()));
            let findings = study.cells[1..].iter().filter(|&&c| c == Cell::Yes).count();
            pictures.push(Picture::new(name, move || {
                film(row, patient, &signs, findings, lateral)
            }));
        }
    }
    text.into_bytes()
}

/// What the films of a study show: positive findings from three quarters of their full strength, uncertain ones
/// faintly.
fn signs(cells: &[Cell; 14], rng: &mut Stream) -> Signs {
    let mut signs = Signs::default();
    for ((_, sign, _), cell) in LABELS.iter().zip(cells) {
        let strength = between(rng, 0.75, 1.0);
        match (sign, cell) {
            (Some(sign), Cell::Yes) => signs.set(*sign, strength),
            (Some(sign), Cell::Maybe) => signs.set(*sign, 0.3),
            _ => {}
        }
    }
    signs
}

/// A film; the more findings a patient has, the less air lets light through.
fn film(row: usize, patient: usize, signs: &Signs, findings: usize, lateral: bool) -> super::Canvas {
    let mut body = stream(Set::CheXpert, Of::Subject(patient));
    let mut view = stream(Set::CheXpert, Of::Image(row));
    let (w, h) = if once_in(&mut view, 4) { (104, 128) } else { (128, 104) };
    let draw = if lateral { chest::lateral } else { chest::frontal };
    let mut canvas = draw(signs, w, h, &mut body, &mut view);
    let bright = 0.7 + 0.13 * findings.min(4) as f32;
    canvas.expose(&[bright * between(&mut view, 0.95, 1.05)]);
    canvas
}
