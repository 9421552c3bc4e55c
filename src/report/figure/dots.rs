//! One row a class or label, one marker a regime: recall of every class, area under the curve of every label.

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::runs::{RULE, Shown, names};
use super::scene::{Align, Shape, text_width};
use super::sheet::Sheet;
use super::style::{COLUMN, GREY, GRID, INK, LABEL_SIZE, regime_shape, solid_marker, text};
use crate::eval::{Confusion, argmax, label_aucs};
use crate::report::input::{DatasetFacts, ReportInput};
use anyhow::Result;

/// Distance between regimes within a row, and room around them.
const STEP: f64 = 15.0;
const ROOM: f64 = 16.0;

/// Recall of every class, for sets of three classes or more with one class an image.
pub fn recall(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Result<Option<Figure>> {
    let Some(truth) = shown[0].classes() else {
        return Ok(None);
    };
    let classes = shown[0].predictions.outputs;
    if classes < 3 {
        return Ok(None);
    }
    let mut values = Vec::new();
    for s in shown {
        let predicted = argmax(&s.probabilities()?, classes);
        let truth = s.classes().unwrap_or_default();
        values.push(Confusion::new(classes, truth, &predicted).per_class_recall());
    }
    let count = |k: usize| truth.iter().filter(|&&t| t as usize == k).count();
    let rows: Vec<String> = (0..classes).map(|k| row_name(dataset, k, count(k))).collect();
    Ok(Some(Figure {
        stem: format!("recall-{}", dataset.name),
        title: format!("{}: recall of every class", dataset.title),
        caption: format!(
            "Recall of every class on the test set; in brackets the number of test images of the class. {RULE} {}.",
            names(shown)
        ),
        span: Span::Column,
        scene: draw(
            input,
            &format!("{}: recall of every class", dataset.title),
            "recall",
            &rows,
            shown,
            &values,
            None,
        ),
    }))
}

/// Area under the ROC curve of every label, for sets with several labels an image.
pub fn label_auc(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Result<Option<Figure>> {
    let Some(truth) = shown[0].labels() else {
        return Ok(None);
    };
    let labels = shown[0].predictions.outputs;
    let mut values = Vec::new();
    for s in shown {
        values.push(label_aucs(
            &s.probabilities()?,
            labels,
            &s.labels().unwrap_or_default(),
        )?);
    }
    let count = |k: usize| truth.iter().skip(k).step_by(labels).filter(|&&t| t == 1).count();
    let rows: Vec<String> = (0..labels).map(|k| row_name(dataset, k, count(k))).collect();
    Ok(Some(Figure {
        stem: format!("label-auc-{}", dataset.name),
        title: format!("{}: area under the ROC curve of every label", dataset.title),
        caption: format!(
            "Area under the ROC curve of every label on the test set; in brackets the number of test images that have the label. The line at 0.5 is chance. A label \
             that all or none of the test images have has no area and no marker. {RULE} {}.",
            names(shown)
        ),
        span: Span::Column,
        scene: draw(
            input,
            &format!("{}: ROC-AUC of every label", dataset.title),
            "area under the ROC curve",
            &rows,
            shown,
            &values,
            Some(0.5),
        ),
    }))
}

fn row_name(dataset: &DatasetFacts, k: usize, count: usize) -> String {
    let name = dataset
        .classes
        .get(k)
        .map_or_else(|| format!("output {k}"), Clone::clone);
    format!("{name} ({count})")
}

fn draw(
    input: &ReportInput,
    title: &str,
    axis: &str,
    rows: &[String],
    shown: &[Shown],
    values: &[Vec<f64>],
    reference: Option<f64>,
) -> super::scene::Scene {
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(title);
    let row = STEP * shown.len() as f64 + ROOM;
    let widest = rows.iter().map(|r| text_width(r, LABEL_SIZE)).fold(0.0, f64::max);
    let rect = Rect {
        x0: (widest + 26.0).min(0.55 * COLUMN),
        y0: sheet.y,
        x1: COLUMN - 22.0,
        y1: sheet.y + row * rows.len() as f64,
    };
    sheet.y = rect.y1 + 76.0;
    let all = || {
        values
            .iter()
            .flatten()
            .copied()
            .filter(|v| v.is_finite())
            .chain(reference)
    };
    let (low, high) = all().fold((1.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let plot = Plot {
        rect,
        x: Axis::linear((low - 0.06).max(-0.03), (high + 0.06).min(1.03)),
        y: Axis::rows(rows.len()),
    };
    plot.draw(axis, "", &mut sheet.shapes);
    for (k, name) in rows.iter().enumerate() {
        if k > 0 {
            let y = plot.y(k as f64);
            sheet.shapes.push(Shape::Line {
                points: vec![(rect.x0, y), (rect.x1, y)],
                width: 1.0,
                colour: GRID,
            });
        }
        let size = LABEL_SIZE.min(LABEL_SIZE * (rect.x0 - 14.0) / text_width(name, LABEL_SIZE));
        let at = (rect.x0 - 10.0, plot.y(k as f64 + 0.5));
        sheet.shapes.push(text(at, name, size, INK, Align::End));
    }
    if let Some(v) = reference {
        let x = plot.x(v);
        sheet.shapes.push(Shape::Line {
            points: vec![(x, rect.y0), (x, rect.y1)],
            width: 2.0,
            colour: GREY,
        });
    }
    for (i, s) in shown.iter().enumerate() {
        for (k, v) in values[i].iter().enumerate().filter(|(_, v)| v.is_finite()) {
            let y = plot.y(k as f64) + ROOM / 2.0 + (i as f64 + 0.5) * STEP;
            sheet.shapes.push(solid_marker(
                regime_shape(s.regime.0, s.regime.1),
                (plot.x(*v), y),
                s.colour(),
            ));
        }
    }
    let entries = shown
        .iter()
        .map(|s| LegendEntry::regime_mark(s.regime, &format!(": {}", s.backbone)));
    sheet.legend(vec![entries.collect()]);
    sheet.finish()
}
