//! The axes of a plot, with round ticks.

use super::labels::Rect;
use super::scene::{Align, Point, Shape};
use super::style::{GREY, GRID, INK, TEXT_SIZE, text};
use crate::report::text::fixed;

/// A range of values, how it is laid out, and where its ticks are.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    /// Where the axis begins, at the left or at the bottom.
    low: f64,
    high: f64,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From `low` to `high` with round ticks.
    pub(crate) fn linear(low: f64, high: f64) -> Self {
        let (values, places) = linear_ticks(low, high, 7.0);
        let ticks = values.into_iter().map(|v| (v, fixed(v, places))).collect();
        Self { low, high, ticks }
    }

    /// Around values with some room; `least` is the room on each side where all values are equal.
    pub(crate) fn around(values: impl IntoIterator<Item = f64>, room: f64, least: f64) -> Self {
        let (low, high) = span(values);
        let pad = if high - low < 1e-9 { least } else { room * (high - low) };
        Self::linear(low - pad, high + pad)
    }

    /// As [`Axis::around`] for an axis of this length along which the ticks' labels neither meet nor stand out by more than `beyond`.
    pub(crate) fn around_in(
        values: impl IntoIterator<Item = f64>,
        room: f64,
        least: f64,
        length: f64,
        beyond: f64,
    ) -> Self {
        let mut axis = Self::around(values, room, least);
        for most in (2..=7).rev() {
            let (ticks, places) = linear_ticks(axis.low, axis.high, f64::from(most));
            let labels = ticks.into_iter().map(|v| {
                let label = fixed(v, places);
                let half = super::scene::text_width(&label, TEXT_SIZE) / 2.0;
                let at = axis.share(v) * length;
                (v, label, at - half, at + half)
            });
            let labels: Vec<_> = labels.filter(|l| l.2 > -beyond && l.3 < length + beyond).collect();
            let apart = labels.windows(2).all(|w| w[1].2 - w[0].3 > 12.0);
            axis.ticks = labels.into_iter().map(|l| (l.0, l.1)).collect();
            if apart {
                break;
            }
        }
        axis
    }

    /// Whole numbers from `first` to `last`, as epochs are; half a step of room on each side.
    pub(crate) fn whole(first: u32, last: u32) -> Self {
        let step = [1u32, 2, 5, 10, 20, 50, 100, 200, 500]
            .into_iter()
            .find(|s| (last - first) / s <= 8)
            .unwrap_or(1000);
        let ticks = (first..=last)
            .filter(|n| n % step == 0 || step == 1)
            .map(|n| (f64::from(n), n.to_string()))
            .collect();
        let room = (f64::from(last - first) * 0.03).max(0.4);
        Self {
            low: f64::from(first) - room,
            high: f64::from(last) + room,
            ticks,
        }
    }

    /// `n` rows from the top down: row `i` lies between `i` and `i + 1`; no ticks.
    pub(crate) fn rows(n: usize) -> Self {
        Self {
            low: n as f64,
            high: 0.0,
            ticks: Vec::new(),
        }
    }

    /// 0 at the beginning of the axis, 1 at its end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }
}

fn span(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    values
        .into_iter()
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
}

/// A rectangle with two axes.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    pub rect: Rect,
    pub x: Axis,
    pub y: Axis,
}

impl Plot {
    pub(crate) fn x(&self, value: f64) -> f64 {
        self.rect.x0 + self.x.share(value) * (self.rect.x1 - self.rect.x0)
    }

    pub(crate) fn y(&self, value: f64) -> f64 {
        self.rect.y1 - self.y.share(value) * (self.rect.y1 - self.rect.y0)
    }

    pub(crate) fn at(&self, x: f64, y: f64) -> Point {
        (self.x(x), self.y(y))
    }

