//! Fully connected layers: products with bias on the operands as they lie, then the activation in one pass.

use super::act::{activated, activation_grad};
use super::launch::{Arg, Work, launch, packs, row_blocks, sum_parts, tag};
use crate::act::Act;
use crate::autograd::{Value, node2, node3};
use crate::convert::converted;
use crate::precision::{compute_type, computed_in, current, scope};
use candle_core::{Result, Tensor, bail};

/// `act(x (…, in) · weightᵀ + bias)` with weight (out, in), bias (out).
///
/// The result has the compute type, or is float32 where `float`; parameters and their gradients are float32.
pub(crate) fn linear(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    act: Option<Act>,
    float: bool,
) -> Result<Tensor> {
    let (out, inp) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    if dims.last() != Some(&inp) || bias.is_some_and(|b| b.dims() != [out]) {
        bail!("linear: x {:?}, weight {:?}", x.dims(), weight.dims());
    }
    let rows = x.elem_count() / inp.max(1);
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let dtype = compute_type(&x);
    let xc = converted(&x, dtype)?.reshape((rows, inp))?;
    let mut y = Value::product_and_bias(&xc, &converted(&weight, dtype)?.t()?, bias, float)?.reshape(dims)?;
    let mut pre = None;
    if let Some(act) = act.map(Act::name) {
        let z = y.tensor();
        y = activated(act, &z)?;
        pre = Some((act, z));
    }
    let compute = current();
    let products = move |x: &Tensor, w: &Tensor, bias: bool, dy: &Tensor| -> Result<[Option<Tensor>; 3]> {
        let dy = match &pre {
            Some((act, pre)) => activation_grad(act, pre, dy)?,
            None => dy.clone(),
        };
        let dy = dy.reshape((rows, out))?;
        let wide = dy.clone();
        let dy = converted(&dy, dtype)?;
        let dx = if x.track_op() {
            Some(Value::product(&dy, &converted(w, dtype)?, false)?.tensor())
        } else {
            None
        };
        let dw = if w.track_op() {
            Some(Value::product(&dy.t()?, &xc, true)?.tensor())
        } else {
            None
        };
        let db = if bias { Some(column_sums(&wide)?) } else { None };
        Ok([dx, dw, db])
    };
    // The backward pass may run in another scope than this one.
    let back = move |x: &Tensor, w: &Tensor, bias, dy: &Tensor| scope(compute, || products(x, w, bias, dy));
    match bias {
        Some(b) => node3("linear", [&x, &weight, b], y, move |[x, w, b], _, dy| {
            back(x, w, b.track_op(), dy)
        }),
        None => node2("linear", [&x, &weight], y, move |[x, w], _, dy| {
            let [dx, dw, _] = back(x, w, false, dy)?;
            Ok([dx, dw])
        }),
    }
}

/// The sums of the columns of (rows, d), in float32.
pub(crate) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, d) = x.dims2()?;
    let blocks = row_blocks(rows);
    let mut parts = Value::new((blocks, d), computed_in(x.dtype()), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("column_sums_{}", tag(x.dtype())?)),
            Work::Items(blocks * packs(d, computed_in(x.dtype()))),
            &mut [
                Arg::In(x),
                Arg::Out(&mut parts),
                Arg::U64(rows),
                Arg::U32(d),
                Arg::U32(blocks),
            ],
            &[],
        )
    }?;
    Ok(sum_parts(&parts.tensor(), 1, blocks, d)?.tensor())
}
