//! Pillow's antialiased bilinear resize on 8-bit pixels.
//!
//! Two passes with an 8-bit result between them; weights are integers with 22 fractional bits. The result of one axis is a
//! sum of products of small integers, so any order of summation gives Pillow's bits, and the loops are laid out for vectors:
//! the pass along x multiplies eight grey pixels of a row or one RGB column of eight rows at a time, the pass along y runs
//! along whole rows. The cost is proportional to the pixels that are asked for: a window of the result (the centre crop that
//! always follows in the protocol) leaves the rest uncomputed.
//!
//! The order of the passes changes the rounding, hence the pixels, by one level here and there. Up to version 12.1
//! Pillow always began with the width, 12.2 and 12.3 with the height of very high images, and version 13 (2026) begins with the
//! height where that saves most ([`ResizeOrder`]).

use super::geometry::Window;
use crate::data::ImageArray;
use crate::spec::protocol::ResizeOrder;
use medft_nn::vectorised;

const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Resizes to `width × height`. Panics when a side of the image or of the target is 0.
pub fn resize(img: &ImageArray, width: usize, height: usize, order: ResizeOrder) -> ImageArray {
    resize_window(img, width, height, order, Window::whole(width, height))
}

/// The pixels of `window` in the image resized to `width × height`: the same bytes as `crop(&resize(…), window)`.
/// Panics when a side is 0 or the window is not inside `width × height`.
pub fn resize_window(img: &ImageArray, width: usize, height: usize, order: ResizeOrder, window: Window) -> ImageArray {
    let whole = Window::whole(img.width, img.height);
    scale(img, whole, (width, height), order, window)
}

/// Crops `from`, then resizes the cropped pixels to `width × height` (torchvision's `resized_crop`); pixels outside the
/// crop have no influence. Panics when a side is 0 or the crop is not inside the image.
pub fn resized_crop(img: &ImageArray, from: Window, width: usize, height: usize, order: ResizeOrder) -> ImageArray {
    scale(img, from, (width, height), order, Window::whole(width, height))
}

/// Whether Pillow resizes the height first. Versions 12.2 and 12.3 do where the height shrinks and is more than a hundred
/// times the width (`Image.resize`). The rule of version 13 was found by trying 10,887 sizes, without exception:
/// when the height shrinks, and by more than twice what the width does.
fn height_first(order: ResizeOrder, from: Window, (width, height): (usize, usize)) -> bool {
    let lost = |before: usize, after: usize| before as i64 - after as i64;
    let (x, y) = (lost(from.width, width), lost(from.height, height));
    match order {
        ResizeOrder::WidthFirst => false,
        ResizeOrder::Pillow12 => y > 0 && from.height > 100 * from.width,
        ResizeOrder::Pillow13 => y > 0 && y > 2 * x,
    }
}

fn scale(
    img: &ImageArray,
    from: Window,
    (width, height): (usize, usize),
    order: ResizeOrder,
    window: Window,
) -> ImageArray {
    assert!(from.fits(img.width, img.height), "{from:?} is not inside the image");
    assert!(
        window.fits(width, height),
        "{window:?} is not inside {width} × {height}"
    );
    let channels = img.channels;
    let unit = if channels == 1 { GREY_UNIT } else { 1 };
    let x = Axis::new(from.width, width, window.left, window.width, unit);
    let y = Axis::new(from.height, height, window.top, window.height, 1);
    let stride = img.width * channels;
    let source = Rows {
        data: &img.data[(from.top + y.reads.start) * stride + (from.left + x.reads.start) * channels..],
        stride,
    };
    let data = if height_first(order, from, (width, height)) {
        let run = x.reads.len() * channels;
        let middle = along_y(&source, run, &y);
        along_x(&Rows::packed(&middle, run), window.height, channels, &x)
    } else {
        let middle = along_x(&source, y.reads.len(), channels, &x);
        if y.weights.is_empty() {
            middle
        } else {
            let run = window.width * channels;
            along_y(&Rows::packed(&middle, run), run, &y)
        }
    };
    ImageArray {
        width: window.width,
        height: window.height,
        channels,
        data,
    }
}

/// The weights of one axis, for the outputs of a window.
struct Axis {
    /// The inputs that any output reads.
    reads: std::ops::Range<usize>,
    /// Inputs of each output: the first, counted from `reads.start`, and how many.
    spans: Vec<(usize, usize)>,
    /// Weights of one output: the largest span, rounded up to the unit of the loop that reads them; zeros fill up.
    stride: usize,
    /// Empty when the size does not change: Pillow then leaves the axis alone.
    weights: Vec<i32>,
}

