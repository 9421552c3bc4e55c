//! Colour: the L conversion and torchvision's four colour-jitter operations on Pillow images.
//!
//! On one-channel images saturation and hue do nothing, as in torchvision. Factors are float32 where Pillow takes a C float.

use crate::data::ImageArray;
use crate::data::simd::wide;

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
    (d + alpha * (x - d)).clamp(0.0, 255.0) as u8
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

wide! {
    fn luma_sum(data: &[u8]) -> u64 {
        // Rows of at most 2^16 values keep the inner sum in 32 bits.
        data.chunks(3 << 16)
            .map(|run| u64::from(run.as_chunks::<3>().0.iter().map(|&px| u32::from(luma(px))).sum::<u32>()))
            .sum()
    }

    fn saturate(data: &mut [u8], alpha: f32) {
        for px in data.as_chunks_mut::<3>().0 {
            let d = luma(*px);
            *px = px.map(|x| blend(d, x, alpha));
        }
    }

    fn turn(data: &mut [u8], steps: i32) {
        for px in data.as_chunks_mut::<3>().0 {
            *px = turn_pixel(*px, steps);
        }
    }
}

/// One pixel there and back. Which operations are float32 and which float64 follows from Pillow's C expressions.
#[inline(always)]
fn turn_pixel([r, g, b]: [u8; 3], steps: i32) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [r, g, b];
    }
    let range = f32::from(max - min);
    let [rc, gc, bc] = [r, g, b].map(|c| f32::from(max - c) / range);
    let h = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let turns = f64::from(h) / 6.0 + 1.0;
    let h = (turns - turns.trunc()) as f32;
    let h = ((f64::from(h) * 255.0) as i32 + steps) & 255;
    let s = (f64::from(range / f32::from(max)) * 255.0) as i32;
    if s == 0 {
        return [max; 3];
    }

    let six = f64::from(h) * 6.0 / 255.0;
    let sector = six as i32;
    let phi = (six - f64::from(sector)) as f32;
    let sigma = (f64::from(s) / 255.0) as f32;
    let v = f64::from(max);
    let round = |x: f64| (x + 0.5) as u8;
    let p = round(v * (1.0 - f64::from(sigma)));
    let q = round(v * (1.0 - f64::from(sigma * phi)));
    let t = round(v * (1.0 - f64::from(sigma) * (1.0 - f64::from(phi))));
    match sector {
        0 | 6 => [max, t, p],
        1 => [q, max, p],
        2 => [p, max, t],
        3 => [p, q, max],
        4 => [t, p, max],
        _ => [max, p, q],
    }
}
