//! Chest films, frontal and lateral, with findings of any strength; drawn by the phantoms of CheXpert and MedMNIST.
//!
//! Positions are parts of the picture, (0, 0) at the top left, moved and scaled from body to body. Each finding has a
//! place, shape or texture of its own, so that the labels can be told apart at 64 × 64 pixels and below.

use super::draw::{Canvas, Outline, Point, between, curve, inside, length, noise, once_in, ramp, whole};
use crate::rng::Stream;

/// What a film can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Mediastinum,
    Heart,
    Opacity,
    Nodule,
    Mass,
    Edema,
    Consolidation,
    Pneumonia,
    Infiltration,
    Atelectasis,
    Pneumothorax,
    Effusion,
    Pleural,
    Fracture,
    Devices,
    Emphysema,
    Fibrosis,
    Hernia,
}

/// How strongly each sign shows, 0..1.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs([f32; 18]);

impl Signs {
    pub(crate) fn set(&mut self, sign: Sign, strength: f32) {
        self.0[sign as usize] = strength;
    }

    fn of(&self, sign: Sign) -> f32 {
        self.0[sign as usize]
    }
}

/// A canvas that is painted in body coordinates.
struct Film {
    canvas: Canvas,
    scale: f32,
    shift: Point,
}

impl Film {
    fn new(w: usize, h: usize, body: &mut Stream, view: &mut Stream) -> Self {
        Self {
            canvas: Canvas::new(w, h, 1),
            scale: between(body, 0.95, 1.05),
            shift: [between(view, -0.025, 0.025), between(view, -0.025, 0.025)],
        }
    }

    fn pixel(&self, [u, v]: Point) -> Point {
        [
            self.canvas.width as f32 * (0.5 + self.shift[0] + self.scale * (u - 0.5)),
            self.canvas.height as f32 * (0.5 + self.shift[1] + self.scale * (v - 0.5)),
        ]
    }

    fn radii(&self, [u, v]: Point) -> Point {
        [
            self.canvas.width as f32 * self.scale * u,
            self.canvas.height as f32 * self.scale * v,
        ]
    }

    fn ellipse(&mut self, at: Point, radii: Point, soft: f32, tone: f32, alpha: f32) {
        let (at, radii) = (self.pixel(at), self.radii(radii));
        self.canvas.ellipse(at, radii, soft, &[tone], alpha);
    }

    fn line(&mut self, points: &[Point], half: f32, tone: f32, alpha: f32) {
        let points: Vec<Point> = points.iter().map(|&p| self.pixel(p)).collect();
        self.canvas.stroke(&points, [half, half], &[tone], alpha);
    }

    fn bend(&mut self, [a, b, c]: [Point; 3], half: f32, tone: f32, alpha: f32) {
        self.line(&curve(a, b, c), half, tone, alpha);
    }

    /// Calls `f(pixel number, (u, v), tone)` for every pixel.
    fn shade(&mut self, mut f: impl FnMut(usize, Point, &mut f32)) {
        let (w, h) = (self.canvas.width as f32, self.canvas.height as f32);
        let (scale, shift) = (self.scale, self.shift);
        self.canvas.shade(|i, p, px| {
            let u = (p[0] / w - 0.5 - shift[0]) / scale + 0.5;
            let v = (p[1] / h - 0.5 - shift[1]) / scale + 0.5;
            f(i, [u, v], &mut px[0]);
        });
    }
}

/// Middle line of a lung: −1 the patient's right (left in the picture), 1 the left.
fn lung_u(side: f32) -> f32 {
    0.5 + 0.205 * side
}

/// How far (u, v) is inside a lung, 0..1; `low` moves the diaphragm down.
fn in_lung(side: f32, [u, v]: Point, low: f32) -> f32 {
    let x = (u - lung_u(side)) / 0.155;
    let dome = 0.735 + 0.012 * side + low + 0.05 * x * x;
    ramp(1.0, 0.88, length(x, (v - 0.47) / (0.37 + low))) * ramp(dome + 0.012, dome - 0.012, v)
}

fn either(rng: &mut Stream) -> f32 {
    if once_in(rng, 2) { 1.0 } else { -1.0 }
}

