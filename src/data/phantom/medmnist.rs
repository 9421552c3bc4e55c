//! Phantoms of five MedMNIST sets: `<name>.npz` with 28 × 28 images in the arrays, types and shapes of the real files.
//!
//! Retina, derma, pneumonia and chest are the painters of APTOS2019, ISIC2019 and CheXpert at a third of their size;
//! breast is ultrasound. Parts are 70/10/20, close to the real ones. The real files are deflated; these are stored,
//! since which deflate a build uses would decide their bytes.

use super::chest::{self, Sign, Signs};
use super::draw::{Canvas, Outline, between, noise, once_in, ramp, whole};
use super::{Of, Phantom, Set, aptos2019, at_least, deal, isic2019, numbered_stream};
use crate::error::BadInput;
use crate::rng::Stream;
use anyhow::Result;
use rayon::prelude::*;
use std::io::{Cursor, Write};
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, System, ZipWriter};

/// 168 images to train on, 24 to choose the epoch, 48 to test.
pub const DEFAULT_IMAGES: usize = 240;
const LEAST: usize = 120;
/// The sets that have a phantom.
pub const NAMES: [&str; 5] = [
    "breastmnist",
    "retinamnist",
    "dermamnist",
    "pneumoniamnist",
    "chestmnist",
];
/// Side of an image, and how much larger it is drawn before its pixels are averaged.
const SIDE: usize = 28;
const FINER: usize = 3;

/// Per cent of the classes: the real shares for breast and pneumonia, raised where rare for retina and derma.
const BREAST: [usize; 2] = [27, 73];
const RETINA: [usize; 5] = [42, 12, 20, 16, 10];
const DERMA: [usize; 7] = [8, 10, 14, 6, 15, 41, 6];
const PNEUMONIA: [usize; 2] = [27, 73];

/// ISIC2019's class for each of DermaMNIST's.
const DERMA_CLASS: [usize; 7] = [3, 2, 4, 5, 0, 1, 6];

/// ChestMNIST's labels, in order, and how many of twelve films are positive.
const CHEST: [(Sign, usize); 14] = [
    (Sign::Atelectasis, 2),
    (Sign::Heart, 1),
    (Sign::Effusion, 2),
    (Sign::Infiltration, 2),
    (Sign::Mass, 1),
    (Sign::Nodule, 1),
    (Sign::Pneumonia, 1),
    (Sign::Pneumothorax, 1),
    (Sign::Consolidation, 1),
    (Sign::Edema, 1),
    (Sign::Emphysema, 1),
    (Sign::Fibrosis, 1),
    (Sign::Pleural, 1),
    (Sign::Hernia, 1),
];
/// Films in a block, and how many of them have no finding.
const BLOCK: usize = 12;
const NORMAL: usize = 5;

/// Writes `<name>.npz` with `images` images below `root`.
///
/// # Errors
/// [`BadInput`] for an unknown name, too few images, a file that is already there with other content, or when the disk
/// refuses.
pub fn write(root: &Path, name: &str, images: usize) -> Result<()> {
    plan(name, images)?.write(root, super::WRITERS)
}

pub(super) fn plan(name: &str, images: usize) -> Result<Phantom> {
    let Some(number) = NAMES.iter().position(|&n| n == name) else {
        return Err(BadInput::new(
            "the phantom's name",
            format!("one of {}", NAMES.join(", ")),
            format!("{name:?}"),
            "Name one of these.",
        )
        .into());
    };
    at_least(name, images, LEAST)?;
    let set = Set::MedMnist as u32 + number as u32;
    let mut rng = numbered_stream(set, Of::Table(0));
    let (val, test) = (images / 10, images / 5);
    let mut arrays = Vec::new();
    let mut first = 0;
    for (part, n) in [("train", images - val - test), ("val", val), ("test", test)] {
        let truths = truths(number, n, &mut rng);
        let pixels: Vec<Vec<u8>> = (first..first + n)
            .into_par_iter()
            .zip(&truths)
            .map(|(i, truth)| {
                let mut view = numbered_stream(set, Of::Image(i));
                let mut body = numbered_stream(set, Of::Subject(i));
                paint(number, truth, &mut body, &mut view).shrink(FINER).bytes()
            })
            .collect();
        first += n;
        let colour = if matches!(number, 1 | 2) { ", 3" } else { "" };
        arrays.push((
            format!("{part}_images"),
            format!("{n}, {SIDE}, {SIDE}{colour}"),
            pixels.concat(),
        ));
        arrays.push((
            format!("{part}_labels"),
            format!("{n}, {}", truths[0].len()),
            truths.concat(),
        ));
    }
    // The order of the real files: images of all parts, then labels.
    arrays.sort_by_key(|(name, _, _)| name.ends_with("_labels"));
    Ok(Phantom {
        labels: vec![(format!("{name}.npz"), npz(&arrays)?)],
        pictures: Vec::new(),
    })
}