    /// Grid, ticks, frame and the names of the axes; an empty name is left out.
    pub(crate) fn draw(&self, x_title: &str, y_title: &str, shapes: &mut Vec<Shape>) {
        let p = &self.rect;
        let grid = |points: Vec<Point>| Shape::Line {
            points,
            width: 1.0,
            colour: GRID,
        };
        let mut widest = 0.0f64;
        for (v, label) in &self.y.ticks {
            let y = self.y(*v);
            shapes.push(grid(vec![(p.x0, y), (p.x1, y)]));
            shapes.push(text((p.x0 - 10.0, y), label, TEXT_SIZE, INK, Align::End));
            widest = widest.max(super::scene::text_width(label, TEXT_SIZE));
        }
        for (v, label) in &self.x.ticks {
            let x = self.x(*v);
            shapes.push(grid(vec![(x, p.y0), (x, p.y1)]));
            shapes.push(text((x, p.y1 + 22.0), label, TEXT_SIZE, INK, Align::Middle));
        }
        outline(p, shapes);
        if !x_title.is_empty() {
            let below = ((p.x0 + p.x1) / 2.0, p.y1 + 54.0);
            shapes.push(text(below, x_title, TEXT_SIZE, INK, Align::Middle));
        }
        if !y_title.is_empty() {
            shapes.push(Shape::Text {
                at: (p.x0 - widest - 30.0, (p.y0 + p.y1) / 2.0),
                text: y_title.to_owned(),
                size: TEXT_SIZE,
                colour: INK,
                align: Align::Middle,
                upright: true,
            });
        }
    }
}

/// Round values inside the range, at most `most` steps apart from its first to its last, and the decimals they need.
pub(crate) fn linear_ticks(low: f64, high: f64, most: f64) -> (Vec<f64>, usize) {
    let span = high - low;
    let mut exponent = libm::floor(libm::log10(span)) as i32 - 1;
    loop {
        for mantissa in [1u32, 2, 5] {
            // Exact decimals: count in units of 10^exponent.
            let unit = libm::pow(10.0, f64::from(exponent));
            let step = f64::from(mantissa) * unit;
            if span / step <= most {
                let first = (low / step).ceil() as i64;
                let last = (high / step).floor() as i64;
                let places = usize::try_from(-exponent).unwrap_or(0);
                return ((first..=last).map(|k| k as f64 * step).collect(), places);
            }
        }
        exponent += 1;
    }
}

/// The frame of a plot.
pub(crate) fn outline(p: &Rect, shapes: &mut Vec<Shape>) {
    let points = vec![(p.x0, p.y0), (p.x1, p.y0), (p.x1, p.y1), (p.x0, p.y1), (p.x0, p.y0)];
    shapes.push(Shape::Line {
        points,
        width: 1.2,
        colour: GREY,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, places) = linear_ticks(0.9361, 0.9704, 7.0);
        let printed: Vec<String> = ticks.iter().map(|v| fixed(*v, places)).collect();
        assert_eq!(printed, ["0.940", "0.945", "0.950", "0.955", "0.960", "0.965", "0.970"]);
        let (ticks, places) = linear_ticks(-0.13, 1.02, 7.0);
        assert_eq!(
            ticks.iter().map(|v| fixed(*v, places)).collect::<Vec<_>>(),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
    }

    #[test]
    fn epochs_have_whole_ticks() {
        let label = |a: Axis| a.ticks.into_iter().map(|t| t.1).collect::<Vec<_>>().join(" ");
        assert_eq!(label(Axis::whole(1, 3)), "1 2 3");
        assert_eq!(label(Axis::whole(1, 1)), "1");
        assert_eq!(label(Axis::whole(1, 100)), "20 40 60 80 100");
    }

    #[test]
    fn rows_run_from_the_top_down() {
        let plot = Plot {
            rect: Rect {
                x0: 0.0,
                y0: 10.0,
                x1: 1.0,
                y1: 30.0,
            },
            x: Axis::linear(0.0, 1.0),
            y: Axis::rows(4),
        };
        assert_eq!((plot.y(0.0), plot.y(4.0)), (10.0, 30.0));
    }
}