/// A frontal film (h, w, 1). `body` makes what all films of a patient share.
pub(crate) fn frontal(signs: &Signs, w: usize, h: usize, body: &mut Stream, view: &mut Stream) -> Canvas {
    let mut film = Film::new(w, h, body, view);
    let clouds = noise(view, w, h, 14.0, 4);
    let exposure = between(view, 0.93, 1.07);
    let (flesh, air) = (between(body, 0.52, 0.58), between(body, 0.15, 0.20));
    let blown = signs.of(Sign::Emphysema);
    let narrow = between(body, 0.050, 0.058) + 0.055 * signs.of(Sign::Mediastinum);
    film.shade(|i, [u, v], tone| {
        let off = (u - 0.5).abs();
        let half = 0.13 + 0.35 * ramp(0.0, 0.2, v);
        let torso = ramp(half + 0.015, half - 0.015, off);
        *tone = 0.04 + torso * (flesh + 0.06 * clouds[i]);
        let lung = in_lung(-1.0, [u, v], 0.05 * blown) + in_lung(1.0, [u, v], 0.05 * blown);
        let hilum = ramp(0.13, 0.02, length(off - 0.09, 0.7 * (v - 0.45)));
        let inner = (air + 0.10 * clouds[i] * (1.0 - blown) + 0.16 * hilum) * (1.0 - 0.5 * blown);
        *tone += lung * (inner - *tone);
        let rib = (v + 1.3 * (off - 0.17) * (off - 0.17)) / 0.078;
        let rib = ramp(0.34, 0.10, (rib - rib.floor() - 0.5).abs());
        *tone += 0.075 * torso * rib * ramp(0.05, 0.1, v) * ramp(0.8, 0.7, v) * ramp(0.05, 0.1, off);
        let middle = ramp(narrow + 0.02, narrow - 0.01, off) * ramp(0.08, 0.16, v);
        *tone += 0.95 * middle * (0.72 - *tone);
    });
    let knob = 1.0 + 0.5 * signs.of(Sign::Mediastinum);
    film.ellipse([0.55, 0.30], [0.040 * knob, 0.055], 0.4, 0.72, 0.9);
    let heart = between(body, 0.105, 0.120) * (1.0 + 0.65 * signs.of(Sign::Heart));
    film.ellipse(
        [0.50 + 0.45 * heart, 0.625],
        [heart, 0.145 + 0.3 * (heart - 0.11)],
        0.3,
        0.76,
        0.95,
    );
    for side in [-1.0, 1.0] {
        film.bend(
            [
                [0.5 + 0.04 * side, 0.15],
                [0.5 + 0.15 * side, 0.08],
                [0.5 + 0.36 * side, 0.11],
            ],
            1.2,
            0.74,
            0.5,
        );
    }
    in_the_lungs(&mut film, signs, &clouds, view);
    around_the_lungs(&mut film, signs, view);
    devices(&mut film, signs.of(Sign::Devices), view);
    let grain = noise(view, w, h, 2.0, 1);
    film.shade(|i, _, tone| *tone = exposure * (*tone + 0.012 * grain[i]));
    film.canvas
}

/// Findings within the lung fields.
fn in_the_lungs(film: &mut Film, signs: &Signs, clouds: &[f32], rng: &mut Stream) {
    let s = |sign| signs.of(sign);
    if s(Sign::Edema) > 0.0 {
        for side in [-1.0, 1.0] {
            film.ellipse([0.5 + 0.15 * side, 0.46], [0.15, 0.22], 0.9, 0.66, 0.8 * s(Sign::Edema));
        }
    }
    if s(Sign::Opacity) > 0.0 {
        let at = [
            lung_u(either(rng)) + between(rng, -0.02, 0.02),
            between(rng, 0.42, 0.52),
        ];
        film.ellipse(at, [0.14, 0.14], 0.9, 0.60, 0.85 * s(Sign::Opacity));
    }
    if s(Sign::Consolidation) > 0.0 {
        let side = either(rng);
        let floor = between(rng, 0.32, 0.36);
        film.shade(|i, [u, v], tone| {
            let a = in_lung(side, [u, v], 0.0) * ramp(0.03, -0.03, v - floor - 0.03 * clouds[i]);
            *tone += 0.85 * s(Sign::Consolidation) * a * (0.66 + 0.1 * clouds[i] - *tone);
        });
    }
    if s(Sign::Pneumonia) > 0.0 {
        patchy(
            film,
            [lung_u(either(rng)), between(rng, 0.58, 0.62)],
            s(Sign::Pneumonia),
            clouds,
        );
    }
    for (sign, radius) in [(Sign::Nodule, 0.036), (Sign::Mass, 0.065)] {
        if s(sign) > 0.0 {
            let at = [lung_u(either(rng)) + between(rng, -0.04, 0.04), between(rng, 0.3, 0.6)];
            round(film, at, radius * between(rng, 0.9, 1.1), 0.9 * s(sign), rng);
        }
    }
    if s(Sign::Infiltration) > 0.0 {
        for k in 0..22 {
            let side = if k % 2 == 0 { -1.0 } else { 1.0 };
            let [u, v] = inside(rng, [0.0, 0.0], 1.0);
            let at = [lung_u(side) + 0.11 * u, 0.47 + 0.24 * v];
            film.ellipse(at, [0.022, 0.022], 0.6, 0.64, 0.75 * s(Sign::Infiltration));
        }
    }
    if s(Sign::Fibrosis) > 0.0 {
        for k in 0..30 {
            let at = lung_u(if k % 2 == 0 { -1.0 } else { 1.0 });
            let a = inside(rng, [at, 0.62], 0.10);
            let b = inside(rng, a, 0.08);
            film.line(&[a, b], 0.4, 0.66, 0.7 * s(Sign::Fibrosis));
        }
    }
    if s(Sign::Atelectasis) > 0.0 {
        let at = lung_u(either(rng));
        for k in 0..3 {
            let v = 0.60 + 0.042 * k as f32 + between(rng, -0.006, 0.006);
            let (a, c) = ([at - 0.115, v + 0.012], [at + 0.115, v - 0.008]);
            film.bend([a, [at, v - 0.02], c], 1.0, 0.74, 0.85 * s(Sign::Atelectasis));
        }
    }
}