impl Axis {
    /// PROTOCOL section 2, "PIL bilinear resize"; `first` and `count` choose outputs.
    fn new(input: usize, output: usize, first: usize, count: usize, unit: usize) -> Self {
        if input == output {
            return Self {
                reads: first..first + count,
                spans: (0..count).map(|x| (x, 1)).collect(),
                stride: 0,
                weights: Vec::new(),
            };
        }
        let scale = input as f64 / output as f64;
        let filter = scale.max(1.0);
        let centre = |x: usize| (x as f64 + 0.5) * scale;
        let mut spans: Vec<_> = (first..first + count)
            .map(|x| {
                // `as usize` truncates and turns negative values into 0, which is the lower bound here.
                let from = (centre(x) - filter + 0.5) as usize;
                let to = ((centre(x) + filter + 0.5) as usize).min(input);
                (from, to - from)
            })
            .collect();
        let stride = spans.iter().map(|s| s.1).max().unwrap_or(1).next_multiple_of(unit);
        let mut weights = vec![0; count * stride];
        let mut row = Vec::with_capacity(stride);
        for ((x, &(from, n)), weights) in (first..).zip(&spans).zip(weights.chunks_exact_mut(stride)) {
            let triangle = |k: usize| 1.0 - ((k as f64 - centre(x) + 0.5) * (1.0 / filter)).abs();
            row.clear();
            row.extend((from..from + n).map(|k| triangle(k).max(0.0)));
            let sum: f64 = row.iter().sum();
            for (slot, w) in weights.iter_mut().zip(&row) {
                let w = if sum == 0.0 { *w } else { w / sum };
                *slot = (0.5 + w * f64::from(1u32 << PRECISION_BITS)) as i32;
            }
        }
        let from = spans.first().map_or(0, |s| s.0);
        let to = spans.last().map_or(0, |s| s.0 + s.1);
        spans.iter_mut().for_each(|s| s.0 -= from);
        Self {
            reads: from..to,
            spans,
            stride,
            weights,
        }
    }
}

/// Rows of pixels, perhaps inside a larger image.
struct Rows<'a> {
    /// From the first pixel on.
    data: &'a [u8],
    stride: usize,
}

impl<'a> Rows<'a> {
    fn packed(data: &'a [u8], stride: usize) -> Self {
        Self { data, stride }
    }

    /// From pixel (0, `y`) to the end of the data.
    #[inline(always)]
    fn row(&self, y: usize) -> &'a [u8] {
        &self.data[y * self.stride..]
    }
}

/// The pass along x over `rows` rows that begin at `axis.reads.start`.
fn along_x(source: &Rows<'_>, rows: usize, channels: usize, axis: &Axis) -> Vec<u8> {
    let run = axis.spans.len() * channels;
    let mut out = vec![0u8; run * rows];
    if axis.weights.is_empty() {
        for (y, out) in out.chunks_exact_mut(run).enumerate() {
            out.copy_from_slice(&source.row(y)[..run]);
        }
    } else if channels == 1 {
        grey_rows(source, axis, &mut out);
    } else {
        rgb_rows(source, axis, &mut out);
    }
    out
}

/// The pass along y over rows of `run` bytes, the first of which is `axis.reads.start`.
fn along_y(source: &Rows<'_>, run: usize, axis: &Axis) -> Vec<u8> {
    let mut out = vec![0u8; run * axis.spans.len()];
    columns(source, run, axis, &mut out);
    out
}

#[inline(always)]
fn to_u8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Neighbouring taps that the grey loop multiplies at once.
const GREY_UNIT: usize = 8;
/// Rows that the RGB loop works on at once, and the bytes of one column of them (four a pixel).
const RGB_ROWS: usize = 8;
const RGB_LANES: usize = RGB_ROWS * 4;
/// Outputs of the RGB loop whose inputs are laid out together; keeps the columns in the first-level cache.
const RGB_TILE: usize = 32;

/// Spreads RGB pixels over slot `row` of each column; the fourth byte is whatever came along and is never used.
#[inline(always)]
fn spread(rgb: &[u8], columns: &mut [[u8; RGB_LANES]], row: usize) {
    let at = row * 4..row * 4 + 4;
    let (groups, rest) = rgb.as_chunks::<12>();
    let (slots, tail) = columns.split_at_mut(groups.len() * 4);
    for (slots, px) in slots.as_chunks_mut::<4>().0.iter_mut().zip(groups) {
        let [a, b, c] = std::array::from_fn(|i| u32::from_le_bytes(px.as_chunks().0[i]));
        for (slot, v) in slots.iter_mut().zip([a, a >> 24 | b << 8, b >> 16 | c << 16, c >> 8]) {
            slot[at.clone()].copy_from_slice(&v.to_le_bytes());
        }
    }
    for (slot, &[r, g, b]) in tail.iter_mut().zip(rest.as_chunks::<3>().0) {
        slot[at.clone()].copy_from_slice(&[r, g, b, 0]);
    }
}

