//! Putting results that have been computed already into candle's graph, or onto a tape.

use super::gradient_as;
use super::steps::{self, Mode, Vjp};
use super::value::Value;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage, Tensor, bail,
};
use std::sync::{Mutex, PoisonError};

/// The backward pass of a node: from its operands, its result and the contiguous gradient of that, the gradients of the operands;
/// that of the first with the last argument, where there is one, added.
pub(crate) type Backward<const N: usize> =
    dyn Fn([&Tensor; N], &Tensor, &Tensor, Option<&Tensor>) -> Result<[Option<Tensor>; N]> + Send + Sync;

/// An op whose result has been computed already; candle is told of it so that gradients pass through.
struct Node<const N: usize> {
    name: &'static str,
    value: Mutex<Option<Value>>,
    backward: Box<Backward<N>>,
    /// Whether the backward pass adds to what there is of the first operand's gradient.
    adds: bool,
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
            backward: Box::new(move |args, y, dy, _| backward(args, y, dy)),
            adds: false,
        }
    }

    fn adding(
        name: &'static str,
        value: Value,
        backward: impl Fn([&Tensor; N], &Tensor, &Tensor, Option<&Tensor>) -> Result<[Option<Tensor>; N]>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self {
            name,
            value: Mutex::new(Some(value)),
            backward: Box::new(backward),
            adds: true,
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
    fn gradients(
        &self,
        args: [&Tensor; N],
        y: &Tensor,
        dy: &Tensor,
        onto: Option<&Tensor>,
    ) -> Result<[Option<Tensor>; N]> {
        let mut grads = (self.backward)(args, y, &dy.contiguous()?, onto)?;
        for (g, a) in grads.iter_mut().zip(args) {
            if let Some(v) = g.take().filter(|_| a.track_op()) {
                let v = gradient_as(&v, a.dtype())?;
                // A view would be another tensor, of which no copy in 16 bits is known.
                *g = Some(if v.dims() == a.dims() { v } else { v.reshape(a.shape())? });
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
        let [da] = self.gradients([a], y, dy, None)?;
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
        let [da, db] = self.gradients([a, b], y, dy, None)?;
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
        let [da, db, dc] = self.gradients([a, b, c], y, dy, None)?;
        Ok((da, db, dc))
    }
}

impl<const N: usize> Vjp for Node<N> {
    fn adds(&self) -> bool {
        self.adds
    }

    fn vjp(&self, args: &[Tensor], y: &Tensor, dy: &Tensor, onto: Option<&Tensor>) -> Result<Vec<Option<Tensor>>> {
        if args.len() != N {
            bail!("{}: {} operands, not {N}", self.name, args.len());
        }
        Ok(self.gradients(std::array::from_fn(|i| &args[i]), y, dy, onto)?.into())
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

/// `value` as the result of an op of four operands, which has no place in candle's graph.
pub(crate) fn node4(
    name: &'static str,
    args: [&Tensor; 4],
    value: Value,
    backward: impl Fn([&Tensor; 4], &Tensor, &Tensor) -> Result<[Option<Tensor>; 4]> + Send + Sync + 'static,
) -> Result<Tensor> {
    node(
        args,
        value,
        |v| Node::new(name, v, backward),
        |n| bail!("{}: candle's graph has no ops of four operands", n.name),
    )
}

/// [`node2`] whose backward pass also adds to the first operand's gradient.
pub(crate) fn node2_adding(
    name: &'static str,
    [a, b]: [&Tensor; 2],
    value: Value,
    backward: impl Fn([&Tensor; 2], &Tensor, &Tensor, Option<&Tensor>) -> Result<[Option<Tensor>; 2]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    node(
        [a, b],
        value,
        |v| Node::adding(name, v, backward),
        |n| a.apply_op2(b, n),
    )
}

/// [`node3`] whose backward pass also adds to the first operand's gradient.
pub(crate) fn node3_adding(
    name: &'static str,
    [a, b, c]: [&Tensor; 3],
    value: Value,
    backward: impl Fn([&Tensor; 3], &Tensor, &Tensor, Option<&Tensor>) -> Result<[Option<Tensor>; 3]>
    + Send
    + Sync
    + 'static,
) -> Result<Tensor> {
    node(
        [a, b, c],
        value,
        |v| Node::adding(name, v, backward),
        |n| a.apply_op3(b, c, n),
    )
}

/// A scalar whose gradient at `y` is `dy`: candle starts at scalars only. Its value is not defined.
pub(crate) fn seeded(y: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let (value, dy) = (Value::new((), y.dtype(), y.device())?, dy.detach());
    y.apply_op1(Node::<1>::new("seed", value, move |_, _, _| Ok([Some(dy.clone())])))
}
