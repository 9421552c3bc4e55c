//! Residual sums: the stream in float32, the branch in any type.

use super::cast::cast;
use super::composed::{composed3, instead_of, value};
use super::launch::{Arg, Spread, launch, packs, row_blocks, sum_parts, tag};
use crate::autograd::{Value, node2, node3};
use crate::fallback::Kernel;
use crate::precision::computed_in;
use candle_core::{Result, Tensor, bail};

/// `x + y`, equal shapes; the result is float32.
pub(crate) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    if x.dims() != y.dims() {
        bail!("add: {:?} and {:?}", x.dims(), y.dims());
    }
    let (x, y) = (cast(x, computed_in(y.dtype()))?.contiguous()?, y.contiguous()?);
    let o = sum(&x, &y)?;
    node2("add", [&x, &y], o, |_, _, d| Ok([Some(d.clone()), Some(d.clone())]))
}

/// `x + y` of contiguous tensors, x float32 (float64), without a graph.
pub(crate) fn sum(x: &Tensor, y: &Tensor) -> Result<Value> {
    if instead_of(Kernel::Residual, x.device()) {
        return value([x, y], x.dtype(), |[x, y]| x + y);
    }
    let n = x.elem_count();
    let mut o = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("add_{}", tag(y.dtype())?)),
            Spread::Elements(n),
            &mut [Arg::In(x), Arg::In(y), Arg::Out(&mut o), Arg::U64(n)],
            &[],
        )
    }?;
    Ok(o)
}

/// `x + gamma ⊙ y`; x, y (…, D), gamma (D); the result is float32.
pub(crate) fn add_scaled(x: &Tensor, y: &Tensor, gamma: &Tensor) -> Result<Tensor> {
    let d = gamma.elem_count();
    if x.dims() != y.dims() || x.dims().last() != Some(&d) {
        bail!("add_scaled: {:?}, {:?}, {:?}", x.dims(), y.dims(), gamma.dims());
    }
    let x = cast(x, computed_in(y.dtype()))?.contiguous()?;
    let (y, gamma) = (y.contiguous()?, gamma.contiguous()?);
    if instead_of(Kernel::ScaledResidual, x.device()) {
        return composed3("add_scaled", [&x, &y, &gamma], x.dtype(), |[x, y, gamma]| {
            x + y.broadcast_mul(gamma)?
        });
    }
    let n = x.elem_count();
    let tag = tag(y.dtype())?;
    let mut o = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("add_scaled_{tag}")),
            Spread::Elements(n),
            &mut [
                Arg::In(&x),
                Arg::In(&y),
                Arg::In(&gamma),
                Arg::Out(&mut o),
                Arg::U64(n),
                Arg::U32(d),
            ],
            &[],
        )
    }?;
    node3("add_scaled", [&x, &y, &gamma], o, move |[_, y, gamma], _, d_o| {
        let device = y.device();
        let dy = if y.track_op() {
            let mut dy = Value::new(y.shape(), y.dtype(), device)?;
            // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
            unsafe {
                launch(
                    device,
                    ("elementwise", &format!("add_scaled_dy_{tag}")),
                    Spread::Elements(n),
                    &mut [
                        Arg::In(d_o),
                        Arg::In(gamma),
                        Arg::Out(&mut dy),
                        Arg::U64(n),
                        Arg::U32(d),
                    ],
                    &[],
                )
            }?;
            Some(dy.tensor())
        } else {
            None
        };
        let dgamma = if gamma.track_op() {
            let (rows, blocks) = (n / d.max(1), row_blocks(n / d.max(1)));
            let mut parts = Value::new((blocks, d), gamma.dtype(), device)?;
            // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
            unsafe {
                launch(
                    device,
                    ("elementwise", &format!("add_scaled_dgamma_{tag}")),
                    Spread::Items(blocks * packs(d, gamma.dtype())),
                    &mut [
                        Arg::In(d_o),
                        Arg::In(y),
                        Arg::Out(&mut parts),
                        Arg::U64(rows),
                        Arg::U32(d),
                        Arg::U32(blocks),
                    ],
                    &[],
                )
            }?;
            Some(sum_parts(&parts.tensor(), 1, blocks, d)?.tensor())
        } else {
            None
        };
        Ok([Some(d_o.clone()), dy, dgamma])
    })
}
