//! The small painter behind the phantoms: a canvas, value noise, soft shapes and strokes.
//!
//! Everything is f32 addition, subtraction, multiplication, division and square root, which IEEE 754 rounds in one way
//! only, in an order that the code spells out. Rust neither reorders floating-point operations nor contracts them to
//! fused multiply-adds, whatever CPU it compiles for. There is no sine, exponential or `powi` (whose order of products
//! is unspecified): bumps are polynomials, and an outline's waves are powers of a unit complex number.

use crate::rng::Stream;
use anyhow::Result;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};

/// (x, y) in pixels from the top left corner; the middle of the first pixel is (0.5, 0.5).
pub(crate) type Point = [f32; 2];

/// A picture (H, W, C) with values of 0..1; what lies outside saturates when it is written.
pub(crate) struct Canvas {
    pub width: usize,
    pub height: usize,
    /// 1 or 3.
    pub channels: usize,
    pixels: Vec<f32>,
}

impl Canvas {
    /// A black picture.
    pub(crate) fn new(width: usize, height: usize, channels: usize) -> Self {
        Self {
            width,
            height,
            channels,
            pixels: vec![0.0; width * height * channels],
        }
    }

    /// The shorter side in pixels.
    pub(crate) fn short(&self) -> f32 {
        self.width.min(self.height) as f32
    }

    /// The middle of the picture.
    pub(crate) fn middle(&self) -> Point {
        [self.width as f32 / 2.0, self.height as f32 / 2.0]
    }

    /// Calls `f(pixel number, middle of the pixel, its channels)` for every pixel, row by row.
    pub(crate) fn shade(&mut self, mut f: impl FnMut(usize, Point, &mut [f32])) {
        for (i, px) in self.pixels.chunks_exact_mut(self.channels).enumerate() {
            let (x, y) = (i % self.width, i / self.width);
            f(i, [x as f32 + 0.5, y as f32 + 0.5], px);
        }
    }

    /// Mixes `colour` in with weight `cover(point)`, where 0 leaves the picture; looks only at points within `reach` of
    /// `at`.
    pub(crate) fn cover(&mut self, at: Point, reach: Point, colour: &[f32], cover: impl Fn(Point) -> f32) {
        let (x0, x1) = span(at[0], reach[0], self.width);
        let (y0, y1) = span(at[1], reach[1], self.height);
        for y in y0..y1 {
            for x in x0..x1 {
                let a = cover([x as f32 + 0.5, y as f32 + 0.5]);
                if a > 0.0 {
                    self.mix(y * self.width + x, colour, a);
                }
            }
        }
    }

    /// A disc whose edge fades over the outer `soft` (0..1] of its radius.
    pub(crate) fn spot(&mut self, at: Point, radius: f32, soft: f32, colour: &[f32], alpha: f32) {
        self.ellipse(at, [radius, radius], soft, colour, alpha);
    }

    /// An upright ellipse whose edge fades over the outer `soft` (0..1] of its radius.
    pub(crate) fn ellipse(&mut self, at: Point, radii: Point, soft: f32, colour: &[f32], alpha: f32) {
        self.cover(at, radii, colour, |p| {
            alpha
                * ramp(
                    1.0,
                    1.0 - soft,
                    length((p[0] - at[0]) / radii[0], (p[1] - at[1]) / radii[1]),
                )
        });
    }

    /// A line through `points`, tapering from half width `half[0]` to `half[1]`, with an edge one pixel wide.
    pub(crate) fn stroke(&mut self, points: &[Point], half: [f32; 2], colour: &[f32], alpha: f32) {
        let mut mask = vec![0.0f32; self.width * self.height];
        let segments = points.len().saturating_sub(1).max(1) as f32;
        let reach = half[0].max(half[1]) + 1.0;
        for (k, ends) in points.windows(2).enumerate() {
            let (a, b) = (ends[0], ends[1]);
            let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
            let square = dx * dx + dy * dy;
            let (x0, x1) = span((a[0] + b[0]) / 2.0, (dx / 2.0).abs() + reach, self.width);
            let (y0, y1) = span((a[1] + b[1]) / 2.0, (dy / 2.0).abs() + reach, self.height);
            for y in y0..y1 {
                for x in x0..x1 {
                    let (px, py) = (x as f32 + 0.5 - a[0], y as f32 + 0.5 - a[1]);
                    let t = if square > 0.0 {
                        ((px * dx + py * dy) / square).clamp(0.0, 1.0)
                    } else {
                        0.0
                    };
                    let h = half[0] + (half[1] - half[0]) * ((k as f32 + t) / segments);
                    let c = (h + 0.5 - length(px - t * dx, py - t * dy)).clamp(0.0, 1.0) * (2.0 * h).min(1.0);
                    let m = &mut mask[y * self.width + x];
                    *m = m.max(c);
                }
            }
        }
        for (i, m) in mask.into_iter().enumerate().filter(|(_, m)| *m > 0.0) {
            self.mix(i, colour, alpha * m);
        }
    }

