//! Parameters against score, one panel a data set: published values hollow, ours solid with ±1 sample sd over seeds.
//!
//! A family is a shape, a regime a colour (Okabe and Ito's palette, told apart by colour-blind readers: cold is frozen, warm is
//! unfrozen, light is linear, dark is MHA). The four regimes of a backbone stand side by side around its parameter
//! count. A demo shows no published value: they are not comparable.

mod axes;
pub mod balance;
mod labels;
mod legend;
mod scene;
mod style;

use super::cells::Cells;
use super::input::{DatasetFacts, ReportInput};
use crate::study::{Freeze, HeadKind};
use axes::{Axes, outline};
use labels::{Anchor, Placed, Rect, place};
use scene::{Align, Point, Scene, Shape, WHITE_FILL, text_width};
use style::{GREY, INK, INSET, LABEL_SIZE, PANEL, RADIUS, TEXT_SIZE, TITLE_SIZE, marker, regime_colour, text};

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

/// The whole figure.
pub fn scene(input: &ReportInput, cells: &Cells) -> Scene {
    let panels: Vec<Vec<Mark>> = input.datasets.iter().map(|d| marks(input, cells, d)).collect();
    let across = panels.len().clamp(1, 2);
    let down = panels.len().max(1).div_ceil(across);
    let top = if input.demo { 46.0 } else { 10.0 };
    let width = PANEL.0 * across as f64;
    let mut shapes = Vec::new();
    if let Some(w) = input.warning() {
        let size = (TEXT_SIZE * (width - 40.0) / text_width(w, TEXT_SIZE)).min(TEXT_SIZE);
        shapes.push(text((width / 2.0, top / 2.0 + 4.0), w, size, INK, Align::Middle));
    }
    let families = families(input);
    for (i, (dataset, marks)) in input.datasets.iter().zip(&panels).enumerate() {
        let corner = ((i % across) as f64 * PANEL.0, top + (i / across) as f64 * PANEL.1);
        panel(input, dataset, marks, &families, corner, &mut shapes);
    }
    let shown: Vec<&Mark> = panels.iter().flatten().collect();
    let is_shown = |f: &str| shown.iter().any(|m| input.backbones[m.backbone].family == f);
    let families: Vec<(usize, &str)> = families.into_iter().enumerate().filter(|(_, f)| is_shown(f)).collect();
    let mut regimes: Vec<_> = shown.iter().filter_map(|m| m.ours.map(|(regime, _)| regime)).collect();
    regimes.sort_unstable();
    regimes.dedup();
    let published = shown.iter().any(|m| m.ours.is_none());
    let bottom = legend::draw(
        &families,
        &regimes,
        published,
        width,
        top + PANEL.1 * down as f64,
        &mut shapes,
    );
    Scene {
        width: width as u32,
        height: bottom.ceil() as u32,
        shapes,
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
    corner: Point,
    shapes: &mut Vec<Shape>,
) {
    let plot = Rect {
        x0: corner.0 + INSET.0,
        y0: corner.1 + INSET.1,
        x1: corner.0 + PANEL.0 - INSET.2,
        y1: corner.1 + PANEL.1 - INSET.3,
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
    let axes = Axes::around(marks, plot);
    axes.draw(&dataset.metric_title, shapes);

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
            let (low, high) = (axes.y(m.value - m.sd), axes.y(m.value + m.sd));
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
        let points = marker(shape_of(m), axes.at(m), RADIUS);
        shapes.push(match m.ours {
            Some(((freeze, head), _)) => Shape::Polygon {
                points,
                fill: regime_colour(freeze, head),
                outline: Some((0.8, WHITE_FILL)),
            },
            None => Shape::Polygon {
                points,
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
    let placed = place(&anchors, obstacles, &axes.plot);
    titles
        .into_iter()
        .zip(placed)
        .filter_map(|(t, p)| Some((t, p?)))
        .collect()
}

fn families(input: &ReportInput) -> Vec<&str> {
    let mut families = Vec::<&str>::new();
    for b in &input.backbones {
        if !families.contains(&b.family.as_str()) {
            families.push(&b.family);
        }
    }
    families
}
