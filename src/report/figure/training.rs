//! Training curves: training loss, validation loss and the validation metric over epochs.

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::runs::{RULE, Shown, names};
use super::sheet::Sheet;
use super::style::{COLUMN, dashed, regime_dash, regime_shape, solid_marker};
use crate::report::input::{DatasetFacts, ReportInput};
use crate::results::Epoch;

const HEIGHT: f64 = 210.0;
const LEFT: f64 = 116.0;

type Value<'a> = &'a dyn Fn(&Epoch) -> f64;

/// `None` where no run has an epoch.
pub fn figure(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Option<Figure> {
    let last = shown.iter().flat_map(|s| &s.epochs).map(|e| e.epoch).max()?;
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(&format!("{}: training", dataset.title));
    let metric = |e: &Epoch| e.val.get(&dataset.metric).copied().unwrap_or(f64::NAN);
    let rows: [(&str, Value); 3] = [
        ("training loss", &|e| e.train_loss),
        ("validation loss", &|e| e.val_loss),
        (&dataset.metric_title, &metric),
    ];
    for (i, (name, value)) in rows.into_iter().enumerate() {
        row(shown, name, value, last, i == 2, &mut sheet);
    }
    let entries = shown
        .iter()
        .map(|s| LegendEntry::regime(s.regime, &format!(": {}", s.backbone)));
    sheet.legend(vec![entries.collect()]);
    sheet.remark("Marker: the epoch whose weights were tested.");
    Some(Figure {
        stem: format!("training-{}", dataset.name),
        title: format!("{}: training curves", dataset.title),
        caption: format!(
            "Loss and {} on the validation set over epochs. A marker is the epoch whose weights were tested; a curve without one was tested with \
             its last or its initial weights. A last epoch without training loss is the validation that the published code makes once more (Q15). {RULE} {}.",
            dataset.metric_title,
            names(shown)
        ),
        span: Span::Column,
        scene: sheet.finish(),
    })
}

fn row(shown: &[Shown], name: &str, value: Value, last: u32, lowest: bool, sheet: &mut Sheet) {
    let points = |s: &Shown| -> Vec<(u32, f64)> {
        let all = s.epochs.iter().map(|e| (e.epoch, value(e)));
        all.filter(|(_, v)| v.is_finite()).collect()
    };
    let rect = Rect {
        x0: LEFT,
        y0: sheet.y + 6.0,
        x1: sheet.width - 14.0,
        y1: sheet.y + 6.0 + HEIGHT,
    };
    sheet.y = rect.y1 + if lowest { 76.0 } else { 40.0 };
    let values: Vec<f64> = shown.iter().flat_map(&points).map(|p| p.1).collect();
    if values.is_empty() {
        super::axes::outline(&rect, &mut sheet.shapes);
        return;
    }
    let plot = Plot {
        rect,
        x: Axis::whole(1, last),
        y: Axis::around(values, 0.08, 0.05),
    };
    plot.draw(if lowest { "epoch" } else { "" }, name, &mut sheet.shapes);
    for s in shown {
        let path: Vec<_> = points(s).iter().map(|&(e, v)| plot.at(f64::from(e), v)).collect();
        dashed(
            &path,
            regime_dash(s.regime.0, s.regime.1),
            2.6,
            s.colour(),
            &mut sheet.shapes,
        );
    }
    for s in shown {
        let chosen = points(s).into_iter().find(|p| Some(p.0) == s.tested);
        if let Some((epoch, v)) = chosen {
            let at = plot.at(f64::from(epoch), v);
            sheet
                .shapes
                .push(solid_marker(regime_shape(s.regime.0, s.regime.1), at, s.colour()));
        }
    }
}
