//! Figures: what is drawn is decided here, one figure a file, as shapes; [`scene`] paints them as PNG and SVG.
//!
//! Every figure names its data set and, in a demo, carries the warning inside the picture. Colours are regimes (or better and
//! worse), and a shape or a dash says the same again. Per-run figures follow one rule ([`runs::RULE`]), which their
//! captions state.

mod axes;
pub mod balance;
mod calibration;
mod confusion;
mod dots;
mod forest;
mod labels;
mod legend;
mod painted;
mod roc;
mod runs;
mod scene;
mod sheet;
mod slope;
mod strip;
mod style;
mod training;

use super::cells::Cells;
use super::compare::Comparison;
use super::input::ReportInput;
use painted::Figure;
pub use painted::{Painted, Span};
pub use runs::RULE;

use anyhow::Result;
use rayon::prelude::*;

/// The paper's figure with ours over it as the page shows it.
#[derive(Debug)]
pub struct Front {
    pub caption: String,
    /// What a mark means, each with its drawing as SVG.
    pub keys: Vec<(String, String)>,
    /// One a data set, narrow enough for a phone.
    pub panels: Vec<Painted>,
}

/// The first figure of the page.
///
/// # Errors
/// Where a picture cannot be drawn.
pub fn front(input: &ReportInput, cells: &Cells) -> Result<Front> {
    let panels = input.datasets.iter().map(|d| strip::alone(input, cells, d));
    Ok(Front {
        caption: strip::caption(input, cells),
        keys: strip::keys(input, cells)
            .iter()
            .map(|e| Ok((e.label().to_owned(), e.drawing().to_svg()?)))
            .collect::<Result<_>>()?,
        panels: panels.map(Painted::new).collect::<Result<_>>()?,
    })
}

/// Every figure that the study has something to show for, painted, in the order of the report.
///
/// # Errors
/// [`crate::error::BadInput`] where the record of a run that is to be shown is torn or edited.
pub fn paint(input: &ReportInput, cells: &Cells, comparisons: &[Comparison]) -> Result<Vec<Painted>> {
    all(input, cells, comparisons)?
        .into_par_iter()
        .map(Painted::new)
        .collect()
}

fn all(input: &ReportInput, cells: &Cells, comparisons: &[Comparison]) -> Result<Vec<Figure>> {
    let mut figures = vec![strip::figure(input, cells)];
    for d in &input.datasets {
        figures.extend(forest::figure(input, comparisons, d));
    }
    for d in &input.datasets {
        figures.extend(slope::figures(input, cells, d));
    }
    for d in &input.datasets {
        let shown = runs::shown(input, cells, d)?;
        if shown.is_empty() {
            continue;
        }
        figures.extend(training::figure(input, d, &shown));
        figures.extend(dots::recall(input, d, &shown)?);
        figures.extend(confusion::figure(input, d, &shown)?);
        figures.extend(roc::figure(input, d, &shown)?);
        figures.extend(dots::label_auc(input, d, &shown)?);
        figures.extend(calibration::figure(input, d, &shown)?);
    }
    Ok(figures)
}
