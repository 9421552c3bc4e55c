//! The pre-norm transformer block as one differentiable op: `x + γ₁·Attn(LN₁ x)`, then `+ γ₂·MLP(LN₂ ·)`.
//!
//! A graph of single ops keeps every intermediate tensor and adds every gradient edge to a tensor of zeros. Here forward and
//! backward are written out: norm, bias, activation, LayerScale and residual are parts of the products beside them, only what
//! the backward pass cannot cheaply compute again is saved, and the parameters' gradients go straight to the optimiser's side.

mod backward;
mod forward;
mod types;

use super::add_scaled;
use super::attention::{self, attention_packed};
use super::autograd::without_graph;
use super::cpu::with_cpu;
use super::dispatch::uses_kernels;
use super::linear::Linear;
use super::stack::{Layer, from_scratch};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};
use forward::Want;
use std::sync::{Mutex, PoisonError};
pub use types::TransformerBlock;
use types::{BlockOp, Element, Sizes, Values};

impl TransformerBlock {
    /// Whether the written-out form computes `x`.
    fn fused(&self, x: &Tensor) -> bool {
        !uses_kernels(x)
            && self
                .tensors()
                .iter()
                .all(|t| t.is_contiguous() && t.dtype() == x.dtype())
    }

    fn op(&self, tracked: bool) -> BlockOp {
        BlockOp {
            block: self.clone(),
            tracked,
            saved: Mutex::new(None),
        }
    }

    fn apply(&self, x: &Tensor, tracked: bool) -> Result<Tensor> {
        self.check(x)?;
        // A parameter that trains is an operand so that the op is part of the graph also where `x` is not.
        let parameters = self.tensors();
        let operand = parameters.iter().find(|t| t.track_op()).unwrap_or(&parameters[0]);
        x.contiguous()?.apply_op2(operand, self.op(tracked))
    }

    /// The same from the single ops.
    pub(super) fn composed(&self, x: &Tensor) -> Result<Tensor> {
        let a = attention_packed(&self.qkv.forward(&self.norm1.forward(x)?)?, self.heads)?;
        let x = branch_end(x, &self.proj, &a, self.ls1.as_ref())?;
        let y = self.norm2.forward(&x)?;
        let y = self.fc1.forward_act(&y, self.act)?;
        branch_end(&x, &self.fc2, &y, self.ls2.as_ref())
    }

    fn tensors(&self) -> Vec<&Tensor> {
        let mut all = Vec::with_capacity(14);
        for n in [&self.norm1, &self.norm2] {
            all.extend([&n.weight, &n.bias]);
        }
        for l in [&self.qkv, &self.proj, &self.fc1, &self.fc2] {
            all.push(&l.weight);
            all.extend(&l.bias);
        }
        all.extend(&self.ls1);
        all.extend(&self.ls2);
        all
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let (_, _, d) = x.dims3()?;
        let (hidden, _) = self.fc1.weight.dims2()?;
        let linear = |l: &Linear, out: usize, input: usize| {
            l.weight.dims() == [out, input] && l.bias.as_ref().is_some_and(|b| b.dims() == [out])
        };
        let vector = |t: &Tensor| t.dims() == [d];
        let fits = linear(&self.qkv, 3 * d, d)
            && linear(&self.proj, d, d)
            && linear(&self.fc1, hidden, d)
            && linear(&self.fc2, d, hidden)
            && [&self.norm1, &self.norm2]
                .iter()
                .all(|n| vector(&n.weight) && vector(&n.bias))
            && [&self.ls1, &self.ls2].into_iter().flatten().all(vector)
            && d.is_multiple_of(self.heads);
        if !fits {
            bail!("transformer block: its parameters do not fit an input {:?}", x.dims());
        }
        Ok(())
    }
}

/// x (B, N, D) → (B, N, D).
impl Layer for TransformerBlock {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if !self.fused(x) {
            return self.composed(x);
        }
        self.apply(x, self.tensors().iter().any(|t| t.track_op()) || x.track_op())
    }

    fn value(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.detach();
        let y = if self.fused(&x) {
            self.apply(&x, false)
        } else {
            without_graph(|| self.composed(&x))
        };
        Ok(y?.detach())
    }

    fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        if !self.fused(x) {
            return from_scratch(self, x, dy);
        }
        self.op(true).backward(&x.contiguous()?, &dy.contiguous()?)
    }
}

