//! How things look: sizes, colours, markers, dashes.
//!
//! Sizes are chosen for print: [`COLUMN`] units are 3.5 inches, so that the smallest text is 7 points. Colours are of Okabe and Ito's palette, which
//! colour-blind readers can tell apart; whatever a colour says, a shape or a dash says too.

pub(crate) use super::scene::COLUMN;
use super::scene::{Align, Point, Rgb, Shape};
use crate::study::{Freeze, HeadKind};

pub(crate) const INK: Rgb = Rgb(34, 34, 34);
pub(crate) const GREY: Rgb = Rgb(110, 110, 110);
pub(crate) const GRID: Rgb = Rgb(228, 228, 228);
/// Okabe and Ito's blue and vermillion, for better and worse.
pub(crate) const BLUE: Rgb = Rgb(0, 114, 178);
pub(crate) const VERMILLION: Rgb = Rgb(213, 94, 0);

pub(crate) const PAGE: f64 = 1473.0;
pub(crate) const TITLE_SIZE: f64 = 25.0;
pub(crate) const TEXT_SIZE: f64 = 21.0;
pub(crate) const LABEL_SIZE: f64 = 20.0;
pub(crate) const RADIUS: f64 = 8.5;
pub(crate) const LEGEND_LINE: f64 = 34.0;

/// Cold is frozen, warm is unfrozen; light is linear, dark is MHA.
pub(crate) fn regime_colour(freeze: Freeze, head: HeadKind) -> Rgb {
    match (freeze, head) {
        (Freeze::Frozen, HeadKind::Linear) => Rgb(86, 180, 233),
        (Freeze::Frozen, HeadKind::Mha) => BLUE,
        (Freeze::Unfrozen, HeadKind::Linear) => Rgb(230, 159, 0),
        (Freeze::Unfrozen, HeadKind::Mha) => VERMILLION,
    }
}

/// The regime's marker where the shape does not say the family: disc, square, triangle, diamond.
pub(crate) fn regime_shape(freeze: Freeze, head: HeadKind) -> usize {
    match (freeze, head) {
        (Freeze::Frozen, HeadKind::Linear) => 0,
        (Freeze::Frozen, HeadKind::Mha) => 1,
        (Freeze::Unfrozen, HeadKind::Linear) => 2,
        (Freeze::Unfrozen, HeadKind::Mha) => 3,
    }
}

/// How a line is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dash {
    Solid,
    Long,
    Short,
    LongShort,
}

impl Dash {
    /// Lengths drawn and left out, in turn.
    fn pattern(self) -> &'static [f64] {
        match self {
            Self::Solid => &[],
            Self::Long => &[14.0, 6.0],
            Self::Short => &[5.0, 5.0],
            Self::LongShort => &[14.0, 5.0, 4.0, 5.0],
        }
    }
}

/// The regime's line: unbroken is unfrozen MHA, the strongest colour.
pub(crate) fn regime_dash(freeze: Freeze, head: HeadKind) -> Dash {
    match (freeze, head) {
        (Freeze::Frozen, HeadKind::Linear) => Dash::Short,
        (Freeze::Frozen, HeadKind::Mha) => Dash::Long,
        (Freeze::Unfrozen, HeadKind::Linear) => Dash::LongShort,
        (Freeze::Unfrozen, HeadKind::Mha) => Dash::Solid,
    }
}

/// A path with dashes that run on around its corners.
pub(crate) fn dashed(points: &[Point], dash: Dash, width: f64, colour: Rgb, shapes: &mut Vec<Shape>) {
    let pattern = dash.pattern();
    if pattern.is_empty() {
        shapes.push(Shape::Line {
            points: points.to_vec(),
            width,
            colour,
        });
        return;
    }
    let (mut k, mut left) = (0, pattern[0]);
    let mut stroke: Vec<Point> = points.first().copied().into_iter().collect();
    let mut close = |stroke: &mut Vec<Point>, k: usize| {
        if k.is_multiple_of(2) && stroke.len() > 1 {
            let points = std::mem::take(stroke);
            shapes.push(Shape::Line { points, width, colour });
        }
        stroke.clear();
    };
    for (a, b) in points.iter().zip(points.iter().skip(1)) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = (dx * dx + dy * dy).sqrt();
        let mut done = 0.0;
        while length - done > left {
            done += left;
            let p = (a.0 + dx * done / length, a.1 + dy * done / length);
            stroke.push(p);
            close(&mut stroke, k);
            stroke.push(p);
            k = (k + 1) % pattern.len();
            left = pattern[k];
        }
        left -= length - done;
        stroke.push(*b);
    }
    close(&mut stroke, k);
}

/// The outline of marker `i` (eight shapes, then again from the first) around a centre, of about equal area.
pub(crate) fn marker(i: usize, (x, y): Point, r: f64) -> Vec<Point> {
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

/// A filled marker with the white rim that parts it from its neighbours.
pub(crate) fn solid_marker(shape: usize, at: Point, fill: Rgb) -> Shape {
    Shape::Polygon {
        points: marker(shape, at, RADIUS),
        fill,
        outline: Some((0.8, super::scene::WHITE_FILL)),
    }
}

/// A line of text.
pub(crate) fn text(at: Point, text: &str, size: f64, colour: Rgb, align: Align) -> Shape {
    Shape::Text {
        at,
        text: text.to_owned(),
        size,
        colour,
        align,
        upright: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Length of the strokes of a path of 12 + 8 units under dashes of 5 on, 5 off: 5 (0–5), 5 (10–15), of which 2 lie before the corner.
    #[test]
    fn dashes_go_around_a_corner() {
        let mut shapes = Vec::new();
        dashed(
            &[(0.0, 0.0), (12.0, 0.0), (12.0, 8.0)],
            Dash::Short,
            1.0,
            INK,
            &mut shapes,
        );
        let strokes: Vec<Vec<Point>> = shapes
            .into_iter()
            .map(|s| match s {
                Shape::Line { points, .. } => points,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            strokes,
            [
                vec![(0.0, 0.0), (5.0, 0.0)],
                vec![(10.0, 0.0), (12.0, 0.0), (12.0, 3.0)]
            ]
        );
    }
}
