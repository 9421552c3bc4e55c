//! The paper's figure with ours over it: a panel a data set, a row a backbone, the score along the row.
//!
//! The paper plots score against parameters. Its thirteen points can be labelled there; with four regimes of ours beside each they cannot, so
//! the parameters stand with the row's name, and every point of a row is named by it. Published values are hollow and a thin line carries them through
//! their row; ours are solid with ± one sample sd over seeds, each regime in a lane of its own, so that no marker hides
//! another. A demo shows no published value: they are not comparable.

use super::axes::{Axis, Plot};
use super::labels::Rect;
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::scene::{Align, Rgb, Scene, Shape, WHITE_FILL, text_width};
use super::sheet::Sheet;
use super::style::{
    COLUMN, GREY, GRID, INK, LABEL_SIZE, PAGE, TEXT_SIZE, TITLE_SIZE, marker, regime_colour, regime_shape, text,
};
use crate::report::cells::Cells;
use crate::report::input::{BackboneFacts, DatasetFacts, ReportInput, regime_title};
use crate::study::{Freeze, HeadKind};

type Regime = (Freeze, HeadKind);

/// Distance between the lanes of a row, and room around them.
const STEP: f64 = 10.0;
const ROOM: f64 = 10.0;
const LOW_ROW: f64 = LABEL_SIZE + 12.0;
/// Rows from here on have room for the parameters below the name.
const TWO_LINES: f64 = 44.0;
const SMALL: f64 = 17.0;
const MARK: f64 = 5.6;
const HEAD: f64 = 44.0;
const FOOT: f64 = 74.0;
/// Width of a panel that stands alone on the page.
pub(crate) const PANEL: f64 = 480.0;
const PANELS_ACROSS: usize = 4;
const RIGHT: f64 = 16.0;
const FAMILY_LINE: Rgb = Rgb(150, 150, 150);

/// One point.
struct Mark {
    row: usize,
    lane: usize,
    value: f64,
    sd: f64,
    /// `None` for a published value.
    regime: Option<Regime>,
}

/// What the panels of a figure share.
struct Frame<'a> {
    input: &'a ReportInput,
    cells: &'a Cells,
    backbones: Vec<&'a BackboneFacts>,
    regimes: Vec<Regime>,
    /// Whether the first lane is that of published values.
    published: bool,
    names: f64,
}

impl<'a> Frame<'a> {
    fn new(input: &'a ReportInput, cells: &'a Cells, datasets: &[&DatasetFacts]) -> Self {
        let plans = |b: &&BackboneFacts| datasets.iter().any(|d| cells.plans(&d.name, &b.name));
        let backbones: Vec<_> = input.backbones.iter().filter(plans).collect();
        let mut regimes: Vec<Regime> = datasets.iter().flat_map(|d| cells.regimes(&d.name)).collect();
        regimes.sort_unstable();
        regimes.dedup();
        let names = backbones
            .iter()
            .map(|b| text_width(&b.title, LABEL_SIZE))
            .fold(0.0, f64::max);
        Self {
            published: datasets.iter().any(|d| points(input, d).next().is_some()),
            input,
            cells,
            backbones,
            regimes,
            names: names.min(0.5 * PANEL) + 20.0,
        }
    }

    fn lanes(&self) -> usize {
        self.regimes.len() + usize::from(self.published)
    }

    fn row(&self) -> f64 {
        (STEP * self.lanes() as f64 + ROOM).max(LOW_ROW)
    }

    fn height(&self) -> f64 {
        self.row() * self.backbones.len().max(1) as f64
    }

    fn marks(&self, dataset: &DatasetFacts) -> Vec<Mark> {
        let mut all = Vec::new();
        for (row, b) in self.backbones.iter().enumerate() {
            let own = points(self.input, dataset).filter(|p| p.0 == b.name);
            all.extend(own.map(|(_, value)| Mark {
                row,
                lane: 0,
                value,
                sd: 0.0,
                regime: None,
            }));
            for (k, &(freeze, head)) in self.regimes.iter().enumerate() {
                let score = self.cells.get(&dataset.name, &b.name, freeze, head);
                let Some((score, value)) = score.and_then(|s| Some((s, s.mean()?))) else {
                    continue;
                };
                all.push(Mark {
                    row,
                    lane: k + usize::from(self.published),
                    value,
                    sd: score.sd().unwrap_or(0.0),
                    regime: Some((freeze, head)),
                });
            }
        }
        all
    }
}

