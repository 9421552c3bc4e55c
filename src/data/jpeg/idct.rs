//! libjpeg's accurate integer inverse DCT ("islow", after Loeffler, Ligtenberg and Moschytz 1989).
//!
//! The factorisation, the 13-bit constants and the rounding between the passes are what makes two decoders agree; they are
//! those of libjpeg's `jidctint.c`. What no whole file has, numbers beyond 16 bits, is wrapped and saturated where libjpeg-turbo's vector
//! code for x86 does it, so that damaged files too have the pixels that Pillow shows.

use medft_nn::vectorised;

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Eight rows of eight numbers.
type Square = [[i32; 8]; 8];

/// One pass down all columns, with `bits` fractional bits rounded away. The loop over the columns is the one that becomes
/// vectors.
#[inline(always)]
fn pass(x: &Square, bits: u32) -> Square {
    let mut out = [[0; 8]; 8];
    let short = |a: i32| i32::from(a as i16);
    let saturated = |a: i32| a.clamp(i32::from(i16::MIN), i32::from(i16::MAX));
    for i in 0..8 {
        let mul = |a: i32, constant: i32| a.wrapping_mul(constant);
        let add = |a: i32, b: i32| a.wrapping_add(b);
        let sub = |a: i32, b: i32| a.wrapping_sub(b);

        // Even part. Constants are round(c · 2¹³).
        let z1 = mul(add(x[2][i], x[6][i]), 4433); // 0.541196100
        let t2 = add(z1, mul(x[6][i], -15137)); // 1.847759065
        let t3 = add(z1, mul(x[2][i], 6270)); // 0.765366865
        let t0 = mul(short(add(x[0][i], x[4][i])), 1 << CONST_BITS);
        let t1 = mul(short(sub(x[0][i], x[4][i])), 1 << CONST_BITS);
        // The rounding constant rides along with the even part, which is in every output once.
        let half = 1 << (bits - 1);
        let (t0, t1) = (add(t0, half), add(t1, half));
        let (e0, e1, e2, e3) = (add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3));

        // Odd part.
        let (z1, z2) = (add(x[7][i], x[1][i]), add(x[5][i], x[3][i]));
        let (z3, z4) = (short(add(x[7][i], x[3][i])), short(add(x[5][i], x[1][i])));
        let z5 = mul(add(z3, z4), 9633); // 1.175875602
        let (z1, z2) = (mul(z1, -7373), mul(z2, -20995)); // 0.899976223, 2.562915447
        let z3 = add(mul(z3, -16069), z5); // 1.961570560
        let z4 = add(mul(z4, -3196), z5); // 0.390180644
        let o0 = add(mul(x[1][i], 12299), add(z1, z4)); // 1.501321110
        let o1 = add(mul(x[3][i], 25172), add(z2, z3)); // 3.072711026
        let o2 = add(mul(x[5][i], 16819), add(z2, z4)); // 2.053119869
        let o3 = add(mul(x[7][i], 2446), add(z1, z3)); // 0.298631336

        out[0][i] = saturated(add(e0, o0) >> bits);
        out[1][i] = saturated(add(e1, o1) >> bits);
        out[2][i] = saturated(add(e2, o2) >> bits);
        out[3][i] = saturated(add(e3, o3) >> bits);
        out[4][i] = saturated(sub(e3, o3) >> bits);
        out[5][i] = saturated(sub(e2, o2) >> bits);
        out[6][i] = saturated(sub(e1, o1) >> bits);
        out[7][i] = saturated(sub(e0, o0) >> bits);
    }
    out
}

#[inline(always)]
fn transpose(x: &Square) -> Square {
    let mut out = [[0; 8]; 8];
    for (i, out) in out.iter_mut().enumerate() {
        for (j, out) in out.iter_mut().enumerate() {
            *out = x[j][i];
        }
    }
    out
}

/// A dequantised coefficient, in 16 bits.
#[inline(always)]
fn product(coefficient: i16, quant: i32) -> i32 {
    i32::from(coefficient.wrapping_mul(quant as i16))
}

/// With the fractional bits of the first pass, in 16 bits.
#[inline(always)]
fn raised(v: i32) -> i32 {
    i32::from((v << PASS1_BITS) as i16)
}

vectorised! {
    /// Dequantises a row-major block and writes its 8×8 samples at the start of `out`, `stride` bytes a row.
    pub fn block(coefficients: &[i16; 64], quant: &[i32; 64], out: &mut [u8], stride: usize) {
        let mut x = [[0; 8]; 8];
        for ((x, c), q) in x.as_flattened_mut().iter_mut().zip(coefficients).zip(quant) {
            *x = product(*c, *q);
        }
        // libjpeg-turbo takes a shorter way, which wraps, where only the first row has coefficients.
        let flat = x[1..].iter().all(|row| row.iter().all(|&v| v == 0));
        let first = match flat {
            true => [x[0].map(raised); 8],
            false => pass(&x, CONST_BITS - PASS1_BITS),
        };
        let x = transpose(&first);
        let x = transpose(&pass(&x, CONST_BITS + PASS1_BITS + 3));
        for (row, x) in out.chunks_mut(stride).zip(&x) {
            for (o, v) in row.iter_mut().zip(x) {
                *o = v.wrapping_add(128).clamp(0, 255) as u8;
            }
        }
    }
}

/// As [`block`] where all coefficients but the first are 0.
pub(crate) fn flat_block(first: i16, quant: i32, out: &mut [u8], stride: usize) {
    let v = (((raised(product(first, quant)) + 16) >> 5) + 128).clamp(0, 255) as u8;
    for row in out.chunks_mut(stride).take(8) {
        row[..8].fill(v);
    }
}