    /// Multiplies every channel by its gain, or all by the one there is: the exposure and the light of a picture.
    pub(crate) fn expose(&mut self, gains: &[f32]) {
        let gains = gains.iter().cycle();
        self.pixels.iter_mut().zip(gains).for_each(|(v, g)| *v *= g);
    }

    fn mix(&mut self, pixel: usize, colour: &[f32], a: f32) {
        let px = &mut self.pixels[pixel * self.channels..][..self.channels];
        for (v, c) in px.iter_mut().zip(colour) {
            *v += a * (c - *v);
        }
    }

    /// The picture at 1/`k` of its size: means of k × k pixels. Both sides must be multiples of `k`.
    pub(crate) fn shrink(&self, k: usize) -> Self {
        assert!(self.width.is_multiple_of(k) && self.height.is_multiple_of(k));
        let mut small = Self::new(self.width / k, self.height / k, self.channels);
        for (i, v) in small.pixels.iter_mut().enumerate() {
            let (pixel, c) = (i / self.channels, i % self.channels);
            let (x, y) = (pixel % (self.width / k) * k, pixel / (self.width / k) * k);
            let mut sum = 0.0;
            for dy in 0..k {
                for dx in 0..k {
                    sum += self.pixels[((y + dy) * self.width + x + dx) * self.channels + c];
                }
            }
            *v = sum / (k * k) as f32;
        }
        small
    }

    /// 8-bit pixels (H, W, C), rounded to the nearest.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.pixels.iter().map(|v| (v * 255.0 + 0.5) as u8).collect()
    }

    /// A baseline JPEG of quality 85.
    ///
    /// The encoder's cosine transform and colour conversion are integer; it divides small integers by table entries in
    /// f32 (rounded once) and rounds the quotient, which IEEE 754 makes the same everywhere.
    ///
    /// # Errors
    /// Of the encoder; none is known for these sizes.
    pub(crate) fn jpeg(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        JpegEncoder::new_with_quality(&mut out, 85).write_image(
            &self.bytes(),
            self.width as u32,
            self.height as u32,
            self.colour_type(),
        )?;
        Ok(out)
    }

    /// A PNG with the Paeth filter on every row.
    ///
    /// `Fast` is fdeflate's one fixed Huffman table: integers only. The numbered levels go to whichever deflate library
    /// the build's features chose for flate2, and those differ in their bytes.
    ///
    /// # Errors
    /// Of the encoder; none is known for these sizes.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        PngEncoder::new_with_quality(&mut out, CompressionType::Fast, FilterType::Paeth).write_image(
            &self.bytes(),
            self.width as u32,
            self.height as u32,
            self.colour_type(),
        )?;
        Ok(out)
    }

    fn colour_type(&self) -> ExtendedColorType {
        if self.channels == 1 {
            ExtendedColorType::L8
        } else {
            ExtendedColorType::Rgb8
        }
    }
}

/// The pixels along one side whose middles can lie within `reach` of `at`.
fn span(at: f32, reach: f32, side: usize) -> (usize, usize) {
    let clamp = |v: f32| (v.max(0.0) as usize).min(side);
    (clamp(at - reach), clamp(at + reach + 1.0))
}

