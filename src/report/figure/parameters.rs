//! Parameters against score, one panel a data set: published values hollow, ours solid with ±1 sample sd over seeds.
//!
//! A family is a shape, a regime a colour (Okabe and Ito's palette, told apart by colour-blind readers: cold is frozen, warm is
//! unfrozen, light is linear, dark is MHA). The four regimes of a backbone stand side by side around its parameter
//! count. A demo shows no published value: they are not comparable.

use super::axes::{Axis, Plot, outline};
use super::labels::{Anchor, Placed, Rect, place};
use super::legend::Entry;
use super::scene::{Align, Point, Scene, Shape, WHITE_FILL, text_width};
use super::sheet::Sheet;
use super::style::{
    COLUMN, DODGE, GREY, INK, LABEL_SIZE, PAGE, RADIUS, TEXT_SIZE, TITLE_SIZE, marker, regime_colour, solid_marker, text,
};
use super::{Figure, Span};
use crate::report::cells::Cells;
use crate::report::input::{DatasetFacts, ReportInput, regime_title};
use crate::study::{Freeze, HeadKind};

const HEIGHT: f64 = 560.0;
/// Left, top, right, bottom of a panel's plot area within the panel.
const INSET: (f64, f64, f64, f64) = (122.0, 50.0, 14.0, 76.0);

/// One point of a panel.
struct Mark {
    backbone: usize,
    /// Million parameters.
    params: f64,
    value: f64,
    sd: f64,
    /// `None` for a published value; else the regime and its place among the panel's regimes, centred on 0.
    ours: Option<((Freeze, HeadKind), f64)>,
}

/// All data sets in one figure of a page's width, and each alone in one of a column's.
pub fn figures(input: &ReportInput, cells: &Cells) -> Vec<Figure> {
    let all: Vec<&DatasetFacts> = input.datasets.iter().collect();
    let mut figures = vec![Figure {
        stem: "parameters".to_owned(),
        title: "Parameters against score".to_owned(),
        caption: caption(input),
        span: if all.len() > 1 { Span::Page } else { Span::Column },
        scene: scene(input, cells, &all),
    }];
    if all.len() > 1 {
        figures.extend(all.iter().map(|d| Figure {
            stem: format!("parameters-{}", d.name),
            title: format!("{}: parameters against score", d.title),
            caption: caption(input),
            span: Span::Column,
            scene: scene(input, cells, &[d]),
        }));
    }
    figures
}

fn caption(input: &ReportInput) -> String {
    let mut words = "Score on the test set against the parameters of the backbone. Solid: ours, mean over seeds; bars: ± one \
                     sample standard deviation. Side by side stand the regimes of one backbone."
        .to_owned();
    if !input.demo && input.published.iter().any(|p| p.freeze.is_none()) {
        words.push_str(" Hollow: published values, at the parameter count of their source; it does not say which regime they are.");
    }
    words
}

fn scene(input: &ReportInput, cells: &Cells, datasets: &[&DatasetFacts]) -> Scene {
    let panels: Vec<Vec<Mark>> = datasets.iter().map(|d| marks(input, cells, d)).collect();
    let across = panels.len().clamp(1, 2);
    let width = if across > 1 { PAGE } else { COLUMN };
    let mut sheet = Sheet::new(input, width);
    let families = families(input);
    for (i, (dataset, marks)) in datasets.iter().zip(&panels).enumerate() {
        let corner = (
            (i % across) as f64 * width / across as f64,
            sheet.y + (i / across) as f64 * HEIGHT,
        );
        panel(input, dataset, marks, &families, (corner, width / across as f64), &mut sheet.shapes);
    }
    sheet.y += HEIGHT * panels.len().max(1).div_ceil(across) as f64;
    legend(input, &panels, families, &mut sheet);
    sheet.finish()
}

fn legend(input: &ReportInput, panels: &[Vec<Mark>], families: Vec<&str>, sheet: &mut Sheet) {
    let shown: Vec<&Mark> = panels.iter().flatten().collect();
    let is_shown = |f: &str| shown.iter().any(|m| input.backbones[m.backbone].family == f);
    let families = families.into_iter().enumerate().filter(|(_, f)| is_shown(f));
    let families = families.map(|(shape, f)| Entry::solid(shape, GREY, f)).collect();
    let mut regimes: Vec<_> = shown.iter().filter_map(|m| m.ours.map(|(regime, _)| regime)).collect();
    regimes.sort_unstable();
    regimes.dedup();
    let bars = !regimes.is_empty();
    let mut kinds: Vec<Entry> = regimes
        .into_iter()
        .map(|(f, h)| Entry::solid(0, regime_colour(f, h), regime_title(f, h)))
        .collect();
    if shown.iter().any(|m| m.ours.is_none()) {
        kinds.push(Entry::hollow(0, INK, "published (regime not stated)"));
    }
    sheet.legend(vec![families, kinds]);
    if bars {
        sheet.remark("Solid: ours, mean over seeds; bars: ± one sample standard deviation.");
    }
}

/// The axes, and the place of the regimes around a backbone's parameter count.
struct Axes(Plot);

impl Axes {
    fn at(&self, m: &Mark) -> Point {
        let (x, y) = self.0.at(m.params, m.value);
        (x + m.ours.map_or(0.0, |(_, place)| place * DODGE), y)
    }
}

