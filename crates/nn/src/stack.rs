//! A stack of blocks as one node of candle's graph.
//!
//! What a block keeps for its backward pass is let go as soon as the gradient has passed it; candle's graph would hold it until
//! the whole pass ends, and would add every gradient to a tensor of zeros. With gradient checkpointing a block keeps its input
//! alone and computes the rest again. The gradients are the same to the bit.

use super::autograd::{Tape, Value, node1, without_graph};
use super::dispatch::uses_kernels;
use candle_core::{Result, Tensor};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A block: a pure function of its input and its parameters.
pub trait Layer: Send + Sync {
    /// The output, with a graph.
    ///
    /// # Errors
    /// Where shapes do not fit.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// The output, where no gradient will be asked for.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn value(&self, x: &Tensor) -> Result<Tensor> {
        Ok(without_graph(|| self.forward(&x.detach()))?.detach())
    }

    /// From the input and the gradient at the output, the gradient at the input; those of parameters are stashed.
    ///
    /// # Errors
    /// As [`Layer::forward`].
    fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        from_scratch(self, x, dy)
    }
}

/// [`Layer::backward`] of a layer that keeps nothing: its ops are run again, with a graph.
pub(super) fn from_scratch<L: Layer + ?Sized>(layer: &L, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (_, tape) = Tape::record(x, |x| layer.forward(x))?;
    tape.backward(dy)
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> Layer for F {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self(x)
    }
}

/// Blocks that are applied one after the other.
#[derive(Clone)]
pub struct Stack {
    layers: Vec<Arc<dyn Layer>>,
    checkpointing: bool,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("layers", &self.layers.len())
            .field("checkpointing", &self.checkpointing)
            .finish()
    }
}

/// What the backward pass finds.
enum Saved {
    /// Each block's input.
    Inputs(Vec<Tensor>),
    Tape(Tape),
}

impl Stack {
    /// A stack; where `checkpointing`, blocks compute their activations again in the backward pass.
    pub fn new<L: Layer + 'static>(layers: impl IntoIterator<Item = L>, checkpointing: bool) -> Self {
        let layers = layers.into_iter().map(|l| Arc::new(l) as Arc<dyn Layer>).collect();
        Self { layers, checkpointing }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    /// The output for `x`; `observer` is given the number and the output of every block.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn forward(&self, x: &Tensor, mut observer: impl FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        if !x.track_op() || !(self.checkpointing || uses_kernels(x)) {
            return self.run(x, &mut observer);
        }
        let x = x.contiguous()?;
        let (y, saved) = if self.checkpointing {
            let (y, inputs) = self.inputs(&x, &mut observer)?;
            (y, Saved::Inputs(inputs))
        } else {
            let (y, tape) = Tape::record(&x, |x| self.run(x, &mut observer))?;
            (y, Saved::Tape(tape))
        };
        let (stack, saved) = (self.clone(), Mutex::new(Some(saved)));
        node1("stack", &x, Value::copy_of(&y.contiguous()?)?, move |[x], _, dy| {
            let saved = saved.lock().unwrap_or_else(PoisonError::into_inner).take();
            Ok([Some(stack.backward(x, saved, dy)?)])
        })
    }

    fn run(&self, x: &Tensor, observer: &mut dyn FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            y = layer.forward(&y)?;
            observer(i, &y)?;
        }
        Ok(y)
    }

    /// The output, and every block's input; no graph.
    fn inputs(
        &self,
        x: &Tensor,
        observer: &mut dyn FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<(Tensor, Vec<Tensor>)> {
        let (mut y, mut inputs) = (x.detach(), Vec::with_capacity(self.layers.len()));
        for (i, layer) in self.layers.iter().enumerate() {
            let next = layer.value(&y)?;
            inputs.push(std::mem::replace(&mut y, next));
            observer(i, &y)?;
        }
        Ok((y, inputs))
    }

    fn backward(&self, x: &Tensor, saved: Option<Saved>, dy: &Tensor) -> Result<Tensor> {
        let mut inputs = match saved {
            Some(Saved::Tape(tape)) => return tape.backward(dy),
            Some(Saved::Inputs(inputs)) => inputs,
            // A second backward pass over the same graph.
            None => self.inputs(x, &mut |_, _| Ok(()))?.1,
        };
        let mut d = dy.clone();
        for layer in self.layers.iter().rev() {
            if let Some(x) = inputs.pop() {
                d = layer.backward(&x, &d)?;
            }
        }
        Ok(d)
    }
}
