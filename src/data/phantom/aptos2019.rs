//! The phantom of APTOS2019 (PROTOCOL 1.4): fundus photographs, five grades of diabetic retinopathy.
//!
//! Grade 0 is clean; 1 has a few microaneurysms (dark red dots); 2 more of them and hard exudates (bright yellow); 3
//! adds blot haemorrhages; 4 adds new vessels, a large haemorrhage and cotton-wool spots. The views are landscape,
//! square or cut at top and bottom, as the real ones are. `train.csv` names every image, `train_1.csv` four in five in
//! another order; both find them in the nested folder. The fundus carries no film grain, which would fill a PNG and
//! teach nothing.

use super::draw::{Canvas, Point, between, curve, direction, inside, length, noise, once_in, ramp, whole};
use super::{Of, Phantom, Picture, Set, at_least, deal, stream};
use crate::rng::Stream;
use anyhow::Result;
use std::path::Path;

pub const DEFAULT_IMAGES: usize = 240;
/// The first deal that has every class in every part of the authors' split at the default size (a test keeps it so).
pub(super) const DEAL: usize = 2;
const LEAST: usize = 60;
/// Per cent of grades 0–4; the real set has 49, 10, 27, 5, 8.
const SHARES: [usize; 5] = [42, 12, 25, 10, 11];

/// Writes both label files and `images` photographs below `root`.
///
/// # Errors
/// [`crate::error::BadInput`] for too few images, for a file that is already there with other content, or when the disk
/// refuses.
pub fn write(root: &Path, images: usize) -> Result<()> {
    plan(images)?.write(root, super::WRITERS)
}

pub(super) fn plan(images: usize) -> Result<Phantom> {
    at_least("APTOS2019", images, LEAST)?;
    let rows = rows(images, DEAL);
    let mut sorted = rows.clone();
    sorted.sort();
    let picture = |(i, (id, grade)): (usize, &(String, usize))| {
        let grade = *grade;
        Picture::new(format!("train_images/train_images/{id}.png"), move || {
            let mut rng = stream(Set::Aptos2019, Of::Image(i));
            let (w, h) = match whole(&mut rng, 0, 2) {
                0 => (whole(&mut rng, 88, 96), 84),
                1 => (whole(&mut rng, 100, 110), 84),
                _ => (92, 92),
            };
            let mut canvas = fundus(grade, w, h, &mut rng);
            // The vitreous clouds with the disease.
            let clear = 1.1 - 0.15 * grade as f32;
            canvas.expose(&[clear * between(&mut rng, 0.95, 1.05)]);
            canvas
        })
    };
    Ok(Phantom {
        labels: vec![
            ("train.csv".into(), csv(&sorted)),
            ("train_1.csv".into(), csv(&rows[..first_rows(images)])),
        ],
        pictures: rows.iter().enumerate().map(picture).collect(),
    })
}

/// Ids of 12 hexadecimal digits with their grades, those of `train_1.csv` first.
pub(super) fn rows(images: usize, number: usize) -> Vec<(String, usize)> {
    let mut rng = stream(Set::Aptos2019, Of::Table(number));
    let first = first_rows(images);
    let mut grades = deal(&mut rng, &SHARES, first);
    grades.extend(deal(&mut rng, &SHARES, images - first));
    let id = |rng: &mut Stream| format!("{:012x}", rng.next_u64() >> 16);
    grades.into_iter().map(|grade| (id(&mut rng), grade)).collect()
}

pub(super) fn first_rows(images: usize) -> usize {
    images * 4 / 5
}

fn csv(rows: &[(String, usize)]) -> Vec<u8> {
    let mut text = "id_code,diagnosis\n".to_owned();
    for (id, grade) in rows {
        text += &format!("{id},{grade}\n");
    }
    text.into_bytes()
}

const VESSEL: [f32; 3] = [0.42, 0.08, 0.05];
const BLOOD: [f32; 3] = [0.30, 0.02, 0.02];
const EXUDATE: [f32; 3] = [1.0, 0.92, 0.50];
const COTTON: [f32; 3] = [0.97, 0.88, 0.70];

/// A fundus photograph (h, w, 3) of grade 0–4.
pub(super) fn fundus(grade: usize, w: usize, h: usize, rng: &mut Stream) -> Canvas {
    let mut canvas = Canvas::new(w, h, 3);
    // Wide pictures often cut the disc at top and bottom.
    let full = if w > h + 12 {
        between(rng, 0.50, 0.58)
    } else {
        between(rng, 0.46, 0.48)
    };
    let radius = full * canvas.short();
    let at = canvas.middle();
    let nose = if once_in(rng, 2) { 1.0 } else { -1.0 };
    let disc = [
        at[0] + nose * radius * between(rng, 0.42, 0.5),
        at[1] + radius * between(rng, -0.08, 0.08),
    ];
    background(&mut canvas, at, radius, nose, 1.0 - 0.03 * grade as f32, rng);
    canvas.spot(disc, 0.22 * radius, 0.5, &[1.0, 0.72, 0.36], 0.6);
    canvas.spot(disc, 0.15 * radius, 0.4, &[1.0, 0.90, 0.62], 0.9);
    vessels(&mut canvas, disc, at, radius, nose, rng);
    lesions(&mut canvas, grade, at, radius, disc, rng);
    canvas.cover(at, [w as f32, h as f32], &[0.0; 3], |p| {
        ramp(radius - 1.0, radius + 0.5, length(p[0] - at[0], p[1] - at[1]))
    });
    canvas
}