/// One RGB output of eight rows.
#[inline(always)]
fn rgb_output(weights: &[i32], columns: &[[u8; RGB_LANES]]) -> [u8; RGB_LANES] {
    let mut acc = [HALF; RGB_LANES];
    for (i, px) in columns.iter().enumerate() {
        // The second way out keeps the compiler from making vectors along the taps instead of along the lanes.
        let Some(w) = weights.get(i) else { break };
        for (a, &p) in acc.iter_mut().zip(px) {
            *a += w * i32::from(p);
        }
    }
    let mut px = [0; RGB_LANES];
    for (p, a) in px.iter_mut().zip(acc) {
        *p = to_u8(a);
    }
    // Hides that every fourth byte is unused; the compiler would leave its lane out and stay scalar.
    std::hint::black_box(px)
}

vectorised! {
    /// Horizontal pass for RGB.
    fn rgb_rows(source: &Rows<'_>, axis: &Axis, out: &mut [u8]) {
        let run = axis.spans.len() * 3;
        let mut columns = Vec::new();
        for (block, out) in out.chunks_mut(run * RGB_ROWS).enumerate() {
            let rows = out.len() / run;
            let tiles = axis.spans.chunks(RGB_TILE).zip(axis.weights.chunks(RGB_TILE * axis.stride));
            for (tile, (spans, weights)) in tiles.enumerate() {
                let from = spans[0].0;
                let to = spans[spans.len() - 1];
                columns.resize((to.0 + to.1) - from, [0; RGB_LANES]);
                for row in 0..rows {
                    let px = &source.row(block * RGB_ROWS + row)[from * 3..][..columns.len() * 3];
                    spread(px, &mut columns, row);
                }
                let weights = weights.chunks_exact(axis.stride);
                for (i, (&(start, n), weights)) in spans.iter().zip(weights).enumerate() {
                    let px = rgb_output(weights, &columns[start - from..][..n]);
                    let x = (tile * RGB_TILE + i) * 3;
                    for (row, px) in px.as_chunks::<4>().0.iter().enumerate().take(rows) {
                        out[row * run + x..][..3].copy_from_slice(&px[..3]);
                    }
                }
            }
        }
    }

    /// Horizontal pass for grey.
    fn grey_rows(source: &Rows<'_>, axis: &Axis, out: &mut [u8]) {
        let width = axis.reads.len();
        // The zeros beyond the row are read by taps of weight 0.
        let mut line = vec![0u8; width + axis.stride];
        for (y, out) in out.chunks_exact_mut(axis.spans.len()).enumerate() {
            line[..width].copy_from_slice(&source.row(y)[..width]);
            let weights = axis.weights.chunks_exact(axis.stride);
            for ((out, &(start, _)), weights) in out.iter_mut().zip(&axis.spans).zip(weights) {
                let px = line[start..start + axis.stride].as_chunks::<GREY_UNIT>().0;
                let mut acc = [0; GREY_UNIT];
                for (w, px) in weights.as_chunks::<GREY_UNIT>().0.iter().zip(px) {
                    for ((a, w), &p) in acc.iter_mut().zip(w).zip(px) {
                        *a += w * i32::from(p);
                    }
                }
                *out = to_u8(HALF + acc.iter().sum::<i32>());
            }
        }
    }

    /// Every output row is a weighted sum of whole rows.
    fn columns(source: &Rows<'_>, run: usize, axis: &Axis, out: &mut [u8]) {
        // Accumulators of one block stay in registers while the taps go by.
        const BLOCK: usize = 32;
        let outputs = out.chunks_exact_mut(run).zip(&axis.spans).zip(axis.weights.chunks_exact(axis.stride));
        for ((out, &(start, n)), weights) in outputs {
            let rows = source.row(start);
            let whole = run / BLOCK * BLOCK;
            for x in (0..whole).step_by(BLOCK) {
                let mut acc = [HALF; BLOCK];
                for (w, row) in weights[..n].iter().zip(rows.chunks(source.stride)) {
                    for (a, &p) in acc.iter_mut().zip(&row[x..x + BLOCK]) {
                        *a += w * i32::from(p);
                    }
                }
                for (o, a) in out[x..x + BLOCK].iter_mut().zip(acc) {
                    *o = to_u8(a);
                }
            }
            for (x, o) in out.iter_mut().enumerate().skip(whole) {
                let mut sum = HALF;
                for (w, row) in weights[..n].iter().zip(rows.chunks(source.stride)) {
                    sum += w * i32::from(row[x]);
                }
                *o = to_u8(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::pil::crop;
    use crate::rng::{Purpose, Stream};

    fn noise(width: usize, height: usize, channels: usize) -> ImageArray {
        let mut s = Stream::new(7, Purpose::Test, 0, (width * height) as u32);
        ImageArray {
            width,
            height,
            channels,
            data: (0..width * height * channels).map(|_| s.next_u32() as u8).collect(),
        }
    }

    const WIDTH: ResizeOrder = ResizeOrder::WidthFirst;

    /// One axis, PROTOCOL section 2 word by word: no padding of weights, no windows, no lanes, 64-bit sums.
    fn textbook_x(img: &ImageArray, width: usize) -> ImageArray {
        let (input, c) = (img.width, img.channels);
        if input == width {
            return img.clone();
        }
        let s = input as f64 / width as f64;
        let f = s.max(1.0);
        let mut data = vec![];
        for row in img.data.chunks(input * c) {
            for x in 0..width {
                let centre = (x as f64 + 0.5) * s;
                let a = ((centre - f + 0.5).trunc().max(0.0)) as usize;
                let b = ((centre + f + 0.5).trunc() as usize).min(input);
                let w: Vec<f64> = (a..b)
                    .map(|k| (1.0 - ((k as f64 - centre + 0.5) * (1.0 / f)).abs()).max(0.0))
                    .collect();
                let sum: f64 = w.iter().sum();
                let integer = |w: f64| (w / sum * 4_194_304.0 + 0.5).trunc() as i64;
                for ch in 0..c {
                    let acc: i64 = (a..b)
                        .zip(&w)
                        .map(|(k, &w)| integer(w) * i64::from(row[k * c + ch]))
                        .sum();
                    data.push(((acc + (1 << 21)) >> 22).clamp(0, 255) as u8);
                }
            }
        }
        ImageArray {
            width,
            height: img.height,
            channels: c,
            data,
        }
    }

    /// EXIF orientation 5 is the transposition.
    fn textbook_y(img: &ImageArray, height: usize) -> ImageArray {
        let turned = crate::data::pil::orient(img.clone(), 5);
        crate::data::pil::orient(textbook_x(&turned, height), 5)
    }

    #[test]
    fn fast_passes_equal_the_definition_in_both_orders() {
        for (iw, ih, ow, oh) in [
            (1, 1, 5, 7),
            (640, 480, 256, 256),
            (37, 53, 256, 256),
            (251, 333, 256, 256),
            (97, 173, 190, 130),
            (256, 300, 256, 224),
            (300, 224, 256, 224),
            (91, 1, 1, 9),
            (1001, 13, 17, 13),
            (5, 700, 5, 33),
            (40, 900, 39, 17),
        ] {
            for channels in [1, 3] {
                let img = noise(iw, ih, channels);
                let what = format!("{iw}×{ih}×{channels} to {ow}×{oh}");
                let width_first = textbook_y(&textbook_x(&img, ow), oh);
                assert_eq!(resize(&img, ow, oh, WIDTH), width_first, "{what}");
                let expected = if ih > oh && ih + 2 * ow > oh + 2 * iw {
                    textbook_x(&textbook_y(&img, oh), ow)
                } else {
                    width_first
                };
                assert_eq!(resize(&img, ow, oh, ResizeOrder::Pillow13), expected, "{what}");
            }
        }
    }

    #[test]
    fn a_window_of_the_result_equals_a_crop_of_the_whole() {
        for channels in [1, 3] {
            let img = noise(123, 277, channels);
            for order in [WIDTH, ResizeOrder::Pillow13] {
                for (w, h) in [(256, 256), (123, 60), (50, 277), (123, 277), (40, 30)] {
                    let window = Window {
                        left: 3,
                        top: 5,
                        width: w - 10,
                        height: h - 20,
                    };
                    let whole = resize(&img, w, h, order);
                    assert_eq!(resize_window(&img, w, h, order, window), crop(&whole, window));
                }
            }
        }
    }

    #[test]
    fn a_crop_is_cut_before_it_is_resized() {
        for channels in [1, 3] {
            let img = noise(64, 64, channels);
            let from = Window {
                left: 9,
                top: 4,
                width: 33,
                height: 50,
            };
            for order in [WIDTH, ResizeOrder::Pillow13] {
                let expected = resize(&crop(&img, from), 40, 40, order);
                assert_eq!(resized_crop(&img, from, 40, 40, order), expected);
            }
        }
    }
}
