//! ROC curves of sets with two classes.

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::runs::{RULE, Shown, names};
use super::sheet::Sheet;
use super::style::{COLUMN, Dash, GREY, dashed, regime_dash};
use crate::eval::{roc_auc, roc_curve};
use crate::report::input::{DatasetFacts, ReportInput};
use crate::report::text::{PLACES, fixed};
use anyhow::Result;

/// `None` for other sets, and where no curve is defined.
pub(crate) fn figure(input: &ReportInput, dataset: &DatasetFacts, shown: &[Shown]) -> Result<Option<Figure>> {
    if shown[0].classes().is_none() || shown[0].predictions.outputs != 2 {
        return Ok(None);
    }
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(&format!("{}: ROC curves", dataset.title));
    let side = 520.0;
    let rect = Rect {
        x0: 132.0,
        y0: sheet.y,
        x1: 132.0 + side,
        y1: sheet.y + side,
    };
    sheet.y = rect.y1 + 76.0;
    let plot = Plot {
        rect,
        x: Axis::linear(-0.02, 1.02),
        y: Axis::linear(-0.02, 1.02),
    };
    plot.draw("false positive rate", "true positive rate", &mut sheet.shapes);
    dashed(
        &[plot.at(0.0, 0.0), plot.at(1.0, 1.0)],
        Dash::Long,
        1.6,
        GREY,
        &mut sheet.shapes,
    );
    let mut entries = Vec::new();
    for s in shown {
        let scores: Vec<f64> = s.probabilities()?.iter().skip(1).step_by(2).copied().collect();
        let truth: Vec<bool> = s.classes().unwrap_or_default().iter().map(|&t| t == 1).collect();
        let area = roc_auc(&scores, &truth)?;
        if !area.is_finite() {
            continue;
        }
        let curve = roc_curve(&scores, &truth, true)?;
        let path: Vec<_> = curve.iter().map(|p| plot.at(p.fpr, p.tpr)).collect();
        dashed(
            &path,
            regime_dash(s.regime.0, s.regime.1),
            2.8,
            s.colour(),
            &mut sheet.shapes,
        );
        let label = format!(": {}, area {}", s.backbone, fixed(area, PLACES));
        entries.push(LegendEntry::regime_line(s.regime, &label));
    }
    if entries.is_empty() {
        return Ok(None);
    }
    entries.push(LegendEntry::line(Dash::Long, 1.6, GREY, "chance"));
    sheet.legend(vec![entries]);
    let positive = dataset.classes.get(1).map_or("class 1", String::as_str);
    Ok(Some(Figure {
        stem: format!("roc-{}", dataset.name),
        title: format!("{}: ROC curves", dataset.title),
        caption: format!(
            "ROC curves on the test set; positive is \"{positive}\". {RULE} {}.",
            names(shown)
        ),
        span: Span::Column,
        scene: sheet.finish(),
    }))
}
