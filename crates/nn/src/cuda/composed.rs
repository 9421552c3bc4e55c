//! Ops from candle's own where a kernel is not to be used ([`crate::fallback`]): computed in float32 (float64 of float64), and once
//! more in the backward pass, whose gradients are candle's.

use crate::autograd::{Value, node1, node2, node3};
use crate::fallback::{Kernel, is_replaced};
use crate::precision::computed_in;
use candle_core::{DType, Device, Result, Tensor, Var};

/// Whether candle's ops stand in for a kernel.
pub(super) fn instead_of(kernel: Kernel, device: &Device) -> bool {
    is_replaced(kernel, device)
}

/// The values of `x` in the type that they are computed in, contiguous; no graph.
pub(super) fn wide(x: &Tensor) -> Result<Tensor> {
    x.detach().to_dtype(computed_in(x.dtype()))?.contiguous()
}

/// `f` of operands in the type that they are computed in, with results of type `out`; no graph.
pub(super) fn value<const N: usize>(
    args: [&Tensor; N],
    out: DType,
    f: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<Value> {
    let args: Vec<Tensor> = args.into_iter().map(wide).collect::<Result<_>>()?;
    let y = f(std::array::from_fn(|i| &args[i]))?;
    Value::copy_of(&y.to_dtype(out)?.contiguous()?)
}

/// The gradients of `f`'s operands that want one, from that of its result.
pub(super) fn gradients<const N: usize>(
    args: [&Tensor; N],
    dy: &Tensor,
    f: impl Fn([&Tensor; N]) -> Result<Tensor>,
) -> Result<[Option<Tensor>; N]> {
    let operand = |a: &Tensor| match a.track_op() {
        true => Ok(Var::from_tensor(&wide(a)?)?.into_inner()),
        false => wide(a),
    };
    let args: Vec<Tensor> = args.into_iter().map(operand).collect::<Result<_>>()?;
    let y = f(std::array::from_fn(|i| &args[i]))?;
    let found = (y * wide(dy)?)?.sum_all()?.backward()?;
    Ok(std::array::from_fn(|i| found.get(&args[i]).cloned()))
}

/// `f(a)` as one op.
pub(super) fn composed1(
    name: &'static str,
    a: &Tensor,
    out: DType,
    f: impl Fn([&Tensor; 1]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = value([a], out, &f)?;
    node1(name, a, y, move |args, _, dy| gradients(args, dy, &f))
}

/// `f(a, b)` as one op.
pub(super) fn composed2(
    name: &'static str,
    args: [&Tensor; 2],
    out: DType,
    f: impl Fn([&Tensor; 2]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = value(args, out, &f)?;
    node2(name, args, y, move |args, _, dy| gradients(args, dy, &f))
}

/// `f(a, b, c)` as one op.
pub(super) fn composed3(
    name: &'static str,
    args: [&Tensor; 3],
    out: DType,
    f: impl Fn([&Tensor; 3]) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    let y = value(args, out, &f)?;
    node3(name, args, y, move |args, _, dy| gradients(args, dy, &f))
}
