//! Values in another element type.

use crate::cuda;
use crate::dispatch::uses_kernels;
use candle_core::{DType, Result, Tensor};

/// The values of `x`, contiguous and of another element type; no graph.
pub(crate) fn converted(x: &Tensor, to: DType) -> Result<Tensor> {
    let x = x.detach().contiguous()?;
    if x.dtype() == to {
        return Ok(x);
    }
    if uses_kernels(&x) {
        return Ok(cuda::cast_value(&x, to)?.tensor());
    }
    x.to_dtype(to)
}
