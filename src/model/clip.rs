//! CLIP's image encoder (Radford et al. 2021; open_clip, Ilharco et al. 2021). PROTOCOL 3.7, its intended path.
//!
//! The authors' CLIP branch cannot run; what it was meant to read is: pooled = LayerNorm of the class token times `proj`, tokens
//! = the patches of the last block. Whether those pass the final LayerNorm is the same question as for DINOv2 (Q31): the
//! parent project's patch took them before it, stock open_clip returns them after it. The one switch decides both families.

use super::backbone::{Backbone, BackboneOptions, Features, Observer};
use super::checkpoint::{How, NameRule, in_layout, part, same, unused};
use super::entry::{BackboneEntry, Facts, OPENAI_CLIP, Sides, place_by};
use super::entry::{Exported, Trained};
use super::params::{Builder, Init, LayerPosition};
use super::vit::{Act, BlockConfig, OPEN_CLIP, blocks, layer_norm, patches_across, prepend, same_grid};
use crate::spec::Scale;
use crate::spec::protocol::Dinov2Tokens;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{LayerNorm, Stack, linear, patch_embed, to_float};
use serde_json::json;

const TEXT: &str = "the text encoder";

/// open_clip's and OpenAI's own names: the whole model, of which `visual.` is used.
pub const WHOLE: &[NameRule] = &[
    same("visual.>", "visual.>"),
    unused("transformer.resblocks.>", TEXT),
    unused("positional_embedding", TEXT),
    unused("token_embedding.weight", TEXT),
    unused("ln_final.>", TEXT),
    unused("text_projection", TEXT),
    unused("logit_scale", "the contrastive loss"),
    unused("input_resolution", "a number, not a weight"),
    unused("context_length", "a number, not a weight"),
    unused("vocab_size", "a number, not a weight"),
];

