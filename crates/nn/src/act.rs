//! Activations: GELU by erf, QuickGELU, SwiGLU's gate.

use super::cpu::{Real, par_filled, par_filled2, simd_fn, slice, with_cpu};
use super::cuda;
use super::dispatch::uses_kernels;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

/// The activation of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// GELU with the exact erf.
    GeluErf,
    /// `x · sigmoid(1.702 x)`.
    QuickGelu,
}

impl Act {
    /// `y = act(x)`.
    #[inline(always)]
    pub(super) fn apply<T: Real>(self, x: &[T], y: &mut [T]) {
        let one = T::of(1.0);
        match self {
            Self::GeluErf => {
                let (half, r) = (T::of(0.5), T::of(std::f64::consts::FRAC_1_SQRT_2));
                for (o, &v) in y.iter_mut().zip(x) {
                    *o = half * v * (one + (v * r).erf_());
                }
            }
            Self::QuickGelu => {
                let a = T::of(1.702);
                for (o, &v) in y.iter_mut().zip(x) {
                    *o = v / (one + (-a * v).exp_());
                }
            }
        }
    }

    /// `x = g ⊙ act'(x)`.
    #[inline(always)]
    pub(super) fn grad_in_place<T: Real>(self, g: &[T], x: &mut [T]) {
        let one = T::of(1.0);
        match self {
            Self::GeluErf => {
                let (half, r) = (T::of(0.5), T::of(std::f64::consts::FRAC_1_SQRT_2));
                let c = T::of(0.398_942_280_401_432_7);
                for (x, &d) in x.iter_mut().zip(g) {
                    let v = *x;
                    let cdf = half * (one + (v * r).erf_());
                    let pdf = c * (-half * v * v).exp_();
                    *x = d * (cdf + v * pdf);
                }
            }
            Self::QuickGelu => {
                let a = T::of(1.702);
                for (x, &d) in x.iter_mut().zip(g) {
                    let v = *x;
                    let s = one / (one + (-a * v).exp_());
                    *x = d * (s + a * v * s * (one - s));
                }
            }
        }
    }
}

simd_fn! {
    fn act_to<T>(act: Act, x: &[T], y: &mut [T]) {
        act.apply(x, y);
    }
}

simd_fn! {
    fn act_grad_to<T>(act: Act, x: &[T], g: &[T], y: &mut [T]) {
        y.copy_from_slice(x);
        act.grad_in_place(g, y);
    }
}

simd_fn! {
    fn silu_mul_to<T>(x: &[T], z: &[T], y: &mut [T]) {
        let one = T::of(1.0);
        for ((o, &v), &w) in y.iter_mut().zip(x).zip(z) {
            *o = v / (one + (-v).exp_()) * w;
        }
    }
}

simd_fn! {
    fn silu_mul_grad_to<T>(x: &[T], z: &[T], g: &[T], dx: &mut [T], dz: &mut [T]) {
        let one = T::of(1.0);
        for i in 0..x.len().min(z.len()).min(g.len()).min(dx.len()).min(dz.len()) {
            let s = one / (one + (-x[i]).exp_());
            dx[i] = g[i] * z[i] * (s + x[i] * s * (one - s));
            dz[i] = g[i] * x[i] * s;
        }
    }
}

/// Runs an elementwise kernel over equal pieces of inputs and one output.
fn map1<T: Real>(x: &[T], f: impl Fn(&[T], &mut [T]) + Send + Sync) -> Vec<T> {
    par_filled(x.len(), 1, |r, y| f(&x[r], y))
}

pub(super) fn gelu_rows<T: Real>(x: &[T]) -> Vec<T> {
    map1(x, |x, y| act_to(Act::GeluErf, x, y))
}

/// `dy · gelu'(pre)`, same shape.
pub(super) fn gelu_grad_times(pre: &Tensor, dy: &Tensor) -> Result<Tensor> {
    grad_times(pre, dy, Act::GeluErf)
}

fn grad_times(x: &Tensor, dy: &Tensor, act: Act) -> Result<Tensor> {
    fn typed<T: Real>(x: &Tensor, dy: &Tensor, act: Act) -> Result<Tensor> {
        let (xs, xl) = x.storage_and_layout();
        let (gs, gl) = dy.storage_and_layout();
        let (xv, gv) = (with_cpu::<T>(&xs, xl)?, with_cpu::<T>(&gs, gl)?);
        let y = par_filled(xv.len(), 1, |r, y| act_grad_to(act, &xv[r.clone()], &gv[r], y));
        Tensor::from_vec(y, x.shape(), x.device())
    }
    match x.dtype() {
        DType::F64 => typed::<f64>(x, dy, act),
        _ => typed::<f32>(x, dy, act),
    }
}

