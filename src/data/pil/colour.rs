//! Colour: the L conversion and torchvision's four colour-jitter operations on Pillow images.
//!
//! On one-channel images saturation and hue do nothing, as in torchvision. Factors are float32 where Pillow takes a C float.

use crate::data::ImageArray;
use medft_nn::vectorised;

/// Pillow's L of a colour: ITU-R 601 weights with 16 fractional bits, rounded.
#[inline(always)]
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

/// Converts between 1 and 3 channels as Pillow's `convert("L")` and `convert("RGB")` do.
pub fn to_channels(img: ImageArray, channels: usize) -> ImageArray {
    let data = match (img.channels, channels) {
        (3, 1) => img.data.as_chunks::<3>().0.iter().map(|&px| luma(px)).collect(),
        (1, 3) => img.data.iter().flat_map(|&v| [v; 3]).collect(),
        _ => return img,
    };
    ImageArray { channels, data, ..img }
}

/// Pillow's Blend: from the degenerate value `d` through the pixel `x` at `alpha` = 1, clamped and truncated.
#[inline(always)]
fn blend(d: u8, x: u8, alpha: f32) -> u8 {
    let (d, x) = (f32::from(d), f32::from(x));
    (d + alpha * (x - d)).clamp(0.0, 255.0) as i32 as u8
}

/// Blends every value with one constant.
fn blend_constant(img: &mut ImageArray, d: u8, alpha: f32) {
    let mut table = [0u8; 256];
    for (x, slot) in (0..=255u8).zip(&mut table) {
        *slot = blend(d, x, alpha);
    }
    for v in &mut img.data {
        *v = table[usize::from(*v)];
    }
}

/// torchvision's `adjust_brightness`: a blend with black.
pub fn brightness(img: &mut ImageArray, factor: f64) {
    blend_constant(img, 0, factor as f32);
}

/// torchvision's `adjust_contrast`: a blend with the rounded mean of the L version.
pub fn contrast(img: &mut ImageArray, factor: f64) {
    let sum = if img.channels == 3 {
        luma_sum(&img.data)
    } else {
        img.data.iter().map(|&v| u64::from(v)).sum()
    };
    let mean = sum as f64 / (img.width * img.height) as f64;
    blend_constant(img, (mean + 0.5) as u8, factor as f32);
}

/// torchvision's `adjust_saturation`: a blend with the L version.
pub fn saturation(img: &mut ImageArray, factor: f64) {
    if img.channels == 3 {
        saturate(&mut img.data, factor as f32);
    }
}

/// torchvision's `adjust_hue`: through Pillow's 8-bit HSV with the hue turned by `trunc(255 · factor)` steps of 256.
pub fn hue(img: &mut ImageArray, factor: f64) {
    if img.channels == 3 {
        turn(&mut img.data, (factor * 255.0) as i32);
    }
}

/// Pixels that are worked on together; channels apart, so that each step is one vector instruction or a few.
const BLOCK: usize = 32;
type Planes = [[u8; BLOCK]; 3];

#[inline(always)]
fn split(run: &[[u8; 3]; BLOCK]) -> Planes {
    let mut planes = [[0; BLOCK]; 3];
    for (i, px) in run.iter().enumerate() {
        planes[0][i] = px[0];
        planes[1][i] = px[1];
        planes[2][i] = px[2];
    }
    planes
}

#[inline(always)]
fn join([r, g, b]: &Planes, run: &mut [[u8; 3]; BLOCK]) {
    for (i, px) in run.iter_mut().enumerate() {
        *px = [r[i], g[i], b[i]];
    }
}

