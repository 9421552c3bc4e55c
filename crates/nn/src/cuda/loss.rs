//! Losses over float32 logits; the gradient is formed in the forward pass.

use super::launch::{Arg, Spread, launch, tag};
use crate::autograd::{Value, node1};
use candle_core::{Result, Tensor, bail};

/// Mean cross-entropy of logits (B, C) against classes (B), u32.
pub(crate) fn cross_entropy(logits: &Tensor, classes: &Tensor) -> Result<Tensor> {
    let (rows, n) = logits.dims2()?;
    if classes.dims() != [rows] {
        bail!(
            "cross entropy: logits {:?}, classes {:?}",
            logits.dims(),
            classes.dims()
        );
    }
    let (x, classes) = (crate::precision::to_float(logits)?.contiguous()?, classes.contiguous()?);
    let mut losses = Value::new(rows, x.dtype(), x.device())?;
    let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/softmax.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("softmax", &format!("cross_entropy_{}", tag(x.dtype())?)),
            Spread::Rows(rows),
            &mut [
                Arg::In(&x),
                Arg::In(&classes),
                Arg::Out(&mut losses),
                Arg::Out(&mut dx),
                Arg::U64(rows),
                Arg::U32(n),
            ],
            &[],
        )
    }?;
    mean("cross_entropy", &x, losses, dx)
}

/// Mean binary cross-entropy with logits (B, L) against 0/1 labels (B, L).
pub(crate) fn bce_with_logits(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    if logits.dims() != labels.dims() {
        bail!(
            "binary cross entropy: logits {:?}, labels {:?}",
            logits.dims(),
            labels.dims()
        );
    }
    let x = crate::precision::to_float(logits)?.contiguous()?;
    let labels = labels.to_dtype(x.dtype())?.contiguous()?;
    let n = x.elem_count();
    let mut losses = Value::new(n, x.dtype(), x.device())?;
    let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/softmax.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("softmax", &format!("bce_with_logits_{}", tag(x.dtype())?)),
            Spread::Items(n),
            &mut [
                Arg::In(&x),
                Arg::In(&labels),
                Arg::Out(&mut losses),
                Arg::Out(&mut dx),
                Arg::U64(n),
            ],
            &[],
        )
    }?;
    mean("bce_with_logits", &x, losses, dx)
}

fn mean(name: &'static str, x: &Tensor, losses: Value, dx: Value) -> Result<Tensor> {
    let losses = losses.tensor();
    let mut value = Value::new((), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/softmax.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("softmax", &format!("mean_{}", tag(x.dtype())?)),
            Spread::Blocks(1),
            &mut [Arg::In(&losses), Arg::Out(&mut value), Arg::U64(losses.elem_count())],
            &[],
        )
    }?;
    let dx = dx.tensor();
    node1(name, x, value, move |_, _, dy| Ok([Some(dx.broadcast_mul(dy)?)]))
}
