//! What a pass of a model holds in memory beside its parameters, estimated from the shapes of its blocks.
//!
//! A block keeps, for every token, what its linear layers put out and what stands between them; how much that is for each number
//! that they put out differs by family and is measured ([`super::backbone::Backbone::kept_per_output`]). docs/GPU.md has the
//! estimates beside measured peaks.

use super::classifier::Classifier;
use super::params::LayerPosition;
use super::registry;
use crate::spec::protocol::Precision;
use crate::spec::{Freeze, HeadKind, RunSpec};
use anyhow::Result;
use medft_nn::device::LIBRARY_WORKSPACE;
use std::collections::BTreeMap;

/// Side of the patches on which a network with stages begins.
const FINEST: f64 = 4.0;
/// Copies of a block's output that are held at once on its way forward, where nothing is kept: its widest layers and their input.
const FORWARD: f64 = 1.0;
/// What a block's backward pass holds at once beside what was kept, for each number that was kept in it.
const BACKWARD: f64 = 1.2;

/// What kernels are taken to keep for each byte that the CPU engine keeps, in float32 and in 16 bits: more, since their ops are smaller.
/// The emulator counts up to 1.6 and 1.3 on small models; what a GPU allocates beyond that has not been measured.
pub const MORE_ON_A_GPU: [f64; 2] = [2.5, 1.8];

/// Bytes of a run's passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peak {
    /// Weights, gradients and moments.
    pub parameters: f64,
    /// How many numbers train.
    pub trained: f64,
    /// Of a training step with its activations kept, parameters included.
    pub kept: f64,
    /// Of a training step whose blocks are recomputed, likewise.
    pub recomputed: f64,
}

impl Peak {
    /// The same on a GPU: more activations, the copies in 16 bits that the optimiser writes beside parameters that train, and the
    /// working memory of cuBLAS and cuBLASLt.
    #[must_use]
    pub fn on_a_gpu(self, precision: Precision) -> Self {
        let (more, copies) = match precision {
            Precision::F32 | Precision::Tf32 | Precision::Authors => (MORE_ON_A_GPU[0], 0.0),
            Precision::Bf16 | Precision::F16 => (MORE_ON_A_GPU[1], 2.0 * self.trained),
        };
        // Candle's handle of cuBLAS takes as much as ours of cuBLASLt.
        let besides = copies + 2.0 * LIBRARY_WORKSPACE as f64;
        let of = |bytes: f64| self.parameters.min(bytes) + (bytes - self.parameters).max(0.0) * more + besides;
        Self {
            parameters: self.parameters + besides,
            trained: self.trained,
            kept: of(self.kept),
            recomputed: of(self.recomputed),
        }
    }
}

/// Blocks of one kind that follow one another.
#[derive(Debug, Clone, Copy, Default)]
struct Blocks {
    /// Floats that all of them keep for an image.
    kept: f64,
    /// Floats of their inputs.
    inputs: f64,
    /// Floats that the largest keeps.
    largest: f64,
}

impl Blocks {
    fn add(&mut self, tokens: f64, width: f64, outputs: f64, per_output: f64) {
        let kept = tokens * outputs * per_output;
        self.kept += kept;
        self.inputs += tokens * width;
        self.largest = self.largest.max(kept);
    }
}

/// The peaks of a run's training step in float32.
///
/// # Errors
/// As [`Classifier::sizes`].
pub fn peak(spec: &RunSpec, channels: usize, outputs: usize) -> Result<Peak> {
    let model = Classifier::shapes(spec, channels, outputs)?;
    let sizes = model.count(spec);
    let (side, batch) = (f64::from(spec.protocol.crop), f64::from(spec.protocol.batch));
    let body = backbone(&model, side);
    let head = match spec.head {
        HeadKind::Linear => Blocks::default(),
        HeadKind::Mha => head(
            &model,
            registry::find(&spec.backbone)?.facts.tokens.0 as f64 * (side / 224.0).powi(2),
        ),
    };
    let unfrozen = spec.freeze == Freeze::Unfrozen;
    let (total, trained) = (sizes.total as f64, sizes.trainable as f64);
    let images = channels as f64 * side * side;
    // Weights and two moments; gradients come while activations go.
    let fixed = total + 2.0 * trained;
    let forward = body.largest * FORWARD;
    let step = |recompute: bool| {
        let of = |b: &Blocks| match recompute {
            true => b.inputs + b.largest,
            false => b.kept,
        };
        let largest = if unfrozen {
            body.largest.max(head.largest)
        } else {
            head.largest
        };
        let held = of(&head) + if unfrozen { of(&body) } else { 0.0 };
        let at_turn = images + held + largest * BACKWARD;
        let at_end = images + trained / batch + largest;
        fixed + batch * at_turn.max(at_end).max(forward + images)
    };
    Ok(Peak {
        parameters: 4.0 * (total + 3.0 * trained),
        trained,
        kept: 4.0 * step(false),
        recomputed: 4.0 * step(true),
    })
}

/// The blocks of a backbone, by the places of its parameters.
fn backbone(model: &Classifier, side: f64) -> Blocks {
    let mut blocks: BTreeMap<LayerPosition, (f64, f64)> = BTreeMap::new();
    let mut stem = None;
    for p in &model.params.0 {
        match (p.place, p.tensor.dims()) {
            (LayerPosition::Stem, &[_, _, k, _]) => stem = stem.or(Some(k as f64)),
            (LayerPosition::Block(..), &[out, _]) if p.name.ends_with("weight") => {
                let (width, outputs) = blocks.entry(p.place).or_insert((f64::INFINITY, 0.0));
                // The stream's: inner layers are wider.
                *width = width.min(out as f64);
                *outputs += out as f64;
            }
            _ => {}
        }
    }
    let per_output = model.backbone.kept_per_output();
    let first = blocks.values().next().map_or(1.0, |b| b.0);
    let staged = blocks.values().any(|b| b.0 != first);
    let patch = if staged { FINEST } else { stem.unwrap_or(FINEST) };
    let mut all = Blocks::default();
    for (width, outputs) in blocks.into_values() {
        // A map has a quarter of the tokens where it is twice as wide.
        let tokens = (side / patch).powi(2) * (first / width).powi(2);
        all.add(tokens, width, outputs, per_output);
    }
    all
}

/// The body of an MHA head, which reads `tokens` tokens.
fn head(model: &Classifier, tokens: f64) -> Blocks {
    let mut all = Blocks::default();
    let (mut width, mut outputs, mut last) = (0.0, 0.0, "");
    for p in &model.params.0 {
        let Some((_, rest)) = p.name.split_once("main_model.backbone.blocks.") else {
            continue;
        };
        let number = rest.split('.').next().unwrap_or_default();
        if number != last && outputs > 0.0 {
            all.add(tokens + 1.0, width, outputs, super::backbone::KEPT_PER_OUTPUT);
            outputs = 0.0;
        }
        last = number;
        if let &[out, _] = p.tensor.dims() {
            width = out as f64;
            outputs += out as f64;
        }
    }
    if outputs > 0.0 {
        all.add(tokens + 1.0, width, outputs, super::backbone::KEPT_PER_OUTPUT);
    }
    all
}
