//! Pillow's antialiased bilinear resize on 8-bit pixels.
//!
//! Two passes with an 8-bit result between them, width first; weights are integers with 22 fractional bits. The result of
//! one axis is a sum of products of small integers, so any order of summation gives Pillow's bits, and the loops are laid
//! out for vectors: the horizontal pass multiplies eight grey pixels of a row or one RGB column of
//! eight rows at a time, the vertical pass runs along whole
//! rows. The cost is proportional to the pixels that are asked for: a window of the result
//! (the centre crop that always follows in the protocol) leaves the rest uncomputed.

use super::geometry::Window;
use crate::data::ImageArray;
use crate::data::simd::wide;

const PRECISION_BITS: u32 = 32 - 8 - 2;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Resizes to `width × height`. Panics when a side of the image or of the target is 0.
pub fn resize(img: &ImageArray, width: usize, height: usize) -> ImageArray {
    resize_window(img, width, height, Window::whole(width, height))
}

/// The pixels of `window` in the image resized to `width × height`: the same bytes as `crop(&resize(…), window)`.
/// Panics when a side is 0 or the window is not inside `width × height`.
pub fn resize_window(img: &ImageArray, width: usize, height: usize, window: Window) -> ImageArray {
    scale(img, Window::whole(img.width, img.height), width, height, window)
}

/// Crops `from`, then resizes the cropped pixels to `width × height` (torchvision's `resized_crop`); pixels outside the
/// crop have no influence. Panics when a side is 0 or the crop is not inside the image.
pub fn resized_crop(img: &ImageArray, from: Window, width: usize, height: usize) -> ImageArray {
    scale(img, from, width, height, Window::whole(width, height))
}

/// The weights of one axis, for the outputs of a window.
struct Axis {
    /// Inputs of each output: the first, and how many.
    spans: Vec<(usize, usize)>,
    /// Weights of one output: the largest span, rounded up to the unit of the loop that reads them; zeros fill up.
    stride: usize,
    weights: Vec<i32>,
}

impl Axis {
    /// PROTOCOL section 2, "PIL bilinear resize"; `first` and `count` choose outputs.
    fn new(input: usize, output: usize, first: usize, count: usize, unit: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter = scale.max(1.0);
        let centre = |x: usize| (x as f64 + 0.5) * scale;
        let spans: Vec<_> = (first..first + count)
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
        Self { spans, stride, weights }
    }

    /// The inputs that any output reads.
    fn reads(&self) -> std::ops::Range<usize> {
        let from = self.spans.first().map_or(0, |s| s.0);
        let to = self.spans.last().map_or(0, |s| s.0 + s.1);
        from..to
    }
}

fn scale(img: &ImageArray, from: Window, width: usize, height: usize, window: Window) -> ImageArray {
    assert!(from.fits(img.width, img.height), "{from:?} is not inside the image");
    assert!(
        window.fits(width, height),
        "{window:?} is not inside {width} × {height}"
    );
    let channels = img.channels;
    let vertical = (height != from.height).then(|| Axis::new(from.height, height, window.top, window.height, 1));
    // The rows of the source that the second pass will read.
    let rows = vertical
        .as_ref()
        .map_or(window.top..window.top + window.height, Axis::reads);
    let source = Rows {
        data: &img.data[from.left * channels..],
        stride: img.width * channels,
        first: from.top + rows.start,
    };
    let run = window.width * channels;
    let mut middle = vec![0u8; run * rows.len()];
    if width == from.width {
        for (y, out) in middle.chunks_exact_mut(run).enumerate() {
            out.copy_from_slice(&source.row(y)[window.left * channels..][..run]);
        }
    } else {
        let axis = |unit| Axis::new(from.width, width, window.left, window.width, unit);
        match channels {
            1 => grey_rows(&source, from.width, &axis(GREY_UNIT), &mut middle),
            _ => rgb_rows(&source, &axis(1), &mut middle),
        }
    }
    let data = match vertical {
        None => middle,
        Some(axis) => {
            let mut out = vec![0u8; run * window.height];
            columns(&middle, run, rows.start, &axis, &mut out);
            out
        }
    };
    ImageArray {
        width: window.width,
        height: window.height,
        channels,
        data,
    }
}

/// A block of rows inside a larger image; row 0 is the first that is needed.
struct Rows<'a> {
    data: &'a [u8],
    stride: usize,
    first: usize,
}

impl<'a> Rows<'a> {
    /// From the left border of the block to the end of the data.
    #[inline(always)]
    fn row(&self, y: usize) -> &'a [u8] {
        &self.data[(self.first + y) * self.stride..]
    }
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

