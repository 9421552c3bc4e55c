//! libjpeg's accurate integer inverse DCT ("islow", after Loeffler, Ligtenberg and Moschytz 1989).
//!
//! The factorisation, the 13-bit constants and the rounding between the passes are what makes two decoders agree; they are
//! those of libjpeg's `jidctint.c`. Each step works on the eight columns at once.

use crate::data::simd::wide;

/// Eight numbers that share every operation.
type Lanes = [i32; 8];

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].wrapping_add(b[i]))
}

#[inline(always)]
fn sub(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
}

#[inline(always)]
fn mul(a: Lanes, c: i32) -> Lanes {
    a.map(|x| x.wrapping_mul(c))
}

/// One pass along the first index; the result still has `CONST_BITS` more fractional bits.
#[inline(always)]
fn pass(x: [Lanes; 8]) -> [Lanes; 8] {
    // Even part. Constants are round(c · 2¹³).
    let z1 = mul(add(x[2], x[6]), 4433); // 0.541196100
    let t2 = add(z1, mul(x[6], -15137)); // 1.847759065
    let t3 = add(z1, mul(x[2], 6270)); // 0.765366865
    let t0 = mul(add(x[0], x[4]), 1 << CONST_BITS);
    let t1 = mul(sub(x[0], x[4]), 1 << CONST_BITS);
    let even = [add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3)];

    // Odd part.
    let z5 = mul(add(add(x[7], x[3]), add(x[5], x[1])), 9633); // 1.175875602
    let z1 = mul(add(x[7], x[1]), -7373); // 0.899976223
    let z2 = mul(add(x[5], x[3]), -20995); // 2.562915447
    let z3 = add(mul(add(x[7], x[3]), -16069), z5); // 1.961570560
    let z4 = add(mul(add(x[5], x[1]), -3196), z5); // 0.390180644
    let odd = [
        add(mul(x[1], 12299), add(z1, z4)), // 1.501321110
        add(mul(x[3], 25172), add(z2, z3)), // 3.072711026
        add(mul(x[5], 16819), add(z2, z4)), // 2.053119869
        add(mul(x[7], 2446), add(z1, z3)),  // 0.298631336
    ];
    [
        add(even[0], odd[0]),
        add(even[1], odd[1]),
        add(even[2], odd[2]),
        add(even[3], odd[3]),
        sub(even[3], odd[3]),
        sub(even[2], odd[2]),
        sub(even[1], odd[1]),
        sub(even[0], odd[0]),
    ]
}

#[inline(always)]
fn descale(x: Lanes, bits: u32) -> Lanes {
    x.map(|v| v.wrapping_add(1 << (bits - 1)) >> bits)
}

#[inline(always)]
fn transpose(x: [Lanes; 8]) -> [Lanes; 8] {
    std::array::from_fn(|i| std::array::from_fn(|j| x[j][i]))
}

wide! {
    /// Dequantises a row-major block and writes its 8×8 samples at the start of `out`, `stride` bytes a row.
    pub fn block(coefficients: &[i16; 64], quant: &[i32; 64], out: &mut [u8], stride: usize) {
        let mut x = [[0; 8]; 8];
        for ((x, c), q) in x.as_flattened_mut().iter_mut().zip(coefficients).zip(quant) {
            *x = i32::from(*c).wrapping_mul(*q);
        }
        let x = pass(x).map(|v| descale(v, CONST_BITS - PASS1_BITS));
        let x = pass(transpose(x)).map(|v| descale(v, CONST_BITS + PASS1_BITS + 3));
        for (row, x) in out.chunks_mut(stride).zip(transpose(x)) {
            for (o, v) in row.iter_mut().zip(x) {
                *o = v.wrapping_add(128).clamp(0, 255) as u8;
            }
        }
    }
}

/// As [`block`] where all coefficients but the first are 0.
pub fn flat_block(first: i16, quant: i32, out: &mut [u8], stride: usize) {
    let v = ((i32::from(first).wrapping_mul(quant).wrapping_add(4) >> 3) + 128).clamp(0, 255) as u8;
    for row in out.chunks_mut(stride).take(8) {
        row[..8].fill(v);
    }
}
