//! Fused AdamW and the gradients' norm.
//!
//! The moments lie where their parameter lies. On the CPU they are plain vectors; on CUDA, tensors that one launch updates together
//! with all parameters. Sums have one order, whatever the number of threads.

pub(crate) mod constants;

pub use constants::{BETA1, BETA2};

use self::constants::EPS;
use crate::copies::{self, Kept};
use crate::cpu::{Real, lane_sum, simd_fn, slice};
use crate::cuda::optimiser as device;
use crate::dispatch::uses_kernels;
use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Storage, Tensor, bail};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

/// The first and the second moment of a parameter, float32, where the parameter lies.
#[derive(Debug, Clone)]
pub struct Moments(MomentMemory);

#[derive(Debug, Clone)]
enum MomentMemory {
    Host { m: Vec<f32>, v: Vec<f32> },
    Device { m: Tensor, v: Tensor, copy: Arc<Kept> },
}

impl Moments {
    /// Zeros for a parameter.
    ///
    /// # Errors
    /// Where they do not fit into the device's memory.
    pub fn zeros(parameter: &Tensor) -> Result<Self> {
        let n = parameter.elem_count();
        Ok(Self(if uses_kernels(parameter) {
            let zeros = || Tensor::zeros(n, DType::F32, parameter.device());
            MomentMemory::Device {
                m: zeros()?,
                v: zeros()?,
                copy: Kept::new(parameter),
            }
        } else {
            MomentMemory::Host {
                m: vec![0.0; n],
                v: vec![0.0; n],
            }
        }))
    }

    /// Both moments, on the host.
    ///
    /// # Errors
    /// Where they cannot be read from the device.
    pub fn to_host(&self) -> Result<[Cow<'_, [f32]>; 2]> {
        Ok(match &self.0 {
            MomentMemory::Host { m, v } => [Cow::Borrowed(m), Cow::Borrowed(v)],
            MomentMemory::Device { m, v, .. } => [Cow::Owned(m.to_vec1()?), Cow::Owned(v.to_vec1()?)],
        })
    }

    /// Takes up moments that were saved; both have the parameter's size.
    ///
    /// # Errors
    /// Where they do not fit into the device's memory.
    pub fn set(&mut self, m: Vec<f32>, v: Vec<f32>) -> Result<()> {
        self.0 = match &self.0 {
            MomentMemory::Host { .. } => MomentMemory::Host { m, v },
            MomentMemory::Device { m: old, copy, .. } => {
                let (n, device) = (m.len(), old.device().clone());
                MomentMemory::Device {
                    m: Tensor::from_vec(m, n, &device)?,
                    v: Tensor::from_vec(v, n, &device)?,
                    copy: copy.clone(),
                }
            }
        };
        Ok(())
    }
}

/// One parameter's update.
pub struct Update<'a> {
    /// Float32, contiguous; changed in place.
    pub parameter: &'a Tensor,
    /// Float32, contiguous, of the parameter's size.
    pub gradient: &'a Tensor,
    /// Changed in place.
    pub moments: &'a mut Moments,
    /// 1 − lr · weight decay.
    pub shrink: f32,
    /// lr / (1 − β₁ᵗ).
    pub step: f32,
    /// √(1 − β₂ᵗ).
    pub bias2: f32,
}

/// To be called where a parameter that trains was given other values than by [`adamw`]: what was kept of the old ones is let go.
pub fn parameter_changed(parameter: &Tensor) {
    copies::forget(parameter);
}

/// The sum of squares of all gradients (float32, contiguous), in float64.
///
/// # Errors
/// Where a gradient is not float32.
pub fn square_sum(gradients: &[&Tensor]) -> Result<f64> {
    if gradients.first().is_some_and(|g| uses_kernels(g)) {
        return device::square_sum(gradients);
    }
    let each: Vec<f64> = gradients
        .par_iter()
        .map(|g| square_sum_host(g))
        .collect::<Result<_>>()?;
    Ok(each.iter().sum())
}

fn square_sum_host(g: &Tensor) -> Result<f64> {
    let (s, l) = g.storage_and_layout();
    let Storage::Cpu(c) = &*s else {
        bail!("the gradients lie on different devices")
    };
    let x = slice::<f32>("gradient norm", c, l)?;
    // Blocks of 4096 in float64, so that the sum does not depend on the length of a run of additions.
    Ok(x.chunks(4096)
        .map(|c| lane_sum(c.len(), |i| f64::of(f64::from(c[i]) * f64::from(c[i]))))
        .sum())
}

/// AdamW with decoupled weight decay, β = (0.9, 0.999), ε = 1e-8: updates parameters and moments in place; gradients are
/// first multiplied by `scale`.
///
/// # Errors
/// Where a tensor is not float32 or not contiguous.
pub fn adamw(updates: Vec<Update<'_>>, scale: f32) -> Result<()> {
    let on_device = |u: &Update<'_>| matches!(u.moments.0, MomentMemory::Device { .. });
    if updates.first().is_some_and(on_device) {
        let mut all = Vec::with_capacity(updates.len());
        for u in &updates {
            let MomentMemory::Device { m, v, copy } = &u.moments.0 else {
                bail!("the moments of a parameter are on the CPU, those of others are not")
            };
            all.push(device::Update {
                parameter: u.parameter,
                gradient: u.gradient,
                m,
                v,
                copy: copy.copy(),
                shrink: u.shrink,
                step: u.step,
                bias2: u.bias2,
            });
        }
        return device::adamw(&all, scale);
    }
    updates.into_par_iter().try_for_each(|u| {
        let MomentMemory::Host { m, v } = &mut u.moments.0 else {
            bail!("the moments of a parameter are on a GPU, those of others are not")
        };
        let op = HostUpdate {
            moments: Mutex::new((m, v)),
            factors: [u.shrink, u.step, u.bias2, scale],
        };
        u.parameter.inplace_op2(u.gradient, &op)
    })
}

struct HostUpdate<'a> {
    moments: Mutex<(&'a mut [f32], &'a mut [f32])>,
    factors: [f32; 4],
}

simd_fn! {
    fn adamw_rows<T>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], k: [T; 4]) {
        let [shrink, step, bias2, scale] = k;
        let (b1, b2, eps) = (T::of(1.0 - BETA1), T::of(1.0 - BETA2), T::of(EPS));
        let c2 = T::of(BETA2);
        for i in 0..p.len().min(g.len()).min(m.len()).min(v.len()) {
            let d = g[i] * scale;
            m[i] += (d - m[i]) * b1;
            v[i] = v[i] * c2 + d * d * b2;
            p[i] = p[i] * shrink - step * (m[i] / (v[i].sqrt_() / bias2 + eps));
        }
    }
}

impl InplaceOp2 for HostUpdate<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, p: &mut CpuStorage, pl: &Layout, g: &CpuStorage, gl: &Layout) -> Result<()> {
        let g = slice::<f32>("adamw", g, gl)?;
        let Some((a, b)) = pl.contiguous_offsets() else {
            bail!("adamw: the parameter must be contiguous")
        };
        let CpuStorage::F32(p) = p else {
            bail!("adamw: parameters are float32")
        };
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let (m, v) = &mut *moments;
        adamw_rows(&mut p[a..b], g, m, v, self.factors);
        Ok(())
    }
}
