//! A JPEG decoder that gives libjpeg-turbo's pixels to the bit.
//!
//! Why not a library: the authors read JPEG files through Pillow, which is libjpeg-turbo. JPEG leaves the inverse DCT, the
//! chroma interpolation and the colour rounding to the decoder, and the Rust decoders choose otherwise: up to 4 of 256 levels
//! off on ordinary 4:2:0 photographs. libjpeg's choices are plain integer arithmetic, so they can be repeated exactly:
//! the "islow" DCT ([`idct`]), the triangle-filter chroma interpolation and the 16-bit fixed-point YCbCr matrix ([`output`]).
//!
//! Covered is what data sets hold: baseline, extended and progressive Huffman files with 8 bits, 1, 3 or 4 components,
//! any sampling factors, restart markers. Not covered (an error says so): arithmetic coding, lossless, 12 bits.
//! Where libjpeg warns about damaged data and goes on with invented pixels, this decoder stops: an image that is not whole
//! must not be trained on unnoticed. Where it warns and every pixel is in the file, the picture has a note of the
//! [`Damage`]; what weighs how much is decided by who asks.

mod bits;
mod frame;
mod idct;
mod markers;
mod output;
mod scan;

use super::fault::{Damage, Fault};
use bits::Huffman;
pub use frame::Picture;
use frame::{Component, Frame, Notes, Tables, ZIGZAG};
use markers::{Reader, be16};

/// Decodes a JPEG file of at most `max_pixels` pixels.
pub fn decode(bytes: &[u8], max_pixels: usize) -> Result<Picture, Fault> {
    let mut at = Reader {
        bytes,
        pos: 0,
        skipped: false,
    };
    let mut damage = Damage::default();
    if at.marker()? != 0xD8 {
        return Err(Fault::Corrupt("no start-of-image marker"));
    }
    let (mut tables, mut notes, mut frame) = (Tables::default(), Notes::default(), None);
    loop {
        match at.marker()? {
            0xD9 => break,
            0xC4 => read_huffman(at.segment()?, &mut tables)?,
            0xDB => read_quantisation(at.segment()?, &mut tables)?,
            0xDD => tables.restart_interval = be16(at.segment()?, 0)?,
            0xC0..=0xC2 if frame.is_some() => return Err(Fault::Corrupt("two frames")),
            marker @ 0xC0..=0xC2 => frame = Some(read_frame(at.segment()?, marker == 0xC2, max_pixels)?),
            0xC9 | 0xCA => return Err(Fault::Unsupported("arithmetic coding")),
            0xC3 | 0xC5..=0xC7 | 0xCB | 0xCD..=0xCF => {
                return Err(Fault::Unsupported("a lossless or hierarchical JPEG"));
            }
            0xDA => {
                let header = at.segment()?;
                let frame = frame.as_mut().ok_or(Fault::Corrupt("a scan before the frame"))?;
                at.pos = scan::read(frame, header, &tables, (bytes, at.pos), &mut damage)?;
            }
            0xE0 => {
                let segment = at.loose_segment()?;
                if segment.starts_with(b"JFIF\0") {
                    notes.jfif = true;
                    damage.jfif_version |= segment.len() >= 14 && segment[5] != 1;
                }
            }
            0xE1 => {
                let segment = at.loose_segment()?;
                if let Some(tiff) = segment.strip_prefix(b"Exif\0\0") {
                    notes.exif = notes.exif.or_else(|| super::exif::orientation(tiff));
                } else if let Some(xmp) = segment.strip_prefix(b"http://ns.adobe.com/xap/1.0/\0") {
                    notes.xmp = notes.xmp.or_else(|| super::exif::xmp_orientation(xmp));
                }
            }
            0xEE => {
                let segment = at.loose_segment()?;
                if segment.len() >= 12 && segment.starts_with(b"Adobe") {
                    notes.adobe = Some(segment[11]);
                }
            }
            // Markers without a segment.
            0x01 | 0xD0..=0xD7 => {}
            0xD8 => return Err(Fault::Corrupt("a second start-of-image marker")),
            _ => {
                at.loose_segment()?;
            }
        }
    }
    damage.extra_bytes |= at.skipped;
    let mut frame = frame.ok_or(Fault::Corrupt("no frame"))?;
    scan::finish(&mut frame)?;
    output::assemble(&frame, &notes, damage)
}

