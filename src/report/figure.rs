//! Parameters against score, one panel a data set: published values hollow, ours solid with ±1 sample sd over seeds.
//!
//! A family is a shape, a regime a colour (Okabe and Ito's palette, told apart by colour-blind readers: cold is frozen, warm is
//! unfrozen, light is linear, dark is MHA). The four regimes of a backbone stand side by side around its parameter
//! count. A demo shows no published value: they are not comparable.

use super::cells::Cells;
use super::input::{DatasetFacts, ReportInput, regime_title};
use super::labels::{Anchor, Placed, Rect, place};
use super::scene::{Align, Point, Rgb, Scene, Shape, WHITE_FILL, text_width};
use super::table::fixed;
use crate::study::{Freeze, HeadKind};

const INK: Rgb = Rgb(34, 34, 34);
const GREY: Rgb = Rgb(110, 110, 110);
const GRID: Rgb = Rgb(228, 228, 228);

const PANEL: (f64, f64) = (760.0, 560.0);
/// Left, top, right, bottom of a panel's plot area within the panel.
const INSET: (f64, f64, f64, f64) = (104.0, 56.0, 16.0, 84.0);
const TITLE_SIZE: f64 = 24.0;
const TEXT_SIZE: f64 = 20.0;
const LABEL_SIZE: f64 = 16.0;
const RADIUS: f64 = 8.0;
/// Distance between neighbouring regimes of a backbone.
const DODGE: f64 = 11.0;
const LEGEND_LINE: f64 = 40.0;

fn regime_colour(freeze: Freeze, head: HeadKind) -> Rgb {
    match (freeze, head) {
        (Freeze::Frozen, HeadKind::Linear) => Rgb(86, 180, 233),
        (Freeze::Frozen, HeadKind::Mha) => Rgb(0, 114, 178),
        (Freeze::Unfrozen, HeadKind::Linear) => Rgb(230, 159, 0),
        (Freeze::Unfrozen, HeadKind::Mha) => Rgb(213, 94, 0),
    }
}

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
    let panels = input.datasets.len().max(1);
    let across = panels.min(2);
    let down = panels.div_ceil(across);
    let top = if input.demo { 46.0 } else { 10.0 };
    let width = PANEL.0 * across as f64;
    let legend = legend(input, cells, width, top + PANEL.1 * down as f64);
    let mut shapes = Vec::new();
    if let Some(w) = input.warning() {
        let size = (TEXT_SIZE * (width - 40.0) / text_width(w, TEXT_SIZE)).min(TEXT_SIZE);
        shapes.push(text((width / 2.0, top / 2.0 + 4.0), w, size, INK, Align::Middle));
    }
    for (i, dataset) in input.datasets.iter().enumerate() {
        let corner = ((i % across) as f64 * PANEL.0, top + (i / across) as f64 * PANEL.1);
        panel(input, cells, dataset, corner, &mut shapes);
    }
    shapes.extend(legend.0);
    Scene {
        width: width as u32,
        height: legend.1.ceil() as u32,
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
    for p in published.filter(|p| p.params_millions > 0.0) {
        if let Some(backbone) = input.backbones.iter().position(|b| b.name == p.backbone) {
            all.push(Mark {
                backbone,
                params: p.params_millions,
                value: p.value,
                sd: 0.0,
                ours: None,
            });
        }
    }
    all
}

