//! Slope charts: what unfreezing the backbone, and what the MHA head, does to every backbone's score.

use super::axes::{Axis, Plot};
use super::labels::{Rect, spread};
use super::legend::LegendEntry;
use super::painted::{Figure, Span};
use super::scene::{Align, Rgb, Shape, text_width};
use super::sheet::Sheet;
use super::style::{
    BLUE, COLUMN, Dash, GREY, INK, LABEL_SIZE, RADIUS, TEXT_SIZE, VERMILLION, dashed, solid_marker, text,
};
use crate::report::cells::{Cells, Score};
use crate::report::input::{DatasetFacts, ReportInput, head_title};
use crate::report::text::PLACES;
use crate::study::{Freeze, HeadKind};

const HEIGHT: f64 = 470.0;
const LEFT: f64 = 118.0;
/// Room between the end of a line and its label, for the leader.
const LEADER: f64 = 26.0;

/// A backbone's mean in two regimes.
struct Pair {
    backbone: usize,
    from: f64,
    to: f64,
}

impl Pair {
    /// As printed: what prints alike did not change.
    fn sign(&self) -> i32 {
        let printed = |v: f64| (v * 10f64.powi(PLACES as i32)).round();
        let d = printed(self.to) - printed(self.from);
        if d > 0.0 {
            1
        } else if d < 0.0 {
            -1
        } else {
            0
        }
    }

    fn look(&self) -> (Dash, Rgb) {
        look(self.sign())
    }
}

fn look(sign: i32) -> (Dash, Rgb) {
    match sign {
        1 => (Dash::Solid, BLUE),
        -1 => (Dash::Long, VERMILLION),
        _ => (Dash::Short, GREY),
    }
}

type Regime = (Freeze, HeadKind);

/// One side-by-side plot: its heading and the two regimes it joins.
struct Side {
    heading: String,
    labels: [String; 2],
    pairs: Vec<Pair>,
}

/// Frozen to unfrozen by head, and linear to MHA by freeze mode; each only where some backbone has both ends.
pub(crate) fn figures(input: &ReportInput, cells: &Cells, dataset: &DatasetFacts) -> Vec<Figure> {
    const HEADS: [HeadKind; 2] = [HeadKind::Linear, HeadKind::Mha];
    const MODES: [Freeze; 2] = [Freeze::Frozen, Freeze::Unfrozen];
    let freezing = HEADS.map(|h| {
        let ends = MODES.map(|f| (f, h));
        let labels = MODES.map(|f| f.to_string());
        side(input, cells, dataset, format!("{} head", head_title(h)), labels, ends)
    });
    let heads = MODES.map(|f| {
        let ends = HEADS.map(|h| (f, h));
        let labels = HEADS.map(|h| head_title(h).to_owned());
        side(input, cells, dataset, format!("{f} backbone"), labels, ends)
    });
    [
        ("unfreezing", "frozen to unfrozen", freezing),
        ("head", "linear to MHA head", heads),
    ]
    .into_iter()
    .filter_map(|(stem, what, sides)| figure(input, dataset, stem, what, sides))
    .collect()
}

fn side(
    input: &ReportInput,
    cells: &Cells,
    dataset: &DatasetFacts,
    heading: String,
    labels: [String; 2],
    ends: [Regime; 2],
) -> Side {
    let mean = |b: &str, (f, h): Regime| cells.get(&dataset.name, b, f, h).and_then(Score::mean);
    let pairs = input.backbones.iter().enumerate().filter_map(|(i, b)| {
        Some(Pair {
            backbone: i,
            from: mean(&b.name, ends[0])?,
            to: mean(&b.name, ends[1])?,
        })
    });
    Side {
        heading,
        labels,
        pairs: pairs.collect(),
    }
}

