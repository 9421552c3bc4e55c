//! The legend: what a shape and a colour mean, of those that are shown.

use super::scene::{Align, Rgb, Shape, WHITE_FILL, text_width};
use super::style::{GREY, INK, LABEL_SIZE, LEGEND_LINE, RADIUS, TEXT_SIZE, marker, regime_colour, text};
use crate::report::input::regime_title;
use crate::study::{Freeze, HeadKind};

const GAP: f64 = 34.0;

/// Shape, fill, outline, words.
struct Entry {
    shape: usize,
    fill: Rgb,
    outline: (f64, Rgb),
    words: String,
}

impl Entry {
    fn width(&self) -> f64 {
        2.0 * RADIUS + 10.0 + text_width(&self.words, TEXT_SIZE) + GAP
    }
}

/// Draws the legend below `top`, centred in `width`; returns where it ends. `families` are (shape, name).
pub fn draw(
    families: &[(usize, &str)],
    regimes: &[(Freeze, HeadKind)],
    published: bool,
    width: f64,
    top: f64,
    shapes: &mut Vec<Shape>,
) -> f64 {
    let solid = |shape: usize, fill: Rgb, words: String| Entry {
        shape,
        fill,
        outline: (0.8, WHITE_FILL),
        words,
    };
    let families = families
        .iter()
        .map(|(shape, f)| solid(*shape, GREY, (*f).to_owned()))
        .collect();
    let mut kinds: Vec<Entry> = regimes
        .iter()
        .map(|&(f, h)| solid(0, regime_colour(f, h), regime_title(f, h)))
        .collect();
    if published {
        let words = "published (regime not stated)".to_owned();
        kinds.push(Entry {
            shape: 0,
            fill: WHITE_FILL,
            outline: (1.8, INK),
            words,
        });
    }
    let mut y = top + 8.0;
    for group in [families, kinds] {
        for line in lines(group, width - 40.0) {
            let mut x = (width - line.iter().map(Entry::width).sum::<f64>() + GAP) / 2.0;
            let middle = y + LEGEND_LINE / 2.0;
            for e in line {
                let points = marker(e.shape, (x + RADIUS, middle), RADIUS);
                shapes.push(Shape::Polygon {
                    points,
                    fill: e.fill,
                    outline: Some(e.outline),
                });
                shapes.push(text(
                    (x + 2.0 * RADIUS + 10.0, middle),
                    &e.words,
                    TEXT_SIZE,
                    INK,
                    Align::Start,
                ));
                x += e.width();
            }
            y += LEGEND_LINE;
        }
    }
    if !regimes.is_empty() {
        let bars = "Solid: ours, mean over seeds; bars: ± one sample standard deviation.";
        shapes.push(text(
            (width / 2.0, y + LEGEND_LINE / 2.0),
            bars,
            LABEL_SIZE,
            GREY,
            Align::Middle,
        ));
        y += LEGEND_LINE;
    }
    y + 10.0
}

/// Breaks entries into lines that fit.
fn lines(entries: Vec<Entry>, width: f64) -> Vec<Vec<Entry>> {
    let mut lines = Vec::<Vec<Entry>>::new();
    let mut used = 0.0;
    for e in entries {
        let own = e.width();
        match lines.last_mut().filter(|_| used + own <= width) {
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
