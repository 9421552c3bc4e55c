//! Gradients of a loss, also of parameters that are inside an op.
//!
//! candle's backward returns gradients of an op's operands only, so those of the parameters inside a fused op are stashed on
//! the thread that runs the backward pass, and [`backward`] joins both.

mod node;
mod steps;
mod tape;
mod value;

pub(crate) use node::{node1, node2, node2_adding, node3, node3_adding, node4};
pub(crate) use steps::{Mode, mode, without_graph};
pub(crate) use tape::Tape;
pub(crate) use value::Value;

use crate::convert::converted;
use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor, TensorId};
use std::cell::RefCell;

thread_local! {
    static STASHED: RefCell<Vec<(TensorId, Tensor)>> = const { RefCell::new(Vec::new()) };
    /// The last gradient that was written in 16 bits too, and that copy: what reads it comes next.
    static SHORT: RefCell<Option<(TensorId, Tensor)>> = const { RefCell::new(None) };
}

/// Notes the copy of a gradient in 16 bits that the pass which formed it has written beside it.
pub(crate) fn note_short(gradient: &Tensor, short: Tensor) {
    SHORT.with_borrow_mut(|s| *s = Some((gradient.id(), short)));
}

/// A gradient, contiguous and of another element type; no graph.
pub(crate) fn gradient_as(gradient: &Tensor, to: DType) -> Result<Tensor> {
    let known = SHORT.with_borrow(|s| {
        let (id, short) = s.as_ref()?;
        (*id == gradient.id() && short.dtype() == to).then(|| short.clone())
    });
    known.map_or_else(|| converted(gradient, to), Ok)
}

/// Gradients of a loss, of all parameters.
pub struct Gradients {
    store: GradStore,
    stashed: Vec<(TensorId, Tensor)>,
}

impl Gradients {
    /// The gradient of a parameter or input; `None` where none reaches it.
    ///
    /// # Errors
    /// Where two parts of a gradient do not fit together.
    pub fn get(&self, t: &Tensor) -> Result<Option<Tensor>> {
        let mut sum = self.store.get(t).cloned();
        for (_, g) in self.stashed.iter().filter(|(id, _)| *id == t.id()) {
            sum = Some(match sum {
                Some(s) => (s + g)?,
                None => g.clone(),
            });
        }
        Ok(sum)
    }
}

/// Notes the gradient of a parameter that is not an operand of the op whose backward pass runs.
pub(crate) fn stash_grad(parameter: TensorId, gradient: Tensor) {
    STASHED.with_borrow_mut(|a| a.push((parameter, gradient)));
}

/// The gradients of a scalar.
///
/// # Errors
/// Where an op has no backward pass, or its backward pass fails.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    STASHED.with_borrow_mut(Vec::clear);
    let store = loss.backward();
    SHORT.with_borrow_mut(|s| *s = None);
    let store = store?;
    let stashed = STASHED.with_borrow_mut(std::mem::take);
    Ok(Gradients { store, stashed })
}
