//! From component planes to pixels: chroma interpolation and colour conversion as in libjpeg (`jdsample.c`, `jdcolor.c`).

use super::frame::{Component, Frame, Notes, Picture};
use crate::data::fault::{Damage, Fault};
use medft_nn::vectorised;

/// How the stored components are to be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// libjpeg's guess (`default_decompress_parms`).
fn space(frame: &Frame, notes: &Notes) -> Space {
    let ids: Vec<u8> = frame.components.iter().map(|c| c.id).collect();
    match (ids.len(), notes.adobe) {
        (1, _) => Space::Grey,
        (3, _) if notes.jfif => Space::YCbCr,
        (3, Some(0)) => Space::Rgb,
        (3, Some(_)) => Space::YCbCr,
        (3, None) if ids == *b"RGB" => Space::Rgb,
        (3, None) => Space::YCbCr,
        (_, None | Some(0)) => Space::Cmyk,
        _ => Space::Ycck,
    }
}

/// How a component is brought to the size of the image.
#[derive(Clone, Copy)]
enum Upsampling {
    None,
    /// Twice as wide, weights 3/4 and 1/4.
    Wide,
    /// Twice as high, weights 3/4 and 1/4.
    High,
    /// Both.
    Both,
    /// Every sample this many times along x and y.
    Repeat(usize, usize),
}

/// libjpeg's choice (`jinit_upsampler`). Components up to two samples wide are too narrow for its triangle filter.
fn upsampling(frame: &Frame, c: &Component) -> Result<Upsampling, Fault> {
    let (h, v) = (frame.h_max, frame.v_max);
    if h % c.h != 0 || v % c.v != 0 {
        return Err(Fault::Unsupported("a JPEG with fractional chroma subsampling"));
    }
    Ok(match (h / c.h, v / c.v) {
        (1, 1) => Upsampling::None,
        (2, 1) if c.width > 2 => Upsampling::Wide,
        (1, 2) => Upsampling::High,
        (2, 2) if c.width > 2 => Upsampling::Both,
        (x, y) => Upsampling::Repeat(x, y),
    })
}

/// Rows of one component at the width of the image.
struct ComponentRows<'a> {
    component: &'a Component,
    upsampling: Upsampling,
    /// Sums of two rows, before they are spread along x.
    sums: Vec<u16>,
    row: Vec<u8>,
}

impl<'a> ComponentRows<'a> {
    fn new(frame: &Frame, component: &'a Component) -> Result<Self, Fault> {
        Ok(Self {
            component,
            upsampling: upsampling(frame, component)?,
            sums: vec![0; component.width],
            row: vec![0; component.stride * 8 * (frame.h_max / component.h).max(1)],
        })
    }

    fn stored(&self, y: usize) -> &'a [u8] {
        &self.component.plane[y * self.component.stride * 8..][..self.component.width]
    }

    /// Row `y` of the image; at least as long as the image is wide.
    fn row(&mut self, y: usize) -> &[u8] {
        // The nearer and the farther row that an output row between two stored ones is made of.
        let near = y / 2;
        let far = if y.is_multiple_of(2) {
            near.saturating_sub(1)
        } else {
            (near + 1).min(self.component.height - 1)
        };
        match self.upsampling {
            Upsampling::None => return self.stored(y),
            Upsampling::Wide => widen(self.stored(y), &mut self.row),
            Upsampling::High => {
                let bias = if y.is_multiple_of(2) { 1 } else { 2 };
                heighten(self.stored(near), self.stored(far), bias, &mut self.row);
            }
            Upsampling::Both => {
                add_rows(self.stored(near), self.stored(far), &mut self.sums);
                widen_sums(&self.sums, &mut self.row);
            }
            Upsampling::Repeat(h, v) => {
                let stored = self.stored(y / v);
                for (out, &s) in self.row.chunks_exact_mut(h).zip(stored) {
                    out.fill(s);
                }
            }
        }
        &self.row
    }
}