fn figure(input: &ReportInput, dataset: &DatasetFacts, stem: &str, what: &str, sides: [Side; 2]) -> Option<Figure> {
    let sides: Vec<Side> = sides.into_iter().filter(|s| !s.pairs.is_empty()).collect();
    let values: Vec<f64> = sides
        .iter()
        .flat_map(|s| &s.pairs)
        .flat_map(|p| [p.from, p.to])
        .collect();
    if values.is_empty() {
        return None;
    }
    let title = format!("{}: {what}", dataset.title);
    let mut sheet = Sheet::new(input, COLUMN);
    sheet.title(&title);
    let shown = || sides.iter().flat_map(|s| &s.pairs);
    let label = shown()
        .map(|p| text_width(&input.backbones[p.backbone].title, LABEL_SIZE))
        .fold(0.0, f64::max);
    let across = (COLUMN - LEFT - 10.0) / sides.len() as f64;
    let (top, bottom) = (sheet.y + 34.0, sheet.y + 34.0 + HEIGHT);
    for (i, side) in sides.iter().enumerate() {
        let x0 = LEFT + across * i as f64;
        let rect = Rect {
            x0,
            y0: top,
            x1: (x0 + across - label - LEADER - 12.0).max(x0 + 110.0),
            y1: bottom,
        };
        let y = Axis::around(values.iter().copied(), 0.06, 0.02);
        draw(
            input,
            side,
            &dataset.metric_title,
            Plot {
                rect,
                x: end_axis(side),
                y,
            },
            i == 0,
            &mut sheet.shapes,
        );
    }
    sheet.y = bottom + 44.0;
    let mut signs: Vec<i32> = shown().map(Pair::sign).collect();
    signs.sort_unstable_by(|a, b| b.cmp(a));
    signs.dedup();
    let entry = |s: &i32| {
        let (dash, colour) = look(*s);
        LegendEntry::line(
            dash,
            2.6,
            colour,
            ["worse", "unchanged as printed", "better"][(s + 1) as usize],
        )
    };
    sheet.legend(vec![signs.iter().map(entry).collect()]);
    Some(Figure {
        stem: format!("slope-{stem}-{}", dataset.name),
        caption: format!(
            "{}: mean test {} over seeds, {what}; a line a backbone that has both. Differences are not tested here.",
            dataset.title, dataset.metric_title
        ),
        title,
        span: Span::Column,
        scene: sheet.finish(),
    })
}

/// The families in the order of the table; the place is the marker.
fn families(input: &ReportInput) -> Vec<&str> {
    let mut families = Vec::<&str>::new();
    for b in &input.backbones {
        if !families.contains(&b.family.as_str()) {
            families.push(&b.family);
        }
    }
    families
}

/// The two ends, a fifth of the way in from the sides.
fn end_axis(side: &Side) -> Axis {
    let mut axis = Axis::linear(-0.28, 1.28);
    axis.ticks = vec![(0.0, side.labels[0].clone()), (1.0, side.labels[1].clone())];
    axis
}

fn draw(input: &ReportInput, side: &Side, metric: &str, mut plot: Plot, first: bool, shapes: &mut Vec<Shape>) {
    let rect = plot.rect;
    if !first {
        for t in &mut plot.y.ticks {
            t.1.clear();
        }
    }
    let heading = ((rect.x0 + rect.x1) / 2.0, rect.y0 - 18.0);
    shapes.push(text(heading, &side.heading, TEXT_SIZE, INK, Align::Middle));
    plot.draw("", if first { metric } else { "" }, shapes);
    let families = families(input);
    for p in &side.pairs {
        let (dash, colour) = p.look();
        dashed(&[plot.at(0.0, p.from), plot.at(1.0, p.to)], dash, 2.2, colour, shapes);
    }
    for p in &side.pairs {
        let family = &input.backbones[p.backbone].family;
        let shape = families.iter().position(|f| f == family).unwrap_or(0);
        for at in [plot.at(0.0, p.from), plot.at(1.0, p.to)] {
            shapes.push(solid_marker(shape, at, p.look().1));
        }
    }
    let ends: Vec<f64> = side.pairs.iter().map(|p| plot.y(p.to)).collect();
    let gap = (LABEL_SIZE + 3.0).min((rect.y1 - rect.y0) / side.pairs.len() as f64);
    let places = spread(&ends, gap, rect.y0 + gap / 2.0, rect.y1 - gap / 2.0);
    for ((p, end), place) in side.pairs.iter().zip(ends).zip(places) {
        let x = rect.x1 + LEADER;
        shapes.push(Shape::Line {
            points: vec![(plot.x(1.0) + RADIUS + 2.0, end), (rect.x1, end), (x - 5.0, place)],
            width: 0.8,
            colour: GREY,
        });
        let title = &input.backbones[p.backbone].title;
        shapes.push(text((x, place), title, LABEL_SIZE.min(gap), INK, Align::Start));
    }
}