/// A soft patch, broken up by the film's own clouds.
fn patchy(film: &mut Film, at: Point, strength: f32, clouds: &[f32]) {
    film.shade(|i, [u, v], tone| {
        let d = length((u - at[0]) / 0.13, (v - at[1]) / 0.12);
        let a = strength * ramp(1.0, 0.4, d) * ramp(-0.25, 0.15, clouds[i]);
        *tone += 0.9 * a * (0.72 - *tone);
    });
}

fn round(film: &mut Film, at: Point, radius: f32, alpha: f32, rng: &mut Stream) {
    let outline = Outline::new(rng, 0.1);
    let (centre, radii) = (film.pixel(at), film.radii([radius, radius]));
    let r = radii[0].min(radii[1]).max(1.0);
    film.canvas.cover(centre, [1.5 * r, 1.5 * r], &[0.80], |p| {
        alpha * ramp(1.1, 0.8, outline.depth((p[0] - centre[0]) / r, (p[1] - centre[1]) / r))
    });
}

/// Findings of pleura, ribs and diaphragm.
fn around_the_lungs(film: &mut Film, signs: &Signs, rng: &mut Stream) {
    let s = |sign| signs.of(sign);
    if s(Sign::Effusion) > 0.0 {
        let side = either(rng);
        let level = between(rng, 0.58, 0.64);
        film.shade(|_, [u, v], tone| {
            let x = side * (u - lung_u(side)) / 0.155;
            let meniscus = level + 0.025 * (1.0 - x) * (1.0 - x);
            let chest = ramp(1.12, 1.02, length(x, 0.75 * (v - 0.47) / 0.37));
            let a = chest * ramp(meniscus - 0.02, meniscus + 0.02, v) * ramp(0.88, 0.78, v);
            *tone += 0.9 * s(Sign::Effusion) * a * (0.70 - *tone);
        });
    }
    if s(Sign::Pneumothorax) > 0.0 {
        let side = either(rng);
        film.shade(|_, [u, v], tone| {
            let x = side * (u - lung_u(side)) / 0.155;
            let edge = length((x + 0.5) / 1.05, (v - 0.52) / 0.30);
            let free = in_lung(side, [u, v], 0.0) * ramp(1.0, 1.06, edge) * ramp(0.66, 0.56, v);
            let line = in_lung(side, [u, v], 0.0) * ramp(0.07, 0.0, (edge - 0.98).abs()) * ramp(0.66, 0.56, v);
            *tone += s(Sign::Pneumothorax) * (0.9 * free * (0.04 - *tone) + 0.6 * line * (0.6 - *tone).max(0.0));
        });
    }
    if s(Sign::Pleural) > 0.0 {
        let side = either(rng);
        film.shade(|_, [u, v], tone| {
            let x = side * (u - lung_u(side)) / 0.155;
            let rim = length(x, (v - 0.47) / 0.37);
            let a = ramp(0.66, 0.76, rim) * ramp(1.06, 0.98, rim) * ramp(0.1, 0.4, x) * ramp(0.72, 0.66, v);
            *tone += 0.95 * s(Sign::Pleural) * a * (0.84 - *tone);
        });
    }
    if s(Sign::Fracture) > 0.0 {
        let side = either(rng);
        for k in 0..4 {
            let at = [0.5 + side * between(rng, 0.355, 0.375), 0.30 + 0.085 * k as f32];
            film.ellipse(at, [0.026, 0.022], 0.5, 1.0, 0.95 * s(Sign::Fracture));
            film.line(
                &[[at[0], at[1] - 0.02], [at[0] + 0.012, at[1] + 0.02]],
                0.5,
                0.1,
                s(Sign::Fracture),
            );
        }
    }
    if s(Sign::Hernia) > 0.0 {
        film.ellipse([0.5, 0.72], [0.10, 0.085], 0.15, 0.86, s(Sign::Hernia));
        film.ellipse([0.5, 0.715], [0.075, 0.058], 0.3, 0.22, s(Sign::Hernia));
    }
}