vectorised! {
    /// `h2v1_fancy_upsample`; more than one sample.
    fn widen(x: &[u8], out: &mut [u8]) {
        let n = x.len();
        let (pairs, _) = out.as_chunks_mut::<2>();
        pairs[0] = [x[0], ((3 * u16::from(x[0]) + u16::from(x[1]) + 2) >> 2) as u8];
        for (out, x) in pairs[1..].iter_mut().zip(x.windows(3)) {
            let x = [u16::from(x[0]), u16::from(x[1]), u16::from(x[2])];
            *out = [((3 * x[1] + x[0] + 1) >> 2) as u8, ((3 * x[1] + x[2] + 2) >> 2) as u8];
        }
        pairs[n - 1] = [((3 * u16::from(x[n - 1]) + u16::from(x[n - 2]) + 1) >> 2) as u8, x[n - 1]];
    }

    /// `h1v2_fancy_upsample`.
    fn heighten(near: &[u8], far: &[u8], bias: u16, out: &mut [u8]) {
        for ((out, &a), &b) in out.iter_mut().zip(near).zip(far) {
            *out = ((3 * u16::from(a) + u16::from(b) + bias) >> 2) as u8;
        }
    }

    /// First half of `h2v2_fancy_upsample`: four times a sample halfway between the rows.
    fn add_rows(near: &[u8], far: &[u8], out: &mut [u16]) {
        for ((out, &a), &b) in out.iter_mut().zip(near).zip(far) {
            *out = 3 * u16::from(a) + u16::from(b);
        }
    }

    /// Second half of `h2v2_fancy_upsample`; more than one sum.
    fn widen_sums(x: &[u16], out: &mut [u8]) {
        let n = x.len();
        let (pairs, _) = out.as_chunks_mut::<2>();
        pairs[0] = [((4 * x[0] + 8) >> 4) as u8, ((3 * x[0] + x[1] + 7) >> 4) as u8];
        for (out, x) in pairs[1..].iter_mut().zip(x.windows(3)) {
            *out = [((3 * x[1] + x[0] + 8) >> 4) as u8, ((3 * x[1] + x[2] + 7) >> 4) as u8];
        }
        pairs[n - 1] = [((3 * x[n - 1] + x[n - 2] + 8) >> 4) as u8, ((4 * x[n - 1] + 7) >> 4) as u8];
    }

    fn convert_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
        let chroma = cb.iter().zip(cr);
        for ((out, &y), (&cb, &cr)) in out.as_chunks_mut::<3>().0.iter_mut().zip(y).zip(chroma) {
            *out = rgb(y, cb, cr);
        }
    }
}

/// YCbCr to RGB with libjpeg's 16-bit constants.
#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((91881 * cr + HALF) >> 16); // 1.40200
    let g = y + ((-22554 * cb - 46802 * cr + HALF) >> 16); // 0.34414, 0.71414
    let b = y + ((116_130 * cb + HALF) >> 16); // 1.77200
    [r.clamp(0, 255) as u8, g.clamp(0, 255) as u8, b.clamp(0, 255) as u8]
}

/// The part of a plane that belongs to the image, in the plane's own memory: a grey picture is not copied.
fn cut(mut plane: Vec<u8>, stride: usize, width: usize, height: usize) -> Vec<u8> {
    if stride != width {
        for y in 1..height {
            plane.copy_within(y * stride..y * stride + width, y * width);
        }
    }
    plane.truncate(width * height);
    plane
}

/// Makes the picture out of complete planes.
pub(crate) fn assemble(mut frame: Frame, notes: &Notes, mut damage: Damage) -> Result<Picture, Fault> {
    let space = space(&frame, notes);
    damage.adobe_transform = match (frame.components.len(), notes.adobe) {
        (3, Some(t)) => !notes.jfif && t > 1,
        (4, Some(t)) => t != 0 && t != 2,
        _ => false,
    };
    let channels = frame.components.len();
    let data = match frame.components.as_mut_slice() {
        [only] => cut(
            std::mem::take(&mut only.plane),
            only.stride * 8,
            frame.width,
            frame.height,
        ),
        _ => merge(&frame, space)?,
    };
    Ok(Picture {
        width: frame.width,
        height: frame.height,
        channels,
        data,
        orientation: notes.exif.or(notes.xmp),
        damage,
    })
}

/// Rows of several components side by side.
fn merge(frame: &Frame, space: Space) -> Result<Vec<u8>, Fault> {
    let channels = frame.components.len();
    let mut sources = Vec::with_capacity(channels);
    for c in &frame.components {
        sources.push(ComponentRows::new(frame, c)?);
    }
    let mut data = vec![0; frame.width * frame.height * channels];
    for (y, out) in data.chunks_exact_mut(frame.width * channels).enumerate() {
        match (space, sources.as_mut_slice()) {
            (Space::YCbCr, [a, b, c]) => convert_row(a.row(y), b.row(y), c.row(y), out),
            (_, sources) => {
                for (i, source) in sources.iter_mut().enumerate() {
                    for (out, &v) in out.iter_mut().skip(i).step_by(channels).zip(source.row(y)) {
                        *out = v;
                    }
                }
            }
        }
        match space {
            // libjpeg turns YCC into CMY by complement, and Pillow takes every four-component file as inverted (Adobe's
            // habit), which takes the complement back.
            Space::Ycck => {
                for px in out.as_chunks_mut::<4>().0 {
                    let [c, m, y] = rgb(px[0], px[1], px[2]);
                    *px = [c, m, y, 255 - px[3]];
                }
            }
            Space::Cmyk => out.iter_mut().for_each(|v| *v = 255 - *v),
            _ => {}
        }
    }
    Ok(data)
}
