//! The axes of a panel: logarithmic parameters, linear score, round ticks.

use super::Mark;
use super::labels::Rect;
use super::scene::{Align, Point, Shape};
use super::style::{DODGE, GREY, GRID, INK, INSET, TEXT_SIZE, text};
use crate::report::table::fixed;

/// Logarithmic parameters, linear score, and the place of the regimes.
pub struct Axes {
    pub plot: Rect,
    /// log10 of million parameters.
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    pub fn around(marks: &[Mark], plot: Rect) -> Self {
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
        };
        let (x0, x1) = span(&mut marks.iter().map(|m| libm::log10(m.params)));
        let (y0, y1) = span(&mut marks.iter().flat_map(|m| [m.value - m.sd, m.value + m.sd]));
        let x_pad = (0.12 * (x1 - x0)).max(0.1);
        let y_pad = if y1 - y0 < 1e-9 { 0.02 } else { 0.09 * (y1 - y0) };
        Self {
            plot,
            x: (x0 - x_pad, x1 + x_pad),
            y: (y0 - y_pad, y1 + y_pad),
        }
    }

    pub fn x(&self, millions: f64) -> f64 {
        let t = (libm::log10(millions) - self.x.0) / (self.x.1 - self.x.0);
        self.plot.x0 + t * (self.plot.x1 - self.plot.x0)
    }

    pub fn y(&self, value: f64) -> f64 {
        let t = (value - self.y.0) / (self.y.1 - self.y.0);
        self.plot.y1 - t * (self.plot.y1 - self.plot.y0)
    }

    pub fn at(&self, m: &Mark) -> Point {
        (
            self.x(m.params) + m.ours.map_or(0.0, |(_, place)| place * DODGE),
            self.y(m.value),
        )
    }

    pub fn draw(&self, metric: &str, shapes: &mut Vec<Shape>) {
        let p = &self.plot;
        let (ticks, places) = linear_ticks(self.y.0, self.y.1);
        for v in ticks {
            let y = self.y(v);
            shapes.push(Shape::Line {
                points: vec![(p.x0, y), (p.x1, y)],
                width: 1.0,
                colour: GRID,
            });
            shapes.push(text((p.x0 - 10.0, y), &fixed(v, places), TEXT_SIZE, INK, Align::End));
        }
        for v in log_ticks(self.x.0, self.x.1) {
            let x = self.x(v);
            shapes.push(Shape::Line {
                points: vec![(x, p.y0), (x, p.y1)],
                width: 1.0,
                colour: GRID,
            });
            shapes.push(text((x, p.y1 + 22.0), &format!("{v}"), TEXT_SIZE, INK, Align::Middle));
        }
        outline(p, shapes);
        let below = ((p.x0 + p.x1) / 2.0, p.y1 + 56.0);
        shapes.push(text(
            below,
            "parameters of the backbone (millions)",
            TEXT_SIZE,
            INK,
            Align::Middle,
        ));
        shapes.push(Shape::Text {
            at: (p.x0 - INSET.0 + 22.0, (p.y0 + p.y1) / 2.0),
            text: metric.to_owned(),
            size: TEXT_SIZE,
            colour: INK,
            align: Align::Middle,
            upright: true,
        });
    }
}

/// Four to eight round values inside the range, and the decimals they need.
pub fn linear_ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let span = high - low;
    let mut exponent = libm::floor(libm::log10(span)) as i32 - 1;
    loop {
        for mantissa in [1u32, 2, 5] {
            // Exact decimals: count in units of 10^exponent.
            let unit = libm::pow(10.0, f64::from(exponent));
            let step = f64::from(mantissa) * unit;
            if span / step <= 7.0 {
                let first = (low / step).ceil() as i64;
                let last = (high / step).floor() as i64;
                let places = usize::try_from(-exponent).unwrap_or(0);
                return ((first..=last).map(|k| k as f64 * step).collect(), places);
            }
        }
        exponent += 1;
    }
}

/// 1-2-5 values inside the range given as log10; fewer when they would crowd.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let mantissas: &[f64] = match high - low {
        s if s < 0.5 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        s if s < 2.6 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let decades = libm::floor(low) as i32..=libm::ceil(high) as i32;
    let all = decades.flat_map(|d| {
        // The nearest double to the decimal, as a reader would type it.
        mantissas
            .iter()
            .filter_map(move |m| format!("{m}e{d}").parse::<f64>().ok())
    });
    all.filter(|v| (low..=high).contains(&libm::log10(*v))).collect()
}

/// The frame of a plot.
pub fn outline(p: &Rect, shapes: &mut Vec<Shape>) {
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
        let (ticks, places) = linear_ticks(0.9361, 0.9704);
        let printed: Vec<String> = ticks.iter().map(|v| fixed(*v, places)).collect();
        assert_eq!(printed, ["0.940", "0.945", "0.950", "0.955", "0.960", "0.965", "0.970"]);
        let (ticks, places) = linear_ticks(-0.13, 1.02);
        assert_eq!(
            ticks.iter().map(|v| fixed(*v, places)).collect::<Vec<_>>(),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            log_ticks(libm::log10(40.0), libm::log10(800.0)),
            [50.0, 100.0, 200.0, 500.0]
        );
        assert_eq!(log_ticks(libm::log10(0.02), libm::log10(0.11)), [0.02, 0.05, 0.1]);
    }
}
