//! Fully connected layers: `y = x Wᵀ + b`, with GELU as an option, in one differentiable op each.

use super::act::{Act, gelu_grad_times, gelu_rows};
use super::cpu::{self, Real, filled, par_columns, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use super::gemm::{Affine, Plain, Rows, Transposed, of, product, transposed};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// A fully connected layer; weight (out, in), bias (out).
#[derive(Debug, Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Tensor,
    /// (out).
    pub bias: Option<Tensor>,
}

impl Linear {
    /// A layer of these parameters.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// `(…, in)` → `(…, out)`.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no form for the type on its device.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref())
    }

    /// `(…, in)` → `act` of `(…, out)`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_act(&self, x: &Tensor, act: Act) -> Result<Tensor> {
        layer(x, &self.weight, self.bias.as_ref(), Some(act), false)
    }

    /// `(…, in)` → `onto` plus `(…, out)`: the end of a residual branch. Where layers compute in 16 bits, the sum is float32.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_onto(&self, x: &Tensor, onto: &Tensor) -> Result<Tensor> {
        match &self.bias {
            Some(bias) if uses_kernels(x) => cuda::linear_onto(onto, x, &self.weight, bias),
            _ => super::add(onto, &self.forward(x)?),
        }
    }

    /// `(…, in)` → GELU (erf) of `(…, out)`.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_gelu(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_act(x, Act::GeluErf)
    }
}

/// `x (…, in) · weightᵀ (in, out) + bias`; differentiable in all three.
///
/// # Errors
/// Where shapes do not fit, or there is no form for the type on its device.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    layer(x, weight, bias, None, false)
}

/// [`linear`] with its result in float32 in any scope: for what is exponentiated next.
///
/// # Errors
/// As [`linear`].
pub fn linear_float(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    layer(x, weight, bias, None, true)
}

fn layer(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, act: Option<Act>, float: bool) -> Result<Tensor> {
    if uses_kernels(x) {
        return cuda::linear(x, weight, bias, act, float);
    }
    // GELU and bias are parts of the product; another activation, or one without a bias, is an op of its own.
    let gelu = act == Some(Act::GeluErf) && bias.is_some();
    let op = LinearOp {
        gelu,
        pre: OnceLock::new(),
    };
    let bias = match bias {
        Some(b) => b.contiguous()?,
        // Shape (0): the op sees "no bias", and no gradient is formed for it.
        None => Tensor::zeros(0, x.dtype(), x.device())?,
    };
    let y = x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, op)?;
    match act {
        Some(act) if !gelu => act.forward(&y),
        _ => Ok(y),
    }
}

struct LinearOp {
    gelu: bool,
    /// Values before GELU, kept for the backward pass.
    pre: OnceLock<Tensor>,
}

