//! The phantom of DDSM (PROTOCOL 1.1): film mammograms, four views a case, one list of names for each part.
//!
//! A normal breast has glandular tissue only. A benign case shows a smooth round mass with a sharp border, a cancer a
//! spiculated one with a soft border and a cluster of calcifications. In the real set most exams have a finding in one
//! breast only; here all four views show it, so that every image can be told by itself. The real lists are cut
//! 80/10/10, these 60/20/20, because a tenth of so few cases would be three patients.

use super::draw::{Canvas, Outline, Point, between, curve, direction, inside, length, noise, once_in, ramp, whole};
use super::{Of, Phantom, Picture, Set, at_least, deal, stream};
use crate::rng::Stream;
use anyhow::Result;
use std::path::Path;

/// 60 cases of four views.
pub const DEFAULT_IMAGES: usize = 240;
/// 15 cases, 3 of them in val and 3 in test.
const LEAST: usize = 60;
const VIEWS: [&str; 4] = ["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Finding {
    Normal,
    Benign,
    Cancer,
}

const FINDINGS: [Finding; 3] = [Finding::Normal, Finding::Benign, Finding::Cancer];
/// The real shares of cases, in per cent.
const SHARES: [usize; 3] = [27, 38, 35];

/// Writes the lists and images of `images / 4` cases below `root`.
///
/// # Errors
/// [`crate::error::BadInput`] for too few images, for a file that is already there with other content, or when the disk
/// refuses.
pub fn write(root: &Path, images: usize) -> Result<()> {
    plan(images)?.write(root, super::WRITERS)
}

pub(super) fn plan(images: usize) -> Result<Phantom> {
    at_least("DDSM", images, LEAST)?;
    let cases = images / VIEWS.len();
    let held = cases / 5;
    let mut rng = stream(Set::Ddsm, Of::Table(0));
    let (mut labels, mut pictures) = (Vec::new(), Vec::new());
    let mut next = 0;
    for (list, n) in [("train", cases - 2 * held), ("val", held), ("test", held)] {
        let mut names = Vec::new();
        for class in deal(&mut rng, &SHARES, n) {
            let finding = FINDINGS[class];
            let stem = case_name(&mut rng, finding, next);
            for (view, name) in VIEWS.iter().enumerate() {
                let name = format!("{stem}.{name}.LJPEG.1.jpg");
                let case = next;
                pictures.push(Picture::new(format!("ddsm_raw/{name}"), move || {
                    mammogram(finding, case, view)
                }));
                names.push(name);
            }
            next += 1;
        }
        names.sort();
        let text = names.join("\n") + "\n";
        labels.push((format!("ddsm_raw_image_lists/{list}.txt"), text.into_bytes()));
    }
    Ok(Phantom { labels, pictures })
}

/// `benign_01-B_3102_1`: finding, volume, scanner, case. Case numbers are spaced as in the real set and never repeat.
fn case_name(rng: &mut Stream, finding: Finding, case: usize) -> String {
    let name = match finding {
        Finding::Normal => "normal",
        Finding::Benign if once_in(rng, 7) => "benign_without_callback",
        Finding::Benign => "benign",
        Finding::Cancer => "cancer",
    };
    let volume = whole(rng, 1, 12);
    let scanner = ["A", "A", "B", "D"][whole(rng, 0, 3)];
    let number = 1002 + 7 * case + whole(rng, 0, 6);
    format!("{name}_{volume:02}-{scanner}_{number}_1")
}

/// The breast in parts of the picture: distance from the chest wall over the width, and down over the height.
struct Breast {
    /// Depth of the breast and half its height.
    radii: Point,
    /// Height of the nipple.
    nipple: f32,
    oblique: bool,
}

impl Breast {
    /// 0 in the middle of the chest wall, 1 at the skin.
    fn rim(&self, u: f32, v: f32) -> f32 {
        let dv = v - self.nipple;
        // The oblique view follows the breast up into the armpit.
        let up = if self.oblique && dv < 0.0 { 1.4 } else { 1.0 };
        length(u / self.radii[0], dv / (self.radii[1] * up))
    }
}

fn mammogram(finding: Finding, case: usize, view: usize) -> Canvas {
    let mut body = stream(Set::Ddsm, Of::Subject(case));
    let dense = between(&mut body, 0.45, 1.0);
    let size = between(&mut body, 0.92, 1.08);
    let mut rng = stream(Set::Ddsm, Of::Image(VIEWS.len() * case + view));
    let (left, oblique) = (view < 2, view % 2 == 1);
    let (w, h) = (whole(&mut rng, 88, 112), whole(&mut rng, 112, 144));
    let breast = Breast {
        radii: [
            size * between(&mut rng, 0.66, 0.78),
            size * between(&mut rng, 0.36, 0.41),
        ],
        nipple: between(&mut rng, 0.47, 0.53) + if oblique { 0.05 } else { 0.0 },
        oblique,
    };
    let mut canvas = Canvas::new(w, h, 1);
    tissue(&mut canvas, &breast, left, dense, &mut rng);
    strands(&mut canvas, &breast, left, dense, &mut rng);
    let u = breast.radii[0] * between(&mut rng, 0.34, 0.58);
    let v = breast.nipple + breast.radii[1] * between(&mut rng, -0.28, 0.28);
    let at = [w as f32 * if left { u } else { 1.0 - u }, h as f32 * v];
    let radius = h as f32 * size * between(&mut rng, 0.07, 0.10);
    let clear = between(&mut body, 0.55, 1.0);
    match finding {
        Finding::Normal => {}
        Finding::Benign => smooth_mass(&mut canvas, at, radius, clear, &mut rng),
        Finding::Cancer => spiculated_mass(&mut canvas, at, radius, clear, &mut rng),
    }
    film_label(&mut canvas, left, &mut rng);
    // Denser breasts are brighter; the ranges of the three overlap.
    let bright = match finding {
        Finding::Normal => 0.75,
        Finding::Benign => 0.95,
        Finding::Cancer => 1.15,
    };
    canvas.expose(&[bright * between(&mut rng, 0.85, 1.15)]);
    canvas
}

