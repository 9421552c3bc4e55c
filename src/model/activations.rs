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

/// A block, in the order of the forward pass.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Floats that it keeps for an image.
    kept: f64,
    /// Floats of its input.
    input: f64,
    /// Floats of its parameters.
    parameters: f64,
}

/// Floats that the largest keeps.
fn largest(blocks: &[Block]) -> f64 {
    blocks.iter().fold(0.0, |m, b| m.max(b.kept))
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
        HeadKind::Linear => Vec::new(),
        HeadKind::Mha => head(
            &model,
            registry::find(&spec.backbone)?.facts.tokens.0 as f64 * (side / 224.0).powi(2),
        ),
    };
    let (total, trained) = (sizes.total as f64, sizes.trainable as f64);
    let images = channels as f64 * side * side;
    // Weights and two moments; gradients come while activations go.
    let fixed = total + 2.0 * trained;
    let forward = largest(&body) * model.backbone.forward_share();
    let blocks = match spec.freeze {
        Freeze::Unfrozen => [body, head].concat(),
        Freeze::Frozen => head,
    };
    let released = spec.freeze == Freeze::Frozen || model.backbone.releases_blocks();
    let step = |recompute: bool| {
        let held = |b: &Block| if recompute { b.input } else { b.kept };
        let mut most = (batch * (forward + images)).max(trained + batch * (images + largest(&blocks)));
        // From the last block to the first: what blocks before it hold, what it needs itself, and the gradients of those behind. A
        // network with stages holds most in its first and has most parameters in its last.
        let (mut before, mut gradients) = (blocks.iter().map(held).sum::<f64>(), 0.0);
        for b in blocks.iter().rev() {
            gradients += b.parameters;
            let again = if recompute { b.kept } else { 0.0 };
            most = most.max(gradients + batch * (images + before + again + b.kept * BACKWARD));
            if recompute || released {
                before -= held(b);
            }
        }
        fixed + most
    };
    Ok(Peak {
        parameters: 4.0 * (total + 3.0 * trained),
        trained,
        kept: 4.0 * step(false),
        recomputed: 4.0 * step(true),
    })
}

/// The blocks of a backbone, by the places of its parameters.
fn backbone(model: &Classifier, side: f64) -> Vec<Block> {
    let mut blocks: BTreeMap<LayerPosition, (f64, f64, f64)> = BTreeMap::new();
    let mut stem = None;
    for p in &model.params.0 {
        if let LayerPosition::Block(..) = p.place {
            let (width, outputs, parameters) = blocks.entry(p.place).or_insert((f64::INFINITY, 0.0, 0.0));
            *parameters += p.tensor.elem_count() as f64;
            if let (&[out, _], true) = (p.tensor.dims(), p.name.ends_with("weight")) {
                // The stream's: inner layers are wider.
                *width = width.min(out as f64);
                *outputs += out as f64;
            }
        }
        if let (LayerPosition::Stem, &[_, _, k, _]) = (p.place, p.tensor.dims()) {
            stem = stem.or(Some(k as f64));
        }
    }
    let per_output = model.backbone.kept_per_output();
    let blocks: Vec<_> = blocks.into_values().filter(|b| b.1 > 0.0).collect();
    let first = blocks.first().map_or(1.0, |b| b.0);
    let staged = blocks.iter().any(|b| b.0 != first);
    let patch = if staged { FINEST } else { stem.unwrap_or(FINEST) };
    let of = |(width, outputs, parameters): (f64, f64, f64)| {
        // A map has a quarter of the tokens where it is twice as wide.
        let tokens = (side / patch).powi(2) * (first / width).powi(2);
        Block {
            kept: tokens * outputs * per_output,
            input: tokens * width,
            parameters,
        }
    };
    blocks.into_iter().map(of).collect()
}

