//! Pillow's antialiased bilinear resize on 8-bit pixels.
//!
//! Two passes with an 8-bit result between them, width first; weights are integers with 22 fractional bits. The result of
//! one axis is a sum of products of small integers, so any order of summation gives Pillow's bits, and the loops are laid
//! out for vectors: the horizontal pass keeps a pixel's channels (or eight grey rows) in the lanes of one register, the
//! vertical pass runs along whole rows. The cost is proportional to the pixels that are asked for: a window of the result
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

/// The weights of one axis, for the outputs of a window. Every output has the same number of taps (zeros fill up), so
/// that the inner loops have one trip count.
struct Axis {
    taps: usize,
    /// First input of each output.
    starts: Vec<usize>,
    /// `taps` weights for each output.
    weights: Vec<i32>,
}

impl Axis {
    /// PROTOCOL section 2, "PIL bilinear resize"; `first` and `count` choose outputs.
    fn new(input: usize, output: usize, first: usize, count: usize) -> Self {
        let scale = input as f64 / output as f64;
        let filter = scale.max(1.0);
        let mut spans = Vec::with_capacity(count);
        let mut taps = 0;
        for x in first..first + count {
            let centre = (x as f64 + 0.5) * scale;
            // `as usize` truncates and turns negative values into 0, which is the lower bound here.
            let from = (centre - filter + 0.5) as usize;
            let to = ((centre + filter + 0.5) as usize).min(input);
            taps = taps.max(to - from);
            spans.push((centre, from, to));
        }
        let mut starts = Vec::with_capacity(count);
        let mut weights = vec![0; count * taps];
        let mut row = Vec::with_capacity(taps);
        for ((centre, from, to), weights) in spans.into_iter().zip(weights.chunks_exact_mut(taps)) {
            let triangle = |k: usize| 1.0 - ((k as f64 - centre + 0.5) * (1.0 / filter)).abs();
            row.clear();
            row.extend((from..to).map(|k| triangle(k).max(0.0)));
            let sum: f64 = row.iter().sum();
            // At the right border the zeros go before the weights, so that no tap reads beyond the image.
            let start = from.min(input - taps);
            for (slot, w) in weights[from - start..].iter_mut().zip(&row) {
                let w = if sum == 0.0 { *w } else { w / sum };
                *slot = (0.5 + w * f64::from(1u32 << PRECISION_BITS)) as i32;
            }
            starts.push(start);
        }
        Self { taps, starts, weights }
    }

    /// The inputs that any output reads.
    fn reads(&self) -> std::ops::Range<usize> {
        let from = self.starts.first().copied().unwrap_or(0);
        let to = self.starts.last().map_or(0, |s| s + self.taps);
        from..to
    }

    fn of(&self, output: usize) -> (usize, &[i32]) {
        (
            self.starts[output],
            &self.weights[output * self.taps..(output + 1) * self.taps],
        )
    }
}

fn scale(img: &ImageArray, from: Window, width: usize, height: usize, window: Window) -> ImageArray {
    assert!(from.fits(img.width, img.height), "{from:?} is not inside the image");
    assert!(
        window.fits(width, height),
        "{window:?} is not inside {width} × {height}"
    );
    let channels = img.channels;
    let vertical = (height != from.height).then(|| Axis::new(from.height, height, window.top, window.height));
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
        let axis = Axis::new(from.width, width, window.left, window.width);
        match channels {
            1 => grey_rows(&source, from.width, &axis, &mut middle),
            _ => rgb_rows(&source, from.width, &axis, &mut middle),
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

/// One output: `L` neighbouring bytes, `STEP` bytes between taps.
#[inline(always)]
fn taps<const L: usize, const STEP: usize>(px: &[u8], weights: &[i32]) -> [u8; L] {
    let mut acc = [HALF; L];
    for (w, px) in weights.iter().zip(px.windows(L).step_by(STEP)) {
        for (a, &p) in acc.iter_mut().zip(px) {
            *a += w * i32::from(p);
        }
    }
    acc.map(to_u8)
}

wide! {
    /// Horizontal pass for RGB: a register holds the three channels of a pixel and one byte too many.
    fn rgb_rows(source: &Rows<'_>, width: usize, axis: &Axis, out: &mut [u8]) {
        let mut line = vec![0u8; width * 3 + 1];
        for (y, out) in out.chunks_exact_mut(axis.starts.len() * 3).enumerate() {
            line[..width * 3].copy_from_slice(&source.row(y)[..width * 3]);
            let weights = axis.weights.chunks_exact(axis.taps);
            for ((out, &start), weights) in out.as_chunks_mut::<3>().0.iter_mut().zip(&axis.starts).zip(weights) {
                let [r, g, b, _] = taps::<4, 3>(&line[start * 3..(start + axis.taps) * 3 + 1], weights);
                *out = [r, g, b];
            }
        }
    }

    /// Horizontal pass for grey: eight rows are interleaved, so that a register holds one column of them.
    fn grey_rows(source: &Rows<'_>, width: usize, axis: &Axis, out: &mut [u8]) {
        const ROWS: usize = 8;
        let run = axis.starts.len();
        let mut line = vec![[0u8; ROWS]; width];
        for (block, out) in out.chunks_mut(run * ROWS).enumerate() {
            let rows = out.len() / run;
            for r in 0..ROWS {
                // A short last block repeats its last row and throws the result away.
                let row = source.row(block * ROWS + r.min(rows - 1));
                for (slot, &p) in line.iter_mut().zip(&row[..width]) {
                    slot[r] = p;
                }
            }
            let weights = axis.weights.chunks_exact(axis.taps);
            for (x, (&start, weights)) in axis.starts.iter().zip(weights).enumerate() {
                let mut acc = [HALF; ROWS];
                for (w, px) in weights.iter().zip(&line[start..start + axis.taps]) {
                    for (a, &p) in acc.iter_mut().zip(px) {
                        *a += w * i32::from(p);
                    }
                }
                for (r, a) in acc.into_iter().enumerate().take(rows) {
                    out[r * run + x] = to_u8(a);
                }
            }
        }
    }

    /// Vertical pass: every output row is a weighted sum of whole rows; `first` is the number of the first row in `middle`.
    fn columns(middle: &[u8], run: usize, first: usize, axis: &Axis, out: &mut [u8]) {
        // Accumulators of one block stay in registers while the taps go by.
        const BLOCK: usize = 32;
        for (y, out) in out.chunks_exact_mut(run).enumerate() {
            let (start, weights) = axis.of(y);
            let rows = &middle[(start - first) * run..][..axis.taps * run];
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