/// Bright strands that run from the nipple back to the chest wall.
fn strands(canvas: &mut Canvas, breast: &Breast, left: bool, dense: f32, rng: &mut Stream) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let at = |u: f32, v: f32| [w * if left { u } else { 1.0 - u }, h * v];
    for _ in 0..whole(rng, 14, 20) {
        let (depth, spread) = (breast.radii[0], breast.radii[1]);
        let from = at(
            depth * between(rng, 0.7, 0.95),
            breast.nipple + spread * between(rng, -0.12, 0.12),
        );
        let way = between(rng, -0.75, 0.75);
        let bend = at(
            depth * between(rng, 0.4, 0.6),
            breast.nipple + spread * way * between(rng, 0.4, 0.9),
        );
        let to = at(depth * between(rng, 0.05, 0.3), breast.nipple + spread * way);
        let alpha = dense * between(rng, 0.15, 0.4);
        canvas.stroke(&curve(from, bend, to), [0.7, 0.35], &[0.62], alpha);
    }
}

/// Skin, fat, glands and, in the oblique view, the pectoral muscle. The chest wall of a left breast is at the left
/// edge.
fn tissue(canvas: &mut Canvas, breast: &Breast, left: bool, dense: f32, rng: &mut Stream) {
    let (w, h) = (canvas.width, canvas.height);
    let clouds = noise(rng, w, h, 16.0, 4);
    let fibres = noise(rng, w, h, 5.0, 2);
    let muscle = between(rng, 0.28, 0.36);
    canvas.shade(|i, p, px| {
        let across = p[0] / w as f32;
        let (u, v) = (if left { across } else { 1.0 - across }, p[1] / h as f32);
        let rim = breast.rim(u, v) + 0.02 * clouds[i];
        let skin = ramp(1.0, 0.94, rim);
        let thick = (1.0 - rim * rim).max(0.0).sqrt();
        let gland = ramp(
            1.0,
            0.2,
            length(
                (u - 0.42 * breast.radii[0]) / (0.62 * breast.radii[0]),
                (v - breast.nipple) / (0.8 * breast.radii[1]),
            ) + 0.35 * clouds[i],
        );
        let ducts = (0.35 + 0.5 * clouds[i] + 0.3 * fibres[i]).max(0.0);
        let mut tone = 0.03 + skin * (0.08 + 0.16 * thick + 0.03 * fibres[i] + dense * gland * (0.06 + 0.34 * ducts));
        if breast.oblique {
            let edge = u + 0.62 * v - muscle;
            tone += ramp(0.02, -0.03, edge) * (0.62 + 0.05 * fibres[i] - tone);
        }
        px[0] = tone;
    });
}

/// `clear` is how much of the mass shows through the tissue.
fn smooth_mass(canvas: &mut Canvas, at: Point, radius: f32, clear: f32, rng: &mut Stream) {
    let outline = Outline::new(rng, 0.06);
    let tone = between(rng, 0.66, 0.76);
    let flat = between(rng, 0.8, 1.0);
    canvas.cover(at, [1.6 * radius, 1.6 * radius], &[tone], |p| {
        let (x, y) = ((p[0] - at[0]) / radius, (p[1] - at[1]) / (radius * flat));
        0.85 * clear * ramp(1.1, 0.84, outline.depth(x, y))
    });
}

fn spiculated_mass(canvas: &mut Canvas, at: Point, radius: f32, clear: f32, rng: &mut Stream) {
    for _ in 0..whole(rng, 20, 26) {
        let [x, y] = direction(rng);
        let reach = radius * between(rng, 1.4, 2.3);
        let tip = [at[0] + reach * x, at[1] + reach * y];
        let bend = inside(rng, [(at[0] + tip[0]) / 2.0, (at[1] + tip[1]) / 2.0], 0.3 * radius);
        canvas.stroke(&curve(at, bend, tip), [0.09 * radius, 0.25], &[0.85], 0.5 * clear);
    }
    let outline = Outline::new(rng, 0.3);
    canvas.cover(at, [2.2 * radius, 2.2 * radius], &[0.88], |p| {
        let depth = outline.depth((p[0] - at[0]) / radius, (p[1] - at[1]) / radius);
        0.95 * clear * ramp(1.3, 0.25, depth)
    });
    for _ in 0..whole(rng, 6, 10) {
        let spot = inside(rng, at, 1.6 * radius);
        canvas.spot(spot, 1.0, 0.6, &[1.0], 0.9);
    }
}

/// The marker in the dark corner away from the chest wall, on two films in three.
fn film_label(canvas: &mut Canvas, left: bool, rng: &mut Stream) {
    if once_in(rng, 3) {
        return;
    }
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    let u = between(rng, 0.84, 0.9);
    let x = w * if left { u } else { 1.0 - u };
    let y = h * between(rng, 0.05, 0.1);
    for letter in 0..3 {
        let x = x + 4.0 * (letter as f32 - 1.0);
        canvas.stroke(&[[x, y - 2.0], [x, y + 2.0]], [0.7, 0.7], &[0.8], 0.9);
        canvas.stroke(&[[x, y + 2.0], [x + 2.0, y + 2.0]], [0.5, 0.5], &[0.8], 0.9);
    }
}
