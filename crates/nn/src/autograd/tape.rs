//! A tape of the kernels' ops, run backwards by us instead of candle: gradients are not added to zeros first, and what a step
//! kept is let go when the gradient has passed it.
//!
//! Results on a tape are variables to candle, so that an op of candle's own on one of them starts a graph there. Where such a
//! graph ends in an op of ours again, or in the result, it becomes a step too: no gradient is lost, whatever is mixed.

use super::node::seeded;
use super::stash_grad;
use super::steps::{Mode, Step, mode, of_candle, within};
use crate::emulation;
use candle_core::{Result, Tensor, TensorId, Var, bail};
use std::collections::{HashMap, HashSet};

/// The ops from one tensor to another.
pub(crate) struct Tape {
    x: TensorId,
    y: Tensor,
    steps: Vec<Step>,
}

impl Tape {
    /// `f(x)`, and its tape.
    ///
    /// # Errors
    /// Those of `f`.
    pub(crate) fn record(x: &Tensor, f: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<(Tensor, Self)> {
        if mode() == Mode::Tape {
            bail!("a tape inside a tape");
        }
        let x = Var::from_tensor(&x.detach())?;
        let (y, mut steps) = within(Mode::Tape, || f(x.as_tensor()));
        let y = y?;
        if of_candle(&y) {
            steps.push(Step::Graph(y.clone()));
        }
        let tape = Self {
            x: x.as_tensor().id(),
            y: y.clone(),
            steps,
        };
        Ok((y, tape))
    }

    /// From the gradient at the result, that at `x`; those of parameters are stashed.
    ///
    /// # Errors
    /// Where a kernel fails.
    pub(crate) fn backward(self, dy: &Tensor) -> Result<Tensor> {
        let Self { x, y, mut steps } = self;
        // Looked up by key only: their order plays no part.
        let mut own: HashSet<TensorId> = HashSet::from([x, y.id()]);
        for step in &steps {
            own.insert(match step {
                Step::Op { y, .. } | Step::Graph(y) => y.id(),
            });
        }
        let mut grads = HashMap::from([(y.id(), dy.detach())]);
        let add = |grads: &mut HashMap<TensorId, Tensor>, id: TensorId, g: Tensor| -> Result<()> {
            if !own.contains(&id) {
                stash_grad(id, g);
                return Ok(());
            }
            let sum = match grads.remove(&id) {
                Some(s) => {
                    if let Some(e) = emulation::executor() {
                        e.elsewhere("add", 3 * g.elem_count() * g.dtype().size_in_bytes());
                    }
                    (s + g)?
                }
                None => g,
            };
            grads.insert(id, sum);
            Ok(())
        };
        let shape = y.shape().clone();
        drop(y);
        while let Some(step) = steps.pop() {
            match step {
                Step::Op { args, y, vjp } => {
                    let Some(dy) = grads.remove(&y.id()) else { continue };
                    let onto = args.first().filter(|_| vjp.adds()).and_then(|a| {
                        let fits = |g: &Tensor| g.dtype() == a.dtype() && g.dims() == a.dims() && g.is_contiguous();
                        grads.get(&a.id()).is_some_and(fits).then(|| grads.remove(&a.id()))?
                    });
                    let found = vjp.vjp(&args, &y, &dy, onto.as_ref())?;
                    if onto.is_some() && found.first().is_none_or(Option::is_none) {
                        bail!("a gradient was to be added to and is gone");
                    }
                    for (a, g) in args.iter().zip(found) {
                        if let Some(g) = g {
                            add(&mut grads, a.id(), g)?;
                        }
                    }
                }
                Step::Graph(y) => {
                    let Some(dy) = grads.remove(&y.id()) else { continue };
                    let store = seeded(&y, &dy)?.backward()?;
                    for id in store.get_ids() {
                        if let Some(g) = store.get_id(*id) {
                            add(&mut grads, *id, g.clone())?;
                        }
                    }
                }
            }
        }
        match grads.remove(&x) {
            Some(dx) => Ok(dx),
            None => bail!("no gradient reaches the input of a tape with a result {shape:?}"),
        }
    }
}
