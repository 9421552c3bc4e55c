//! Activations.

use super::composed::{composed2, gradients, instead_of, value};
use super::launch::{Arg, Spread, launch, tag};
use crate::autograd::{Value, node1, node2};
use crate::fallback::Kernel;
use crate::reference;
use candle_core::{Result, Tensor, Var, bail};

/// `act(x)`, any shape; `act` is `gelu`, `quick_gelu` or `silu`.
pub(crate) fn activation(act: &'static str, x: &Tensor) -> Result<Tensor> {
    let x = x.contiguous()?;
    let y = activated(act, &x)?;
    node1(act, &x, y, move |[x], _, dy| Ok([Some(activation_grad(act, x, dy)?)]))
}

/// An activation from candle's ops.
fn composed(act: &str, x: &Tensor) -> Result<Tensor> {
    match act {
        "gelu" => reference::gelu(x),
        "quick_gelu" => reference::quick_gelu(x),
        _ => x.silu(),
    }
}

/// `act(x)` of a contiguous tensor, without a graph.
pub(crate) fn activated(act: &str, x: &Tensor) -> Result<Value> {
    if instead_of(Kernel::Activation, x.device()) {
        return value([x], x.dtype(), |[x]| composed(act, x));
    }
    let n = x.elem_count();
    let mut y = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("{act}_{}", tag(x.dtype())?)),
            Spread::Elements(n),
            &mut [Arg::In(x), Arg::Out(&mut y), Arg::U64(n)],
            &[],
        )
    }?;
    Ok(y)
}

/// `dy · act'(x)`.
pub(crate) fn activation_grad(act: &str, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if instead_of(Kernel::Activation, x.device()) {
        let variable = Var::from_tensor(&x.detach())?;
        let [dx] = gradients([variable.as_tensor()], dy, |[x]| composed(act, x))?;
        return match dx {
            Some(dx) => dx.to_dtype(x.dtype()),
            None => bail!("{act}: no gradient"),
        };
    }
    let n = x.elem_count();
    let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("{act}_grad_{}", tag(x.dtype())?)),
            Spread::Elements(n),
            &mut [Arg::In(x), Arg::In(dy), Arg::Out(&mut dx), Arg::U64(n)],
            &[],
        )
    }?;
    Ok(dx.tensor())
}

/// `silu(x) ⊙ z`, equal shapes and types.
pub(crate) fn silu_mul(x: &Tensor, z: &Tensor) -> Result<Tensor> {
    if x.dims() != z.dims() || x.dtype() != z.dtype() {
        bail!(
            "silu_mul: {:?} {:?} and {:?} {:?}",
            x.dims(),
            x.dtype(),
            z.dims(),
            z.dtype()
        );
    }
    let (x, z) = (x.contiguous()?, z.contiguous()?);
    if instead_of(Kernel::Gate, x.device()) {
        return composed2("silu_mul", [&x, &z], x.dtype(), |[x, z]| reference::silu_mul(x, z));
    }
    let n = x.elem_count();
    let tag = tag(x.dtype())?;
    let mut y = Value::new(x.shape(), x.dtype(), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("silu_mul_{tag}")),
            Spread::Elements(n),
            &mut [Arg::In(&x), Arg::In(&z), Arg::Out(&mut y), Arg::U64(n)],
            &[],
        )
    }?;
    node2("silu_mul", [&x, &z], y, move |[x, z], _, dy| {
        let mut dx = Value::new(x.shape(), x.dtype(), x.device())?;
        let mut dz = Value::new(x.shape(), x.dtype(), x.device())?;
        // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
        unsafe {
            launch(
                x.device(),
                ("elementwise", &format!("silu_mul_grad_{tag}")),
                Spread::Elements(n),
                &mut [
                    Arg::In(x),
                    Arg::In(z),
                    Arg::In(dy),
                    Arg::Out(&mut dx),
                    Arg::Out(&mut dz),
                    Arg::U64(n),
                ],
                &[],
            )
        }?;
        Ok([Some(dx.tensor()), Some(dz.tensor())])
    })
}
