//! Changing element types.

use super::convert::cast_value;
use crate::autograd::node1;
use candle_core::{DType, Result, Tensor};

/// `x` in another element type; its gradient is cast back.
pub(crate) fn cast(x: &Tensor, to: DType) -> Result<Tensor> {
    if x.dtype() == to {
        return Ok(x.clone());
    }
    let y = cast_value(&x.detach().contiguous()?, to)?;
    node1("cast", x, y, |_, _, dy| Ok([Some(dy.clone())]))
}
