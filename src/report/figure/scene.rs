//! A drawing as a list of shapes, and its painting as PNG and SVG with plotters.
//!
//! Layout is decided before anything is painted, in canvas units, so that tests can ask where a label is and both formats show
//! the same picture. PNG is painted larger and averaged down (plotters does not smooth the edges of polygons).
//! Text is set in the DejaVu Sans that comes with medft: no font of the machine enters.

use anyhow::{Context, Result, anyhow, ensure};
use image::ImageEncoder;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontTransform, register_font};
use std::sync::OnceLock;

pub(crate) type Point = (f64, f64);

/// Width of a figure of one column (3.5 in) and of a page (7.16 in).
pub(crate) const COLUMN: f64 = 720.0;

/// A colour, opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

pub(crate) const WHITE_FILL: Rgb = Rgb(255, 255, 255);

/// Where a text's anchor is along its line; across, it is always the middle of the capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Start,
    Middle,
    End,
}

/// One shape, in canvas units.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Line {
        points: Vec<Point>,
        width: f64,
        colour: Rgb,
    },
    Polygon {
        points: Vec<Point>,
        fill: Rgb,
        outline: Option<(f64, Rgb)>,
    },
    Text {
        at: Point,
        text: String,
        size: f64,
        colour: Rgb,
        align: Align,
        upright: bool,
    },
}

/// A drawing on a white canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    pub width: u32,
    pub height: u32,
    pub shapes: Vec<Shape>,
}

/// A marker is no wider and no higher.
const MARKER: f64 = 24.0;

/// The registered font; the name is a CSS list, so that an SVG falls back where DejaVu is not installed.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";
/// (ascent − descent) / em and cap height / em of DejaVu Sans 2.37.
const LINE_PER_EM: f64 = 1.164;
const CAP_PER_EM: f64 = 0.729;
/// PNG pixels kept per canvas unit (411 an inch at the printed size), and painted per pixel kept.
const PNG_KEPT: u32 = 2;
const PNG_FINER: u32 = 2;
/// SVG coordinates per canvas unit (plotters rounds to whole ones).
const SVG_SCALE: u32 = 8;

fn font() -> Result<()> {
    static FONT_LOADED: OnceLock<bool> = OnceLock::new();
    let loaded = FONT_LOADED.get_or_init(|| {
        let bytes = include_bytes!("../../../templates/fonts/DejaVuSans.ttf");
        register_font(FONT, FontStyle::Normal, bytes).is_ok()
    });
    ensure!(loaded, "the built-in font cannot be read");
    Ok(())
}

/// Width of a text, in canvas units, when its em is `size`.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    // The library rounds to whole units: ask for a large size.
    const ENLARGED: f64 = 1000.0;
    let measured = font().ok().and_then(|()| {
        let font: FontDesc = (FONT, ENLARGED * LINE_PER_EM).into();
        font.box_size(text).ok()
    });
    measured.map_or(0.6 * size * text.chars().count() as f64, |(w, _)| {
        f64::from(w) * size / ENLARGED
    })
}

/// How plotters places text differs between its backends; measured from its sources (0.3.7).
#[derive(Clone, Copy)]
enum PlotBackend {
    Png,
    Svg,
}

impl PlotBackend {
    /// The size to ask for to get letters with this em.
    fn size(self, em: f64) -> f64 {
        match self {
            Self::Png => em * LINE_PER_EM,
            Self::Svg => em * 1.24,
        }
    }

    /// How far the middle of the capitals lies above the anchor of vertically centred text.
    fn rise(self, em: f64) -> f64 {
        match self {
            // Baseline at size/2 below the top of a box of size/1.24, whose middle is the anchor.
            Self::Png => {
                let size = self.size(em);
                CAP_PER_EM * em / 2.0 - (size / 2.0 - size / 1.24 / 2.0)
            }
            // Baseline half an x-height (0.547 em) below the anchor.
            Self::Svg => CAP_PER_EM * em / 2.0 - 0.547 * em / 2.0,
        }
    }
}

