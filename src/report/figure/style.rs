//! How things look: sizes, colours, markers.

use super::scene::{Align, Point, Rgb, Shape};
use crate::study::{Freeze, HeadKind};

pub const INK: Rgb = Rgb(34, 34, 34);
pub const GREY: Rgb = Rgb(110, 110, 110);
pub const GRID: Rgb = Rgb(228, 228, 228);

pub const PANEL: (f64, f64) = (760.0, 560.0);
/// Left, top, right, bottom of a panel's plot area within the panel.
pub const INSET: (f64, f64, f64, f64) = (122.0, 56.0, 16.0, 88.0);
pub const TITLE_SIZE: f64 = 26.0;
pub const TEXT_SIZE: f64 = 22.0;
pub const LABEL_SIZE: f64 = 18.0;
pub const RADIUS: f64 = 8.5;
/// Distance between neighbouring regimes of a backbone.
pub const DODGE: f64 = 11.0;
pub const LEGEND_LINE: f64 = 40.0;

/// Cold is frozen, warm is unfrozen; light is linear, dark is MHA.
pub fn regime_colour(freeze: Freeze, head: HeadKind) -> Rgb {
    match (freeze, head) {
        (Freeze::Frozen, HeadKind::Linear) => Rgb(86, 180, 233),
        (Freeze::Frozen, HeadKind::Mha) => Rgb(0, 114, 178),
        (Freeze::Unfrozen, HeadKind::Linear) => Rgb(230, 159, 0),
        (Freeze::Unfrozen, HeadKind::Mha) => Rgb(213, 94, 0),
    }
}

/// The outline of marker `i` (eight shapes, then again from the first) around a centre, of about equal area.
pub fn marker(i: usize, (x, y): Point, r: f64) -> Vec<Point> {
    let ring = |n: u32, r: f64, turn: f64| {
        (0..n).map(move |k| {
            let angle = (f64::from(k) / f64::from(n) + turn) * 2.0 * std::f64::consts::PI;
            (x + r * libm::sin(angle), y - r * libm::cos(angle))
        })
    };
    let plus = |w: f64, r: f64| {
        [
            (-w, -r),
            (w, -r),
            (w, -w),
            (r, -w),
            (r, w),
            (w, w),
            (w, r),
            (-w, r),
            (-w, w),
            (-r, w),
            (-r, -w),
            (-w, -w),
        ]
        .into_iter()
        .map(|(dx, dy)| (x + dx, y + dy))
        .collect::<Vec<_>>()
    };
    match i % 8 {
        0 => ring(40, 0.92 * r, 0.0).collect(),
        1 => ring(4, 1.18 * r, 0.125).collect(),
        2 => ring(3, 1.28 * r, 0.0).map(|(px, py)| (px, py + 0.2 * r)).collect(),
        3 => ring(4, 1.22 * r, 0.0).collect(),
        4 => ring(3, 1.28 * r, 0.5).map(|(px, py)| (px, py - 0.2 * r)).collect(),
        5 => ring(5, 1.35 * r, 0.0)
            .zip(ring(5, 0.6 * r, 0.1))
            .flat_map(|(a, b)| [a, b])
            .collect(),
        6 => plus(0.42 * r, 1.12 * r),
        _ => ring(6, 1.05 * r, 0.25).collect(),
    }
}

/// A line of text.
pub fn text(at: Point, text: &str, size: f64, colour: Rgb, align: Align) -> Shape {
    Shape::Text {
        at,
        text: text.to_owned(),
        size,
        colour,
        align,
        upright: false,
    }
}
