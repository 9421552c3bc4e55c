//! Reliability diagrams: do probabilities mean what they say?

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::runs::{RULE, Shown, names};
use super::sheet::Sheet;
use super::style::{COLUMN, Dash, GREY, dashed, regime_dash, regime_shape, solid_marker};
use crate::eval::{Calibration, calibration, top_label};
use crate::report::input::{DatasetFacts, ReportInput};
use crate::report::text::{PLACES, fixed};
use anyhow::Result;

const BINS: usize = 10;
const SIDE: f64 = 470.0;
const LEFT: f64 = 146.0;

/// Bins of equal width over the probability of the predicted class, or over all labels of all images.
fn bins(s: &Shown) -> Result<Calibration> {
    let probabilities = s.probabilities()?;
    let (confidence, hit) = match (s.classes(), s.labels()) {
        (Some(truth), _) => top_label(&probabilities, s.predictions.outputs, truth)?,
        (None, labels) => {
            let hit = labels.unwrap_or_default().iter().map(|&l| l == 1).collect();
            (probabilities, hit)
        }
    };
    Ok(calibration(&confidence, &hit, BINS)?)
}

/// The diagram, with the share of predictions a bin below it.
pub fn figure(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Result<Option<Figure>> {
    let several = shown[0].classes().is_none();
    let all = shown.iter().map(bins).collect::<Result<Vec<_>>>()?;
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(&format!("{}: calibration", dataset.title));
    let (x_name, y_name) = if several {
        ("predicted probability of a label", "share that has the label")
    } else {
        ("probability of the predicted class", "share that is right")
    };
    diagram(shown, &all, y_name, &mut sheet);
    histogram(shown, &all, x_name, &mut sheet);
    let entry = |(s, c): (&Shown, &Calibration)| {
        LegendEntry::regime(s.regime, &format!(": {}, ECE {}", s.backbone, fixed(c.ece, PLACES)))
    };
    let mut entries: Vec<LegendEntry> = shown.iter().zip(&all).map(entry).collect();
    entries.push(LegendEntry::line(Dash::Long, 1.6, GREY, "perfect"));
    sheet.legend(vec![entries]);
    let what = if several {
        "every label of every test image"
    } else {
        "the predicted class of every test image"
    };
    Ok(Some(Figure {
        stem: format!("calibration-{}", dataset.name),
        title: format!("{}: calibration", dataset.title),
        caption: format!(
            "Reliability diagram over {what}: {BINS} bins of equal width, a marker at the mean probability of a bin that is not empty; below, the share of \
             predictions in each bin. ECE is the expected calibration error. {RULE} {}.",
            names(shown)
        ),
        span: Span::Column,
        scene: sheet.finish(),
    }))
}

fn diagram(shown: &[Shown], all: &[Calibration], y_name: &str, sheet: &mut Sheet) {
    let rect = Rect {
        x0: LEFT,
        y0: sheet.y,
        x1: LEFT + SIDE,
        y1: sheet.y + SIDE,
    };
    sheet.y = rect.y1 + 18.0;
    let mut plot = Plot {
        rect,
        x: Axis::linear(-0.03, 1.03),
        y: Axis::linear(-0.03, 1.03),
    };
    // The ticks stand below the histogram.
    for t in &mut plot.x.ticks {
        t.1.clear();
    }
    plot.draw("", y_name, &mut sheet.shapes);
    dashed(
        &[plot.at(0.0, 0.0), plot.at(1.0, 1.0)],
        Dash::Long,
        1.6,
        GREY,
        &mut sheet.shapes,
    );
    let full = |c: &Calibration| -> Vec<(f64, f64)> {
        let bins = c.bins.iter().filter(|b| b.count > 0);
        bins.map(|b| plot.at(b.confidence, b.accuracy)).collect()
    };
    for (s, c) in shown.iter().zip(all) {
        dashed(
            &full(c),
            regime_dash(s.regime.0, s.regime.1),
            2.4,
            s.colour(),
            &mut sheet.shapes,
        );
    }
    for (s, c) in shown.iter().zip(all) {
        for at in full(c) {
            sheet
                .shapes
                .push(solid_marker(regime_shape(s.regime.0, s.regime.1), at, s.colour()));
        }
    }
}

fn histogram(shown: &[Shown], all: &[Calibration], x_name: &str, sheet: &mut Sheet) {
    let shares = |c: &Calibration| -> Vec<f64> {
        let n: u64 = c.bins.iter().map(|b| b.count).sum();
        c.bins.iter().map(|b| b.count as f64 / n.max(1) as f64).collect()
    };
    let highest = all.iter().flat_map(&shares).fold(0.0, f64::max);
    let rect = Rect {
        x0: LEFT,
        y0: sheet.y,
        x1: LEFT + SIDE,
        y1: sheet.y + 110.0,
    };
    sheet.y = rect.y1 + 76.0;
    let mut y = Axis::linear(0.0, highest * 1.08 + 1e-6);
    if y.ticks.len() > 4 {
        let mut k = 0;
        y.ticks.retain(|_| {
            k += 1;
            k % 2 == 1
        });
    }
    let plot = Plot {
        rect,
        x: Axis::linear(-0.03, 1.03),
        y,
    };
    plot.draw(x_name, "share", &mut sheet.shapes);
    for (s, c) in shown.iter().zip(all) {
        // Steps: up at the left edge of a bin, across, down at the right edge of the last.
        let mut path = vec![plot.at(0.0, 0.0)];
        for (b, share) in c.bins.iter().zip(shares(c)) {
            path.extend([plot.at(b.low, share), plot.at(b.high, share)]);
        }
        path.push(plot.at(1.0, 0.0));
        dashed(
            &path,
            regime_dash(s.regime.0, s.regime.1),
            2.0,
            s.colour(),
            &mut sheet.shapes,
        );
    }
}