/// A tube, a central line, and leads or a pacemaker: the only things on a film that are sharp and white.
fn devices(film: &mut Film, strength: f32, rng: &mut Stream) {
    if strength == 0.0 {
        return;
    }
    let a = 0.95 * strength;
    film.line(&[[0.5, 0.0], [0.495, 0.28]], 0.9, 1.0, a);
    film.bend([[0.22, 0.06], [0.46, 0.08], [0.465, 0.48]], 0.7, 1.0, a);
    if once_in(rng, 2) {
        film.ellipse([0.76, 0.16], [0.055, 0.05], 0.12, 1.0, a);
        film.bend([[0.74, 0.18], [0.42, 0.24], [0.56, 0.68]], 0.7, 1.0, a);
    } else {
        for _ in 0..whole(rng, 2, 3) {
            let at = inside(rng, [0.5, 0.45], 0.3);
            film.ellipse(at, [0.024, 0.026], 0.2, 1.0, a);
            let from = [0.5 + between(rng, -0.4, 0.4), 0.98];
            film.bend([at, [from[0], 0.6], from], 0.5, 1.0, a);
        }
    }
}

/// A lateral film (h, w, 1), the spine to the right; every sign of CheXpert has its mark here too.
pub(crate) fn lateral(signs: &Signs, w: usize, h: usize, body: &mut Stream, view: &mut Stream) -> Canvas {
    let mut film = Film::new(w, h, body, view);
    let clouds = noise(view, w, h, 14.0, 4);
    let exposure = between(view, 0.93, 1.07);
    let (flesh, air) = (between(body, 0.50, 0.56), between(body, 0.20, 0.26));
    film.shade(|i, [u, v], tone| {
        let half = 0.22 + 0.16 * ramp(0.0, 0.35, v);
        *tone = 0.04 + ramp(half + 0.02, half - 0.02, (u - 0.5).abs()) * (flesh + 0.06 * clouds[i]);
        let dome = 0.74 + 0.25 * (u - 0.45) * (u - 0.45) * 4.0;
        let lung = ramp(1.0, 0.85, length((u - 0.49) / 0.30, (v - 0.46) / 0.36)) * ramp(dome + 0.015, dome - 0.015, v);
        *tone += lung * (air + 0.1 * clouds[i] - *tone);
        let bone = (v + 0.1 * u) / 0.07;
        let spine = ramp(0.065, 0.03, (u - 0.74 - 0.08 * (v - 0.5)).abs());
        *tone += spine * (0.10 + 0.12 * ramp(0.45, 0.3, (bone - bone.floor() - 0.5).abs()));
    });
    let heart = 0.15 * (1.0 + 0.4 * signs.of(Sign::Heart));
    film.ellipse([0.36, 0.60], [heart, 0.16], 0.4, 0.70, 0.9);
    let wide = 0.05 + 0.06 * signs.of(Sign::Mediastinum);
    film.ellipse([0.46, 0.26], [wide, 0.14], 0.5, 0.64, 0.8);
    const MARKS: [(Sign, Point, Point, f32, f32); 10] = [
        (Sign::Opacity, [0.56, 0.46], [0.16, 0.13], 0.9, 0.62),
        (Sign::Edema, [0.50, 0.44], [0.24, 0.24], 0.9, 0.66),
        (Sign::Consolidation, [0.50, 0.26], [0.13, 0.10], 0.25, 0.74),
        (Sign::Pneumonia, [0.64, 0.60], [0.12, 0.11], 0.7, 0.72),
        (Sign::Nodule, [0.60, 0.40], [0.04, 0.04], 0.2, 0.85),
        (Sign::Pneumothorax, [0.48, 0.18], [0.20, 0.09], 0.3, 0.02),
        (Sign::Effusion, [0.66, 0.72], [0.20, 0.12], 0.2, 0.76),
        (Sign::Pleural, [0.72, 0.42], [0.035, 0.24], 0.3, 0.86),
        (Sign::Fracture, [0.80, 0.40], [0.03, 0.05], 0.4, 1.0),
        (Sign::Fracture, [0.80, 0.56], [0.03, 0.05], 0.4, 1.0),
    ];
    for (sign, at, radii, soft, tone) in MARKS {
        film.ellipse(at, radii, soft, tone, 0.9 * signs.of(sign));
    }
    for k in 0..3 {
        let v = 0.62 + 0.04 * k as f32;
        film.bend(
            [[0.42, v], [0.56, v - 0.03], [0.70, v]],
            0.9,
            0.74,
            0.85 * signs.of(Sign::Atelectasis),
        );
    }
    devices(&mut film, signs.of(Sign::Devices), view);
    let grain = noise(view, w, h, 2.0, 1);
    film.shade(|i, _, tone| *tone = exposure * (*tone + 0.012 * grain[i]));
    film.canvas
}
