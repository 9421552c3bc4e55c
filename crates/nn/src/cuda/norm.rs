//! LayerNorm and RMSNorm.

use super::launch::{Arg, Work, launch, packs, row_blocks, sum_parts, tag};
use crate::autograd::{Value, node2, node3};
use crate::precision::computed_in;
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
fn rows_of(rows: usize, d: usize, x: &Tensor, out: DType) -> Work {
    let pack = 16 / x.dtype().size_in_bytes().max(out.size_in_bytes());
    let narrow = pack > 2 && d.is_multiple_of(pack) && d <= 2 * 32 * pack;
    Work::Rows(if narrow { rows.div_ceil(2) } else { rows })
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
    let stats = stats.tensor();
    node3("layer_norm", [&x, &w, &b], y, move |[x, w, b], _, dy| {
        let device = x.device();
        let dx = if x.track_op() {
            let mut dx = Value::new(x.shape(), x.dtype(), device)?;
            // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
            unsafe {
                launch(
                    device,
                    ("norm", &name("layer_norm_dx", x, out)?),
                    rows_of(rows, d, x, out),
                    &mut [
                        Arg::In(x),
                        Arg::In(w),
                        Arg::In(&stats),
                        Arg::In(dy),
                        Arg::Out(&mut dx),
                        Arg::U64(rows),
                        Arg::U32(d),
                    ],
                    &[],
                )
            }?;
            Some(dx.tensor())
        } else {
            None
        };
        if !(w.track_op() || b.track_op()) {
            return Ok([dx, None, None]);
        }
        let blocks = row_blocks(rows);
        let mut parts = Value::new((blocks, 2, d), w.dtype(), device)?;
        // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
        unsafe {
            launch(
                device,
                ("norm", &name("layer_norm_dparams", x, out)?),
                Work::Items(blocks * packs(d, w.dtype())),
                &mut [
                    Arg::In(x),
                    Arg::In(&stats),
                    Arg::In(dy),
                    Arg::Out(&mut parts),
                    Arg::U64(rows),
                    Arg::U32(d),
                    Arg::U32(blocks),
                ],
                &[],
            )
        }?;
        let both = sum_parts(&parts.tensor(), 1, blocks, 2 * d)?.reshape((2, d))?.tensor();
        Ok([dx, Some(both.get(0)?), Some(both.get(1)?)])
    })
}

/// RMSNorm of x (…, D) with results of type `out`.
pub(crate) fn rms_norm(x: &Tensor, w: &Tensor, eps: f64, out: DType) -> Result<Tensor> {
    let (rows, d) = sizes("rms_norm", x, w)?;
    let (x, w) = (operand(x, out)?, w.contiguous()?);
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
    let stats = stats.tensor();
    node2("rms_norm", [&x, &w], y, move |[x, w], _, dy| {
        let device = x.device();
        let dx = if x.track_op() {
            let mut dx = Value::new(x.shape(), x.dtype(), device)?;
            // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
            unsafe {
                launch(
                    device,
                    ("norm", &name("rms_norm_dx", x, out)?),
                    rows_of(rows, d, x, out),
                    &mut [
                        Arg::In(x),
                        Arg::In(w),
                        Arg::In(&stats),
                        Arg::In(dy),
                        Arg::Out(&mut dx),
                        Arg::U64(rows),
                        Arg::U32(d),
                    ],
                    &[],
                )
            }?;
            Some(dx.tensor())
        } else {
            None
        };
        let dw = if w.track_op() {
            let blocks = row_blocks(rows);
            let mut parts = Value::new((blocks, d), w.dtype(), device)?;
            // SAFETY: the arguments are those of kernels/norm.cu, for operands of these sizes.
            unsafe {
                launch(
                    device,
                    ("norm", &name("rms_norm_dparams", x, out)?),
                    Work::Items(blocks * packs(d, w.dtype())),
                    &mut [
                        Arg::In(x),
                        Arg::In(&stats),
                        Arg::In(dy),
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
        Ok([dx, dw])
    })
}
