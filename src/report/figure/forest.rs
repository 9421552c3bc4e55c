//! Ours minus published as a forest plot: every comparison of a data set that has a value, with its interval and the margin.

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::scene::{Align, Rgb, Shape, WHITE_FILL, text_width};
use super::sheet::Sheet;
use super::style::{
    COLUMN, GREY, GRID, INK, LABEL_SIZE, RADIUS, marker, regime_colour, regime_shape, solid_marker, text,
};
use crate::report::compare::Comparison;
use crate::report::input::{DatasetFacts, ReportInput, regime_title};
use crate::report::verdict::Verdict;
use crate::study::{Freeze, HeadKind};

/// Distance between regimes within a backbone, and room around them.
const STEP: f64 = 16.0;
const ROOM: f64 = 12.0;
const BAND: Rgb = Rgb(232, 240, 232);

/// A comparison that can be drawn.
struct Row<'a> {
    comparison: &'a Comparison,
    regime: (Freeze, HeadKind),
    difference: f64,
}

/// `None` where nothing of ours stands beside a published value.
pub(crate) fn figure(input: &ReportInput, comparisons: &[Comparison], dataset: &DatasetFacts) -> Option<Figure> {
    let rows: Vec<Row> = comparisons
        .iter()
        .filter(|c| c.dataset == dataset.name && c.read_as.is_none())
        .filter_map(|c| {
            Some(Row {
                comparison: c,
                regime: c.regime?,
                difference: c.difference?,
            })
        })
        .collect();
    if rows.is_empty() {
        return None;
    }
    let groups: Vec<&[Row]> = rows
        .chunk_by(|a, b| a.comparison.backbone == b.comparison.backbone)
        .collect();
    let title = format!("{}: ours minus published", dataset.title);
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(&title);
    draw(input, dataset, &groups, &mut sheet);
    sheet.legend(keys(&rows));
    let level = 100.0 * (1.0 - 2.0 * input.alpha);
    let margin = dataset.margin.map_or_else(
        || "no margin is stated for this metric".to_owned(),
        |m| format!("the shaded band is the margin of ±{m}"),
    );
    Some(Figure {
        stem: format!("difference-{}", dataset.name),
        caption: format!(
            "{}: mean {} of ours minus the published value, in each regime that the published value may be of; bars are {level:.0} % intervals with the noise of our runs and of the published one, an arrow is one that goes on; {margin}. Filled is reproduced or consistent with one more run, hollow differs, small is inconclusive or shown without a verdict; a single seed has no interval.",
            dataset.title, dataset.metric_title
        ),
        title,
        span: Span::Column,
        scene: sheet.finish(),
    })
}

fn draw(input: &ReportInput, dataset: &DatasetFacts, groups: &[&[Row]], sheet: &mut Sheet) {
    let names: Vec<&str> = groups
        .iter()
        .map(|g| input.backbone_title(&g[0].comparison.backbone))
        .collect();
    let heights: Vec<f64> = groups
        .iter()
        .map(|g| (STEP * g.len() as f64).max(LABEL_SIZE) + ROOM)
        .collect();
    let left = names.iter().map(|n| text_width(n, LABEL_SIZE)).fold(0.0, f64::max) + 26.0;
    let rect = Rect {
        x0: left.min(0.45 * COLUMN),
        y0: sheet.y,
        x1: COLUMN - 26.0,
        y1: sheet.y + heights.iter().sum::<f64>(),
    };
    sheet.y = rect.y1 + 76.0;
    let all = groups.iter().flat_map(|g| g.iter()).map(|r| r.difference);
    let edges = all.chain([0.0]).chain(dataset.margin.into_iter().flat_map(|m| [-m, m]));
    let plot = Plot {
        rect,
        x: Axis::around(edges, 0.14, 0.01),
        y: Axis::rows(1),
    };
    if let Some(m) = dataset.margin {
        let (x0, x1) = (plot.x(-m), plot.x(m));
        sheet.shapes.push(Shape::Polygon {
            points: vec![(x0, rect.y0), (x1, rect.y0), (x1, rect.y1), (x0, rect.y1)],
            fill: BAND,
            outline: None,
        });
    }
    plot.draw(
        &format!("difference in {}", dataset.metric_title),
        "",
        &mut sheet.shapes,
    );
    let zero = plot.x(0.0);
    sheet
        .shapes
        .push(line(vec![(zero, rect.y0), (zero, rect.y1)], 1.8, GREY));
    let mut y = rect.y0;
    for ((group, name), height) in groups.iter().zip(names).zip(heights) {
        if y > rect.y0 {
            sheet.shapes.push(line(vec![(rect.x0, y), (rect.x1, y)], 1.0, GRID));
        }
        sheet.shapes.push(text(
            (rect.x0 - 10.0, y + height / 2.0),
            name,
            LABEL_SIZE,
            INK,
            Align::End,
        ));
        let first = y + (height - STEP * (group.len() as f64 - 1.0)) / 2.0;
        for (k, row) in group.iter().enumerate() {
            mark(row, &plot, first + STEP * k as f64, &mut sheet.shapes);
        }
        y += height;
    }
}

