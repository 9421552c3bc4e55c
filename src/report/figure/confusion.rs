//! Confusion matrices: a square a regime, each row in per cent of the images of its true class.

use super::labels::Rect;
use super::painted::{Figure, Span};
use super::runs::{RULE, Shown, names};
use super::scene::{Align, Point, Rgb, Shape, text_width};
use super::sheet::Sheet;
use super::style::{COLUMN, GREY, INK, LABEL_SIZE, PAGE, TEXT_SIZE, text};
use crate::eval::{Confusion, argmax};
use crate::report::input::{DatasetFacts, ReportInput, regime_title};
use anyhow::Result;

/// Nearly white and nearly black: on the coloured cells, whatever the page around the figure looks like.
const LIGHT: Rgb = Rgb(254, 254, 254);
const DARK: Rgb = Rgb(1, 1, 1);
/// Widest cell of a matrix.
const CELL: f64 = 58.0;

/// For sets of three classes or more with one class an image.
pub(crate) fn figure(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Result<Option<Figure>> {
    let classes = shown[0].predictions.outputs;
    if shown[0].classes().is_none() || classes < 3 {
        return Ok(None);
    }
    let names_of: Vec<String> = (0..classes)
        .map(|k| dataset.classes.get(k).map_or_else(|| k.to_string(), Clone::clone))
        .collect();
    // Beyond six classes the numbers would be too small in a column.
    let (width, span) = if classes > 6 {
        (PAGE, Span::Page)
    } else {
        (COLUMN, Span::Column)
    };
    let mut sheet = Sheet::new(input, width);
    sheet.title(&format!("{}: confusion in % of the true class", dataset.title));
    // Long names are numbered, and the numbers told below.
    let long = names_of.iter().any(|n| text_width(n, LABEL_SIZE) > 62.0);
    let short: Vec<String> = (0..classes)
        .map(|k| if long { k.to_string() } else { names_of[k].clone() })
        .collect();
    let top = sheet.y;
    let mut height = 0.0;
    for (i, s) in shown.iter().enumerate() {
        let predicted = argmax(&s.probabilities()?, classes);
        let matrix = Confusion::new(classes, s.classes().unwrap_or_default(), &predicted);
        let corner = ((i % 2) as f64 * width / 2.0, top + (i / 2) as f64 * height);
        height = panel(s, &matrix, &short, (corner, width / 2.0), &mut sheet.shapes);
    }
    sheet.y = top + height * shown.len().div_ceil(2) as f64;
    if long {
        let told: Vec<String> = names_of.iter().enumerate().map(|(k, n)| format!("{k} {n}")).collect();
        sheet.remark(&told.join(", "));
    }
    Ok(Some(Figure {
        stem: format!("confusion-{}", dataset.name),
        title: format!("{}: confusion", dataset.title),
        caption: format!(
            "Confusion on the test set: rows are the true classes, columns the predicted ones, numbers per cent of the row. A dash is a class \
             without test images. {RULE} {}.",
            names(shown)
        ),
        span,
        scene: sheet.finish(),
    }))
}

/// One matrix; returns the height it takes.
fn panel(
    s: &Shown,
    matrix: &Confusion,
    names: &[String],
    (corner, width): (Point, f64),
    shapes: &mut Vec<Shape>,
) -> f64 {
    let n = matrix.classes();
    let widest = names.iter().map(|c| text_width(c, LABEL_SIZE)).fold(0.0, f64::max);
    let margin = widest + 46.0;
    let side = ((width - 10.0 - margin) / n as f64).min(CELL);
    let left = corner.0 + margin + (width - 10.0 - margin - side * n as f64) / 2.0;
    let top = corner.1 + 62.0;
    let middle = left + side * n as f64 / 2.0;
    let heading = regime_title(s.regime.0, s.regime.1);
    shapes.push(text((middle, corner.1 + 14.0), &heading, TEXT_SIZE, INK, Align::Middle));
    shapes.push(text(
        (middle, corner.1 + 42.0),
        &s.backbone,
        LABEL_SIZE,
        GREY,
        Align::Middle,
    ));
    let size = LABEL_SIZE.min(side * 0.52);
    for (i, row) in matrix.rows().enumerate() {
        let total: u64 = row.iter().sum();
        let y = top + side * i as f64;
        shapes.push(text(
            (left - 8.0, y + side / 2.0),
            &names[i],
            LABEL_SIZE,
            INK,
            Align::End,
        ));
        for (j, &count) in row.iter().enumerate() {
            let share = if total > 0 { count as f64 / total as f64 } else { 0.0 };
            let rect = Rect {
                x0: left + side * j as f64,
                y0: y,
                x1: left + side * (j + 1) as f64,
                y1: y + side,
            };
            shapes.push(cell(&rect, share));
            let label = if total == 0 {
                "–".to_owned()
            } else {
                format!("{:.0}", 100.0 * share)
            };
            let ink = ink_on(fill(share));
            let at = ((rect.x0 + rect.x1) / 2.0, (rect.y0 + rect.y1) / 2.0);
            shapes.push(text(at, &label, size, ink, Align::Middle));
        }
    }
    let bottom = top + side * n as f64;
    for (j, name) in names.iter().enumerate() {
        let x = left + side * (j as f64 + 0.5);
        if widest < side {
            shapes.push(text((x, bottom + 16.0), name, LABEL_SIZE, INK, Align::Middle));
        } else {
            shapes.push(Shape::Text {
                at: (x, bottom + 8.0),
                text: name.clone(),
                size: LABEL_SIZE,
                colour: INK,
                align: Align::End,
                upright: true,
            });
        }
    }
    let below = bottom + if widest < side { 28.0 } else { widest + 12.0 };
    shapes.push(text(
        (middle, below + 14.0),
        "predicted",
        LABEL_SIZE,
        INK,
        Align::Middle,
    ));
    shapes.push(Shape::Text {
        at: (left - widest - 26.0, top + side * n as f64 / 2.0),
        text: "true".to_owned(),
        size: LABEL_SIZE,
        colour: INK,
        align: Align::Middle,
        upright: true,
    });
    below + 44.0 - corner.1
}

/// From nearly white to dark blue.
fn fill(share: f64) -> Rgb {
    let mix = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
    Rgb(mix(243, 0), mix(247, 68), mix(252, 120))
}

/// Of the two inks the one with the higher contrast (WCAG 2: at least 4.5 with one of them on any colour).
fn ink_on(ground: Rgb) -> Rgb {
    let linear = |v: u8| match f64::from(v) / 255.0 {
        v if v <= 0.040_45 => v / 12.92,
        v => libm::pow((v + 0.055) / 1.055, 2.4),
    };
    let luminance = |c: Rgb| 0.2126 * linear(c.0) + 0.7152 * linear(c.1) + 0.0722 * linear(c.2);
    let (ground, light, dark) = (luminance(ground), luminance(LIGHT), luminance(DARK));
    if (light + 0.05) / (ground + 0.05) > (ground + 0.05) / (dark + 0.05) {
        LIGHT
    } else {
        DARK
    }
}

fn cell(r: &Rect, share: f64) -> Shape {
    Shape::Polygon {
        points: vec![(r.x0, r.y0), (r.x1, r.y0), (r.x1, r.y1), (r.x0, r.y1)],
        fill: fill(share),
        outline: Some((1.0, LIGHT)),
    }
}
