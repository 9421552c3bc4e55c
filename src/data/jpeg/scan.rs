//! Scans: the walk over the blocks of an MCU grid, and the coefficients of one block in sequential and progressive coding.

use super::bits::{Bits, Huffman};
use super::frame::{Component, Frame, Tables, ZIGZAG};
use super::idct;
use crate::data::fault::{Damage, Fault};
use std::sync::LazyLock;

/// A scan header.
struct Header {
    /// For each component of the scan: its number in the frame and its table slots (DC, AC).
    parts: Vec<(usize, usize, usize)>,
    /// First and last coefficient in zigzag order.
    first: usize,
    last: usize,
    /// Successive approximation: the bit position of the scan before (0: none) and of this one.
    high: u8,
    low: u8,
}

/// What is carried from block to block, and forgotten at a restart marker.
#[derive(Default)]
struct Memory {
    dc: [i32; 4],
    /// Blocks that still belong to an end-of-band run.
    skip: i32,
}

/// Decodes the scan that starts at a position of the file; returns where it ends.
pub fn read(
    frame: &mut Frame,
    header: &[u8],
    tables: &Tables,
    (bytes, pos): (&[u8], usize),
    damage: &mut Damage,
) -> Result<usize, Fault> {
    let header = parse(frame, header, damage)?;
    for &(i, ..) in &header.parts {
        let part = &mut frame.components[i];
        if part.quant.is_none() {
            let table = tables.quant.get(part.quant_slot).copied().flatten();
            part.quant = Some(table.ok_or(Fault::Corrupt("a quantisation table is missing"))?);
        } else if !frame.progressive {
            return Err(Fault::Corrupt("two scans of one component"));
        }
    }
    let mut bits = Bits::new(bytes, pos);
    if frame.progressive {
        progressive(frame, &header, tables, &mut bits)?;
    } else {
        sequential(frame, &header, tables, &mut bits)?;
    }
    let (end, extra) = bits.end()?;
    damage.extra_bytes |= extra;
    Ok(end)
}