/// Names of transformers' `CLIPModel`.
pub const HF: &[NameRule] = &[
    same("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    same("vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    same(
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
    ),
    unused("vision_model.embeddings.position_ids", "0, 1, 2, …"),
    // The misspelling is the published name.
    same("vision_model.pre_layrnorm.>", "visual.ln_pre.>"),
    part(
        "vision_model.encoder.layers.*.self_attn.q_proj.>",
        "visual.transformer.resblocks.*.attn.in_proj_>",
        0,
        3,
    ),
    part(
        "vision_model.encoder.layers.*.self_attn.k_proj.>",
        "visual.transformer.resblocks.*.attn.in_proj_>",
        1,
        3,
    ),
    part(
        "vision_model.encoder.layers.*.self_attn.v_proj.>",
        "visual.transformer.resblocks.*.attn.in_proj_>",
        2,
        3,
    ),
    same(
        "vision_model.encoder.layers.*.self_attn.out_proj.>",
        "visual.transformer.resblocks.*.attn.out_proj.>",
    ),
    same(
        "vision_model.encoder.layers.*.layer_norm1.>",
        "visual.transformer.resblocks.*.ln_1.>",
    ),
    same(
        "vision_model.encoder.layers.*.layer_norm2.>",
        "visual.transformer.resblocks.*.ln_2.>",
    ),
    same(
        "vision_model.encoder.layers.*.mlp.fc1.>",
        "visual.transformer.resblocks.*.mlp.c_fc.>",
    ),
    same(
        "vision_model.encoder.layers.*.mlp.fc2.>",
        "visual.transformer.resblocks.*.mlp.c_proj.>",
    ),
    same("vision_model.post_layernorm.>", "visual.ln_post.>"),
    NameRule {
        from: "visual_projection.weight",
        to: "visual.proj",
        how: How::Transpose,
    },
    unused("text_model.>", TEXT),
    unused("text_projection.weight", TEXT),
    unused("logit_scale", "the contrastive loss"),
];

/// The layouts CLIP is published in, and whose weights each holds: the activation is not in the file.
///
/// `open_clip` is LAION's file (erf GELU; what the authors' code names), `hf` OpenAI's on Hugging Face (QuickGELU). `openai` and
/// `hf-laion` are the other two combinations.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("open_clip", WHOLE), ("hf", HF), ("openai", WHOLE), ("hf-laion", HF)];

/// CLIP-B.
pub static CLIP_B: BackboneEntry = BackboneEntry {
    name: "clip-b",
    title: "CLIP-B",
    family: "CLIP",
    layouts: LAYOUTS,
    activation,
    statistics: OPENAI_CLIP,
    sides: (Sides::Exactly(224), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "clip_vitb16",
        parameters: 86_192_640,
        gmacs_224: 17.563,
        scan_gflops_224: None,
        feature: 512,
        tokens: (196, 768),
    },
    place,
    own: None,
    export,
    build,
};

/// Where the parameters of an open_clip tower stand, as open_clip's own `lock` groups them: `ln_pre` lies before the blocks.
pub(super) fn place(name: &str) -> LayerPosition {
    place_by(
        name,
        "visual.transformer.resblocks",
        &[
            "visual.conv1",
            "visual.class_embedding",
            "visual.positional_embedding",
            "visual.ln_pre",
        ],
    )
}

/// The activation that the weights of a layout were trained with.
fn activation(layout: &str) -> Act {
    match layout {
        "hf" | "openai" => Act::QuickGelu,
        _ => Act::GeluErf,
    }
}

fn config(scale: Scale, side: usize) -> Result<Config> {
    Ok(match scale {
        Scale::Full => B16,
        Scale::Tiny => Config {
            tower: TowerConfig::tiny((32, 2, 4), 16, side)?,
            embed_dim: 24,
        },
    })
}

/// The published ViT-B/16 or a tiny encoder for inputs of `side` pixels.
fn build(scale: Scale, side: usize, options: BackboneOptions, b: &Builder) -> Result<Box<dyn Backbone>> {
    let config = config(scale, side)?;
    same_grid(side, config.tower.patch_size, config.tower.grid)?;
    Ok(Box::new(Clip::new(config, options, b)?))
}

/// timm's names of the image encoder (`vit_base_patch16_clip_224`).
const TIMM_NAMES: &[NameRule] = &[
    batched("cls_token", "visual.class_embedding"),
    batched("pos_embed", "visual.positional_embedding"),
    same("patch_embed.proj.weight", "visual.conv1.weight"),
    same("norm_pre.>", "visual.ln_pre.>"),
    same("blocks.*.norm1.>", "visual.transformer.resblocks.*.ln_1.>"),
    same("blocks.*.attn.qkv.>", "visual.transformer.resblocks.*.attn.in_proj_>"),
    same("blocks.*.attn.proj.>", "visual.transformer.resblocks.*.attn.out_proj.>"),
    same("blocks.*.norm2.>", "visual.transformer.resblocks.*.ln_2.>"),
    same("blocks.*.mlp.fc1.>", "visual.transformer.resblocks.*.mlp.c_fc.>"),
    same("blocks.*.mlp.fc2.>", "visual.transformer.resblocks.*.mlp.c_proj.>"),
    same("norm.>", "visual.ln_post.>"),
];

/// A tensor that has axes of length 1 before its own in the file.
const fn batched(from: &'static str, to: &'static str) -> NameRule {
    NameRule {
        from,
        to,
        how: How::Reshape,
    }
}

/// For timm, whose head reads the class token behind the norm: the projection, which is linear too, becomes part of it.
fn export(layout: &str, t: &Trained<'_>) -> Result<Exported> {
    if layout != "timm" {
        let why = "its `CLIPForImageClassification` reads the mean of the patches before the norm";
        return Err(t.not_for(layout, &["timm", "hub"], why).into());
    }
    let p = &t.spec.protocol;
    if t.reads_mean() && p.dinov2_tokens == Dinov2Tokens::Unnormed {
        let why = "the head reads the mean of patches before the final norm; no class there does";
        return Err(t.not_for(layout, &["hub"], why).into());
    }
    let c = config(t.spec.scale, p.crop as usize)?;
    let (weight, bias) = t.linear()?;
    let weight = match t.reads_mean() {
        true => weight,
        false => weight.matmul(&t.tensor("visual.proj")?.t()?)?,
    };
    let mut tensors = Vec::new();
    for (name, tensor) in t.backbone.iter().filter(|b| b.0 != "visual.proj") {
        for (to, value) in in_layout(TIMM_NAMES, name, tensor)? {
            let value = match to.as_str() {
                "cls_token" => value.reshape((1, 1, c.tower.width))?,
                "pos_embed" => value.unsqueeze(0)?,
                _ => value,
            };
            tensors.push((to, value));
        }
    }
    tensors.extend([("head.weight".into(), weight), ("head.bias".into(), bias)]);
    let timm = match activation(&t.about.layout) {
        Act::QuickGelu => "vit_base_patch16_clip_quickgelu_224",
        _ => "vit_base_patch16_clip_224",
    };
    let args = json!({
        "embed_dim": c.tower.width, "depth": c.tower.depth, "num_heads": c.tower.heads, "patch_size": c.tower.patch_size, "fc_norm": false,
    });
    Ok(Exported {
        config: t.timm_config(timm, if t.reads_mean() { "avg" } else { "token" }, &args),
        tensors,
    })
}

/// The transformer that CLIP and CoCa share in open_clip: patches without bias, LayerNorm before the blocks.
#[derive(Debug, Clone, Copy)]
pub struct TowerConfig {
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub mlp_ratio: usize,
    pub patch_size: usize,
    /// Side of the position grid; the input must have it.
    pub grid: usize,
    pub layer_norm_eps: f64,
}

impl TowerConfig {
    /// A published size for 224 px: (width, depth, heads).
    pub const fn published((width, depth, heads): (usize, usize, usize), patch_size: usize) -> Self {
        Self {
            width,
            depth,
            heads,
            mlp_ratio: 4,
            patch_size,
            grid: 224 / patch_size,
            layer_norm_eps: 1e-5,
        }
    }

    /// A small one for inputs of `side` pixels.
    ///
    /// # Errors
    /// As [`patches_across`].
    pub fn tiny(sizes: (usize, usize, usize), patch_size: usize, side: usize) -> Result<Self> {
        Ok(Self {
            grid: patches_across(side, patch_size)?,
            ..Self::published(sizes, patch_size)
        })
    }
}

/// Images (B, C, H, W) → class token and patches (B, 1 + N, W) after the last block.
pub struct Tower {
    patch_weight: Tensor,
    class_embedding: Tensor,
    positional_embedding: Tensor,
    ln_pre: LayerNorm,
    blocks: Stack,
}

impl Tower {
    /// `b` stands at `visual.`.
    ///
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: TowerConfig, act: Act, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let d = c.width;
        let small = Init::Normal {
            std: 1.0 / (d as f32).sqrt(),
        };
        let bound = 1.0 / ((3 * c.patch_size * c.patch_size) as f32).sqrt();
        let block = BlockConfig {
            dim: d,
            heads: c.heads,
            hidden: d * c.mlp_ratio,
            eps: c.layer_norm_eps,
            act,
            layer_scale: None,
        };
        Ok(Self {
            class_embedding: b.param([d], "class_embedding", small)?,
            positional_embedding: b.param([1 + c.grid * c.grid, d], "positional_embedding", small)?,
            patch_weight: b.pp("conv1").stem(
                [d, c.patch_size],
                options.channels,
                options.grey_stem,
                "weight",
                Init::Uniform(bound),
            )?,
            ln_pre: layer_norm(d, c.layer_norm_eps, &b.pp("ln_pre"))?,
            blocks: blocks(
                c.depth,
                block,
                &OPEN_CLIP,
                &b.pp("transformer.resblocks"),
                options.checkpointing,
            )?,
        })
    }

    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Tensor> {
        let x = patch_embed(x, &self.patch_weight, None)?;
        observer("patch_embed", &x);
        let class = self.class_embedding.reshape((1, 1, ()))?;
        let x = prepend(&class, &x)?.broadcast_add(&self.positional_embedding)?;
        observer("embed", &x);
        let x = self.ln_pre.forward_float(&x)?;
        observer("ln_pre", &x);
        let x = self.blocks.forward(&x, |i, x| {
            observer(&format!("block.{i}"), x);
            Ok(())
        })?;
        Ok(x)
    }
}