fn panel(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts, corner: Point, shapes: &mut Vec<Shape>) {
    let marks = marks(input, cells, dataset);
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
    let axes = Axes::around(&marks, plot);
    axes.draw(&dataset.metric_title, shapes);

    let families = families(input);
    let shape_of = |m: &Mark| {
        families
            .iter()
            .position(|f| *f == input.backbones[m.backbone].family)
            .unwrap_or(0)
    };
    let mut obstacles = Vec::new();
    for m in &marks {
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
    for m in &marks {
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
    for (title, placed) in labels(input, &marks, &axes, &obstacles) {
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
            radius: RADIUS + 1.5,
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

/// Logarithmic parameters, linear score, and the place of the regimes.
struct Axes {
    plot: Rect,
    /// log10 of million parameters.
    x: (f64, f64),
    y: (f64, f64),
}

impl Axes {
    fn around(marks: &[Mark], plot: Rect) -> Self {
        let span = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)))
        };
        let (x0, x1) = span(&mut marks.iter().map(|m| libm::log10(m.params)));
        let (y0, y1) = span(&mut marks.iter().flat_map(|m| [m.value - m.sd, m.value + m.sd]));
        let x_pad = (0.12 * (x1 - x0)).max(0.1);
        let y_pad = if y1 - y0 < 1e-9 { 0.02 } else { 0.09 * (y1 - y0) };
        Self {
            plot,
            x: (x0 - x_pad, x1 + x_pad),
            y: (y0 - y_pad, y1 + y_pad),
        }
    }

    fn x(&self, millions: f64) -> f64 {
        let t = (libm::log10(millions) - self.x.0) / (self.x.1 - self.x.0);
        self.plot.x0 + t * (self.plot.x1 - self.plot.x0)
    }

    fn y(&self, value: f64) -> f64 {
        let t = (value - self.y.0) / (self.y.1 - self.y.0);
        self.plot.y1 - t * (self.plot.y1 - self.plot.y0)
    }

    fn at(&self, m: &Mark) -> Point {
        (
            self.x(m.params) + m.ours.map_or(0.0, |(_, place)| place * DODGE),
            self.y(m.value),
        )
    }

    fn draw(&self, metric: &str, shapes: &mut Vec<Shape>) {
        let p = &self.plot;
        let (ticks, places) = linear_ticks(self.y.0, self.y.1);
        for v in ticks {
            let y = self.y(v);
            shapes.push(Shape::Line {
                points: vec![(p.x0, y), (p.x1, y)],
                width: 1.0,
                colour: GRID,
            });
            shapes.push(text((p.x0 - 10.0, y), &fixed(v, places), TEXT_SIZE, INK, Align::End));
        }
        for v in log_ticks(self.x.0, self.x.1) {
            let x = self.x(v);
            shapes.push(Shape::Line {
                points: vec![(x, p.y0), (x, p.y1)],
                width: 1.0,
                colour: GRID,
            });
            shapes.push(text((x, p.y1 + 22.0), &format!("{v}"), TEXT_SIZE, INK, Align::Middle));
        }
        outline(p, shapes);
        let below = ((p.x0 + p.x1) / 2.0, p.y1 + 56.0);
        shapes.push(text(
            below,
            "parameters of the backbone (millions)",
            TEXT_SIZE,
            INK,
            Align::Middle,
        ));
        shapes.push(Shape::Text {
            at: (p.x0 - INSET.0 + 22.0, (p.y0 + p.y1) / 2.0),
            text: metric.to_owned(),
            size: TEXT_SIZE,
            colour: INK,
            align: Align::Middle,
            upright: true,
        });
    }
}

/// Four to eight round values inside the range, and the decimals they need.
fn linear_ticks(low: f64, high: f64) -> (Vec<f64>, usize) {
    let span = high - low;
    let mut exponent = libm::floor(libm::log10(span)) as i32 - 1;
    loop {
        for mantissa in [1u32, 2, 5] {
            // Exact decimals: count in units of 10^exponent.
            let unit = libm::pow(10.0, f64::from(exponent));
            let step = f64::from(mantissa) * unit;
            if span / step <= 7.0 {
                let first = (low / step).ceil() as i64;
                let last = (high / step).floor() as i64;
                let places = usize::try_from(-exponent).unwrap_or(0);
                return ((first..=last).map(|k| k as f64 * step).collect(), places);
            }
        }
        exponent += 1;
    }
}

