//! Putting results that have been computed already into candle's graph, or onto a tape.

use super::steps::{self, Mode, Vjp};
use super::value::Value;
use crate::convert::converted;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};
use std::sync::{Mutex, PoisonError};

/// The backward pass of a node: from its operands, its result and the contiguous gradient of that, the gradients of the operands.
pub(crate) type Backward<const N: usize> =
    dyn Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync;

/// An op whose result has been computed already; candle is told of it so that gradients pass through.
struct Node<const N: usize> {
    name: &'static str,
    value: Mutex<Option<Value>>,
    backward: Box<Backward<N>>,
}

impl<const N: usize> Node<N> {
    fn new(
        name: &'static str,
        value: Value,
        backward: impl Fn([&Tensor; N], &Tensor, &Tensor) -> Result<[Option<Tensor>; N]> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            value: Mutex::new(Some(value)),
            backward: Box::new(backward),
        }
    }

    fn take(&self) -> Result<(Storage, Shape)> {
        match self.value.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(v) => Ok(v.into_parts()),
            None => bail!("{}: its result was taken twice", self.name),
        }
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(s), shape) => Ok((s, shape)),
            _ => bail!("{}: a result on the CPU was expected", self.name),
        }
    }

    fn cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(s), shape) => Ok((s, shape)),
            _ => bail!("{}: a result on CUDA was expected", self.name),
        }
    }

    /// Gradients in the types of the operands, and none where none is wanted.
    fn gradients(&self, args: [&Tensor; N], y: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut grads = (self.backward)(args, y, &dy.contiguous()?)?;
        for (g, a) in grads.iter_mut().zip(args) {
            if let Some(v) = g.take().filter(|_| a.track_op()) {
                *g = Some(converted(&v, a.dtype())?.reshape(a.shape())?);
            }
        }
        Ok(grads)
    }
}

impl CustomOp1 for Node<1> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(&self, a: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let [da] = self.gradients([a], y, dy)?;
        Ok(da)
    }
}

impl CustomOp2 for Node<2> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [da, db] = self.gradients([a, b], y, dy)?;
        Ok((da, db))
    }
}

impl CustomOp3 for Node<3> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.cuda()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [da, db, dc] = self.gradients([a, b, c], y, dy)?;
        Ok((da, db, dc))
    }
}

impl<const N: usize> Vjp for Node<N> {
    fn vjp(&self, args: &[Tensor], y: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        if args.len() != N {
            bail!("{}: {} operands, not {N}", self.name, args.len());
        }
        Ok(self.gradients(std::array::from_fn(|i| &args[i]), y, dy)?.into())
    }
}

/// `value` as the result of an op of `args`: as a step of the tape where one is recorded, else as a node of candle's graph.
fn node<const N: usize>(
    args: [&Tensor; N],
    value: Value,
    op: impl FnOnce(Value) -> Node<N>,
    graph: impl FnOnce(Node<N>) -> Result<Tensor>,
) -> Result<Tensor>
where
    Node<N>: Vjp,
{
    if !args.iter().any(|a| a.track_op()) {
        return Ok(value.tensor());
    }
    match steps::mode() {
        Mode::Graph => graph(op(value)),
        Mode::Values => Ok(value.tensor()),
        Mode::Tape => {
            let node = op(value);
            let (storage, shape) = node.take()?;
            let y = Tensor::from_storage(storage, shape, BackpropOp::none(), true);
            steps::push(args, &y, Box::new(node));
            Ok(y)
        }
    }
}

/// `value` as the result of an op of one operand.
pub(crate) fn node1(
    name: &'static str,
    a: &Tensor,
    value: Value,
    backward: impl Fn([&Tensor; 1], &Tensor, &Tensor) -> Result<[Option<Tensor>; 1]> + Send + Sync + 'static,
) -> Result<Tensor> {
    node([a], value, |v| Node::new(name, v, backward), |n| a.apply_op1(n))
}

/// `value` as the result of an op of two operands.
pub(crate) fn node2(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    value: Value,
    backward: impl Fn([&Tensor; 2], &Tensor, &Tensor) -> Result<[Option<Tensor>; 2]> + Send + Sync + 'static,
) -> Result<Tensor> {
    node([a, b], value, |v| Node::new(name, v, backward), |n| a.apply_op2(b, n))
}

/// `value` as the result of an op of three operands.
pub(crate) fn node3(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    value: Value,
    backward: impl Fn([&Tensor; 3], &Tensor, &Tensor) -> Result<[Option<Tensor>; 3]> + Send + Sync + 'static,
) -> Result<Tensor> {
    node(
        [a, b, c],
        value,
        |v| Node::new(name, v, backward),
        |n| a.apply_op3(b, c, n),
    )
}

/// A scalar whose gradient at `y` is `dy`: candle starts at scalars only. Its value is not defined.
pub(crate) fn seeded(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (value, dy) = (Value::new((), y.dtype(), y.device())?, dy.detach());
    y.apply_op1(Node::<1>::new("seed", value, move |_, _, _| Ok([Some(dy.clone())])))
}
