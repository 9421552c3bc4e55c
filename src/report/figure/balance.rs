//! Class balance: for each data set a panel, for each class a bar a part, the share of the part's images.
//!
//! Equal bars mean that a class is as frequent in one part as in the others. The count stands at the end of each bar.

use super::axes::linear_ticks;
use super::scene::{Align, Rgb, Scene, Shape, text_width};
use super::style::{GRID, INK, LABEL_SIZE, TEXT_SIZE, TITLE_SIZE, text};
use crate::report::text::fixed;

/// The classes of one data set in its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    pub title: String,
    pub classes: Vec<String>,
    /// Name, images, images of each class; at most [`COLOURS`] of them.
    pub parts: Vec<(String, usize, Vec<usize>)>,
}

/// Okabe and Ito's blue, orange, green, and grey for what no part has.
const COLOURS: [Rgb; 4] = [Rgb(0, 114, 178), Rgb(230, 159, 0), Rgb(0, 158, 115), Rgb(150, 150, 150)];
const WIDTH: f64 = 960.0;
const BAR: f64 = 15.0;
/// Between the bars of one class and those of the next.
const GAP: f64 = 12.0;
const HEAD: f64 = 56.0;
const FOOT: f64 = 66.0;
const LEGEND: f64 = 44.0;
const COUNT_SIZE: f64 = 13.0;
/// Most that class names may take of the width.
const NAMES: f64 = 380.0;

/// The whole figure; `warning` stands above it.
pub fn balance(panels: &[Panel], warning: Option<&str>) -> Scene {
    let mut shapes = Vec::new();
    let mut y = 10.0;
    if let Some(w) = warning {
        let size = (TEXT_SIZE * (WIDTH - 40.0) / text_width(w, TEXT_SIZE)).min(TEXT_SIZE);
        shapes.push(text((WIDTH / 2.0, y + 14.0), w, size, INK, Align::Middle));
        y += 36.0;
    }
    let names = panels.iter().flat_map(|p| p.parts.iter().map(|part| part.0.as_str()));
    let mut legend: Vec<&str> = Vec::new();
    for n in names {
        if !legend.contains(&n) {
            legend.push(n);
        }
    }
    draw_legend(&legend, y, &mut shapes);
    y += LEGEND;
    for p in panels {
        y = draw_panel(p, &legend, y, &mut shapes);
    }
    Scene {
        width: WIDTH as u32,
        height: (y + 10.0).ceil() as u32,
        shapes,
    }
}

fn draw_legend(names: &[&str], top: f64, shapes: &mut Vec<Shape>) {
    let width = |n: &&str| BAR + 10.0 + text_width(n, TEXT_SIZE) + 30.0;
    let mut x = (WIDTH - names.iter().map(width).sum::<f64>()) / 2.0;
    for (i, name) in names.iter().enumerate() {
        let middle = top + LEGEND / 2.0;
        shapes.push(bar(x, middle - BAR / 2.0, BAR, BAR, COLOURS[i % COLOURS.len()]));
        shapes.push(text((x + BAR + 10.0, middle), name, TEXT_SIZE, INK, Align::Start));
        x += width(name);
    }
}

/// Draws a panel below `top`; returns where it ends.
fn draw_panel(p: &Panel, legend: &[&str], top: f64, shapes: &mut Vec<Shape>) -> f64 {
    let longest = p.classes.iter().map(|c| text_width(c, LABEL_SIZE)).fold(1.0, f64::max);
    let label = LABEL_SIZE * (NAMES / longest).min(1.0);
    let left = 24.0 + longest.min(NAMES) + 12.0;
    let right = WIDTH - 110.0;
    let block = p.parts.len() as f64 * BAR + GAP;
    let (head, foot) = (top + HEAD, top + HEAD + p.classes.len() as f64 * block);
    shapes.push(text(
        (WIDTH / 2.0, top + HEAD / 2.0),
        &p.title,
        TITLE_SIZE,
        INK,
        Align::Middle,
    ));
    let share = |images: usize, of: usize| {
        if of == 0 {
            0.0
        } else {
            100.0 * images as f64 / of as f64
        }
    };
    let shares = p.parts.iter().flat_map(|(_, of, n)| n.iter().map(|&n| share(n, *of)));
    let most = shares.fold(1.0, f64::max);
    let (ticks, places) = linear_ticks(0.0, most, 7.0);
    let x = |percent: f64| left + (right - left) * percent / most;
    for t in ticks {
        shapes.push(Shape::Line {
            points: vec![(x(t), head), (x(t), foot)],
            width: 1.0,
            colour: GRID,
        });
        shapes.push(text(
            (x(t), foot + 16.0),
            &fixed(t, places),
            LABEL_SIZE,
            INK,
            Align::Middle,
        ));
    }
    for (c, name) in p.classes.iter().enumerate() {
        let y = head + c as f64 * block + GAP / 2.0;
        shapes.push(text(
            (left - 12.0, y + (block - GAP) / 2.0),
            name,
            label,
            INK,
            Align::End,
        ));
        for (k, (part, of, counts)) in p.parts.iter().enumerate() {
            let end = x(share(counts[c], *of));
            let colour = legend.iter().position(|n| n == part).unwrap_or(k);
            let y = y + k as f64 * BAR;
            shapes.push(bar(
                left,
                y + 1.0,
                (end - left).max(1.0),
                BAR - 2.0,
                COLOURS[colour % COLOURS.len()],
            ));
            let count = counts[c].to_string();
            shapes.push(text((end + 6.0, y + BAR / 2.0), &count, COUNT_SIZE, INK, Align::Start));
        }
    }
    let middle = (left + right) / 2.0;
    shapes.push(text(
        (middle, foot + 44.0),
        "% of the images of the part",
        LABEL_SIZE,
        INK,
        Align::Middle,
    ));
    foot + FOOT
}

fn bar(x: f64, y: f64, width: f64, height: f64, fill: Rgb) -> Shape {
    Shape::Polygon {
        points: vec![(x, y), (x + width, y), (x + width, y + height), (x, y + height)],
        fill,
        outline: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bars of one panel: 30 of 60 and 10 of 40, so 50 % and 25 %; the longer bar is twice the shorter one.
    #[test]
    fn a_bar_is_as_long_as_its_share() {
        let panel = Panel {
            title: "Toy".into(),
            classes: vec!["a".into()],
            parts: vec![("train".into(), 60, vec![30]), ("val".into(), 40, vec![10])],
        };
        let scene = balance(&[panel], None);
        let widths: Vec<f64> = scene
            .shapes
            .iter()
            .filter_map(|s| match s {
                Shape::Polygon { points, .. } => Some(points[1].0 - points[0].0),
                _ => None,
            })
            .collect();
        assert_eq!(widths[..2], [BAR, BAR], "the legend");
        assert!((widths[2] - 2.0 * widths[3]).abs() < 1e-9, "{widths:?}");
        let texts = scene.shapes.iter().filter_map(|s| match s {
            Shape::Text { text, .. } => Some(text.as_str()),
            _ => None,
        });
        let texts: Vec<&str> = texts.collect();
        assert!(
            texts.contains(&"30") && texts.contains(&"10") && texts.contains(&"50"),
            "{texts:?}"
        );
        assert!(scene.to_png().unwrap().starts_with(b"\x89PNG"));
    }
}
