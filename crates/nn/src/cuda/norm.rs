//! LayerNorm and RMSNorm.

use super::composed::{composed2, composed3, instead_of};
use super::launch::{Arg, Spread, launch, row_blocks, sum_parts, tag};
use crate::autograd::{Value, node2_adding, node3_adding, note_short};
use crate::fallback::Kernel;
use crate::precision::computed_in;
use crate::reference;
use candle_core::{DType, Result, Tensor, bail};

/// x in a type that a norm with results in `out` reads: itself, or float32.
fn operand(x: &Tensor, out: DType) -> Result<Tensor> {
    if x.dtype() == out || x.dtype() == computed_in(out) {
        x.contiguous()
    } else {
        super::cast(x, computed_in(out))?.contiguous()
    }
}

fn name(kernel: &str, x: &Tensor, out: DType) -> Result<String> {
    Ok(format!("{kernel}_{}_{}", tag(x.dtype())?, tag(out)?))
}

/// A warp a row, or two narrow ones (`by_width` in kernels/norm.cu).
fn rows_of(rows: usize, d: usize, x: &Tensor, out: DType) -> Spread {
    let pack = 16 / x.dtype().size_in_bytes().max(out.size_in_bytes());
    let narrow = pack > 2 && d.is_multiple_of(pack) && d <= 2 * 32 * pack;
    Spread::Rows(if narrow { rows.div_ceil(2) } else { rows })
}

fn sizes(op: &str, x: &Tensor, w: &Tensor) -> Result<(usize, usize)> {
    let d = w.elem_count();
    if x.dims().last() != Some(&d) {
        bail!("{op}: x {:?}, weight {:?}", x.dims(), w.dims());
    }
    Ok((x.elem_count() / d.max(1), d))
}

/// LayerNorm of x (…, D) with results of type `out`.
pub(crate) fn layer_norm(x: &Tensor, w: &Tensor, b: &Tensor, eps: f64, out: DType) -> Result<Tensor> {
    let (rows, d) = sizes("layer_norm", x, w)?;
    let (x, w, b) = (operand(x, out)?, w.contiguous()?, b.contiguous()?);
    if instead_of(Kernel::LayerNorm, x.device()) {
        return composed3("layer_norm", [&x, &w, &b], out, move |[x, w, b]| {
            reference::layer_norm(x, w, b, eps)
        });
    }
    let mut y = Value::new(x.shape(), out, x.device())?;
    let mut stats = Value::new((rows, 2), w.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("norm", &name("layer_norm", &x, out)?),
            rows_of(rows, d, &x, out),
            &mut [
                Arg::In(&x),
                Arg::In(&w),
                Arg::In(&b),
                Arg::Out(&mut y),
                Arg::Out(&mut stats),
                Arg::U64(rows),
                Arg::U32(d),
                Arg::F64(eps),
            ],
            &[],
        )
    }?;
    let saved = Saved {
        form: "layer_norm",
        sums: 2,
        stats: stats.tensor(),
        out,
    };
    node3_adding("layer_norm", [&x, &w, &b], y, move |[x, w, b], _, dy, onto| {
        let (dx, both) = saved.backward(x, w, dy, onto, w.track_op() || b.track_op())?;
        let part = |i| both.as_ref().map(|t| t.get(i)).transpose();
        Ok([dx, part(0)?, part(1)?])
    })
}

/// RMSNorm of x (…, D) with results of type `out`.
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64, out: DType) -> Result<Tensor> {
    let (rows, d) = sizes("rms_norm", x, w)?;
    let (x, w) = (operand(x, out)?, w.contiguous()?);
    if instead_of(Kernel::RmsNorm, x.device()) {
        return composed2("rms_norm", [&x, &w], out, move |[x, w]| reference::rms_norm(x, w, eps));
    }
    let mut y = Value::new(x.shape(), out, x.device())?;
    let mut stats = Value::new(rows, w.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("norm", &name("rms_norm", &x, out)?),
            rows_of(rows, d, &x, out),
            &mut [
                Arg::In(&x),
                Arg::In(&w),
                Arg::Out(&mut y),
                Arg::Out(&mut stats),
                Arg::U64(rows),
                Arg::U32(d),
                Arg::F64(eps),
            ],
            &[],
        )
    }?;
    let saved = Saved {
        form: "rms_norm",
        sums: 1,
        stats: stats.tensor(),
        out,
    };
    node2_adding("rms_norm", [&x, &w], y, move |[x, w], _, dy, onto| {
        let (dx, dw) = saved.backward(x, w, dy, onto, w.track_op())?;
        Ok([dx, dw.map(|t| t.get(0)).transpose()?])
    })
}

/// What the backward pass needs of the forward pass.
struct Saved {
    form: &'static str,
    /// Sums over rows that the parameters' gradients are.
    sums: usize,
    stats: Tensor,
    /// The result's type.
    out: DType,
}

impl Saved {
    /// The gradient at `x`, where it trains, with `onto` added, and the gradients of the parameters (sums, D) where they are wanted;
    /// of a float32 gradient at `x` a copy in the result's 16-bit type is noted, which the layer before reads.
    fn backward(
        &self,
        x: &Tensor,
        w: &Tensor,
        dy: &Tensor,
        onto: Option<&Tensor>,
        parameters: bool,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (device, d) = (x.device(), w.elem_count());
        let rows = x.elem_count() / d.max(1);
        let blocks = row_blocks(rows);
        let new = |dtype, wanted: bool| wanted.then(|| Value::new(x.shape(), dtype, device)).transpose();
        let short = x.dtype() == DType::F32 && self.out != x.dtype();
        let mut dx = new(x.dtype(), x.track_op())?;
        let mut copy = new(self.out, x.track_op() && short)?;
        let mut parts = if parameters {
            Some(Value::new((blocks, self.sums, d), w.dtype(), device)?)
        } else {
            None
        };
        fn written(v: &mut Option<Value>) -> Arg<'_> {
            v.as_mut().map_or(Arg::U64(0), Arg::Out)
        }
        // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
        unsafe {
            launch(
                device,
                ("norm", &name(&format!("{}_backward", self.form), x, self.out)?),
                Spread::Blocks(blocks),
                &mut [
                    Arg::In(x),
                    Arg::In(w),
                    Arg::In(&self.stats),
                    Arg::In(dy),
                    onto.map_or(Arg::U64(0), Arg::In),
                    written(&mut dx),
                    written(&mut copy),
                    written(&mut parts),
                    Arg::U64(rows),
                    Arg::U32(d),
                    Arg::U32(blocks),
                ],
                &[],
            )
        }?;
        let dx = dx.map(Value::tensor);
        if let (Some(dx), Some(copy)) = (&dx, copy) {
            note_short(dx, copy.tensor());
        }
        let sum = |parts: Value| sum_parts(&parts.tensor(), 1, blocks, self.sums * d)?.reshape((self.sums, d));
        Ok((dx, parts.map(sum).transpose()?.map(Value::tensor)))
    }
}