/// The shape of a CLIP image encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub tower: TowerConfig,
    /// Width of the embedding that images and texts share.
    pub embed_dim: usize,
}

/// ViT-B/16.
pub const B16: Config = Config {
    tower: TowerConfig::published((768, 12, 12), 16),
    embed_dim: 512,
};

/// A CLIP image encoder: pooled = LayerNorm(class token) · proj, not normalised; tokens = the patches before that LayerNorm (or
/// after it), never projected.
pub struct Clip {
    config: Config,
    options: BackboneOptions,
    tower: Tower,
    ln_post: LayerNorm,
    proj: Tensor,
}

impl Clip {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let b = b.pp("visual");
        let d = c.tower.width;
        let tower = Tower::new(c.tower, options.activation, options, &b)?;
        let std = 1.0 / (d as f32).sqrt();
        Ok(Self {
            config: c,
            options,
            tower,
            ln_post: layer_norm(d, c.tower.layer_norm_eps, &b.pp("ln_post"))?,
            proj: b.param([d, c.embed_dim], "proj", Init::Normal { std })?,
        })
    }
}

impl Backbone for Clip {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        let x = self.tower.forward_observed(x, observer)?;
        let patches = |x: &Tensor| x.narrow(1, 1, x.dim(1)? - 1)?.contiguous();
        let class = |x: &Tensor| x.narrow(1, 0, 1)?.squeeze(1);
        let (class, tokens) = match self.options.dinov2_tokens {
            Dinov2Tokens::Unnormed => (self.ln_post.forward_float(&class(&x)?)?, patches(&x)?),
            Dinov2Tokens::Normed => {
                let y = self.ln_post.forward_float(&x)?;
                observer("norm", &y);
                (class(&y)?, patches(&y)?)
            }
        };
        let pooled = to_float(&linear(&class, &self.proj.t()?, None)?)?;
        Ok(Features { pooled, tokens })
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        self.config.tower.width
    }
}