fn read_huffman(mut segment: &[u8], tables: &mut Tables) -> Result<(), Fault> {
    const BAD: Fault = Fault::Corrupt("a Huffman table");
    while let Some((&head, rest)) = segment.split_first() {
        let (counts, rest) = rest.split_first_chunk::<16>().ok_or(BAD)?;
        let total = counts.iter().map(|&n| usize::from(n)).sum();
        let (symbols, rest) = rest.split_at_checked(total).ok_or(BAD)?;
        let table = Huffman::new(counts, symbols).ok_or(BAD)?;
        let class = if head >> 4 == 0 { &mut tables.dc } else { &mut tables.ac };
        *class.get_mut(usize::from(head & 15)).ok_or(BAD)? = Some(table);
        segment = rest;
    }
    Ok(())
}

fn read_quantisation(mut segment: &[u8], tables: &mut Tables) -> Result<(), Fault> {
    const BAD: Fault = Fault::Corrupt("a quantisation table");
    while let Some((&head, rest)) = segment.split_first() {
        let bytes = if head >> 4 == 0 { 1 } else { 2 };
        let (values, rest) = rest.split_at_checked(64 * bytes).ok_or(BAD)?;
        let mut table = [0; 64];
        for (value, &slot) in values.chunks_exact(bytes).zip(&ZIGZAG) {
            table[usize::from(slot)] = value.iter().fold(0, |n, &b| n << 8 | i32::from(b));
        }
        *tables.quant.get_mut(usize::from(head & 15)).ok_or(BAD)? = Some(table);
        segment = rest;
    }
    Ok(())
}

fn read_frame(segment: &[u8], progressive: bool, max_pixels: usize) -> Result<Frame, Fault> {
    const BAD: Fault = Fault::Corrupt("a frame header");
    let (head, rest) = segment.split_first_chunk::<6>().ok_or(BAD)?;
    if head[0] != 8 {
        return Err(Fault::Unsupported("a JPEG of more than 8 bits"));
    }
    let (height, width) = (be16(head, 1)?, be16(head, 3)?);
    if width == 0 || height == 0 {
        return Err(Fault::Unsupported("a JPEG without its size in the frame header"));
    }
    if width * height > max_pixels {
        return Err(Fault::TooLarge { width, height });
    }
    let count = usize::from(head[5]);
    if !matches!(count, 1 | 3 | 4) {
        return Err(Fault::Unsupported("a JPEG with neither 1, 3 nor 4 components"));
    }
    let specs = rest.as_chunks::<3>().0.get(..count).ok_or(BAD)?;
    let factors = |s: &[u8; 3]| (usize::from(s[1] >> 4), usize::from(s[1] & 15));
    if specs
        .iter()
        .map(factors)
        .any(|(h, v)| !(1..=4).contains(&h) || !(1..=4).contains(&v))
    {
        return Err(BAD);
    }
    let h_max = specs.iter().map(|s| factors(s).0).max().unwrap_or(1);
    let v_max = specs.iter().map(|s| factors(s).1).max().unwrap_or(1);
    let mcus_wide = width.div_ceil(8 * h_max);
    let mcus_high = height.div_ceil(8 * v_max);
    let components = specs.iter().map(|spec| {
        let (h, v) = factors(spec);
        let (w, t) = ((width * h).div_ceil(h_max), (height * v).div_ceil(v_max));
        let (stride, rows) = (mcus_wide * h, mcus_high * v);
        Component {
            id: spec[0],
            h,
            v,
            quant_slot: usize::from(spec[2]),
            quant: None,
            width: w,
            height: t,
            blocks_wide: w.div_ceil(8),
            blocks_high: t.div_ceil(8),
            stride,
            plane: vec![0; stride * rows * 64],
            coefficients: vec![[0; 64]; if progressive { stride * rows } else { 0 }],
            missing: [None; 64],
        }
    });
    Ok(Frame {
        width,
        height,
        progressive,
        mcus_wide,
        mcus_high,
        h_max,
        v_max,
        components: components.collect(),
    })
}
