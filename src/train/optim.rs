//! AdamW with the authors' parameter groups, and gradient clipping. PROTOCOL 6.1, 6.2.
//!
//! What a step computes is in `medft_nn::optimiser`; here is which parameter is updated at which rate.

use crate::model::params::{LayerPosition, Param, Params};
use anyhow::Result;
use candle_core::{Tensor, Var};
use medft_nn::Gradients;
use medft_nn::optimiser::{self, BETA1, BETA2, Moments, Update};
use std::borrow::Cow;
use std::collections::BTreeSet;

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
        let layers = Layers::of(params);
        let slots = params
            .0
            .iter()
            .filter_map(|p| Some((p, p.var.as_ref()?)))
            .map(|(p, var)| {
                Ok(Slot {
                    name: p.name.clone(),
                    var: var.clone(),
                    decay: var.rank() >= 2 && !p.name.ends_with(".bias"),
                    lr_factor: libm::pow(config.layer_decay, (layers.top() - layers.number(p.place)) as f64),
                    moments: Moments::zeros(var.as_tensor())?,
                    updates: 0,
                })
            })
            .collect::<candle_core::Result<_>>()?;
        Ok(Self { config, slots })
    }

    /// The same with decay on every tensor, biases and norms too.
    #[must_use]
    pub fn decaying_all(mut self) -> Self {
        self.slots.iter_mut().for_each(|s| s.decay = true);
        self
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

/// The layers that layer decay counts: 0 is what comes before the blocks, then one a block, over all stages of the backbone, then what
/// comes behind them. Every head is of the last, also one with blocks of its own: they are no part of the backbone's depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers(Vec<(usize, usize)>);

impl Layers {
    /// The layers of a model.
    pub fn of(params: &Params) -> Self {
        let block = |p: &Param| match p.place {
            LayerPosition::Block(stage, block) => Some((stage, block)),
            _ => None,
        };
        let blocks: BTreeSet<(usize, usize)> = params.0.iter().filter_map(block).collect();
        Self(blocks.into_iter().collect())
    }

    /// The last layer.
    pub fn top(&self) -> usize {
        self.0.len() + 1
    }

    /// The layer of a place.
    pub fn number(&self, place: LayerPosition) -> usize {
        match place {
            LayerPosition::Stem => 0,
            LayerPosition::Block(stage, block) => self.0.partition_point(|b| *b <= (stage, block)),
            LayerPosition::StageEnd(stage) => self.0.partition_point(|b| b.0 <= stage),
            LayerPosition::Top => self.top(),
        }
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
    use crate::model::{Classifier, Pretrained, registry};
    use crate::spec::{Freeze, HeadKind, Protocol, RunSpec, Scale};

    /// The layer of every parameter of a published encoder under a head, and the last layer.
    fn layers(backbone: &str, head: HeadKind) -> (Vec<(String, usize)>, usize) {
        let spec = RunSpec {
            dataset: "any".into(),
            backbone: backbone.into(),
            scale: Scale::Full,
            freeze: Freeze::Unfrozen,
            head,
            seed: 0,
            protocol: Protocol::faithful(),
        };
        let params = Classifier::shapes(&spec, 3, 2).unwrap().params;
        let layers = Layers::of(&params);
        let all = params.0.iter().map(|p| (p.name.clone(), layers.number(p.place)));
        (all.collect(), layers.top())
    }

    /// By hand, from the upstream modules in the order in which an image passes them: (beginning of a name, layer).
    type ByHand = (&'static str, usize, &'static [(&'static str, usize)]);

    const VIT: &[(&str, usize)] = &[
        ("cls_token", 0),
        ("pos_embed", 0),
        ("patch_embed.proj.bias", 0),
        ("blocks.0.norm1.weight", 1),
        ("blocks.11.mlp.fc2.bias", 12),
        ("norm.weight", 12),
    ];

    const BY_HAND: [ByHand; 11] = [
        (
            "dinov2-b",
            13,
            &[
                ("cls_token", 0),
                ("pos_embed", 0),
                ("mask_token", 0),
                ("patch_embed.proj.weight", 0),
                ("blocks.0.norm1.weight", 1),
                ("blocks.1.ls1.gamma", 2),
                ("blocks.10.attn.qkv.weight", 11),
                ("blocks.11.mlp.fc2.bias", 12),
                ("norm.weight", 13),
            ],
        ),
        // timm counts the final norm with the last block.
        ("vit-b", 13, VIT),
        ("dino-b", 13, VIT),
        (
            "vit-clip-b",
            13,
            &[
                ("pos_embed", 0),
                ("norm_pre.weight", 0),
                ("blocks.0.norm1.weight", 1),
                ("norm.weight", 12),
            ],
        ),
        (
            "mae-h",
            33,
            &[
                ("cls_token", 0),
                ("pos_embed", 0),
                ("patch_embed.proj.bias", 0),
                ("blocks.0.attn.proj.weight", 1),
                ("blocks.31.mlp.fc1.weight", 32),
                ("norm.bias", 33),
            ],
        ),
        (
            "aimv2-l",
            25,
            &[
                ("preprocessor.patchifier.proj.weight", 0),
                ("preprocessor.patchifier.norm.weight", 0),
                ("preprocessor.pos_embed", 0),
                ("trunk.blocks.0.norm_1.weight", 1),
                ("trunk.blocks.23.mlp.fc3.weight", 24),
                ("trunk.post_trunk_norm.weight", 25),
            ],
        ),
        (
            "clip-b",
            13,
            &[
                ("visual.class_embedding", 0),
                ("visual.positional_embedding", 0),
                ("visual.conv1.weight", 0),
                ("visual.ln_pre.weight", 0),
                ("visual.transformer.resblocks.0.ln_1.weight", 1),
                ("visual.transformer.resblocks.11.mlp.c_proj.bias", 12),
                ("visual.ln_post.weight", 13),
                ("visual.proj", 13),
            ],
        ),
        (
            "coca-l",
            25,
            &[
                ("visual.ln_pre.bias", 0),
                ("visual.transformer.resblocks.0.attn.in_proj_weight", 1),
                ("visual.transformer.resblocks.23.ln_2.bias", 24),
                ("visual.attn_pool.query", 25),
                ("visual.attn_pool.attn.out_proj.weight", 25),
                ("visual.ln_post.bias", 25),
            ],
        ),
        // Stages of 2, 3, 16 and 3 blocks, numbered through.
        (
            "sam2-b",
            25,
            &[
                ("image_encoder.trunk.pos_embed", 0),
                ("image_encoder.trunk.pos_embed_window", 0),
                ("image_encoder.trunk.patch_embed.proj.weight", 0),
                ("image_encoder.trunk.blocks.0.norm1.weight", 1),
                ("image_encoder.trunk.blocks.2.proj.weight", 3),
                ("image_encoder.trunk.blocks.4.attn.qkv.weight", 5),
                ("image_encoder.trunk.blocks.5.norm1.weight", 6),
                ("image_encoder.trunk.blocks.23.mlp.layers.1.bias", 24),
                ("image_encoder.neck.convs.0.conv.weight", 25),
                ("image_encoder.neck.convs.3.conv.bias", 25),
            ],
        ),
        // Stages of 2, 2, 15 and 2 blocks.
        (
            "vmamba-b",
            22,
            &[
                ("patch_embed.0.weight", 0),
                ("patch_embed.7.bias", 0),
                ("layers.0.blocks.0.norm.weight", 1),
                ("layers.0.blocks.1.op.x_proj_weight", 2),
                ("layers.0.downsample.1.weight", 2),
                ("layers.1.blocks.0.op.A_logs", 3),
                ("layers.1.blocks.1.mlp.fc1.weight", 4),
                ("layers.1.downsample.3.bias", 4),
                ("layers.2.blocks.0.op.Ds", 5),
                ("layers.2.blocks.14.norm2.weight", 19),
                ("layers.2.downsample.1.bias", 19),
                ("layers.3.blocks.0.norm.bias", 20),
                ("layers.3.blocks.1.mlp.fc2.weight", 21),
                ("classifier.norm.weight", 22),
            ],
        ),
        (
            "dinov2-s-imgfocus",
            13,
            &[("cls_token", 0), ("blocks.11.norm2.bias", 12), ("norm.bias", 13)],
        ),
    ];

    #[test]
    fn layers_are_counted_over_the_whole_backbone() {
        for (backbone, top, by_hand) in BY_HAND {
            let (all, found) = layers(backbone, HeadKind::Linear);
            assert_eq!(found, top, "{backbone}");
            for (name, layer) in by_hand {
                let full = format!("backbone.{name}");
                let found = all.iter().find(|p| p.0 == full);
                assert_eq!(found.map(|p| p.1), Some(*layer), "{backbone}: {name}");
            }
            // Every layer has a parameter, and the head is of the last.
            let numbers: BTreeSet<usize> = all.iter().map(|p| p.1).collect();
            assert!(numbers.into_iter().eq(0..=top), "{backbone}");
            assert!(all.contains(&("fc.weight".into(), top)));
        }
        let families: BTreeSet<&str> = registry::BACKBONES.built_in().iter().map(|e| e.family).collect();
        let tested: BTreeSet<&str> = BY_HAND.iter().map(|b| registry::find(b.0).unwrap().family).collect();
        assert_eq!(families, tested, "a list by hand for every family");
    }

    /// DeiT's twelve blocks behind a backbone are its head: they change no layer of it and train at the full rate.
    #[test]
    fn the_blocks_of_a_head_are_no_layers_of_the_backbone() {
        let (linear, top) = layers("vmamba-s", HeadKind::Linear);
        let (mha, with_deit) = layers("vmamba-s", HeadKind::Mha);
        assert_eq!(top, with_deit);
        for (name, layer) in &linear {
            if let Some(inner) = name.strip_prefix("backbone.") {
                assert!(
                    mha.contains(&(format!("foundation_model.backbone.{inner}"), *layer)),
                    "{name}"
                );
            }
        }
        let head: Vec<_> = mha.iter().filter(|p| !p.0.starts_with("foundation_model.")).collect();
        assert!(head.iter().any(|p| p.0 == "main_model.backbone.blocks.11.norm1.weight"));
        assert!(head.iter().all(|p| p.1 == top));
    }

    #[test]
    fn the_rate_falls_by_the_factor_from_layer_to_layer() {
        let mut spec = RunSpec {
            dataset: "any".into(),
            backbone: "vmamba-b".into(),
            scale: Scale::Tiny,
            freeze: Freeze::Unfrozen,
            head: HeadKind::Mha,
            seed: 0,
            protocol: Protocol::faithful(),
        };
        spec.protocol.crop = 64;
        let model = Classifier::new(&spec, 3, 2, &Pretrained::default(), &candle_core::Device::Cpu).unwrap();
        let config = AdamWConfig {
            weight_decay: 0.0,
            layer_decay: 0.5,
            clip: 0.0,
        };
        let optim = AdamW::new(&model.params, config).unwrap();
        let factor = |name: &str| optim.slots.iter().find(|s| s.name == name).unwrap().lr_factor;
        // Stages of 1, 1, 2 and 1 blocks: five layers between stem and head.
        for (name, expected) in [
            ("foundation_model.backbone.patch_embed.0.weight", 1.0 / 64.0),
            ("foundation_model.backbone.layers.0.blocks.0.norm.weight", 1.0 / 32.0),
            ("foundation_model.backbone.layers.2.blocks.1.norm.weight", 1.0 / 4.0),
            ("foundation_model.backbone.layers.3.blocks.0.norm.weight", 1.0 / 2.0),
            ("main_model.backbone.blocks.0.norm1.weight", 1.0),
            ("main_model.fc.weight", 1.0),
        ] {
            assert_eq!(factor(name), expected, "{name}");
        }
    }
}
