//! Attention as batched products around one softmax kernel; heads are cut out of, and put back into, packed projections.

use super::launch::{Arg, Value, Work, launch, tag};
use super::node::{cast, compute_type, node1, node3};
use candle_core::{Result, Tensor, bail};

/// Sizes of a call: images, heads, width of a head.
#[derive(Clone, Copy)]
struct Heads {
    b: usize,
    h: usize,
    d: usize,
}

impl Heads {
    fn scale(self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }

    /// Part `part` of `packed` (B, N, parts, H, d) as (B·H, N, d).
    fn split(self, packed: &Tensor, n: usize, (part, parts): (usize, usize)) -> Result<Tensor> {
        let count = self.b * self.h * n * self.d;
        let mut split = Value::new((self.b * self.h, n, self.d), packed.dtype(), packed.device())?;
        launch(
            packed.device(),
            ("elementwise", &format!("split_heads_{}", tag(packed.dtype())?)),
            Work::Items(count),
            &mut [
                Arg::In(packed),
                Arg::Out(&mut split),
                Arg::U64(count),
                Arg::U32(n),
                Arg::U32(parts),
                Arg::U32(part),
                Arg::U32(self.h),
                Arg::U32(self.d),
            ],
            &[],
        )?;
        Ok(split.tensor())
    }

    /// The reverse of [`Self::split`].
    fn merge(self, split: &Tensor, packed: &mut Value, n: usize, (part, parts): (usize, usize)) -> Result<()> {
        let count = self.b * self.h * n * self.d;
        launch(
            split.device(),
            ("elementwise", &format!("merge_heads_{}", tag(split.dtype())?)),
            Work::Items(count),
            &mut [
                Arg::In(split),
                Arg::Out(packed),
                Arg::U64(count),
                Arg::U32(n),
                Arg::U32(parts),
                Arg::U32(part),
                Arg::U32(self.h),
                Arg::U32(self.d),
            ],
            &[],
        )
    }

    /// As (B, N, H·d).
    fn merged(self, split: &Tensor, n: usize) -> Result<Value> {
        let mut y = Value::new((self.b, n, self.h * self.d), split.dtype(), split.device())?;
        self.merge(split, &mut y, n, (0, 1))?;
        Ok(y)
    }

    /// Probabilities (B·H, N, M) and output (B·H, N, d).
    fn forward(self, [q, k, v]: [&Tensor; 3]) -> Result<(Tensor, Tensor)> {
        let mut p = Value::product(q, &k.transpose(1, 2)?, false)?;
        let (rows, m) = (p.dims()[0] * p.dims()[1], p.dims()[2]);
        launch(
            q.device(),
            ("softmax", &format!("softmax_{}", tag(q.dtype())?)),
            Work::Rows(rows),
            &mut [Arg::Out(&mut p), Arg::U64(rows), Arg::U32(m), Arg::F64(self.scale())],
            &[],
        )?;
        let p = p.tensor();
        let o = Value::product(&p, v, false)?.tensor();
        Ok((p, o))
    }

    /// Gradients of q, k, v from that of the output, all (B·H, ·, d).
    fn backward(self, p: &Tensor, [q, k, v]: [&Tensor; 3], d_o: &Tensor) -> Result<[Tensor; 3]> {
        let dv = Value::product(&p.transpose(1, 2)?, d_o, false)?.tensor();
        let mut ds = Value::product(d_o, &v.transpose(1, 2)?, false)?;
        let (rows, m) = (ds.dims()[0] * ds.dims()[1], ds.dims()[2]);
        launch(
            q.device(),
            ("softmax", &format!("softmax_grad_{}", tag(q.dtype())?)),
            Work::Rows(rows),
            &mut [
                Arg::In(p),
                Arg::Out(&mut ds),
                Arg::U64(rows),
                Arg::U32(m),
                Arg::F64(self.scale()),
            ],
            &[],
        )?;
        let ds = ds.tensor();
        let dq = Value::product(&ds, k, false)?.tensor();
        let dk = Value::product(&ds.transpose(1, 2)?, q, false)?.tensor();
        Ok([dq, dk, dv])
    }
}

/// Attention over a packed projection (B, N, 3·H·d), q | k | v; returns (B, N, H·d).
pub fn attention_packed(qkv: &Tensor, h: usize) -> Result<Tensor> {
    let (b, n, c) = qkv.dims3()?;
    if !c.is_multiple_of(3 * h) {
        bail!("attention: a width of {c} does not split into q, k, v of {h} heads");
    }
    let heads = Heads { b, h, d: c / 3 / h };
    let qkv = cast(qkv, compute_type(qkv))?.contiguous()?;
    let part = move |qkv: &Tensor, i: usize| heads.split(qkv, n, (i, 3));
    let (p, o) = heads.forward([&part(&qkv, 0)?, &part(&qkv, 1)?, &part(&qkv, 2)?])?;
    let y = heads.merged(&o, n)?;
    node1("attention", &qkv, y, move |[qkv], _, dy| {
        let d_o = heads.split(dy, n, (0, 1))?;
        let parts = heads.backward(&p, [&part(qkv, 0)?, &part(qkv, 1)?, &part(qkv, 2)?], &d_o)?;
        let mut grad = Value::new(qkv.shape(), qkv.dtype(), qkv.device())?;
        for (i, g) in parts.iter().enumerate() {
            heads.merge(g, &mut grad, n, (i, 3))?;
        }
        Ok([Some(grad.tensor())])
    })
}

/// Attention of q (B, N, H, d) over k, v (B, M, H, d); returns (B, N, H·d).
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, n, h, d) = q.dims4()?;
    let m = k.dim(1)?;
    let heads = Heads { b, h, d };
    let dtype = compute_type(q);
    let operand = |x: &Tensor| cast(x, dtype)?.contiguous();
    let (q, k, v) = (operand(q)?, operand(k)?, operand(v)?);
    let split = move |[q, k, v]: [&Tensor; 3]| -> Result<[Tensor; 3]> {
        Ok([
            heads.split(q, n, (0, 1))?,
            heads.split(k, m, (0, 1))?,
            heads.split(v, m, (0, 1))?,
        ])
    };
    let [sq, sk, sv] = split([&q, &k, &v])?;
    let (p, o) = heads.forward([&sq, &sk, &sv])?;
    let y = heads.merged(&o, n)?;
    node3("attention", [&q, &k, &v], y, move |args, _, dy| {
        let [sq, sk, sv] = split(args)?;
        let d_o = heads.split(dy, n, (0, 1))?;
        let [dq, dk, dv] = heads.backward(&p, [&sq, &sk, &sv], &d_o)?;
        Ok([
            Some(heads.merged(&dq, n)?.tensor()),
            Some(heads.merged(&dk, m)?.tensor()),
            Some(heads.merged(&dv, m)?.tensor()),
        ])
    })
}