/// The label row of `n` images: one class, or fourteen zeros and ones.
fn truths(number: usize, n: usize, rng: &mut Stream) -> Vec<Vec<u8>> {
    let shares: &[usize] = match number {
        0 => &BREAST,
        1 => &RETINA,
        2 => &DERMA,
        3 => &PNEUMONIA,
        _ => return findings(n, rng),
    };
    deal(rng, shares, n).into_iter().map(|c| vec![c as u8]).collect()
}

/// Blocks of twelve films, five of them normal, so that every part has every label.
fn findings(n: usize, rng: &mut Stream) -> Vec<Vec<u8>> {
    let mut rows = vec![vec![0; CHEST.len()]; n];
    for block in rows.chunks_mut(BLOCK) {
        let mut ill: Vec<usize> = (0..block.len()).collect();
        rng.shuffle(&mut ill);
        ill.truncate(block.len().saturating_sub(NORMAL).max(1));
        for (label, &(_, positive)) in CHEST.iter().enumerate() {
            rng.shuffle(&mut ill);
            ill.iter().take(positive).for_each(|&i| block[i][label] = 1);
        }
    }
    rows
}

fn paint(number: usize, truth: &[u8], body: &mut Stream, view: &mut Stream) -> Canvas {
    let side = SIDE * FINER;
    let class = usize::from(truth[0]);
    match number {
        0 => ultrasound(class == 0, side, view),
        1 => aptos2019::fundus(class, side, side, view),
        2 => isic2019::dermoscopy(DERMA_CLASS[class], side, side, body, view),
        3 => {
            let mut signs = Signs::default();
            let sign = [Sign::Pneumonia, Sign::Infiltration, Sign::Opacity][whole(view, 0, 2)];
            signs.set(sign, f32::from(truth[0]) * between(view, 0.4, 1.0));
            chest::frontal(&signs, side, side, body, view)
        }
        _ => {
            let mut signs = Signs::default();
            for (&(sign, _), &t) in CHEST.iter().zip(truth) {
                signs.set(sign, f32::from(t));
            }
            chest::frontal(&signs, side, side, body, view)
        }
    }
}

/// Breast ultrasound: bright skin, layers of speckle, darker with depth. A malignant mass is ragged and taller than
/// wide and casts a shadow; a benign one, on two images in three, is smooth and flat and lets more sound through.
fn ultrasound(malignant: bool, side: usize, rng: &mut Stream) -> Canvas {
    let mut canvas = Canvas::new(side, side, 1);
    let layers = noise(rng, side, side, 22.0, 3);
    let speckle = noise(rng, side, side, 4.0, 2);
    let mass = malignant || !once_in(rng, 3);
    let at = [between(rng, 0.38, 0.62), between(rng, 0.38, 0.50)];
    let (radii, rough, echo) = if malignant {
        let radii = [between(rng, 0.11, 0.16), between(rng, 0.12, 0.19)];
        (radii, 0.26, between(rng, -0.28, -0.04))
    } else {
        let radii = [between(rng, 0.12, 0.19), between(rng, 0.07, 0.13)];
        (radii, 0.05, between(rng, -0.06, 0.20))
    };
    let outline = Outline::new(rng, rough);
    canvas.shade(|i, p, px| {
        let (u, v) = (p[0] / side as f32, p[1] / side as f32);
        let band = v * 5.0 + 0.8 * layers[i];
        let band = (band - band.floor() - 0.5).abs();
        let mut tone = (0.62 - 0.38 * v) * (0.75 + 0.5 * band) + 0.16 * layers[i];
        tone += ramp(0.07, 0.03, v) * (0.85 - tone);
        if mass {
            let (x, y) = ((u - at[0]) / radii[0], (v - at[1]) / radii[1]);
            let behind = ramp(1.0, 0.6, x.abs()) * ramp(0.3, 0.9, y);
            tone += echo * behind * (1.0 - 0.5 * v);
            tone += 0.95 * ramp(1.12, 0.92, outline.depth(x, y)) * (0.08 - tone);
        }
        px[0] = tone * (1.0 + 0.5 * speckle[i]);
    });
    canvas
}

/// A stored zip of npy arrays of unsigned bytes: (name, shape, values in C order).
fn npz(arrays: &[(String, String, Vec<u8>)]) -> Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::DEFAULT)
        .unix_permissions(0o644)
        .system(System::Unix);
    for (name, shape, values) in arrays {
        zip.start_file(format!("{name}.npy"), options)?;
        zip.write_all(&npy_header(shape))?;
        zip.write_all(values)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// npy version 1.0: magic, header length, and a Python dictionary padded with spaces so that the values begin at 128.
fn npy_header(shape: &str) -> Vec<u8> {
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({shape}), }}");
    text += &" ".repeat(128 - 11 - text.len());
    text.push('\n');
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend((text.len() as u16).to_le_bytes());
    out.extend(text.into_bytes());
    out
}