impl Scene {
    /// Every text with its box (x0, y0, x1, y1), capital letters high, in canvas units.
    pub fn texts(&self) -> Vec<(String, [f64; 4])> {
        let boxes = self.shapes.iter().filter_map(|shape| {
            let Shape::Text {
                at,
                text,
                size,
                align,
                upright,
                ..
            } = shape
            else {
                return None;
            };
            let (length, half) = (text_width(text, *size), CAP_PER_EM * size / 2.0);
            let start = match align {
                Align::Start => 0.0,
                Align::Middle => -length / 2.0,
                Align::End => -length,
            };
            Some((
                text.clone(),
                match upright {
                    false => [at.0 + start, at.1 - half, at.0 + start + length, at.1 + half],
                    // Read from below: along the line means up.
                    true => [at.0 - half, at.1 - start - length, at.0 + half, at.1 - start],
                },
            ))
        });
        boxes.collect()
    }

    /// The box of every marker (a filled shape no larger than one), in canvas units.
    pub fn markers(&self) -> Vec<[f64; 4]> {
        let boxes = self.shapes.iter().filter_map(|shape| {
            let Shape::Polygon { points, .. } = shape else {
                return None;
            };
            let b = points.iter().fold([f64::MAX, f64::MAX, f64::MIN, f64::MIN], |b, p| {
                [b[0].min(p.0), b[1].min(p.1), b[2].max(p.0), b[3].max(p.1)]
            });
            (b[2] - b[0] <= MARKER && b[3] - b[1] <= MARKER).then_some(b)
        });
        boxes.collect()
    }