/// `x + γ ⊙ last(y)`.
fn branch_end(x: &Tensor, last: &Linear, y: &Tensor, gamma: Option<&Tensor>) -> Result<Tensor> {
    match gamma {
        Some(g) => add_scaled(x, &last.forward(y)?, g),
        None => last.forward_onto(y, x),
    }
}

impl BlockOp {
    fn sizes(&self, dims: &[usize]) -> Result<Sizes> {
        let [b, n, d] = *dims else {
            bail!("transformer block: (B, N, D) was expected, not {dims:?}")
        };
        let h = self.block.heads;
        Ok(Sizes {
            rows: b * n,
            d,
            hidden: self.block.fc1.weight.dim(0)?,
            heads: attention::Dims {
                b,
                h,
                n,
                m: n,
                d: d / h,
            },
        })
    }

    /// Calls `f` with the parameters' values.
    fn with_values<T: Element, R>(&self, f: impl FnOnce(&Values<'_, T>) -> Result<R>) -> Result<R> {
        let tensors = self.block.tensors();
        let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
        let mut values = guards.iter().map(|(s, l)| with_cpu::<T>(s, l));
        let mut next = || {
            values
                .next()
                .unwrap_or_else(|| bail!("transformer block: a parameter is missing"))
        };
        let mut pair = || Ok::<_, candle_core::Error>((next()?, next()?));
        // In the order of `tensors`.
        let (norm1, norm2) = (pair()?, pair()?);
        let (qkv, proj, fc1, fc2) = (pair()?, pair()?, pair()?, pair()?);
        let ls1 = self.block.ls1.as_ref().map(|_| next()).transpose()?;
        let ls2 = self.block.ls2.as_ref().map(|_| next()).transpose()?;
        f(&Values {
            norm1,
            qkv,
            proj,
            ls1,
            norm2,
            fc1,
            fc2,
            ls2,
        })
    }

    fn run<T: Element>(&self, s: &CpuStorage, l: &Layout) -> Result<CpuStorage> {
        let x = super::cpu::slice::<T>("transformer block", s, l)?;
        let sizes = self.sizes(l.dims())?;
        let want = if self.tracked {
            Want::OutputAndSaved
        } else {
            Want::Output
        };
        let (y, saved) = self.with_values::<T, _>(|v| Ok(forward::forward(self, sizes, x, v, want)))?;
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = saved.map(T::keep);
        Ok(T::to_cpu_storage_owned(y))
    }

    /// From contiguous `x` and the gradient at the output, the gradient at `x`.
    fn backward(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        match x.dtype() {
            DType::F64 => self.gradients::<f64>(x, dy),
            _ => self.gradients::<f32>(x, dy),
        }
    }

    fn gradients<T: Element>(&self, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let sizes = self.sizes(x.dims())?;
        let ((xs, xl), (gs, gl)) = (x.storage_and_layout(), dy.storage_and_layout());
        let (xv, gv) = (with_cpu::<T>(&xs, xl)?, with_cpu::<T>(&gs, gl)?);
        let saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner).take();
        let dx = self.with_values::<T, _>(|v| {
            let saved = match saved.and_then(T::take) {
                Some(k) => k,
                // With checkpointing, and in a second backward pass over the same graph.
                None => match forward::forward(self, sizes, xv, v, Want::Saved).1 {
                    Some(k) => k,
                    None => bail!("transformer block: nothing was saved"),
                },
            };
            backward::backward(&self.block, sizes, xv, v, saved, gv)
        })?;
        Tensor::from_vec(dx, x.shape(), x.device())
    }
}

impl CustomOp2 for BlockOp {
    fn name(&self) -> &'static str {
        "transformer_block"
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = match s.dtype() {
            DType::F32 => self.run::<f32>(s, l)?,
            DType::F64 => self.run::<f64>(s, l)?,
            t => bail!("transformer block: {t:?} is not supported on the CPU"),
        };
        Ok((y, l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = self.backward(x, &dy.contiguous()?)?;
        Ok((x.track_op().then_some(dx), None))
    }
}