struct Activation(Act);

impl CustomOp1 for Activation {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(op: &Activation, s: &CpuStorage, l: &Layout) -> Result<CpuStorage> {
            let x = slice::<T>(op.name(), s, l)?;
            Ok(T::to_cpu_storage_owned(map1(x, |x, y| act_to(op.0, x, y))))
        }
        let y = match s.dtype() {
            DType::F32 => typed::<f32>(self, s, l)?,
            DType::F64 => typed::<f64>(self, s, l)?,
            t => bail!("{}: {t:?} is not supported on the CPU", self.name()),
        };
        Ok((y, l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        grad_times(x, &dy.contiguous()?, self.0).map(Some)
    }
}

impl Act {
    /// The activation of `x`, any shape.
    ///
    /// # Errors
    /// Where there is no form for the type of `x` on its device.
    pub fn forward(self, x: &Tensor) -> Result<Tensor> {
        if uses_kernels(x) {
            return cuda::activation(self.name(), x);
        }
        x.contiguous()?.apply_op1(Activation(self))
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::GeluErf => "gelu",
            Self::QuickGelu => "quick_gelu",
        }
    }
}

/// GELU with the exact erf, any shape.
///
/// # Errors
/// As [`Act::forward`].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Act::GeluErf.forward(x)
}

/// `x · sigmoid(1.702 x)`, OpenAI CLIP's approximation, any shape.
///
/// # Errors
/// As [`Act::forward`].
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Act::QuickGelu.forward(x)
}

struct SiluMul;

impl CustomOp2 for SiluMul {
    fn name(&self) -> &'static str {
        "silu_mul"
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        fn typed<T: Real>(s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<CpuStorage> {
            let (x, z) = (slice::<T>("silu_mul", s1, l1)?, slice::<T>("silu_mul", s2, l2)?);
            let y = par_filled(x.len(), 1, |r, y| silu_mul_to(&x[r.clone()], &z[r], y));
            Ok(T::to_cpu_storage_owned(y))
        }
        if l1.dims() != l2.dims() {
            bail!("silu_mul: {:?} and {:?}", l1.dims(), l2.dims());
        }
        let y = match s1.dtype() {
            DType::F32 => typed::<f32>(s1, l1, s2, l2)?,
            DType::F64 => typed::<f64>(s1, l1, s2, l2)?,
            t => bail!("silu_mul: {t:?} is not supported on the CPU"),
        };
        Ok((y, l1.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, z: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn typed<T: Real>(x: &Tensor, z: &Tensor, dy: &Tensor) -> Result<(Tensor, Tensor)> {
            let ((xs, xl), (zs, zl), (gs, gl)) =
                (x.storage_and_layout(), z.storage_and_layout(), dy.storage_and_layout());
            let (xv, zv, gv) = (
                with_cpu::<T>(&xs, xl)?,
                with_cpu::<T>(&zs, zl)?,
                with_cpu::<T>(&gs, gl)?,
            );
            let (dx, dz) = par_filled2(xv.len(), (1, 1), |r, dx, dz| {
                silu_mul_grad_to(&xv[r.clone()], &zv[r.clone()], &gv[r], dx, dz);
            });
            Ok((
                Tensor::from_vec(dx, x.shape(), x.device())?,
                Tensor::from_vec(dz, x.shape(), x.device())?,
            ))
        }
        let dy = dy.contiguous()?;
        let (dx, dz) = match x.dtype() {
            DType::F64 => typed::<f64>(x, z, &dy)?,
            _ => typed::<f32>(x, z, &dy)?,
        };
        Ok((Some(dx), Some(dz)))
    }
}

/// `silu(x) ⊙ z`, equal shapes: the gate of SwiGLU.
///
/// # Errors
/// Where shapes differ, or there is no form for the type on its device.
pub fn silu_mul(x: &Tensor, z: &Tensor) -> Result<Tensor> {
    if uses_kernels(x) {
        return cuda::silu_mul(x, z);
    }
    x.contiguous()?.apply_op2(&z.contiguous()?, SiluMul)
}