/// 1-2-5 values inside the range given as log10; fewer when they would crowd.
fn log_ticks(low: f64, high: f64) -> Vec<f64> {
    let mantissas: &[f64] = match high - low {
        s if s < 0.5 => &[1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0],
        s if s < 2.6 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let decades = libm::floor(low) as i32..=libm::ceil(high) as i32;
    let all = decades.flat_map(|d| {
        // The nearest double to the decimal, as a reader would type it.
        mantissas
            .iter()
            .filter_map(move |m| format!("{m}e{d}").parse::<f64>().ok())
    });
    all.filter(|v| (low..=high).contains(&libm::log10(*v))).collect()
}

/// The legend's shapes and the height of the canvas.
fn legend(input: &ReportInput, cells: &Cells, width: f64, top: f64) -> (Vec<Shape>, f64) {
    let solid = |colour: Rgb| (colour, Some((0.8, WHITE_FILL)));
    let hollow = (WHITE_FILL, Some((1.8, INK)));
    type Entry = (usize, (Rgb, Option<(f64, Rgb)>), String);
    let families: Vec<Entry> = families(input)
        .iter()
        .enumerate()
        .map(|(i, f)| (i, solid(GREY), (*f).to_owned()))
        .collect();
    let mut regimes: Vec<(Freeze, HeadKind)> = input.datasets.iter().flat_map(|d| cells.regimes(&d.name)).collect();
    regimes.sort_unstable();
    regimes.dedup();
    let mut ours: Vec<Entry> = regimes
        .iter()
        .map(|&(f, h)| (0, solid(regime_colour(f, h)), regime_title(f, h)))
        .collect();
    if !input.demo && !input.published.is_empty() {
        ours.push((0, hollow, "published (regime not stated)".to_owned()));
    }
    let mut shapes = Vec::new();
    let mut y = top + 8.0;
    let entry_width = |e: &Entry| 2.0 * RADIUS + 10.0 + text_width(&e.2, TEXT_SIZE) + 34.0;
    for group in [families, ours] {
        let mut lines = vec![Vec::<Entry>::new()];
        let mut used = 0.0;
        for e in group {
            if used + entry_width(&e) > width - 40.0 && used > 0.0 {
                lines.push(Vec::new());
                used = 0.0;
            }
            used += entry_width(&e);
            if let Some(line) = lines.last_mut() {
                line.push(e);
            }
        }
        for line in lines.into_iter().filter(|l| !l.is_empty()) {
            y += LEGEND_LINE;
            let mut x = (width - line.iter().map(entry_width).sum::<f64>() + 34.0) / 2.0;
            for e in line {
                let points = marker(e.0, (x + RADIUS, y - LEGEND_LINE / 2.0), RADIUS);
                shapes.push(Shape::Polygon {
                    points,
                    fill: e.1.0,
                    outline: e.1.1,
                });
                let at = (x + 2.0 * RADIUS + 10.0, y - LEGEND_LINE / 2.0);
                shapes.push(text(at, &e.2, TEXT_SIZE, INK, Align::Start));
                x += entry_width(&e);
            }
        }
    }
    y += LEGEND_LINE;
    let bars = "Solid: ours, mean over seeds; bars: ± one sample standard deviation.";
    shapes.push(text(
        (width / 2.0, y - LEGEND_LINE / 2.0),
        bars,
        LABEL_SIZE,
        GREY,
        Align::Middle,
    ));
    (shapes, y + 10.0)
}

fn outline(p: &Rect, shapes: &mut Vec<Shape>) {
    let points = vec![(p.x0, p.y0), (p.x1, p.y0), (p.x1, p.y1), (p.x0, p.y1), (p.x0, p.y0)];
    shapes.push(Shape::Line {
        points,
        width: 1.2,
        colour: GREY,
    });
}

fn text(at: Point, text: &str, size: f64, colour: Rgb, align: Align) -> Shape {
    Shape::Text {
        at,
        text: text.to_owned(),
        size,
        colour,
        align,
        upright: false,
    }
}

/// The outline of marker `i` (eight shapes, then again from the first) around a centre, of about equal area.
fn marker(i: usize, (x, y): Point, r: f64) -> Vec<Point> {
    let ring = |n: u32, r: f64, turn: f64| {
        (0..n).map(move |k| {
            let angle = (f64::from(k) / f64::from(n) + turn) * 2.0 * std::f64::consts::PI;
            (x + r * libm::sin(angle), y - r * libm::cos(angle))
        })
    };
    let plus = |w: f64, r: f64| {
        [
            (-w, -r),
            (w, -r),
            (w, -w),
            (r, -w),
            (r, w),
            (w, w),
            (w, r),
            (-w, r),
            (-w, w),
            (-r, w),
            (-r, -w),
            (-w, -w),
        ]
        .into_iter()
        .map(|(dx, dy)| (x + dx, y + dy))
        .collect::<Vec<_>>()
    };
    match i % 8 {
        0 => ring(40, 0.92 * r, 0.0).collect(),
        1 => ring(4, 1.18 * r, 0.125).collect(),
        2 => ring(3, 1.28 * r, 0.0).map(|(px, py)| (px, py + 0.2 * r)).collect(),
        3 => ring(4, 1.22 * r, 0.0).collect(),
        4 => ring(3, 1.28 * r, 0.5).map(|(px, py)| (px, py - 0.2 * r)).collect(),
        5 => ring(5, 1.35 * r, 0.0)
            .zip(ring(5, 0.6 * r, 0.1))
            .flat_map(|(a, b)| [a, b])
            .collect(),
        6 => plus(0.42 * r, 1.12 * r),
        _ => ring(6, 1.05 * r, 0.25).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let (ticks, places) = linear_ticks(0.9361, 0.9704);
        let printed: Vec<String> = ticks.iter().map(|v| fixed(*v, places)).collect();
        assert_eq!(printed, ["0.940", "0.945", "0.950", "0.955", "0.960", "0.965", "0.970"]);
        let (ticks, places) = linear_ticks(-0.13, 1.02);
        assert_eq!(
            ticks.iter().map(|v| fixed(*v, places)).collect::<Vec<_>>(),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(
            log_ticks(libm::log10(40.0), libm::log10(800.0)),
            [50.0, 100.0, 200.0, 500.0]
        );
        assert_eq!(log_ticks(libm::log10(0.02), libm::log10(0.11)), [0.02, 0.05, 0.1]);
    }
}