/// (backbone, value) of the published values that may be shown beside ours.
fn points<'a>(input: &'a ReportInput, dataset: &'a DatasetFacts) -> impl Iterator<Item = (&'a str, f64)> {
    let shown =
        |p: &&crate::report::PublishedPoint| !input.demo && p.dataset == dataset.name && p.metric == dataset.metric;
    input
        .published
        .iter()
        .filter(shown)
        .map(|p| (p.backbone.as_str(), p.value))
}

/// All data sets beside each other: the figure of the paper, and the one for slides.
pub(crate) fn figure(input: &ReportInput, cells: &Cells) -> Figure {
    let all: Vec<&DatasetFacts> = input.datasets.iter().collect();
    let frame = Frame::new(input, cells, &all);
    let across = all.len().clamp(1, PANELS_ACROSS);
    let span = if across > 1 { Span::Page } else { Span::Column };
    let width = if across > 1 { PAGE } else { COLUMN };
    let mut sheet = Sheet::new(input, width);
    let each = (width - frame.names) / across as f64;
    for row in all.chunks(across) {
        let top = sheet.y + HEAD;
        for (i, d) in row.iter().enumerate() {
            let x0 = frame.names + each * i as f64;
            let rect = Rect {
                x0: x0 + if i == 0 { 0.0 } else { RIGHT },
                y0: top,
                x1: x0 + each - RIGHT,
                y1: top + frame.height(),
            };
            panel(&frame, d, rect, i == 0, &mut sheet.shapes);
        }
        sheet.y = top + frame.height() + FOOT;
    }
    sheet.legend(vec![keys(input, cells)]);
    Figure {
        stem: "scores".to_owned(),
        title: match frame.published {
            true => "Published scores and ours".to_owned(),
            false => "Scores".to_owned(),
        },
        caption: caption(input, cells),
        span,
        scene: sheet.finish(),
    }
}

/// One panel as a figure of its own, its caption that of all.
pub(crate) fn alone(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts) -> Figure {
    let frame = Frame::new(input, cells, &[dataset]);
    let rect = Rect {
        x0: frame.names,
        y0: HEAD,
        x1: PANEL - RIGHT,
        y1: HEAD + frame.height(),
    };
    let mut shapes = Vec::new();
    panel(&frame, dataset, rect, true, &mut shapes);
    Figure {
        stem: format!("scores-{}", dataset.name),
        title: format!("{}: {}", dataset.title, dataset.metric_title),
        caption: caption(input, cells),
        span: Span::Column,
        scene: Scene {
            width: PANEL as u32,
            height: (rect.y1 + FOOT).ceil() as u32,
            shapes,
        },
    }
}

/// How the panels are to be read.
pub(crate) fn caption(input: &ReportInput, cells: &Cells) -> String {
    let mut caption = "Score on the test set, a row a backbone with its parameters in millions. Solid: ours, mean over seeds with ± one sample standard \
                     deviation, a lane a regime."
        .to_owned();
    let all: Vec<&DatasetFacts> = input.datasets.iter().collect();
    if Frame::new(input, cells, &all).published {
        caption.push_str(" Hollow, with a line through its row: the published value");
        caption.push_str(match input.published.iter().any(|p| p.freeze.is_none()) {
            true => "; its source does not say which regime it is.",
            false => ".",
        });
    }
    caption
}

/// The regimes and the published values, those that are shown.
pub(crate) fn keys(input: &ReportInput, cells: &Cells) -> Vec<LegendEntry> {
    let all: Vec<&DatasetFacts> = input.datasets.iter().collect();
    let frame = Frame::new(input, cells, &all);
    let published = frame.published.then(|| LegendEntry::hollow(0, INK, "published"));
    let regime = |&(f, h): &Regime| LegendEntry::solid(regime_shape(f, h), regime_colour(f, h), regime_title(f, h));
    published.into_iter().chain(frame.regimes.iter().map(regime)).collect()
}

