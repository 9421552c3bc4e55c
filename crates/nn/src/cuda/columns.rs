//! Sums over the rows of a matrix: gradients of biases.

use super::composed::{instead_of, wide};
use super::launch::{Arg, Spread, launch, packs, row_blocks, sum_parts, tag};
use crate::autograd::Value;
use crate::fallback::Kernel;
use crate::precision::computed_in;
use candle_core::{Result, Tensor};

/// The sums of the columns of (rows, d), in float32, (1, d).
pub(crate) fn column_sums(x: &Tensor) -> Result<Tensor> {
    let (rows, d) = x.dims2()?;
    if instead_of(Kernel::Columns, x.device()) {
        return wide(x)?.sum_keepdim(0);
    }
    let blocks = row_blocks(rows);
    let mut parts = Value::new((blocks, d), computed_in(x.dtype()), x.device())?;
    // SAFETY: the arguments are those of kernels/elementwise.cu, for operands of these sizes.
    unsafe {
        launch(
            x.device(),
            ("elementwise", &format!("column_sums_{}", tag(x.dtype())?)),
            Spread::Items(blocks * packs(d, computed_in(x.dtype()))),
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
