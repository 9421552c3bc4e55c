//! AdamW with the authors' parameter groups, and gradient clipping. PROTOCOL 6.1, 6.2.
//!
//! The moments lie where their parameter lies, in the order of the parameters, so that a checkpoint can hold them and every sum has
//! one order. On the CPU they are plain vectors; on CUDA, tensors that one launch updates together with all parameters.

use crate::model::layers::Gradients;
use crate::model::layers::cpu::{Real as _, lane_sum, simd_fn};
use crate::model::layers::cuda::{self, optimiser};
use crate::model::params::Params;
use anyhow::{Result, bail};
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use rayon::prelude::*;
use std::borrow::Cow;
use std::sync::Mutex;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

/// Settings that do not change during a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    pub weight_decay: f64,
    /// Factor on the learning rate per block below the top (Q23); 1 is none.
    pub layer_decay: f64,
    /// Largest global gradient norm; 0 is none.
    pub clip: f64,
}

/// One parameter with its moments.
#[derive(Debug, Clone)]
pub struct Slot {
    pub name: String,
    var: Var,
    decay: bool,
    lr_factor: f64,
    moments: Moments,
    /// Updates so far; a parameter that gets no gradient is never updated.
    pub updates: u64,
}

/// The first and the second moment of a parameter, where it lies.
#[derive(Debug, Clone)]
enum Moments {
    Host { m: Vec<f32>, v: Vec<f32> },
    Device { m: Tensor, v: Tensor },
}

/// AdamW, β = (0.9, 0.999), ε = 1e-8, decoupled decay on tensors of two or more axes whose name does not end in `.bias`.
#[derive(Debug, Clone)]
pub struct AdamW {
    config: AdamWConfig,
    pub slots: Vec<Slot>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepReport {
    /// Global L2 norm of all gradients, before clipping.
    pub grad_norm: f64,
}

impl AdamW {
    /// # Errors
    /// Where the moments do not fit into the device's memory.
    pub fn new(params: &Params, config: AdamWConfig) -> candle_core::Result<Self> {
        let depth = params
            .0
            .iter()
            .filter_map(|p| block_of(&p.name))
            .max()
            .map_or(0, |d| d + 1);
        let slots = params
            .trainable()
            .map(|(name, var)| {
                Ok(Slot {
                    name: name.to_owned(),
                    var: var.clone(),
                    decay: var.rank() >= 2 && !name.ends_with(".bias"),
                    lr_factor: libm::pow(config.layer_decay, (depth + 1 - layer_of(name, depth)) as f64),
                    moments: Moments::new(var)?,
                    updates: 0,
                })
            })
            .collect::<candle_core::Result<_>>()?;
        Ok(Self { config, slots })
    }

    /// Parameters with and without decay, by count.
    pub fn groups(&self) -> (usize, usize) {
        let with = self.slots.iter().filter(|s| s.decay).count();
        (with, self.slots.len() - with)
    }

    /// Clips the gradients to the configured norm and updates every parameter that has one; where a gradient is not finite,
    /// nothing is updated.
    ///
    /// # Errors
    /// Where a gradient is not float32.
    pub fn step(&mut self, grads: &Gradients, lr: f64) -> Result<StepReport> {
        self.step_scaled(grads, lr, 1.0)
    }

