//! Fully connected layers: products with bias and residual on the operands as they lie, then the activation in one pass.

use super::act::{activated, activation_grad};
use super::columns::column_sums;
use super::product::Extras;
use crate::act::Act;
use crate::autograd::{Mode, Value, gradient_as, mode, node2, node3, node4};
use crate::convert::converted;
use crate::copies;
use crate::precision::{Compute, compute_type, computed_in, current, scope};
use candle_core::{DType, Result, Tensor, bail};

/// What the backward pass needs of the forward pass.
struct Saved {
    /// The input in the type it was multiplied in, (rows, in).
    x: Tensor,
    dtype: DType,
    /// The backward pass may run in another scope than the forward pass.
    compute: Compute,
    /// The activation, and the values before it.
    pre: Option<(&'static str, Tensor)>,
}

impl Saved {
    /// Gradients of the input, the weight and the bias, each where it is wanted.
    fn backward(&self, x: &Tensor, w: &Tensor, bias: bool, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        scope(self.compute, || self.products(x, w, bias, dy))
    }

    fn products(&self, x: &Tensor, w: &Tensor, bias: bool, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        let dy = match &self.pre {
            Some((act, pre)) => activation_grad(act, pre, dy)?,
            None => dy.clone(),
        };
        let dy = gradient_as(&dy, self.dtype)?.reshape((self.x.dim(0)?, w.dim(0)?))?;
        let dx = if x.track_op() {
            Some(Value::product(&dy, &copies::of(w, self.dtype)?, false)?.tensor())
        } else {
            None
        };
        if !w.track_op() {
            let db = if bias { Some(column_sums(&dy)?) } else { None };
            return Ok([dx, None, db]);
        }
        // The product reads what the bias's gradient is the sum of.
        let extras = Extras {
            sums: bias,
            ..Extras::default()
        };
        let (dw, db) = Value::product_and(&dy.t()?, &self.x, extras, true)?;
        Ok([dx, Some(dw.tensor()), db])
    }
}

/// `act(onto + x · weightᵀ + bias)`, (…, out), with operands that are contiguous.
fn forward(
    x: &Tensor,
    weight: &Tensor,
    (bias, onto): (Option<&Tensor>, Option<&Tensor>),
    act: Option<Act>,
    float: bool,
) -> Result<(Value, Saved)> {
    let (out, inp) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    if dims.last() != Some(&inp) || bias.is_some_and(|b| b.dims() != [out]) {
        bail!("linear: x {:?}, weight {:?}", x.dims(), weight.dims());
    }
    let rows = x.elem_count() / inp.max(1);
    if let Some(last) = dims.last_mut() {
        *last = out;
    }
    if onto.is_some_and(|o| o.dims() != dims) {
        bail!("linear: {dims:?} onto {:?}", onto.map(Tensor::dims));
    }
    let dtype = compute_type(x);
    let xc = converted(x, dtype)?.reshape((rows, inp))?;
    let onto = onto.map(|o| o.detach().reshape((rows, out))).transpose()?;
    let extras = Extras {
        bias,
        onto: onto.as_ref(),
        sums: false,
    };
    let (y, _) = Value::product_and(&xc, &copies::of(weight, dtype)?.t()?, extras, float)?;
    let mut y = y.reshape(dims)?;
    let mut pre = None;
    if let Some(act) = act.map(Act::name) {
        let z = y.tensor();
        y = activated(act, &z)?;
        pre = Some((act, z));
    }
    let saved = Saved {
        x: xc,
        dtype,
        compute: current(),
        pre,
    };
    Ok((y, saved))
}

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
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let (y, saved) = forward(&x, &weight, (bias, None), act, float)?;
    match bias {
        Some(b) => node3("linear", [&x, &weight, b], y, move |[x, w, b], _, dy| {
            saved.backward(x, w, b.track_op(), dy)
        }),
        None => node2("linear", [&x, &weight], y, move |[x, w], _, dy| {
            let [dx, dw, _] = saved.backward(x, w, false, dy)?;
            Ok([dx, dw])
        }),
    }
}

/// `onto + x · weightᵀ + bias`: a residual branch's last layer; the result is float32.
pub(crate) fn linear_onto(onto: &Tensor, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let operands = [onto, x, weight, bias];
    if mode() == Mode::Graph && operands.iter().any(|t| t.track_op()) {
        return super::add(onto, &linear(x, weight, Some(bias), None, true)?);
    }
    let onto = super::cast(onto, computed_in(x.dtype()))?.contiguous()?;
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    let (y, saved) = forward(&x, &weight, (Some(bias), Some(&onto)), None, true)?;
    node4("linear", [&onto, &x, &weight, bias], y, move |[_, x, w, b], _, dy| {
        let [dx, dw, db] = saved.backward(x, w, b.track_op(), dy)?;
        Ok([Some(dy.clone()), dx, dw, db])
    })
}