    /// The drawing as a `tikzpicture` for LaTeX with TikZ, lengths as [`COLUMN`] says: text in the document's sans-serif.
    ///
    /// # Errors
    /// Never in practice: text is written to memory.
    pub fn to_tikz(&self) -> Result<String> {
        use std::fmt::Write as _;
        // 720 units are 3.5 inches of 72.27 points.
        const POINT: f64 = 3.5 * 72.27 / COLUMN;
        let path = |points: &[Point]| {
            let all: Vec<String> = points.iter().map(|(x, y)| format!("({x:.1},{y:.1})")).collect();
            all.join("--")
        };
        let ink = |c: Rgb| format!("{{rgb,255:red,{};green,{};blue,{}}}", c.0, c.1, c.2);
        let mut out = format!("\\begin{{tikzpicture}}[x={POINT:.4}pt,y=-{POINT:.4}pt]\n");
        // The whole canvas counts, so that figures of one width line up.
        let _ = writeln!(
            out,
            "\\path[use as bounding box] (0,0) rectangle ({},{});",
            self.width, self.height
        );
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, width, colour } => {
                    let (width, colour) = (width * POINT, ink(*colour));
                    let _ = writeln!(out, "\\draw[line width={width:.2}pt,draw={colour}] {};", path(points));
                }
                Shape::Polygon { points, fill, outline } => {
                    let line = outline.map_or_else(
                        || "draw=none".to_owned(),
                        |(w, c)| format!("line width={:.2}pt,draw={}", w * POINT, ink(c)),
                    );
                    let _ = writeln!(out, "\\filldraw[fill={},{line}] {}--cycle;", ink(*fill), path(points));
                }
                Shape::Text {
                    at: (x, y),
                    text,
                    size,
                    colour,
                    align,
                    upright,
                } => {
                    let side = match align {
                        Align::Start => "base west",
                        Align::Middle => "base",
                        Align::End => "base east",
                    };
                    // From the middle of the capitals to the line they stand on.
                    let down = CAP_PER_EM * size / 2.0;
                    let (x, y, turn) = match upright {
                        true => (x + down, *y, ",rotate=90"),
                        false => (*x, y + down, ""),
                    };
                    let points = (size * POINT).round().max(5.0);
                    let mut escaped = Vec::new();
                    crate::report::templates::escape_tex(text, &mut escaped)?;
                    let mut escaped = String::from_utf8(escaped).context("a label is not text")?;
                    // The sans-serif font lacks what only mathematics has.
                    for (name, sign) in [
                        ("\\textless{}", "$<$"),
                        ("\\textgreater{}", "$>$"),
                        ("\\textbar{}", "$|$"),
                        ("\\textbackslash{}", "$\\backslash$"),
                        ("\\{", "$\\{$"),
                        ("\\}", "$\\}$"),
                    ] {
                        escaped = escaped.replace(name, sign);
                    }
                    let _ = writeln!(
                        out,
                        "\\node[anchor={side},inner sep=0pt,text={}{turn},font=\\sffamily\\fontsize{{{points}}}{{{points}}}\\selectfont] at ({x:.1},{y:.1}) {{{escaped}}};",
                        ink(*colour)
                    );
                }
            }
        }
        out.push_str("\\end{tikzpicture}%\n");
        Ok(out)
    }

    /// The drawing as an SVG file.
    pub fn to_svg(&self) -> Result<String> {
        font()?;
        let (w, h) = (self.width * SVG_SCALE, self.height * SVG_SCALE);
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (w, h)).into_drawing_area();
            self.paint(&root, f64::from(SVG_SCALE), PlotBackend::Svg)?;
        }
        let (large, small) = (
            format!("width=\"{w}\" height=\"{h}\""),
            format!("width=\"{}\" height=\"{}\"", self.width, self.height),
        );
        ensure!(svg.contains(&large), "the SVG does not name its size");
        Ok(svg.replacen(&large, &small, 1))
    }

    /// The drawing as a PNG file.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        font()?;
        let (w, h) = (self.width * PNG_KEPT, self.height * PNG_KEPT);
        let (wide, high) = (w * PNG_FINER, h * PNG_FINER);
        let mut large = vec![255u8; (wide * high * 3) as usize];
        {
            let root = BitMapBackend::with_buffer(&mut large, (wide, high)).into_drawing_area();
            self.paint(&root, f64::from(PNG_KEPT * PNG_FINER), PlotBackend::Png)?;
        }
        let pixels = average(&large, w as usize, h as usize, PNG_FINER as usize);
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes)
            .write_image(&pixels, w, h, image::ExtendedColorType::Rgb8)
            .context("cannot encode the PNG")?;
        Ok(bytes)
    }

    fn paint<DB: DrawingBackend>(&self, root: &DrawingArea<DB, Shift>, scale: f64, kind: PlotBackend) -> Result<()> {
        let fail = |e: DrawingAreaErrorKind<DB::ErrorType>| anyhow!("plotters: {e}");
        let at = |p: &Point| ((p.0 * scale).round() as i32, (p.1 * scale).round() as i32);
        let line = |points: &[Point], width: f64, c: Rgb| match kind {
            PlotBackend::Svg => root.draw(&PathElement::new(
                points.iter().map(at).collect::<Vec<_>>(),
                stroke(width * scale, c),
            )),
            // The bitmap backend draws the slanted edges of a wide path lopsided: give it filled shapes instead.
            PlotBackend::Png => stroked(points, width)
                .into_iter()
                .try_for_each(|p| root.draw(&Polygon::new(p.iter().map(at).collect::<Vec<_>>(), colour(c).filled()))),
        };
        root.fill(&WHITE).map_err(fail)?;
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, width, colour } => line(points, *width, *colour),
                Shape::Polygon { points, fill, outline } => {
                    let filled = Polygon::new(points.iter().map(at).collect::<Vec<_>>(), colour(*fill).filled());
                    root.draw(&filled).and_then(|()| match outline {
                        // The first edge again, so that the corner where the path closes is joined like the others.
                        Some((width, colour)) => line(&[points, &points[..2]].concat(), *width, *colour),
                        None => Ok(()),
                    })
                }
                Shape::Text {
                    at: (x, y),
                    text,
                    size,
                    colour: c,
                    align,
                    upright,
                } => {
                    let rise = kind.rise(*size);
                    let p = if *upright { (x + rise, *y) } else { (*x, y + rise) };
                    let h = match align {
                        Align::Start => HPos::Left,
                        Align::Middle => HPos::Center,
                        Align::End => HPos::Right,
                    };
                    let turn = if *upright {
                        FontTransform::Rotate270
                    } else {
                        FontTransform::None
                    };
                    let font: FontDesc = (FONT, kind.size(*size) * scale).into();
                    let ink = colour(*c);
                    let style = TextStyle::from(font.transform(turn))
                        .color(&ink)
                        .pos(Pos::new(h, VPos::Center));
                    root.draw(&Text::new(text.clone(), at(&p), style))
                }
            }
            .map_err(fail)?;
        }
        root.present().map_err(fail)
    }
}