fn parse(frame: &mut Frame, header: &[u8], damage: &mut Damage) -> Result<Header, Fault> {
    const BAD: Fault = Fault::Corrupt("a scan header");
    let (&count, rest) = header.split_first().ok_or(BAD)?;
    let (specs, rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(BAD)?;
    let mut parts: Vec<(usize, usize, usize)> = Vec::new();
    for spec in specs.as_chunks::<2>().0 {
        // Some writers give all components one id: each time the next of them is meant, as libjpeg takes it.
        let free = |i: &usize| frame.components[*i].id == spec[0] && parts.iter().all(|&(p, ..)| p != *i);
        let part = (0..frame.components.len()).find(free).ok_or(BAD)?;
        parts.push((part, usize::from(spec[1] >> 4), usize::from(spec[1] & 15)));
    }
    let blocks: usize = parts
        .iter()
        .map(|&(i, ..)| frame.components[i].h * frame.components[i].v)
        .sum();
    if parts.is_empty() || parts.len() > 1 && blocks > 10 {
        return Err(BAD);
    }
    let [first, last, approximation] = *rest.first_chunk::<3>().ok_or(BAD)?;
    let header = Header {
        parts,
        first: usize::from(first),
        last: usize::from(last),
        high: approximation >> 4,
        low: approximation & 15,
    };
    if frame.progressive {
        let band = if header.first == 0 {
            header.last == 0
        } else {
            header.parts.len() == 1 && (header.first..64).contains(&header.last)
        };
        if !band || header.low > 13 {
            return Err(BAD);
        }
        let ac_first = |&(i, ..): &(usize, usize, usize)| frame.components[i].missing[0].is_none();
        damage.scan_order |= header.first > 0 && header.parts.iter().any(ac_first);
        note_progress(frame, &header)?;
    } else {
        damage.scan_order |= (first, last, approximation) != (0, 63, 0);
    }
    Ok(header)
}

/// Checks that a scan goes on where the scans before it ended, bit for bit.
fn note_progress(frame: &mut Frame, header: &Header) -> Result<(), Fault> {
    for &(i, ..) in &header.parts {
        for slot in &mut frame.components[i].missing[header.first..=header.last] {
            let expected = slot.unwrap_or_default();
            if slot.is_some() != (header.high > 0)
                || header.high != expected
                || header.high > 0 && header.low + 1 != header.high
            {
                return Err(Fault::Corrupt("the order of progressive scans"));
            }
            *slot = Some(header.low);
        }
    }
    Ok(())
}

/// Calls `block` for every block of the scan: (bits, memory, number in the scan, column, row).
fn walk(
    frame_mcus: (usize, usize),
    grid: &[(usize, usize)],
    alone: Option<(usize, usize)>,
    interval: usize,
    bits: &mut Bits<'_>,
    mut block: impl FnMut(&mut Bits<'_>, &mut Memory, usize, usize, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut memory = Memory::default();
    // A scan of one component has one block an MCU and leaves the filling blocks at the borders out.
    let (wide, high) = alone.unwrap_or(frame_mcus);
    let mut done = 0;
    for y in 0..high {
        for x in 0..wide {
            if interval > 0 && done > 0 && done % interval == 0 {
                bits.restart((done / interval - 1) % 8)?;
                memory = Memory::default();
            }
            if alone.is_some() {
                block(bits, &mut memory, 0, x, y)?;
            } else {
                for (part, &(h, v)) in grid.iter().enumerate() {
                    for by in 0..v {
                        for bx in 0..h {
                            block(bits, &mut memory, part, x * h + bx, y * v + by)?;
                        }
                    }
                }
            }
            done += 1;
        }
        bits.check()?;
    }
    Ok(())
}

/// The tables of [`walk`] for a scan.
type Walk = ((usize, usize), Vec<(usize, usize)>, Option<(usize, usize)>);

fn layout(frame: &Frame, header: &Header) -> Walk {
    let part = |i: usize| &frame.components[header.parts[i].0];
    let grid = (0..header.parts.len()).map(|i| (part(i).h, part(i).v)).collect();
    let alone = (header.parts.len() == 1).then(|| (part(0).blocks_wide, part(0).blocks_high));
    ((frame.mcus_wide, frame.mcus_high), grid, alone)
}

fn table(tables: &[Option<Huffman>; 4], slot: usize) -> Result<&Huffman, Fault> {
    let table = tables.get(slot).and_then(Option::as_ref);
    table.ok_or(Fault::Corrupt("a Huffman table is missing"))
}

/// The tables of annex K.3 of the standard, which are meant where a file brings none (frames of Motion JPEG): DC and AC of
/// slot 0, DC and AC of slot 1.
static STANDARD: LazyLock<[Option<Huffman>; 4]> = LazyLock::new(|| {
    let dc: Vec<u8> = (0..12).collect();
    [
        Huffman::new(&[0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &dc),
        Huffman::new(&[0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], &AC_LUMINANCE),
        Huffman::new(&[0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &dc),
        Huffman::new(&[0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &AC_CHROMINANCE),
    ]
});

#[rustfmt::skip]
const AC_LUMINANCE: [u8; 162] = [
    0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
    0x14, 0x32, 0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72,
    0x82, 0x09, 0x0A, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37,
    0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
    0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83,
    0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3,
    0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3,
    0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA, 0xE1, 0xE2,
    0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

#[rustfmt::skip]
const AC_CHROMINANCE: [u8; 162] = [
    0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
    0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1,
    0x0A, 0x16, 0x24, 0x34, 0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36,
    0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
    0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A,
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A,
    0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA,
    0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8, 0xD9, 0xDA,
    0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8, 0xF9, 0xFA,
];

/// A table of a sequential scan: the file's, else the standard one (`ac` 0 for DC, 1 for AC).
fn sequential_table(tables: &[Option<Huffman>; 4], slot: usize, ac: usize) -> Result<&Huffman, Fault> {
    match (tables.get(slot), slot) {
        (Some(None), 0 | 1) => STANDARD[2 * slot + ac]
            .as_ref()
            .ok_or(Fault::Corrupt("a Huffman table")),
        _ => table(tables, slot),
    }
}

fn sequential(frame: &mut Frame, header: &Header, tables: &Tables, bits: &mut Bits<'_>) -> Result<(), Fault> {
    let (mcus, grid, alone) = layout(frame, header);
    let mut codes = Vec::new();
    for &(_, dc, ac) in &header.parts {
        codes.push((
            sequential_table(&tables.dc, dc, 0)?,
            sequential_table(&tables.ac, ac, 1)?,
        ));
    }
    let components = &mut frame.components;
    walk(
        mcus,
        &grid,
        alone,
        tables.restart_interval,
        bits,
        |bits, memory, n, x, y| {
            let mut coefficients = [0; 64];
            let flat = sequential_block(bits, codes[n], &mut memory.dc[n], &mut coefficients)?;
            write_block(&mut components[header.parts[n].0], &coefficients, flat, x, y);
            Ok(())
        },
    )
}

/// Fills a zeroed block; tells whether only the first coefficient was coded.
#[inline(always)]
fn sequential_block(
    shared: &mut Bits<'_>,
    (dc, ac): (&Huffman, &Huffman),
    predictor: &mut i32,
    block: &mut [i16; 64],
) -> Result<bool, Fault> {
    let mut local = *shared;
    let bits = &mut local;
    bits.fill();
    *predictor = predictor.wrapping_add(dc_difference(bits, dc)?);
    block[0] = *predictor as i16;
    let mut k = 1;
    let mut flat = true;
    while k < 64 {
        bits.fill();
        let value = if let Some((run, value)) = bits.short_value(ac) {
            k += run;
            value
        } else {
            let symbol = bits.symbol(ac)?;
            let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 {
                if run < 15 {
                    break;
                }
                k += 16;
                continue;
            }
            k += run;
            bits.value(size) as i16
        };
        let slot = ZIGZAG.get(k).ok_or(Fault::Corrupt("too many coefficients"))?;
        block[usize::from(*slot)] = value;
        flat = false;
        k += 1;
    }
    *shared = local;
    Ok(flat)
}

#[inline(always)]
fn dc_difference(bits: &mut Bits<'_>, dc: &Huffman) -> Result<i32, Fault> {
    let size = bits.symbol(dc)?;
    if size > 15 {
        return Err(Fault::Corrupt("a DC code"));
    }
    Ok(bits.value(u32::from(size)))
}

fn write_block(part: &mut Component, coefficients: &[i16; 64], flat: bool, x: usize, y: usize) {
    let Some(quant) = &part.quant else { return };
    let stride = part.stride * 8;
    let out = &mut part.plane[y * 8 * stride + x * 8..];
    if flat {
        idct::flat_block(coefficients[0], quant[0], out, stride);
    } else {
        idct::block(coefficients, quant, out, stride);
    }
}

fn progressive(frame: &mut Frame, header: &Header, tables: &Tables, bits: &mut Bits<'_>) -> Result<(), Fault> {
    let (mcus, grid, alone) = layout(frame, header);
    let interval = tables.restart_interval;
    let parts = &header.parts;
    let components = &mut frame.components;
    let low = header.low;
    match (header.first, header.high) {
        (0, 0) => {
            let mut codes = Vec::new();
            for &(_, dc, _) in parts {
                codes.push(table(&tables.dc, dc)?);
            }
            walk(mcus, &grid, alone, interval, bits, |bits, memory, n, x, y| {
                bits.fill();
                memory.dc[n] = memory.dc[n].wrapping_add(dc_difference(bits, codes[n])?);
                of(components, parts[n].0, x, y)[0] = (memory.dc[n] << low) as i16;
                Ok(())
            })
        }
        (0, _) => walk(mcus, &grid, alone, interval, bits, |bits, _, n, x, y| {
            if bits.bit() {
                of(components, parts[n].0, x, y)[0] |= 1 << low;
            }
            Ok(())
        }),
        (_, 0) => {
            let ac = table(&tables.ac, parts[0].2)?;
            walk(mcus, &grid, alone, interval, bits, |bits, memory, n, x, y| {
                first_band(bits, ac, header, &mut memory.skip, of(components, parts[n].0, x, y))
            })
        }
        _ => {
            let ac = table(&tables.ac, parts[0].2)?;
            walk(mcus, &grid, alone, interval, bits, |bits, memory, n, x, y| {
                refine_band(bits, ac, header, &mut memory.skip, of(components, parts[n].0, x, y))
            })
        }
    }
}

/// The coefficients of block (x, y) of a component.
fn of(components: &mut [Component], part: usize, x: usize, y: usize) -> &mut [i16; 64] {
    let part = &mut components[part];
    &mut part.coefficients[y * part.stride + x]
}

/// The length of an end-of-band run of category `n`.
fn band_run(bits: &mut Bits<'_>, n: u32) -> i32 {
    (1 << n) + if n == 0 { 0 } else { bits.take(n) }
}

fn first_band(
    bits: &mut Bits<'_>,
    ac: &Huffman,
    header: &Header,
    skip: &mut i32,
    block: &mut [i16; 64],
) -> Result<(), Fault> {
    if *skip > 0 {
        *skip -= 1;
        return Ok(());
    }
    let mut k = header.first;
    while k <= header.last {
        bits.fill();
        let symbol = bits.symbol(ac)?;
        let (run, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 && run < 15 {
            *skip = band_run(bits, run as u32) - 1;
            break;
        }
        k += run;
        if size > 0 {
            let slot = ZIGZAG.get(k).ok_or(Fault::Corrupt("too many coefficients"))?;
            block[usize::from(*slot)] = (bits.value(size) << header.low) as i16;
        }
        k += 1;
    }
    Ok(())
}

fn refine_band(
    bits: &mut Bits<'_>,
    ac: &Huffman,
    header: &Header,
    skip: &mut i32,
    block: &mut [i16; 64],
) -> Result<(), Fault> {
    let one = 1i16 << header.low;
    let refine = |bits: &mut Bits<'_>, c: &mut i16| {
        if bits.bit() && *c & one == 0 {
            *c = c.wrapping_add(if *c >= 0 { one } else { -one });
        }
    };
    let mut k = header.first;
    while *skip == 0 && k <= header.last {
        bits.fill();
        let symbol = bits.symbol(ac)?;
        let (mut run, size) = (symbol >> 4, symbol & 15);
        let value = match size {
            0 if run < 15 => {
                *skip = band_run(bits, u32::from(run));
                break;
            }
            0 => 0,
            1 => {
                if bits.bit() {
                    one
                } else {
                    -one
                }
            }
            _ => return Err(Fault::Corrupt("a refinement code")),
        };
        // Passes over `run` coefficients that are still 0; those that are not get their next bit on the way.
        while k <= header.last {
            let c = &mut block[usize::from(ZIGZAG[k])];
            if *c != 0 {
                refine(bits, c);
            } else if run == 0 {
                *c = value;
                break;
            } else {
                run -= 1;
            }
            k += 1;
        }
        // libjpeg writes the value behind the band.
        if value != 0 && k > header.last {
            return Err(Fault::Corrupt("a run past the end of the band"));
        }
        k += 1;
    }
    if *skip > 0 {
        for &slot in ZIGZAG.get(k..=header.last).unwrap_or_default() {
            let c = &mut block[usize::from(slot)];
            if *c != 0 {
                refine(bits, c);
            }
        }
        *skip -= 1;
    }
    Ok(())
}

/// Checks that every component is complete, and turns the coefficients of a progressive file into samples.
pub fn finish(frame: &mut Frame) -> Result<(), Fault> {
    for part in &mut frame.components {
        if part.quant.is_none() {
            return Err(Fault::Corrupt("a component without a scan"));
        }
        if !frame.progressive {
            continue;
        }
        if part.missing.iter().any(|&m| m != Some(0)) {
            return Err(Fault::Corrupt("the last progressive scans are missing"));
        }
        let coefficients = std::mem::take(&mut part.coefficients);
        for (y, row) in coefficients.chunks_exact(part.stride).enumerate() {
            for (x, block) in row.iter().enumerate() {
                let flat = block[1..].iter().all(|&c| c == 0);
                write_block(part, block, flat, x, y);
            }
        }
    }
    Ok(())
}
