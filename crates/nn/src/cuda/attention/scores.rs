//! Attention in float32 and float64 as batched products around one softmax kernel; heads are cut out of, and put back into,
//! packed projections.

use super::sizes::Sizes;
use crate::autograd::Value;
use crate::cuda::launch::{Arg, Spread, launch, tag};
use candle_core::{Result, Tensor};

impl Sizes {
    /// Part `part` of `packed` (B, N, parts, H, d) as (B·H, N, d).
    pub(crate) fn split(self, packed: &Tensor, n: usize, part: (usize, usize)) -> Result<Tensor> {
        let mut split = Value::new((self.b * self.h, n, self.d), packed.dtype(), packed.device())?;
        self.move_heads("split", packed, &mut split, n, part)?;
        Ok(split.tensor())
    }

    /// Moves the heads of part `part` out of (`split`) or into (`merge`) a projection of `parts`; `n` rows an image.
    fn move_heads(
        self,
        way: &str,
        from: &Tensor,
        to: &mut Value,
        n: usize,
        (part, parts): (usize, usize),
    ) -> Result<()> {
        let count = self.b * self.h * n * self.d;
        // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
        unsafe {
            launch(
                from.device(),
                ("elementwise", &format!("{way}_heads_{}", tag(from.dtype())?)),
                Spread::Items(count),
                &mut [
                    Arg::In(from),
                    Arg::Out(to),
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
    }

    /// As (B, N, H·d).
    pub(crate) fn merged(self, split: &Tensor, n: usize) -> Result<Value> {
        let mut y = Value::new((self.b, n, self.h * self.d), split.dtype(), split.device())?;
        self.move_heads("merge", split, &mut y, n, (0, 1))?;
        Ok(y)
    }

    /// Parts (B·H, N, d) as a packed projection like `qkv`.
    pub(crate) fn packed(self, parts: &[Tensor; 3], qkv: &Tensor) -> Result<Value> {
        let mut packed = Value::new(qkv.shape(), qkv.dtype(), qkv.device())?;
        for (i, part) in parts.iter().enumerate() {
            self.move_heads("merge", part, &mut packed, self.n, (i, 3))?;
        }
        Ok(packed)
    }

    /// Probabilities (B·H, N, M) and output (B·H, N, d).
    pub(crate) fn forward(self, [q, k, v]: [&Tensor; 3]) -> Result<(Tensor, Tensor)> {
        let mut p = Value::product(q, &k.transpose(1, 2)?, false)?;
        let (rows, m) = (p.dims()[0] * p.dims()[1], p.dims()[2]);
        // SAFETY: the arguments are those of kernels/softmax.cu, for operands of these sizes.
        unsafe {
            launch(
                q.device(),
                ("softmax", &format!("softmax_{}", tag(q.dtype())?)),
                Spread::Rows(rows),
                &mut [Arg::Out(&mut p), Arg::U64(rows), Arg::U32(m), Arg::F64(self.scale())],
                &[],
            )
        }?;
        let p = p.tensor();
        let o = Value::product(&p, v, false)?.tensor();
        Ok((p, o))
    }

    /// Gradients of q, k, v from that of the output, all (B·H, ·, d).
    pub(crate) fn backward(self, p: &Tensor, [q, k, v]: [&Tensor; 3], d_o: &Tensor) -> Result<[Tensor; 3]> {
        let dv = Value::product(&p.transpose(1, 2)?, d_o, false)?.tensor();
        let mut ds = Value::product(d_o, &v.transpose(1, 2)?, false)?;
        let (rows, m) = (ds.dims()[0] * ds.dims()[1], ds.dims()[2]);
        // SAFETY: the arguments are those of kernels/softmax.cu, for operands of these sizes.
        unsafe {
            launch(
                q.device(),
                ("softmax", &format!("softmax_grad_{}", tag(q.dtype())?)),
                Spread::Rows(rows),
                &mut [
                    Arg::In(p),
                    Arg::Out(&mut ds),
                    Arg::U64(rows),
                    Arg::U32(m),
                    Arg::F64(self.scale()),
                ],
                &[],
            )
        }?;
        let ds = ds.tensor();
        let dq = Value::product(&ds, k, false)?.tensor();
        let dk = Value::product(&ds.transpose(1, 2)?, q, false)?.tensor();
        Ok([dq, dk, dv])
    }
}