impl LinearOp {
    fn run<T: Real>(
        &self,
        s: [&CpuStorage; 3],
        l: [&Layout; 3],
        (rows, inp, out): (usize, usize, usize),
    ) -> Result<Vec<T>> {
        let (x, w, b) = (
            slice::<T>("linear", s[0], l[0])?,
            slice::<T>("linear", s[1], l[1])?,
            slice::<T>("linear", s[2], l[2])?,
        );
        // SAFETY: a product hands over every element once, and the epilogue writes it.
        Ok(unsafe {
            filled(rows * out, |p| {
                let epilogue = Affine {
                    bias: (!b.is_empty()).then_some(b),
                    ..Affine::plain(p, out)
                };
                let right = transposed(Plain::new(w, inp));
                product((rows, out, inp), &of(Plain::new(x, inp)), &right, &epilogue);
            })
        })
    }
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (out, inp) = l2.shape().dims2()?;
        let mut dims = l1.dims().to_vec();
        if dims.last() != Some(&inp) || !(l3.dims() == [out] || l3.dims() == [0]) {
            bail!(
                "linear: x {:?}, weight {:?}, bias {:?}",
                l1.dims(),
                l2.dims(),
                l3.dims()
            );
        }
        let rows = dims[..dims.len() - 1].iter().product();
        if let Some(d) = dims.last_mut() {
            *d = out;
        }
        let shape = Shape::from(dims);
        fn typed<T: Real>(
            op: &LinearOp,
            s: [&CpuStorage; 3],
            l: [&Layout; 3],
            d: (usize, usize, usize),
            shape: &Shape,
        ) -> Result<CpuStorage> {
            let y = op.run::<T>(s, l, d)?;
            if !op.gelu {
                return Ok(T::to_cpu_storage_owned(y));
            }
            let z = gelu_rows(&y);
            let _ = op
                .pre
                .set(Tensor::from_vec(y, shape.clone(), &candle_core::Device::Cpu)?);
            Ok(T::to_cpu_storage_owned(z))
        }
        let (s, l, d) = ([s1, s2, s3], [l1, l2, l3], (rows, inp, out));
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>(self, s, l, d, &shape)?,
            DType::F64 => typed::<f64>(self, s, l, d, &shape)?,
            t => bail!("linear: {t:?} is not supported on the CPU"),
        };
        Ok((y, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dy = match self.pre.get() {
            Some(pre) => gelu_grad_times(pre, &dy)?,
            None => dy,
        };
        match x.dtype() {
            DType::F64 => linear_bwd::<f64>(x, w, b, &dy),
            _ => linear_bwd::<f32>(x, w, b, &dy),
        }
    }
}

fn linear_bwd<T: Real>(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    dy: &Tensor,
) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
    let (out, inp) = w.dims2()?;
    let rows = x.dims()[..x.rank() - 1].iter().product();
    let (dys, dyl) = dy.storage_and_layout();
    let dyv = with_cpu::<T>(&dys, dyl)?;
    let dx = if x.track_op() {
        let (ws, wl) = w.storage_and_layout();
        let wv = with_cpu::<T>(&ws, wl)?;
        // SAFETY: a product hands over every element once, and the epilogue writes it.
        let g = unsafe {
            filled(rows * inp, |p| {
                let (left, right) = (of(Plain::new(dyv, out)), of(Plain::new(wv, inp)));
                product((rows, inp, out), &left, &right, &Affine::plain(p, inp));
            })
        };
        Some(Tensor::from_vec(g, x.shape(), x.device())?)
    } else {
        None
    };
    let dw = if w.track_op() {
        let (xs, xl) = x.storage_and_layout();
        let xv = with_cpu::<T>(&xs, xl)?;
        let g = weight_gradient((rows, out, inp), Plain::new(dyv, out), Plain::new(xv, inp));
        Some(Tensor::from_vec(g, w.shape(), w.device())?)
    } else {
        None
    };
    let db = if b.elem_count() > 0 && b.track_op() {
        let g = par_columns(rows, out, |r, acc| cpu::add_assign(acc, &dyv[r * out..(r + 1) * out]));
        Some(Tensor::from_vec(g, b.shape(), b.device())?)
    } else {
        None
    };
    Ok((dx, dw, db))
}

/// `dyᵀ · x`: dy (rows, out), x (rows, inp) → (out, inp). The wider side is the left one, so that the packed side is small.
pub(super) fn weight_gradient<T: Real>(
    (rows, out, inp): (usize, usize, usize),
    dy: impl Rows<T>,
    x: impl Rows<T>,
) -> Vec<T> {
    // SAFETY: a product hands over every element once, and the epilogue writes it.
    unsafe {
        filled(out * inp, |p| {
            if inp > out {
                let epilogue = Transposed { out: p, ld: inp };
                product((inp, out, rows), &transposed(x), &of(dy), &epilogue);
            } else {
                product((out, inp, rows), &transposed(dy), &of(x), &Affine::plain(p, inp));
            }
        })
    }
}