    /// The same for the gradients of a loss that was multiplied by `loss_scale`.
    ///
    /// # Errors
    /// Where a gradient is not float32.
    pub fn step_scaled(&mut self, grads: &Gradients, lr: f64, loss_scale: f64) -> Result<StepReport> {
        let found: Vec<Option<Tensor>> = self
            .slots
            .iter()
            .map(|s| grads.get(s.var.as_tensor())?.map(|g| g.contiguous()).transpose())
            .collect::<candle_core::Result<_>>()?;
        let on_device = self.slots.iter().any(|s| matches!(s.moments, Moments::Device { .. }));
        let squares = if on_device {
            optimiser::square_sum(&found.iter().flatten().collect::<Vec<_>>())?
        } else {
            let norms: Vec<f64> = found
                .par_iter()
                .map(|g| g.as_ref().map_or(Ok(0.0), square_sum))
                .collect::<Result<_>>()?;
            norms.iter().sum::<f64>()
        };
        // Squares of float32 do not overflow float64: the norm is finite exactly where all gradients are.
        let grad_norm = squares.sqrt() / loss_scale;
        if !grad_norm.is_finite() {
            return Ok(StepReport { grad_norm });
        }
        let clip = if self.config.clip > 0.0 {
            (self.config.clip / (grad_norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let scale = clip / loss_scale;
        let wd = self.config.weight_decay;
        if on_device {
            self.update_on_device(&found, lr, scale as f32)?;
            return Ok(StepReport { grad_norm });
        }
        self.slots
            .par_iter_mut()
            .zip(&found)
            .filter_map(|(s, g)| Some((s, g.as_ref()?)))
            .try_for_each(|(s, g)| s.update(g, lr, if s.decay { wd } else { 0.0 }, scale))?;
        Ok(StepReport { grad_norm })
    }

    fn update_on_device(&mut self, found: &[Option<Tensor>], lr: f64, scale: f32) -> Result<()> {
        let wd = self.config.weight_decay;
        let mut updates = Vec::with_capacity(self.slots.len());
        for (s, g) in self.slots.iter_mut().zip(found) {
            let Some(gradient) = g else { continue };
            let [shrink, step, bias2] = s.factors(lr, if s.decay { wd } else { 0.0 });
            let Moments::Device { m, v } = &s.moments else {
                bail!("{}: its moments are on the CPU", s.name)
            };
            updates.push(optimiser::Update {
                parameter: s.var.as_tensor(),
                gradient,
                m,
                v,
                shrink,
                step,
                bias2,
            });
        }
        Ok(optimiser::adamw(&updates, scale)?)
    }
}

impl Moments {
    fn new(var: &Var) -> candle_core::Result<Self> {
        let n = var.elem_count();
        Ok(if cuda::wanted(var.as_tensor()) {
            let zeros = || Tensor::zeros(n, candle_core::DType::F32, var.device());
            Self::Device {
                m: zeros()?,
                v: zeros()?,
            }
        } else {
            Self::Host {
                m: vec![0.0; n],
                v: vec![0.0; n],
            }
        })
    }
}

/// N of `…blocks.N.…`, the depth that layer decay counts.
fn block_of(name: &str) -> Option<usize> {
    let rest = &name[name.rfind("blocks.")? + 7..];
    rest.split('.').next()?.parse().ok()
}

/// 0 for what comes before the blocks, 1 + N for block N, depth + 1 for what comes after (norms, heads).
fn layer_of(name: &str, depth: usize) -> usize {
    let early = [
        "patch_embed",
        "pos_embed",
        "cls_token",
        "embedding",
        "conv1",
        "class_emb",
        "preprocessor",
    ];
    match block_of(name) {
        Some(n) => n + 1,
        None if early.iter().any(|e| name.contains(e)) => 0,
        None => depth + 1,
    }
}

fn square_sum(g: &Tensor) -> Result<f64> {
    let (s, l) = g.storage_and_layout();
    let candle_core::Storage::Cpu(c) = &*s else {
        bail!("the fused optimiser runs on the CPU")
    };
    let x = crate::model::layers::cpu::slice::<f32>("gradient norm", c, l)?;
    // Blocks of 4096 in float64, so that the sum does not depend on the length of a run of additions.
    Ok(x.chunks(4096)
        .map(|c| lane_sum(c.len(), |i| f64::of(f64::from(c[i]) * f64::from(c[i]))))
        .sum())
}

struct Update<'a> {
    slot: Mutex<(&'a mut [f32], &'a mut [f32])>,
    shrink: f32,
    step: f32,
    bias2: f32,
    scale: f32,
}

impl Slot {
    /// Both moments, on the host.
    ///
    /// # Errors
    /// Where they cannot be read from the device.
    pub fn moments(&self) -> candle_core::Result<[Cow<'_, [f32]>; 2]> {
        Ok(match &self.moments {
            Moments::Host { m, v } => [Cow::Borrowed(m), Cow::Borrowed(v)],
            Moments::Device { m, v } => [Cow::Owned(m.to_vec1()?), Cow::Owned(v.to_vec1()?)],
        })
    }

    /// Takes up moments from a checkpoint; both have the parameter's size.
    ///
    /// # Errors
    /// Where they do not fit into the device's memory.
    pub fn set_moments(&mut self, m: Vec<f32>, v: Vec<f32>, updates: u64) -> candle_core::Result<()> {
        let (n, device) = (m.len(), self.var.device());
        self.updates = updates;
        self.moments = match self.moments {
            Moments::Host { .. } => Moments::Host { m, v },
            Moments::Device { .. } => Moments::Device {
                m: Tensor::from_vec(m, n, device)?,
                v: Tensor::from_vec(v, n, device)?,
            },
        };
        Ok(())
    }

    /// Values of the parameter.
    pub fn len(&self) -> usize {
        self.var.elem_count()
    }

    /// Whether the parameter has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts an update; returns its shrinking of the parameter, its step and √(1 − β₂ᵗ).
    fn factors(&mut self, lr: f64, weight_decay: f64) -> [f32; 3] {
        self.updates += 1;
        let lr = lr * self.lr_factor;
        let t = self.updates as f64;
        [
            (1.0 - lr * weight_decay) as f32,
            (lr / (1.0 - libm::pow(BETA1, t))) as f32,
            (1.0 - libm::pow(BETA2, t)).sqrt() as f32,
        ]
    }

    fn update(&mut self, g: &Tensor, lr: f64, weight_decay: f64, scale: f64) -> Result<()> {
        let [shrink, step, bias2] = self.factors(lr, weight_decay);
        let Moments::Host { m, v } = &mut self.moments else {
            bail!("{}: its moments are not on the CPU", self.name)
        };
        let op = Update {
            slot: Mutex::new((m, v)),
            shrink,
            step,
            bias2,
            scale: scale as f32,
        };
        self.var.as_tensor().inplace_op2(g, &op)?;
        Ok(())
    }
}

simd_fn! {
    fn adamw<T>(p: &mut [T], g: &[T], m: &mut [T], v: &mut [T], k: [T; 4]) {
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

impl InplaceOp2 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, p: &mut CpuStorage, pl: &Layout, g: &CpuStorage, gl: &Layout) -> candle_core::Result<()> {
        let g = crate::model::layers::cpu::slice::<f32>("adamw", g, gl)?;
        let Some((a, b)) = pl.contiguous_offsets() else {
            candle_core::bail!("adamw: the parameter must be contiguous")
        };
        let CpuStorage::F32(p) = p else {
            candle_core::bail!("adamw: parameters are float32")
        };
        let mut slot = self.slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (m, v) = &mut *slot;
        adamw(&mut p[a..b], g, m, v, [self.shrink, self.step, self.bias2, self.scale]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_the_stem() {
        assert_eq!(layer_of("backbone.patch_embed.proj.weight", 12), 0);
        assert_eq!(layer_of("backbone.blocks.3.norm1.weight", 12), 4);
        assert_eq!(layer_of("visual.transformer.resblocks.11.ln_1.weight", 12), 12);
        assert_eq!(layer_of("fc.weight", 12), 13);
    }
}