/// The body of an MHA head, which reads `tokens` tokens.
fn head(model: &Classifier, tokens: f64) -> Vec<Block> {
    let mut all: Vec<Block> = Vec::new();
    let mut last = "";
    for p in &model.params.0 {
        let Some((_, rest)) = p.name.split_once("main_model.backbone.blocks.") else {
            continue;
        };
        let number = rest.split('.').next().unwrap_or_default();
        if number != last {
            all.push(Block {
                kept: 0.0,
                input: 0.0,
                parameters: 0.0,
            });
        }
        last = number;
        let Some(block) = all.last_mut() else { continue };
        block.parameters += p.tensor.elem_count() as f64;
        if let &[out, _] = p.tensor.dims() {
            block.kept += (tokens + 1.0) * out as f64 * super::backbone::KEPT_PER_OUTPUT;
            block.input = (tokens + 1.0) * out as f64;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Scale;
    use crate::spec::protocol::Protocol;

    /// Regime, head, and whether activations are recomputed.
    const CASES: [(Freeze, HeadKind, bool); 5] = [
        (Freeze::Frozen, HeadKind::Linear, false),
        (Freeze::Unfrozen, HeadKind::Linear, false),
        (Freeze::Unfrozen, HeadKind::Linear, true),
        (Freeze::Frozen, HeadKind::Mha, false),
        (Freeze::Unfrozen, HeadKind::Mha, false),
    ];

    /// Peaks of a training step in GB, counted by the allocator (docs/GPU.md), of each backbone and batch, in the order of the cases.
    #[rustfmt::skip]
    #[allow(clippy::approx_constant, reason = "a peak of 6.28 GB is no circle")]
    const MEASURED: &[(&str, u32, [f64; 5])] = &[
        ("aimv2-l", 1, [1.263, 5.440, 5.003, 2.641, 6.835]),
        ("aimv2-h", 1, [2.771, 11.641, 10.995, 4.139, 13.042]),
        ("dinov2-b", 1, [0.368, 1.420, 1.410, 1.746, 2.810]),
        ("dinov2-l", 1, [1.249, 4.931, 4.907, 2.621, 6.325]),
        ("sam2-b", 1, [0.306, 1.359, 1.170, 1.663, 2.735]),
        ("sam2-l", 1, [0.888, 3.943, 3.483, 2.237, 5.318]),
        ("mae-b", 1, [0.360, 1.392, 1.386, 1.735, 2.775]),
        ("mae-l", 1, [1.239, 4.894, 4.876, 2.608, 6.280]),
        ("mae-h", 1, [2.565, 10.171, 10.132, 3.933, 11.569]),
        ("vmamba-s", 1, [0.221, 1.058, 0.879, 1.582, 2.435]),
        ("vmamba-b", 1, [0.391, 1.768, 1.525, 1.739, 3.147]),
        ("coca-b", 1, [0.369, 1.452, 1.450, 1.756, 2.842]),
        ("coca-l", 1, [1.257, 4.965, 4.941, 2.629, 6.357]),
        ("clip-b", 1, [0.362, 1.400, 1.394, 1.736, 2.780]),
        ("aimv2-l", 8, [1.371, 8.752, 5.258, 3.115, 10.239]),
        ("dinov2-s", 8, [0.129, 0.681, 0.416, 1.953, 2.527]),
        ("sam2-b", 8, [0.487, 3.115, 1.609, 1.948, 4.563]),
        ("mae-b", 8, [0.407, 1.684, 1.471, 2.022, 3.316]),
        ("vmamba-s", 8, [0.337, 2.791, 1.412, 1.612, 4.186]),
        ("coca-b", 8, [0.385, 1.502, 1.489, 2.226, 3.116]),
        ("clip-b", 8, [0.413, 1.687, 1.474, 2.024, 3.320]),
    ];

    #[test]
    fn estimates_are_within_15_percent_of_what_was_measured() {
        let mut off = Vec::new();
        for &(backbone, batch, measured) in MEASURED {
            print!("| {backbone} | {batch} |");
            for ((freeze, head, recomputed), measured) in CASES.into_iter().zip(measured) {
                let mut protocol = Protocol::faithful();
                (protocol.crop, protocol.batch) = (224, batch);
                let spec = RunSpec {
                    dataset: "test".into(),
                    backbone: backbone.into(),
                    scale: Scale::Full,
                    freeze,
                    head,
                    seed: 0,
                    protocol,
                };
                let p = peak(&spec, 3, 5).unwrap();
                let estimated = if recomputed { p.recomputed } else { p.kept } / 1e9;
                let by = 100.0 * (estimated / measured - 1.0);
                print!(" {measured:.3} ({by:+.1}) |");
                if by.abs() > 15.0 {
                    off.push((backbone, freeze, head, recomputed, batch, by));
                }
            }
            println!();
        }
        assert!(off.is_empty(), "{off:?}");
    }
}
