//! Gradient checkpointing: a block's activations are dropped after the forward pass and computed again in the backward pass.
//! The gradients are the same to the bit; memory falls to one block's activations plus the blocks' inputs.
//!
//! candle's backward returns gradients of an op's operands only, so those of the parameters inside a block are put aside on the
//! thread that runs the backward pass, and [`backward`] joins both.

use candle_core::backend::BackendStorage;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape, Tensor, TensorId, Var};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

thread_local! {
    static ASIDE: RefCell<Vec<(TensorId, Tensor)>> = const { RefCell::new(Vec::new()) };
}

/// Gradients of a loss, of all parameters, also those inside recomputed blocks.
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
pub(super) fn put_aside(parameter: &Tensor, gradient: Tensor) {
    ASIDE.with_borrow_mut(|a| a.push((parameter.id(), gradient)));
}

/// The gradients of a scalar.
pub fn backward(loss: &Tensor) -> Result<Gradients> {
    ASIDE.with_borrow_mut(Vec::clear);
    let store = loss.backward()?;
    let aside = ASIDE.with_borrow_mut(std::mem::take);
    Ok(Gradients { store, aside })
}

/// `f(x)`; where `on`, its activations are recomputed in the backward pass. `f` must be a pure function of `x` and parameters.
pub fn recompute(
    on: bool,
    x: &Tensor,
    f: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
) -> Result<Tensor> {
    if !on || !x.track_op() {
        return f(x);
    }
    let y = f(&x.detach())?.detach().contiguous()?;
    x.contiguous()?.apply_op2(&y, Block(Arc::new(f)))
}

type Function = dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync;

struct Block(Arc<Function>);

impl CustomOp2 for Block {
    fn name(&self) -> &'static str {
        "recompute"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, y: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((y.try_clone(l)?, l.shape().clone()))
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, y: &CudaStorage, l: &Layout) -> Result<(CudaStorage, Shape)> {
        Ok((y.try_clone(l)?, l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let x = Var::from_tensor(&x.detach())?;
        let y = (self.0)(x.as_tensor())?;
        let store = (y * dy)?.sum_all()?.backward()?;
        let dx = store.get(x.as_tensor()).cloned();
        let own = x.as_tensor().id();
        // Only parameters are left in the store: candle removes intermediate gradients as it uses them.
        let mut found: BTreeMap<String, (TensorId, Tensor)> = BTreeMap::new();
        for id in store.get_ids().filter(|id| **id != own) {
            if let Some(g) = store.get_id(*id) {
                found.insert(format!("{id:?}"), (*id, g.clone()));
            }
        }
        ASIDE.with_borrow_mut(|a| a.extend(found.into_values()));
        Ok((dx, None))
    }
}
