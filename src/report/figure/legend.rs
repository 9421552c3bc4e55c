//! The legend: what a shape, a colour and a dash mean, of those that are shown.

use super::scene::{Align, Rgb, Scene, Shape, WHITE_FILL, text_width};
use super::style::{
    Dash, INK, LEGEND_LINE, RADIUS, TEXT_SIZE, dashed, marker, regime_colour, regime_dash, regime_shape, text,
};
use crate::report::input::regime_title;
use crate::study::{Freeze, HeadKind};

const GAP: f64 = 30.0;
/// Length of a line's sample.
const LINE: f64 = 44.0;

/// A marker as the figure draws it.
#[derive(Debug, Clone, Copy)]
struct Sample {
    shape: usize,
    radius: f64,
    fill: Rgb,
    outline: (f64, Rgb),
}

/// One sample with its text.
#[derive(Debug, Clone)]
pub(crate) struct LegendEntry {
    mark: Option<Sample>,
    line: Option<(Dash, f64, Rgb)>,
    label: String,
}

impl LegendEntry {
    /// A filled shape.
    pub(crate) fn solid(shape: usize, fill: Rgb, label: impl Into<String>) -> Self {
        Self {
            mark: Some(Sample {
                shape,
                radius: RADIUS,
                fill,
                outline: (0.8, WHITE_FILL),
            }),
            line: None,
            label: label.into(),
        }
    }

    /// A small filled shape.
    pub(crate) fn small(shape: usize, fill: Rgb, label: impl Into<String>) -> Self {
        let mut entry = Self::solid(shape, fill, label);
        if let Some(m) = &mut entry.mark {
            m.radius = 0.62 * RADIUS;
        }
        entry
    }

    /// A shape with nothing but its outline.
    pub(crate) fn hollow(shape: usize, ink: Rgb, label: impl Into<String>) -> Self {
        Self {
            mark: Some(Sample {
                shape,
                radius: RADIUS,
                fill: WHITE_FILL,
                outline: (1.8, ink),
            }),
            line: None,
            label: label.into(),
        }
    }

    /// A line.
    pub(crate) fn line(dash: Dash, width: f64, colour: Rgb, label: impl Into<String>) -> Self {
        Self {
            mark: None,
            line: Some((dash, width, colour)),
            label: label.into(),
        }
    }

    /// A regime as per-run figures draw it: its line with its shape; `more` follows its name.
    pub(crate) fn regime((freeze, head): (Freeze, HeadKind), more: &str) -> Self {
        let colour = regime_colour(freeze, head);
        Self {
            line: Some((regime_dash(freeze, head), 2.6, colour)),
            ..Self::solid(
                regime_shape(freeze, head),
                colour,
                format!("{}{more}", regime_title(freeze, head)),
            )
        }
    }

    /// A regime's line alone.
    pub(crate) fn regime_line(regime: (Freeze, HeadKind), more: &str) -> Self {
        Self {
            mark: None,
            ..Self::regime(regime, more)
        }
    }

    /// A regime's shape alone.
    pub(crate) fn regime_mark(regime: (Freeze, HeadKind), more: &str) -> Self {
        Self {
            line: None,
            ..Self::regime(regime, more)
        }
    }

    /// What the mark means.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// The mark alone, for a legend that is no part of a drawing.
    pub(crate) fn drawing(&self) -> Scene {
        const SIDE: u32 = 24;
        let middle = f64::from(SIDE) / 2.0;
        let shape = |m: Sample| Shape::Polygon {
            points: marker(m.shape, (middle, middle), m.radius),
            fill: m.fill,
            outline: Some(m.outline),
        };
        Scene {
            width: SIDE,
            height: SIDE,
            shapes: self.mark.map(shape).into_iter().collect(),
        }
    }

    fn sample(&self) -> f64 {
        if self.line.is_some() { LINE } else { 2.0 * RADIUS }
    }

    fn width(&self) -> f64 {
        self.sample() + 10.0 + text_width(&self.label, TEXT_SIZE) + GAP
    }
}

/// Draws `groups` of entries below `top`, each group on lines of its own, centred in `width`; returns where they end.
pub(crate) fn draw(groups: Vec<Vec<LegendEntry>>, width: f64, top: f64, shapes: &mut Vec<Shape>) -> f64 {
    let mut y = top;
    for group in groups {
        for line in lines(group, width - 24.0) {
            let mut x = (width - line.iter().map(LegendEntry::width).sum::<f64>() + GAP) / 2.0;
            let middle = y + LEGEND_LINE / 2.0;
            for e in line {
                let (sample, whole) = (e.sample(), e.width());
                if let Some((dash, stroke, colour)) = e.line {
                    dashed(&[(x, middle), (x + sample, middle)], dash, stroke, colour, shapes);
                }
                if let Some(m) = e.mark {
                    shapes.push(Shape::Polygon {
                        points: marker(m.shape, (x + sample / 2.0, middle), m.radius),
                        fill: m.fill,
                        outline: Some(m.outline),
                    });
                }
                shapes.push(text(
                    (x + sample + 10.0, middle),
                    &e.label,
                    TEXT_SIZE,
                    INK,
                    Align::Start,
                ));
                x += whole;
            }
            y += LEGEND_LINE;
        }
    }
    y
}

/// Breaks entries into lines that fit.
fn lines(entries: Vec<LegendEntry>, width: f64) -> Vec<Vec<LegendEntry>> {
    let mut lines = Vec::<Vec<LegendEntry>>::new();
    let mut used = 0.0;
    for e in entries {
        let own = e.width();
        match lines.last_mut().filter(|_| used + own - GAP <= width) {
            Some(line) => {
                used += own;
                line.push(e);
            }
            None => {
                used = own;
                lines.push(vec![e]);
            }
        }
    }
    lines
}