fn marks(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts) -> Vec<Mark> {
    let regimes = cells.regimes(&dataset.name);
    let middle = (regimes.len() as f64 - 1.0) / 2.0;
    let mut all = Vec::new();
    for (i, b) in input.backbones.iter().enumerate() {
        for (k, &(freeze, head)) in regimes.iter().enumerate() {
            let Some(score) = cells.get(&dataset.name, &b.name, freeze, head) else {
                continue;
            };
            let (Some(mean), Some(params)) = (score.mean(), b.params.filter(|p| *p > 0)) else {
                continue;
            };
            all.push(Mark {
                backbone: i,
                params: params as f64 / 1e6,
                value: mean,
                sd: score.sd().unwrap_or(0.0),
                ours: Some(((freeze, head), k as f64 - middle)),
            });
        }
    }
    let published = input
        .published
        .iter()
        .filter(|p| !input.demo && p.dataset == dataset.name && p.metric == dataset.metric);
    for p in published {
        let backbone = input.backbones.iter().position(|b| b.name == p.backbone);
        if let (Some(backbone), Some(params)) = (backbone, p.params_millions.filter(|m| *m > 0.0)) {
            all.push(Mark {
                backbone,
                params,
                value: p.value,
                sd: 0.0,
                ours: None,
            });
        }
    }
    all
}

fn panel(
    input: &ReportInput,
    dataset: &DatasetFacts,
    marks: &[Mark],
    families: &[&str],
    (corner, width): (Point, f64),
    shapes: &mut Vec<Shape>,
) {
    let plot = Rect {
        x0: corner.0 + INSET.0,
        y0: corner.1 + INSET.1,
        x1: corner.0 + width - INSET.2,
        y1: corner.1 + HEIGHT - INSET.3,
    };
    let centre = (plot.x0 + plot.x1) / 2.0;
    shapes.push(text(
        (centre, corner.1 + INSET.1 / 2.0 + 4.0),
        &dataset.title,
        TITLE_SIZE,
        INK,
        Align::Middle,
    ));
    if marks.is_empty() {
        outline(&plot, shapes);
        shapes.push(text(
            (centre, (plot.y0 + plot.y1) / 2.0),
            "no result yet",
            TEXT_SIZE,
            GREY,
            Align::Middle,
        ));
        return;
    }
    let axes = Axes(Plot {
        rect: plot,
        x: Axis::log_around(marks.iter().map(|m| m.params)),
        y: Axis::around(marks.iter().flat_map(|m| [m.value - m.sd, m.value + m.sd]), 0.09, 0.02),
    });
    axes.0.draw("parameters of the backbone (millions)", &dataset.metric_title, shapes);

    let shape_of = |m: &Mark| {
        families
            .iter()
            .position(|f| *f == input.backbones[m.backbone].family)
            .unwrap_or(0)
    };
    let mut obstacles = Vec::new();
    for m in marks {
        let (x, y) = axes.at(m);
        obstacles.push(Rect::around(x, y, 2.0 * RADIUS + 2.0, 2.0 * RADIUS + 2.0));
        let Some(((freeze, head), _)) = m.ours else { continue };
        if m.sd > 0.0 {
            let (low, high) = (axes.0.y(m.value - m.sd), axes.0.y(m.value + m.sd));
            obstacles.push(Rect {
                x0: x - 4.0,
                y0: high,
                x1: x + 4.0,
                y1: low,
            });
            let colour = regime_colour(freeze, head);
            for bar in [
                [(x, low), (x, high)],
                [(x - 4.0, low), (x + 4.0, low)],
                [(x - 4.0, high), (x + 4.0, high)],
            ] {
                shapes.push(Shape::Line {
                    points: bar.to_vec(),
                    width: 1.6,
                    colour,
                });
            }
        }
    }
    for m in marks {
        let (shape, at) = (shape_of(m), axes.at(m));
        shapes.push(match m.ours {
            Some(((freeze, head), _)) => solid_marker(shape, at, regime_colour(freeze, head)),
            None => Shape::Polygon {
                points: marker(shape, at, RADIUS),
                fill: WHITE_FILL,
                outline: Some((1.8, INK)),
            },
        });
    }
    for (title, placed) in labels(input, marks, &axes, &obstacles) {
        if let Some((from, to)) = placed.leader {
            shapes.push(Shape::Line {
                points: vec![from, to],
                width: 0.8,
                colour: GREY,
            });
        }
        let at = (placed.rect.x0, (placed.rect.y0 + placed.rect.y1) / 2.0);
        shapes.push(text(at, title, LABEL_SIZE, INK, Align::Start));
    }
}

/// One label a backbone: at its published value where there is one, else at the best of ours.
fn labels<'a>(input: &'a ReportInput, marks: &[Mark], axes: &Axes, obstacles: &[Rect]) -> Vec<(&'a str, Placed)> {
    let mut titles = Vec::new();
    let mut anchors = Vec::new();
    for (i, b) in input.backbones.iter().enumerate() {
        let own = || marks.iter().filter(|m| m.backbone == i);
        let best = own()
            .filter(|m| m.ours.is_some())
            .max_by(|a, b| a.value.total_cmp(&b.value));
        let Some(m) = own().find(|m| m.ours.is_none()).or(best) else {
            continue;
        };
        let (x, y) = axes.at(m);
        titles.push(b.title.as_str());
        let width = text_width(&b.title, LABEL_SIZE) + 2.0;
        anchors.push(Anchor {
            x,
            y,
            radius: RADIUS + 3.0,
            width,
            height: LABEL_SIZE,
        });
    }
    let placed = place(&anchors, obstacles, &axes.0.rect);
    titles
        .into_iter()
        .zip(placed)
        .filter_map(|(t, p)| Some((t, p?)))
        .collect()
}

/// The families in the order of the table; the place is the marker.
pub fn families(input: &ReportInput) -> Vec<&str> {
    let mut families = Vec::<&str>::new();
    for b in &input.backbones {
        if !families.contains(&b.family.as_str()) {
            families.push(&b.family);
        }
    }
    families
}