wide! {
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
    fn grey_rows(source: &Rows<'_>, width: usize, axis: &Axis, out: &mut [u8]) {
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

    /// Vertical pass: every output row is a weighted sum of whole rows; `first` is the number of the first row in `middle`.
    fn columns(middle: &[u8], run: usize, first: usize, axis: &Axis, out: &mut [u8]) {
        // Accumulators of one block stay in registers while the taps go by.
        const BLOCK: usize = 32;
        for (y, out) in out.chunks_exact_mut(run).enumerate() {
            let (start, n) = axis.spans[y];
            let weights = &axis.weights[y * axis.stride..][..n];
            let rows = &middle[(start - first) * run..][..n * run];
            let whole = run / BLOCK * BLOCK;
            for x in (0..whole).step_by(BLOCK) {
                let mut acc = [HALF; BLOCK];
                for (w, row) in weights.iter().zip(rows.chunks_exact(run)) {
                    for (a, &p) in acc.iter_mut().zip(&row[x..x + BLOCK]) {
                        *a += w * i32::from(p);
                    }
                }
                for (o, a) in out[x..x + BLOCK].iter_mut().zip(acc) {
                    *o = to_u8(a);
                }
            }
            for (x, o) in out.iter_mut().enumerate().skip(whole) {
                let sum = weights
                    .iter()
                    .zip(rows.chunks_exact(run))
                    .fold(HALF, |sum, (w, row)| sum + w * i32::from(row[x]));
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

    /// PROTOCOL section 2 word by word: no padding of weights, no windows, no lanes, 64-bit sums.
    fn textbook(img: &ImageArray, width: usize, height: usize) -> Vec<u8> {
        let axis = |input: usize, output: usize, at: &dyn Fn(usize, usize) -> u8, other: usize, c: usize| {
            let s = input as f64 / output as f64;
            let f = s.max(1.0);
            let mut out = vec![];
            for line in 0..other {
                for x in 0..output {
                    if input == output {
                        out.extend((0..c).map(|ch| at(line, x * c + ch)));
                        continue;
                    }
                    let centre = (x as f64 + 0.5) * s;
                    let a = ((centre - f + 0.5).trunc().max(0.0)) as usize;
                    let b = ((centre + f + 0.5).trunc() as usize).min(input);
                    let w: Vec<f64> = (a..b)
                        .map(|k| (1.0 - ((k as f64 - centre + 0.5) * (1.0 / f)).abs()).max(0.0))
                        .collect();
                    let sum: f64 = w.iter().sum();
                    for ch in 0..c {
                        let acc: i64 = (a..b)
                            .zip(&w)
                            .map(|(k, w)| {
                                (w / sum * 4_194_304.0 + 0.5).trunc() as i64 * i64::from(at(line, k * c + ch))
                            })
                            .sum();
                        out.push(((acc + (1 << 21)) >> 22).clamp(0, 255) as u8);
                    }
                }
            }
            out
        };
        let c = img.channels;
        let wide = axis(img.width, width, &|y, i| img.data[y * img.width * c + i], img.height, c);
        // Columns as lines: (x, y) with the channel innermost.
        let tall = axis(
            img.height,
            height,
            &|x, i| wide[((i / c) * width + x) * c + i % c],
            width,
            c,
        );
        let mut out = vec![0; width * height * c];
        for x in 0..width {
            for y in 0..height {
                for ch in 0..c {
                    out[(y * width + x) * c + ch] = tall[(x * height + y) * c + ch];
                }
            }
        }
        out
    }

    #[test]
    fn fast_passes_equal_the_definition() {
        for (iw, ih, ow, oh) in [
            (1, 1, 5, 7),
            (640, 480, 256, 256),
            (37, 53, 256, 256),
            (256, 300, 256, 224),
            (300, 224, 256, 224),
            (91, 1, 1, 9),
            (1001, 13, 17, 13),
            (5, 700, 5, 33),
        ] {
            for channels in [1, 3] {
                let img = noise(iw, ih, channels);
                assert_eq!(
                    resize(&img, ow, oh).data,
                    textbook(&img, ow, oh),
                    "{iw}×{ih}×{channels} to {ow}×{oh}"
                );
            }
        }
    }

    #[test]
    fn a_window_of_the_result_equals_a_crop_of_the_whole() {
        for channels in [1, 3] {
            let img = noise(123, 77, channels);
            for (w, h) in [(256, 256), (123, 60), (50, 77), (123, 77), (40, 30)] {
                let window = Window {
                    left: 3,
                    top: 5,
                    width: w - 10,
                    height: h - 20,
                };
                assert_eq!(resize_window(&img, w, h, window), crop(&resize(&img, w, h), window));
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
            assert_eq!(resized_crop(&img, from, 40, 40), resize(&crop(&img, from), 40, 40));
        }
    }
}
