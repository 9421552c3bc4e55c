//! Cross-scan and cross-merge, and the selective scan from candle's ops, to compare the fused ones with and to stand in for them.
//!
//! The recurrence h_t = exp(α_t)·h_{t−1} + β_t is solved in pieces of `PIECE` steps by a small triangular matrix of
//! decays (all exponents ≤ 0, so nothing overflows), and the pieces' ends by the same recurrence again: some fifteen ops a
//! level and log₈ L levels, instead of L steps.

use super::{Orders, SelectiveScan};
use crate::cuda;
use crate::dispatch::uses_kernels;
use candle_core::{D, Result, Tensor};

/// Steps solved at once.
const PIECE: usize = 8;

fn index(order: impl Iterator<Item = u32>, like: &Tensor) -> Result<Tensor> {
    let order: Vec<u32> = order.collect();
    let n = order.len();
    Tensor::from_vec(order, n, like.device())
}

/// The map's positions in every scanning order: (B, L, D) → (B, K, L, D).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn cross_scan(x: &Tensor, orders: &Orders) -> Result<Tensor> {
    if uses_kernels(x) {
        return cuda::cross_scan(x, orders);
    }
    in_orders(x, orders)
}

/// [`cross_scan`] from candle's ops.
pub(crate) fn in_orders(x: &Tensor, orders: &Orders) -> Result<Tensor> {
    let views: Vec<Tensor> = orders
        .iter()
        .map(|o| x.index_select(&index(o.iter().copied(), x)?, 1))
        .collect::<Result<_>>()?;
    Tensor::stack(&views, 1)
}

/// The sum of all directions back in the map's order: (B, K, L, D) → (B, L, D).
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn cross_merge(y: &Tensor, orders: &Orders) -> Result<Tensor> {
    if uses_kernels(y) {
        return cuda::cross_merge(y, orders);
    }
    from_orders(y, orders)
}

/// [`cross_merge`] from candle's ops.
pub(crate) fn from_orders(y: &Tensor, orders: &Orders) -> Result<Tensor> {
    let mut sum: Option<Tensor> = None;
    for (k, o) in orders.iter().enumerate() {
        let mut place = vec![0u32; o.len()];
        for (t, &p) in o.iter().enumerate() {
            place[p as usize] = t as u32;
        }
        let v = y
            .narrow(1, k, 1)?
            .squeeze(1)?
            .contiguous()?
            .index_select(&index(place.into_iter(), y)?, 1)?;
        sum = Some(match sum {
            Some(s) => (s + v)?,
            None => v,
        });
    }
    sum.map_or_else(|| candle_core::bail!("cross merge without directions"), Ok)
}

/// ln(1 + e^x), accurate for x ≪ 0 too: ln(1 + z) = 2·artanh(z/(2+z)) by its series.
fn softplus(x: &Tensor) -> Result<Tensor> {
    let z = x.abs()?.neg()?.exp()?;
    let s = (&z / (&z + 2.0)?)?;
    let w = s.sqr()?;
    let mut p = w.affine(1.0 / 15.0, 1.0 / 13.0)?;
    for k in [11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
        p = ((p * &w)? + 1.0 / k)?;
    }
    x.relu()? + (s * p)? * 2.0
}

/// h of h_t = exp(α_t)·h_{t−1} + β_t from h = 0, along the last axis of (M, L).
fn recurrence(alpha: &Tensor, beta: &Tensor) -> Result<Tensor> {
    let (m, l) = alpha.dims2()?;
    let pieces = l.div_ceil(PIECE);
    let cut = |x: &Tensor| {
        x.pad_with_zeros(1, 0, pieces * PIECE - l)?
            .contiguous()?
            .reshape((m * pieces, PIECE))
    };
    let (alpha, beta) = (cut(alpha)?, cut(beta)?);
    let table = |f: fn(usize, usize) -> f32| -> Result<Tensor> {
        let v: Vec<f32> = (0..PIECE * PIECE).map(|i| f(i / PIECE, i % PIECE)).collect();
        Tensor::from_vec(v, (PIECE, PIECE), alpha.device())?.to_dtype(alpha.dtype())
    };
    // S_t = α_1 + … + α_t; the share of β_s in h_t decays by exp(S_t − S_s), for s ≤ t.
    let sums = alpha.matmul(&table(|s, t| f32::from(u8::from(s <= t)))?)?;
    let later = table(|t, s| if s <= t { 0.0 } else { -1e30 })?;
    let decay = sums
        .unsqueeze(2)?
        .broadcast_sub(&sums.unsqueeze(1)?)?
        .broadcast_add(&later)?
        .exp()?;
    let h = decay.broadcast_mul(&beta.unsqueeze(1)?)?.sum(D::Minus1)?;
    let h = if pieces > 1 {
        let ends = |x: &Tensor| x.narrow(1, PIECE - 1, 1)?.contiguous()?.reshape((m, pieces));
        let carried = recurrence(&ends(&sums)?, &ends(&h)?)?;
        let before = carried.narrow(1, 0, pieces - 1)?.pad_with_zeros(1, 1, 0)?;
        let before = before.contiguous()?.reshape((m * pieces, 1))?;
        (h + sums.exp()?.broadcast_mul(&before)?)?
    } else {
        h
    };
    h.reshape((m, pieces * PIECE))?.narrow(1, 0, l)?.contiguous()
}