/// Interval and marker of one comparison; an interval that leaves the plot ends in an arrow.
fn mark(row: &Row, plot: &Plot, y: f64, shapes: &mut Vec<Shape>) {
    let colour = regime_colour(row.regime.0, row.regime.1);
    if let Some((low, high)) = row.comparison.interval {
        let (x0, x1) = (plot.x(low), plot.x(high));
        let (left, right) = (x0.max(plot.rect.x0 + 3.0), x1.min(plot.rect.x1 - 3.0));
        shapes.push(line(vec![(left, y), (right, y)], 2.0, colour));
        let arrow = |tip: f64, back: f64| Shape::Polygon {
            points: vec![(tip, y), (tip + back, y - 5.0), (tip + back, y + 5.0)],
            fill: colour,
            outline: None,
        };
        if left > x0 {
            shapes.push(arrow(left - 2.0, 9.0));
        }
        if right < x1 {
            shapes.push(arrow(right + 2.0, -9.0));
        }
    }
    let shape = regime_shape(row.regime.0, row.regime.1);
    let at = (plot.x(row.difference), y);
    shapes.push(match &row.comparison.verdict {
        Some(Verdict::Reproduced | Verdict::Consistent) => solid_marker(shape, at, colour),
        Some(Verdict::Differs) => Shape::Polygon {
            points: marker(shape, at, RADIUS),
            fill: WHITE_FILL,
            outline: Some((2.2, colour)),
        },
        Some(Verdict::Inconclusive(_) | Verdict::NotRun(_)) | None => Shape::Polygon {
            points: marker(shape, at, 0.62 * RADIUS),
            fill: colour,
            outline: None,
        },
    });
}

/// The regimes and the verdicts that are shown.
fn keys(rows: &[Row]) -> Vec<Vec<LegendEntry>> {
    let mut regimes: Vec<_> = rows.iter().map(|r| r.regime).collect();
    regimes.sort_unstable();
    regimes.dedup();
    let regime =
        |&(f, h): &(Freeze, HeadKind)| LegendEntry::solid(regime_shape(f, h), regime_colour(f, h), regime_title(f, h));
    let has = |name: &str| rows.iter().any(|r| r.comparison.name() == name);
    let mut verdicts = Vec::new();
    if has("Reproduced") || has("Consistent") {
        verdicts.push(LegendEntry::solid(0, INK, "reproduced, consistent"));
    }
    if has("Differs") {
        verdicts.push(LegendEntry::hollow(0, INK, "differs"));
    }
    if has("Inconclusive") || has("Shown") {
        verdicts.push(LegendEntry::small(0, INK, "inconclusive, shown"));
    }
    vec![regimes.iter().map(regime).collect(), verdicts]
}

fn line(points: Vec<(f64, f64)>, width: f64, colour: Rgb) -> Shape {
    Shape::Line { points, width, colour }
}