/// Calls `f` on all pixels in blocks; the last, short one is filled up with black.
#[inline(always)]
fn by_blocks(data: &mut [u8], f: impl Fn(&mut [[u8; 3]; BLOCK])) {
    let (blocks, rest) = data.as_chunks_mut::<3>().0.as_chunks_mut::<BLOCK>();
    blocks.iter_mut().for_each(&f);
    let mut last = [[0; 3]; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    f(&mut last);
    rest.copy_from_slice(&last[..rest.len()]);
}

fn saturate(data: &mut [u8], alpha: f32) {
    by_blocks(data, |run| saturate_block(run, alpha));
}

fn turn(data: &mut [u8], steps: i32) {
    by_blocks(data, |run| turn_block(run, steps));
}

vectorised! {
    fn luma_sum(data: &[u8]) -> u64 {
        // Runs of 2^16 pixels keep the inner sum in 32 bits.
        let mut sum = 0;
        for run in data.chunks(3 << 16) {
            let mut part = 0u32;
            for &px in run.as_chunks::<3>().0 {
                part += u32::from(luma(px));
            }
            sum += u64::from(part);
        }
        sum
    }

    fn saturate_block(run: &mut [[u8; 3]; BLOCK], alpha: f32) {
        let mut planes = split(run);
        let mut d = [0; BLOCK];
        for (i, d) in d.iter_mut().enumerate() {
            *d = luma([planes[0][i], planes[1][i], planes[2][i]]);
        }
        for plane in &mut planes {
            for (x, &d) in plane.iter_mut().zip(&d) {
                *x = blend(d, *x, alpha);
            }
        }
        join(&planes, run);
    }

    fn turn_block(run: &mut [[u8; 3]; BLOCK], steps: i32) {
        let [r, g, b] = split(run);
        let mut turned = [[0; BLOCK]; 3];
        for i in 0..BLOCK {
            let px = turn_pixel([r[i], g[i], b[i]], steps);
            turned[0][i] = px[0];
            turned[1][i] = px[1];
            turned[2][i] = px[2];
        }
        join(&turned, run);
    }
}

/// One pixel there and back. Which operations are float32 and which float64 follows from Pillow's C expressions. There is no
/// branch: what a branch would have skipped is computed (with a divisor that cannot be 0) and not chosen.
#[inline(always)]
fn turn_pixel([r, g, b]: [u8; 3], steps: i32) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let range = f32::from((max - min).max(1));
    let [rc, gc, bc] = [r, g, b].map(|c| f32::from(max - c) / range);
    let green = (2.0 + f64::from(rc) - f64::from(bc)) as f32;
    let blue = (4.0 + f64::from(gc) - f64::from(rc)) as f32;
    let h = if g == max { green } else { blue };
    let h = if r == max { bc - gc } else { h };
    let turns = f64::from(h) / 6.0 + 1.0;
    let h = (turns - f64::from(truncate(turns))) as f32;
    let h = (truncate(f64::from(h) * 255.0) + steps) & 255;
    let s = truncate(f64::from(range / f32::from(max.max(1))) * 255.0);

    let six = f64::from(h) * 6.0 / 255.0;
    let sector = truncate(six);
    let phi = (six - f64::from(sector)) as f32;
    let sigma = (f64::from(s) / 255.0) as f32;
    let v = f64::from(max);
    let round = |x: f64| truncate(x + 0.5) as u8;
    let p = round(v * (1.0 - f64::from(sigma)));
    let q = round(v * (1.0 - f64::from(sigma * phi)));
    let t = round(v * (1.0 - f64::from(sigma) * (1.0 - f64::from(phi))));
    let pick = |of: [u8; 6]| {
        let tail = if sector == 4 { of[4] } else { of[5] };
        let tail = if sector == 3 { of[3] } else { tail };
        let tail = if sector == 2 { of[2] } else { tail };
        let tail = if sector == 1 { of[1] } else { tail };
        if sector == 0 || sector == 6 { of[0] } else { tail }
    };
    // Without colour Pillow keeps V for all channels, which is what p, q and t come to at S = 0.
    let turned = [
        pick([max, q, p, p, t, max]),
        pick([t, max, max, q, p, p]),
        pick([p, p, t, max, max, q]),
    ];
    [
        if max == min { r } else { turned[0] },
        if max == min { g } else { turned[1] },
        if max == min { b } else { turned[2] },
    ]
}

/// Truncates a number that is known to fit.
#[inline(always)]
fn truncate(x: f64) -> i32 {
    x as i32
}