fn panel(frame: &Frame, dataset: &DatasetFacts, rect: Rect, named: bool, shapes: &mut Vec<Shape>) {
    let centre = (rect.x0 + rect.x1) / 2.0;
    let fit = |title: &str, size: f64| size.min(size * (rect.x1 - rect.x0) / text_width(title, size).max(1.0));
    let heading = |title: &str, y: f64, size: f64| text((centre, y), title, fit(title, size), INK, Align::Middle);
    shapes.push(heading(&dataset.title, rect.y0 - 20.0, TITLE_SIZE));
    let marks = frame.marks(dataset);
    let row = frame.row();
    if named {
        names(frame, rect, shapes);
    }
    if marks.is_empty() {
        super::axes::outline(&rect, shapes);
        let middle = (centre, (rect.y0 + rect.y1) / 2.0);
        shapes.push(text(middle, "no result yet", TEXT_SIZE, GREY, Align::Middle));
        return;
    }
    let edges = marks.iter().flat_map(|m| [m.value - m.sd, m.value + m.sd]);
    let plot = Plot {
        rect,
        x: Axis::around_in(edges, 0.06, 0.02, rect.x1 - rect.x0, RIGHT - 6.0),
        y: Axis::rows(frame.backbones.len()),
    };
    plot.draw("", "", shapes);
    shapes.push(heading(&dataset.metric_title, rect.y1 + 52.0, TEXT_SIZE));
    for (i, pair) in frame.backbones.windows(2).enumerate() {
        let y = plot.y(i as f64 + 1.0);
        let (width, colour) = match pair[0].family == pair[1].family {
            true => (1.0, GRID),
            false => (1.4, FAMILY_LINE),
        };
        shapes.push(line(vec![(rect.x0, y), (rect.x1, y)], width, colour));
    }
    let lanes = frame.lanes() as f64;
    let at = |m: &Mark| {
        let middle = rect.y0 + row * (m.row as f64 + 0.5);
        (plot.x(m.value), middle + STEP * (m.lane as f64 - (lanes - 1.0) / 2.0))
    };
    for m in marks.iter().filter(|m| m.regime.is_none()) {
        let (x, top) = (plot.x(m.value), rect.y0 + row * m.row as f64);
        shapes.push(line(vec![(x, top + 3.0), (x, top + row - 3.0)], 1.2, GREY));
    }
    for m in &marks {
        let (x, y) = at(m);
        let Some((freeze, head)) = m.regime else {
            shapes.push(Shape::Polygon {
                points: marker(0, (x, y), MARK),
                fill: WHITE_FILL,
                outline: Some((1.8, INK)),
            });
            continue;
        };
        let colour = regime_colour(freeze, head);
        if m.sd > 0.0 {
            let (low, high) = (plot.x(m.value - m.sd), plot.x(m.value + m.sd));
            shapes.push(line(vec![(low, y), (high, y)], 1.8, colour));
        }
        shapes.push(Shape::Polygon {
            points: marker(regime_shape(freeze, head), (x, y), MARK),
            fill: colour,
            outline: None,
        });
    }
}

/// The rows' names beside the panel, with their parameters where a row is high enough.
fn names(frame: &Frame, rect: Rect, shapes: &mut Vec<Shape>) {
    let row = frame.row();
    for (i, b) in frame.backbones.iter().enumerate() {
        let y = rect.y0 + row * (i as f64 + 0.5);
        let x = rect.x0 - 10.0;
        let size = LABEL_SIZE.min(LABEL_SIZE * (frame.names - 20.0) / text_width(&b.title, LABEL_SIZE).max(1.0));
        let millions = b.params.filter(|_| row >= TWO_LINES).map(|p| p as f64 / 1e6);
        let Some(m) = millions else {
            shapes.push(text((x, y), &b.title, size, INK, Align::End));
            continue;
        };
        let places = match m {
            m if m >= 10.0 => 0,
            m if m >= 1.0 => 1,
            _ => 3,
        };
        let params = format!("{} M", crate::report::text::fixed(m, places));
        shapes.push(text((x, y - 10.0), &b.title, size, INK, Align::End));
        shapes.push(text((x, y + 12.0), &params, SMALL, GREY, Align::End));
    }
}

fn line(points: Vec<(f64, f64)>, width: f64, colour: Rgb) -> Shape {
    Shape::Line { points, width, colour }
}