/// [`SelectiveScan::run`] on any device.
pub(crate) fn run(s: &SelectiveScan<'_>, orders: &Orders) -> Result<Tensor> {
    let (b, l) = (s.u.dim(0)?, orders.positions());
    let (k, d, r) = s.dt_weight.dims3()?;
    let n = s.a_log.dim(1)?;
    let q = r + 2 * n;
    let u = in_orders(&s.u.reshape((b, l, d))?, orders)?;
    // (B, L, K·Q) → (B, K, L, Q): each direction reads its own columns, in its own order.
    let flat = s.projected.reshape((b, l, k * q))?;
    let columns: Vec<Tensor> = orders
        .iter()
        .enumerate()
        .map(|(i, o)| {
            let own = flat.narrow(2, i * q, q)?.contiguous()?;
            own.index_select(&index(o.iter().copied(), &own)?, 1)
        })
        .collect::<Result<_>>()?;
    let projected = Tensor::stack(&columns, 1)?;
    let part = |at: usize, len: usize| projected.narrow(3, at, len)?.contiguous();
    let raw = part(0, r)?.broadcast_matmul(&s.dt_weight.transpose(1, 2)?.contiguous()?.unsqueeze(0)?)?;
    let dt = softplus(&raw.broadcast_add(&s.dt_bias.reshape((1, k, 1, d))?)?)?;
    // (B, K, N, D, L) for the recurrence along L.
    let along = |x: &Tensor| x.transpose(2, 3)?.contiguous()?.reshape((b, k, 1, d, l));
    let state = |at: usize| part(at, n)?.transpose(2, 3)?.contiguous()?.reshape((b, k, n, 1, l));
    let a = s
        .a_log
        .exp()?
        .neg()?
        .reshape((k, d, n))?
        .transpose(1, 2)?
        .contiguous()?;
    let alpha = along(&dt)?.broadcast_mul(&a.reshape((1, k, n, d, 1))?)?;
    let beta = along(&(&dt * &u)?)?.broadcast_mul(&state(r)?)?;
    let flat = |x: Tensor| x.contiguous()?.reshape((b * k * n * d, l));
    let h = recurrence(&flat(alpha)?, &flat(beta)?)?.reshape((b, k, n, d, l))?;
    let y = h.broadcast_mul(&state(r + n)?)?.sum(2)?.transpose(2, 3)?;
    let y = (y + u.broadcast_mul(&s.skip.reshape((1, k, 1, d))?)?)?;
    from_orders(&y, orders)?.reshape(s.u.shape())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{check, random};
    use candle_core::Device;

    /// Operands of random values: u, projected, dt_weight, dt_bias, a_log, skip.
    fn shapes(b: usize, l: usize, d: usize, k: usize, n: usize, r: usize) -> [Vec<usize>; 6] {
        [
            vec![b, l, d],
            vec![b, l, k * (r + 2 * n)],
            vec![k, d, r],
            vec![k, d],
            vec![k * d, n],
            vec![k * d],
        ]
    }

    fn scan(x: &[Tensor]) -> SelectiveScan<'_> {
        SelectiveScan {
            u: &x[0],
            projected: &x[1],
            dt_weight: &x[2],
            dt_bias: &x[3],
            a_log: &x[4],
            skip: &x[5],
        }
    }

    #[test]
    fn selective_scans() {
        for (h, w, d, n, r) in [(3, 4, 5, 1, 2), (2, 35, 3, 3, 1), (2, 2, 70, 2, 3)] {
            let mut s = shapes(2, h * w, d, 4, n, r);
            for operand in &mut s[..2] {
                operand.splice(1..2, [h, w]);
            }
            let s: Vec<&[usize]> = s.iter().map(Vec::as_slice).collect();
            check(&format!("scan of {h}×{w}"), &s, |x| scan(x).run(&Orders::cross(h, w)));
        }
        let s = shapes(1, 11, 3, 1, 2, 2);
        let s: Vec<&[usize]> = s.iter().map(Vec::as_slice).collect();
        check("scan, composed", &s, |x| run(&scan(x), &Orders::single(11)));
    }

    #[test]
    fn composed_and_fused_scans_agree() {
        for (h, w, n) in [(3, 4, 1), (9, 17, 2)] {
            let s = shapes(2, h * w, 6, 4, n, 2);
            let x: Vec<Tensor> = s.iter().enumerate().map(|(i, s)| random(s, i as u32)).collect();
            let orders = Orders::cross(h, w);
            let (a, b) = (scan(&x).run(&orders).unwrap(), run(&scan(&x), &orders).unwrap());
            let d = (&a - b).unwrap().abs().unwrap().max_all().unwrap();
            let m = a.abs().unwrap().max_all().unwrap();
            let (d, m) = (d.to_scalar::<f64>().unwrap(), m.to_scalar::<f64>().unwrap());
            assert!(d < 1e-8 * m, "{d:e} of {m:e}");
        }
    }

    #[test]
    fn orders_of_a_map() {
        let x = Tensor::arange(0u32, 6, &Device::Cpu)
            .unwrap()
            .reshape((1, 6, 1))
            .unwrap();
        let y: Vec<u32> = cross_scan(&x, &Orders::cross(2, 3))
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap();
        let expected = [0, 1, 2, 3, 4, 5, 0, 3, 1, 4, 2, 5, 5, 4, 3, 2, 1, 0, 5, 2, 4, 1, 3, 0];
        assert_eq!(y, expected);
    }
}
