//! Attention: in 16 bits without scores in memory ([`fused`]), in float32 and float64 with them ([`scores`]).

mod fused;
mod scores;
mod sizes;

use super::cast::cast;
use super::composed::{composed1, composed3, instead_of};
use crate::autograd::{node1, node3};
use crate::fallback::Kernel;
use crate::precision::compute_type;
use crate::reference;
use candle_core::{Result, Tensor, bail};
use sizes::Sizes;

/// What computes attention of an operand's type.
fn kernel(x: &Tensor) -> Kernel {
    if fused::takes(x) {
        Kernel::ShortAttention
    } else {
        Kernel::Attention
    }
}

/// Attention over a packed projection (B, N, 3·H·d), q | k | v; returns (B, N, H·d).
pub(crate) fn attention_packed(qkv: &Tensor, h: usize) -> Result<Tensor> {
    let (b, n, c) = qkv.dims3()?;
    if !c.is_multiple_of(3 * h) {
        bail!("attention: a width of {c} does not split into q, k, v of {h} heads");
    }
    let d = c / 3 / h;
    let sizes = Sizes { b, n, m: n, h, d };
    let qkv = cast(qkv, compute_type(qkv))?.contiguous()?;
    if instead_of(kernel(&qkv), qkv.device()) {
        return composed1("attention", &qkv, qkv.dtype(), move |[qkv]| {
            let part = |i| qkv.narrow(2, i * h * d, h * d)?.contiguous()?.reshape((b, n, h, d));
            reference::attention(&part(0)?, &part(1)?, &part(2)?)
        });
    }
    if fused::takes(&qkv) {
        let (y, lse) = sizes.fused(&[&qkv])?;
        return node1("attention", &qkv, y, move |args, y, dy| {
            Ok([Some(sizes.fused_packed_grad(args[0], [y, dy, &lse])?.tensor())])
        });
    }
    let part = move |qkv: &Tensor, i: usize| sizes.split(qkv, n, (i, 3));
    let (p, o) = sizes.forward([&part(&qkv, 0)?, &part(&qkv, 1)?, &part(&qkv, 2)?])?;
    let y = sizes.merged(&o, n)?;
    node1("attention", &qkv, y, move |[qkv], _, dy| {
        let d_o = sizes.split(dy, n, (0, 1))?;
        let parts = sizes.backward(&p, [&part(qkv, 0)?, &part(qkv, 1)?, &part(qkv, 2)?], &d_o)?;
        Ok([Some(sizes.packed(&parts, qkv)?.tensor())])
    })
}

/// Attention of q (B, N, H, d) over k, v (B, M, H, d); returns (B, N, H·d).
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, n, h, d) = q.dims4()?;
    let m = k.dim(1)?;
    let sizes = Sizes { b, n, m, h, d };
    let dtype = compute_type(q);
    let operand = |x: &Tensor| cast(x, dtype)?.contiguous();
    let (q, k, v) = (operand(q)?, operand(k)?, operand(v)?);
    if instead_of(kernel(&q), q.device()) {
        return composed3("attention", [&q, &k, &v], dtype, |[q, k, v]| {
            reference::attention(q, k, v)
        });
    }
    if fused::takes(&q) {
        let (y, lse) = sizes.fused(&[&q, &k, &v])?;
        return node3("attention", [&q, &k, &v], y, move |args, y, dy| {
            let grads = sizes.fused_grads(args, [y, dy, &lse])?;
            Ok(grads.map(|g| Some(g.tensor())))
        });
    }
    let split = move |[q, k, v]: [&Tensor; 3]| -> Result<[Tensor; 3]> {
        Ok([
            sizes.split(q, n, (0, 1))?,
            sizes.split(k, m, (0, 1))?,
            sizes.split(v, m, (0, 1))?,
        ])
    };
    let [sq, sk, sv] = split([&q, &k, &v])?;
    let (p, o) = sizes.forward([&sq, &sk, &sv])?;
    let y = sizes.merged(&o, n)?;
    node3("attention", [&q, &k, &v], y, move |args, _, dy| {
        let [sq, sk, sv] = split(args)?;
        let d_o = sizes.split(dy, n, (0, 1))?;
        let [dq, dk, dv] = sizes.backward(&p, [&sq, &sk, &sv], &d_o)?;
        Ok([
            Some(sizes.merged(&dq, n)?.tensor()),
            Some(sizes.merged(&dk, m)?.tensor()),
            Some(sizes.merged(&dv, m)?.tensor()),
        ])
    })
}
