//! Gradients of a loss, also of parameters that are inside an op.
//!
//! candle's backward returns gradients of an op's operands only, so those of the parameters inside a fused op are put aside on
//! the thread that runs the backward pass, and [`backward`] joins both.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};
use std::cell::RefCell;

thread_local! {
    static ASIDE: RefCell<Vec<(TensorId, Tensor)>> = const { RefCell::new(Vec::new()) };
}

/// Gradients of a loss, of all parameters.
pub struct Gradients {
    store: GradStore,
    aside: Vec<(TensorId, Tensor)>,
}

impl Gradients {
    /// The gradient of a parameter or input; `None` where none reaches it.
    ///
    /// # Errors
    /// Where two parts of a gradient do not fit together.
    pub fn get(&self, t: &Tensor) -> Result<Option<Tensor>> {
        let mut sum = self.store.get(t).cloned();
        for (_, g) in self.aside.iter().filter(|(id, _)| *id == t.id()) {
            sum = Some(match sum {
                Some(s) => (s + g)?,
                None => g.clone(),
            });
        }
        Ok(sum)
    }
}

/// Notes the gradient of a parameter that is not an operand of the op whose backward pass runs.
pub(super) fn put_aside(parameter: TensorId, gradient: Tensor) {
    ASIDE.with_borrow_mut(|a| a.push((parameter, gradient)));
}

/// The gradients of a scalar.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    ASIDE.with_borrow_mut(Vec::clear);
    let store = loss.backward()?;
    let aside = ASIDE.with_borrow_mut(std::mem::take);
    Ok(Gradients { store, aside })
}