fn colour(c: Rgb) -> RGBColor {
    RGBColor(c.0, c.1, c.2)
}

fn stroke(width: f64, c: Rgb) -> ShapeStyle {
    ShapeStyle {
        color: colour(c).into(),
        filled: false,
        stroke_width: (width.round() as u32).max(1),
    }
}

/// A path of this width as filled shapes: a rectangle a segment, a disc a corner.
fn stroked(points: &[Point], width: f64) -> Vec<Vec<Point>> {
    let half = width / 2.0;
    let mut shapes = Vec::new();
    for (a, b) in points.iter().zip(points.iter().skip(1)) {
        let (dx, dy) = (b.0 - a.0, b.1 - a.1);
        let length = (dx * dx + dy * dy).sqrt();
        if length > 0.0 {
            let (nx, ny) = (-dy / length * half, dx / length * half);
            shapes.push(vec![
                (a.0 + nx, a.1 + ny),
                (b.0 + nx, b.1 + ny),
                (b.0 - nx, b.1 - ny),
                (a.0 - nx, a.1 - ny),
            ]);
        }
    }
    for p in points.iter().skip(1).take(points.len().saturating_sub(2)) {
        let angle = |k: u32| f64::from(k) / 12.0 * 2.0 * std::f64::consts::PI;
        shapes.push(
            (0..12)
                .map(|k| (p.0 + half * libm::cos(angle(k)), p.1 + half * libm::sin(angle(k))))
                .collect(),
        );
    }
    shapes
}

/// Mean of every `k` × `k` block, rounded.
fn average(large: &[u8], width: usize, height: usize, k: usize) -> Vec<u8> {
    let (area, half) = ((k * k) as u32, (k * k / 2) as u32);
    let mut small = Vec::with_capacity(width * height * 3);
    let mut sums = vec![0u32; width * 3];
    for rows in large.chunks_exact(width * k * 3 * k).take(height) {
        sums.fill(half);
        for row in rows.chunks_exact(width * k * 3) {
            for (sum, block) in sums.chunks_exact_mut(3).zip(row.chunks_exact(3 * k)) {
                for pixel in block.chunks_exact(3) {
                    sum[0] += u32::from(pixel[0]);
                    sum[1] += u32::from(pixel[1]);
                    sum[2] += u32::from(pixel[2]);
                }
            }
        }
        small.extend(sums.iter().map(|s| (s / area) as u8));
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averaging_rounds_to_the_nearest() {
        let large = [0, 0, 0, 1, 0, 0, 1, 0, 255, 1, 0, 255];
        assert_eq!(average(&large, 1, 1, 2), [1, 0, 128]);
    }

    /// Advance widths in DejaVuSans.ttf (units of 1/2048 em): D 1577, I 604, N 1532.
    #[test]
    fn text_is_measured_in_the_built_in_font() {
        let expected = (1577.0 + 604.0 + 1532.0) / 2048.0 * 20.0;
        assert!(
            (text_width("DIN", 20.0) - expected).abs() < 0.05,
            "{} {expected}",
            text_width("DIN", 20.0)
        );
    }
}