/// The orange retina, darker towards the rim and at the macula; `clear` dims it, as a hazy eye does.
fn background(canvas: &mut Canvas, at: Point, radius: f32, nose: f32, clear: f32, rng: &mut Stream) {
    let colour = [
        between(rng, 0.74, 0.86),
        between(rng, 0.36, 0.45),
        between(rng, 0.12, 0.18),
    ];
    let light = direction(rng);
    let macula = [at[0] - nose * 0.12 * radius, at[1] + 0.05 * radius];
    let texture = noise(rng, canvas.width, canvas.height, radius * 0.6, 2);
    canvas.shade(|i, p, px| {
        let (x, y) = ((p[0] - at[0]) / radius, (p[1] - at[1]) / radius);
        let shade = clear - 0.32 * (x * x + y * y) + 0.08 * (x * light[0] + y * light[1]) + 0.06 * texture[i];
        let dark = 0.3 * ramp(0.3, 0.0, length(p[0] - macula[0], p[1] - macula[1]) / radius);
        for (v, c) in px.iter_mut().zip(colour) {
            *v = c * shade * (1.0 - dark);
        }
    });
}

/// Four arcades from the optic disc around the macula and away from it, each with two branches.
fn vessels(canvas: &mut Canvas, disc: Point, at: Point, radius: f32, nose: f32, rng: &mut Stream) {
    for (up, out) in [(-1.0, -1.0), (1.0, -1.0), (-1.0, 1.0), (1.0, 1.0)] {
        let side = nose * out;
        let (bend, end) = if out < 0.0 {
            ([0.1, 0.75], [1.15, 0.55 * between(rng, 0.7, 1.2)])
        } else {
            ([0.05, 0.5], [0.35, 0.95 * between(rng, 0.8, 1.1)])
        };
        let to = |[x, y]: Point| [disc[0] + side * radius * x, at[1] + up * radius * y];
        let line = curve(disc, to(bend), to(end));
        for (k, reach) in [(5, 0.35), (9, 0.45)] {
            let from = line[k];
            let [x, y] = inside(rng, [side * 0.5, up * 0.5], 0.4);
            let tip = [from[0] + radius * reach * x, from[1] + radius * reach * y];
            canvas.stroke(&[from, tip], [0.013 * radius, 0.006 * radius], &VESSEL, 0.7);
        }
        canvas.stroke(&line, [0.024 * radius, 0.010 * radius], &VESSEL, 0.8);
    }
}

/// What the grade adds. Sizes are in parts of the disc's radius.
fn lesions(canvas: &mut Canvas, grade: usize, at: Point, radius: f32, disc: Point, rng: &mut Stream) {
    let field = 0.78 * radius;
    let about = |rng: &mut Stream, n: [u32; 5]| match n[grade] {
        0 => 0,
        n => whole(rng, n - n / 4, n + n / 4),
    };
    for _ in 0..about(rng, [0, 9, 18, 34, 34]) {
        let spot = inside(rng, at, field);
        let r = radius * between(rng, 0.028, 0.042);
        canvas.spot(spot, r, 0.5, &BLOOD, 0.85);
    }
    for _ in 0..about(rng, [0, 0, 4, 8, 8]) {
        let ring = inside(rng, at, 0.7 * field);
        for _ in 0..whole(rng, 4, 6) {
            let spot = inside(rng, ring, 0.13 * radius);
            let r = radius * between(rng, 0.025, 0.05);
            canvas.spot(spot, r, 0.5, &EXUDATE, 0.95);
        }
    }
    for _ in 0..about(rng, [0, 0, 0, 12, 10]) {
        let spot = inside(rng, at, field);
        let r = [radius * between(rng, 0.05, 0.09), radius * between(rng, 0.05, 0.09)];
        canvas.ellipse(spot, r, 0.5, &BLOOD, 0.85);
    }
    if grade == 4 {
        for _ in 0..whole(rng, 2, 3) {
            let spot = inside(rng, at, 0.6 * field);
            canvas.ellipse(
                spot,
                [radius * between(rng, 0.2, 0.3), radius * between(rng, 0.14, 0.2)],
                0.3,
                &BLOOD,
                0.9,
            );
        }
        for _ in 0..whole(rng, 4, 6) {
            let spot = inside(rng, at, 0.8 * field);
            canvas.spot(spot, radius * between(rng, 0.08, 0.12), 0.9, &COTTON, 0.9);
        }
        for _ in 0..14 {
            let bend = inside(rng, disc, 0.25 * radius);
            let tip = inside(rng, bend, 0.25 * radius);
            canvas.stroke(&curve(disc, bend, tip), [0.01 * radius, 0.008 * radius], &VESSEL, 0.8);
        }
    }
}
