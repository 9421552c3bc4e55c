//! AdamW with the authors' parameter groups, and gradient clipping. PROTOCOL 6.1, 6.2.
//!
//! What a step computes is in `medft_nn::optimiser`; here is which parameter is updated at which rate.

use crate::model::params::Params;
use anyhow::Result;
use candle_core::{Tensor, Var};
use medft_nn::Gradients;
use medft_nn::optimiser::{self, BETA1, BETA2, Moments, Update};
use std::borrow::Cow;

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
                    moments: Moments::zeros(var.as_tensor())?,
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
        let squares = optimiser::square_sum(&found.iter().flatten().collect::<Vec<_>>())?;
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
        let updates = self
            .slots
            .iter_mut()
            .zip(&found)
            .filter_map(|(slot, g)| Some(slot.update(g.as_ref()?, lr, wd)))
            .collect();
        optimiser::adamw(updates, scale as f32)?;
        Ok(StepReport { grad_norm })
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

impl Slot {
    /// Both moments, on the host.
    ///
    /// # Errors
    /// Where they cannot be read from the device.
    pub fn moments(&self) -> candle_core::Result<[Cow<'_, [f32]>; 2]> {
        self.moments.to_host()
    }

    /// Takes up moments from a checkpoint; both have the parameter's size.
    ///
    /// # Errors
    /// Where they do not fit into the device's memory.
    pub fn set_moments(&mut self, m: Vec<f32>, v: Vec<f32>, updates: u64) -> candle_core::Result<()> {
        self.updates = updates;
        self.moments.set(m, v)
    }

    /// Values of the parameter.
    pub fn len(&self) -> usize {
        self.var.elem_count()
    }

    /// Whether the parameter has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts an update and says what it does.
    fn update<'a>(&'a mut self, gradient: &'a Tensor, lr: f64, weight_decay: f64) -> Update<'a> {
        self.updates += 1;
        let lr = lr * self.lr_factor;
        let weight_decay = if self.decay { weight_decay } else { 0.0 };
        let t = self.updates as f64;
        Update {
            parameter: self.var.as_tensor(),
            gradient,
            moments: &mut self.moments,
            shrink: (1.0 - lr * weight_decay) as f32,
            step: (lr / (1.0 - libm::pow(BETA1, t))) as f32,
            bias2: (1.0 - libm::pow(BETA2, t)).sqrt() as f32,
        }
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
