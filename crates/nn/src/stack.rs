//! A stack of blocks as one node of candle's graph.
//!
//! What a block keeps for its backward pass is let go as soon as the gradient has passed it; candle's graph would hold it until
//! the whole pass ends, and would add every gradient to a tensor of zeros. With gradient checkpointing a block keeps its input
//! alone and computes the rest again. The gradients are the same to the bit.

use super::cuda::{self, Tape};
use super::gradients::put_aside;
use candle_core::{Result, Tensor, Var, bail};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A block: a pure function of its input and its parameters.
pub trait Part: Send + Sync {
    /// The output, with a graph.
    ///
    /// # Errors
    /// Where shapes do not fit.
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// The output, where no gradient will be asked for.
    ///
    /// # Errors
    /// As [`Part::forward`].
    fn value(&self, x: &Tensor) -> Result<Tensor> {
        Ok(cuda::without_graph(|| self.forward(&x.detach()))?.detach())
    }

    /// From the input and the gradient at the output, the gradient at the input; those of parameters are put aside.
    ///
    /// # Errors
    /// As [`Part::forward`].
    fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        from_scratch(self, x, dy)
    }
}

/// [`Part::backward`] of a part that keeps nothing: its ops are run again, with a graph.
pub(super) fn from_scratch<P: Part + ?Sized>(part: &P, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if cuda::wanted(x) {
        let (_, tape) = Tape::record(x, |x| part.forward(x))?;
        return tape.backward(dy);
    }
    let x = Var::from_tensor(&x.detach())?;
    let store = cuda::seeded(&part.forward(x.as_tensor())?, dy)?.backward()?;
    let own = x.as_tensor().id();
    // Only parameters and `x` are left in the store: candle removes intermediate gradients as it uses them.
    for id in store.get_ids().filter(|id| **id != own) {
        if let Some(g) = store.get_id(*id) {
            put_aside(*id, g.clone());
        }
    }
    match store.get(x.as_tensor()) {
        Some(dx) => Ok(dx.clone()),
        None => bail!("no gradient reaches the input {:?} of a block", x.dims()),
    }
}

impl<F: Fn(&Tensor) -> Result<Tensor> + Send + Sync> Part for F {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self(x)
    }
}

/// Blocks that are applied one after the other.
#[derive(Clone)]
pub struct Stack {
    parts: Vec<Arc<dyn Part>>,
    checkpointing: bool,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("parts", &self.parts.len())
            .field("checkpointing", &self.checkpointing)
            .finish()
    }
}

/// What the backward pass finds.
enum Kept {
    /// Each block's input.
    Inputs(Vec<Tensor>),
    Tape(Tape),
}

impl Stack {
    /// Where `checkpointing`, blocks compute their activations again in the backward pass.
    pub fn new<P: Part + 'static>(parts: impl IntoIterator<Item = P>, checkpointing: bool) -> Self {
        let parts = parts.into_iter().map(|p| Arc::new(p) as Arc<dyn Part>).collect();
        Self { parts, checkpointing }
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are no blocks.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The output for `x`; `seen` hears the number and the output of every block.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn forward(&self, x: &Tensor, mut seen: impl FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        if !x.track_op() || !(self.checkpointing || cuda::wanted(x)) {
            return self.run(x, &mut seen);
        }
        let x = x.contiguous()?;
        let (y, kept) = if self.checkpointing {
            let (y, inputs) = self.inputs(&x, &mut seen)?;
            (y, Kept::Inputs(inputs))
        } else {
            let (y, tape) = Tape::record(&x, |x| self.run(x, &mut seen))?;
            (y, Kept::Tape(tape))
        };
        let (stack, kept) = (self.clone(), Mutex::new(Some(kept)));
        cuda::node1(
            "stack",
            &x,
            cuda::Value::copy_of(&y.contiguous()?)?,
            move |[x], _, dy| {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                Ok([Some(stack.backward(x, kept, dy)?)])
            },
        )
    }

    fn run(&self, x: &Tensor, seen: &mut dyn FnMut(usize, &Tensor) -> Result<()>) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, part) in self.parts.iter().enumerate() {
            y = part.forward(&y)?;
            seen(i, &y)?;
        }
        Ok(y)
    }

    /// The output, and every block's input; no graph.
    fn inputs(&self, x: &Tensor, seen: &mut dyn FnMut(usize, &Tensor) -> Result<()>) -> Result<(Tensor, Vec<Tensor>)> {
        let (mut y, mut inputs) = (x.detach(), Vec::with_capacity(self.parts.len()));
        for (i, part) in self.parts.iter().enumerate() {
            let next = part.value(&y)?;
            inputs.push(std::mem::replace(&mut y, next));
            seen(i, &y)?;
        }
        Ok((y, inputs))
    }

    fn backward(&self, x: &Tensor, kept: Option<Kept>, dy: &Tensor) -> Result<Tensor> {
        let mut inputs = match kept {
            Some(Kept::Tape(tape)) => return tape.backward(dy),
            Some(Kept::Inputs(inputs)) => inputs,
            // A second backward pass over the same graph.
            None => self.inputs(x, &mut |_, _| Ok(()))?.1,
        };
        let mut d = dy.clone();
        for part in self.parts.iter().rev() {
            if let Some(x) = inputs.pop() {
                d = part.backward(&x, &d)?;
            }
        }
        Ok(d)
    }
}