/// √(x² + y²).
pub(crate) fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// 0 at `from`, 1 at `to`, smooth between, constant outside; `from` may be the larger.
pub(crate) fn ramp(from: f32, to: f32, x: f32) -> f32 {
    let t = ((x - from) / (to - from)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Uniform in [lo, hi).
pub(crate) fn between(rng: &mut Stream, lo: f32, hi: f32) -> f32 {
    lo + (hi - lo) * ((rng.next_u32() >> 8) as f32 / 16_777_216.0)
}

/// Uniform in lo..=hi.
pub(crate) fn whole(rng: &mut Stream, lo: u32, hi: u32) -> usize {
    (lo + rng.below(hi - lo + 1)) as usize
}

/// True once in `n`.
pub(crate) fn once_in(rng: &mut Stream, n: u32) -> bool {
    rng.below(n) == 0
}

/// A unit vector in a uniform direction.
pub(crate) fn direction(rng: &mut Stream) -> Point {
    loop {
        let (x, y) = (between(rng, -1.0, 1.0), between(rng, -1.0, 1.0));
        let r = length(x, y);
        if r > 0.1 && r < 1.0 {
            return [x / r, y / r];
        }
    }
}

/// A point uniform in the disc around `at`.
pub(crate) fn inside(rng: &mut Stream, at: Point, radius: f32) -> Point {
    loop {
        let (x, y) = (between(rng, -1.0, 1.0), between(rng, -1.0, 1.0));
        if length(x, y) < 1.0 {
            return [at[0] + radius * x, at[1] + radius * y];
        }
    }
}

/// 17 points of the quadratic curve from `a` to `c` that leaves towards `b`.
pub(crate) fn curve(a: Point, b: Point, c: Point) -> Vec<Point> {
    let at = |k: usize| {
        let t = k as f32 / 16.0;
        let (p, q, r) = ((1.0 - t) * (1.0 - t), 2.0 * t * (1.0 - t), t * t);
        [a[0] * p + b[0] * q + c[0] * r, a[1] * p + b[1] * q + c[1] * r]
    };
    (0..=16).map(at).collect()
}

/// Value noise in −1..1, one value a pixel: random values on a grid of `cell` pixels, smoothly interpolated, with
/// `octaves` layers of half the cell and half the weight each.
pub(crate) fn noise(rng: &mut Stream, width: usize, height: usize, cell: f32, octaves: u32) -> Vec<f32> {
    let mut out = vec![0.0; width * height];
    let (mut cell, mut weight, mut total) = (cell, 1.0, 0.0);
    for _ in 0..octaves {
        let columns = (width as f32 / cell) as usize + 2;
        let rows = (height as f32 / cell) as usize + 2;
        let grid: Vec<f32> = (0..columns * rows).map(|_| between(rng, -1.0, 1.0)).collect();
        let place = |i: usize| {
            let f = (i as f32 + 0.5) / cell;
            (f as usize, ramp(0.0, 1.0, f - (f as usize) as f32))
        };
        let across: Vec<(usize, f32)> = (0..width).map(place).collect();
        let mut line = vec![0.0; columns];
        for y in 0..height {
            let (j, t) = place(y);
            let (above, below) = (&grid[j * columns..][..columns], &grid[(j + 1) * columns..][..columns]);
            for ((l, a), b) in line.iter_mut().zip(above).zip(below) {
                *l = a + (b - a) * t;
            }
            for (v, &(i, t)) in out[y * width..][..width].iter_mut().zip(&across) {
                *v += weight * (line[i] + (line[i + 1] - line[i]) * t);
            }
        }
        total += weight;
        (cell, weight) = (cell / 2.0, weight / 2.0);
    }
    out.iter_mut().for_each(|v| *v /= total);
    out
}

/// A closed outline around a middle: a circle with random waves.
pub(crate) struct Outline {
    /// (cosine, sine) amplitudes of 2 … 8 waves around.
    waves: [[f32; 2]; 7],
}

impl Outline {
    /// `rough` is about the share by which the radius varies: 0.05 is smooth, 0.3 ragged. Finer waves are lower.
    pub(crate) fn new(rng: &mut Stream, rough: f32) -> Self {
        let wave = |k: usize| {
            let most = 1.6 * rough / (k + 2) as f32;
            [between(rng, -most, most), between(rng, -most, most)]
        };
        Self {
            waves: std::array::from_fn(wave),
        }
    }

    /// The radius towards (x, y), relative to the circle's; never below 0.3.
    pub(crate) fn radius(&self, x: f32, y: f32) -> f32 {
        let r = length(x, y);
        if r == 0.0 {
            return 1.0;
        }
        let (c, s) = (x / r, y / r);
        let (mut ck, mut sk) = (c, s);
        let mut sum = 1.0;
        for [a, b] in self.waves {
            (ck, sk) = (ck * c - sk * s, sk * c + ck * s);
            sum += a * ck + b * sk;
        }
        sum.max(0.3)
    }

    /// Distance from the middle in units of the outline: below 1 is inside. (x, y) is in radii of the circle.
    pub(crate) fn depth(&self, x: f32, y: f32) -> f32 {
        length(x, y) / self.radius(x, y)
    }
}
