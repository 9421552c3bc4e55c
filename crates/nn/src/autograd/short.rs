//! The copy in 16 bits of a gradient, written by the pass that formed it.

use crate::convert::converted;
use candle_core::{DType, Result, Tensor, TensorId};
use std::cell::RefCell;

thread_local! {
    /// The last gradient that was written in 16 bits too, and that copy: what reads it comes next.
    static SHORT: RefCell<Option<(TensorId, Tensor)>> = const { RefCell::new(None) };
}

/// Notes the copy of a gradient in 16 bits that the pass which formed it has written beside it.
pub(crate) fn note_short(gradient: &Tensor, short: Tensor) {
    SHORT.with_borrow_mut(|s| *s = Some((gradient.id(), short)));
}

/// Lets the copy go.
pub(super) fn forget() {
    SHORT.with_borrow_mut(|s| *s = None);
}

/// A gradient, contiguous and of another element type; no graph.
pub(crate) fn gradient_as(gradient: &Tensor, to: DType) -> Result<Tensor> {
    let known = SHORT.with_borrow(|s| {
        let (id, short) = s.as_ref()?;
        (*id == gradient.id() && short.dtype() == to).then(|| short.clone())
    });
    known.map_or_else(|| converted(gradient, to), Ok)
}
