//! Values in another element type.

use super::composed::instead_of;
use super::launch::{Arg, Spread, launch, tag};
use crate::autograd::Value;
use crate::fallback::Kernel;
use candle_core::{DType, Result, Tensor};

/// The values of contiguous `x` in another type.
pub(crate) fn cast_value(x: &Tensor, to: DType) -> Result<Value> {
    if instead_of(Kernel::Cast, x.device()) {
        return Value::copy_of(&x.detach().to_dtype(to)?);
    }
    let half = |t: DType| matches!(t, DType::BF16 | DType::F16);
    if half(x.dtype()) && half(to) {
        return cast_value(&cast_value(x, DType::F32)?.tensor(), to);
    }
    let n = x.elem_count();
    let mut y = Value::new(x.shape(), to, x.device())?;
    let kernel = format!("cast_{}_{}", tag(x.dtype())?, tag(to)?);
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &kernel),
            Spread::Elements(n),
            &mut [Arg::In(x), Arg::Out(&mut y), Arg::U64(n)],
            &[],
        )
    }?;
    Ok(y)
}
