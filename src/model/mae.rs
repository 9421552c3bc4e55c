//! MAE's encoder (He et al. 2022; facebookresearch/mae), a plain ViT. PROTOCOL 3.3.

use super::backbone::{Backbone, Features, Observer, Options};
use super::checkpoint::{Rule, part, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, place_by};
use super::entry::{Exported, Trained};
use super::params::{Builder, Init, Place};
use super::vit::{Act, BlockConfig, TIMM, blocks, layer_norm, patches_across, prepend};
use crate::spec::Scale;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{LayerNorm, Stack, patch_embed, resize_table};
use serde_json::json;

/// Names of transformers' `ViTMAEForPreTraining` (facebook/vit-mae-*) to the original ones.
pub const HF: &[Rule] = &[
    same("vit.embeddings.cls_token", "cls_token"),
    same("vit.embeddings.position_embeddings", "pos_embed"),
    same("vit.embeddings.patch_embeddings.projection.>", "patch_embed.proj.>"),
    part(
        "vit.encoder.layer.*.attention.attention.query.>",
        "blocks.*.attn.qkv.>",
        0,
        3,
    ),
    part(
        "vit.encoder.layer.*.attention.attention.key.>",
        "blocks.*.attn.qkv.>",
        1,
        3,
    ),
    part(
        "vit.encoder.layer.*.attention.attention.value.>",
        "blocks.*.attn.qkv.>",
        2,
        3,
    ),
    same("vit.encoder.layer.*.attention.output.dense.>", "blocks.*.attn.proj.>"),
    same("vit.encoder.layer.*.intermediate.dense.>", "blocks.*.mlp.fc1.>"),
    same("vit.encoder.layer.*.output.dense.>", "blocks.*.mlp.fc2.>"),
    same("vit.encoder.layer.*.layernorm_before.>", "blocks.*.norm1.>"),
    same("vit.encoder.layer.*.layernorm_after.>", "blocks.*.norm2.>"),
    same("vit.layernorm.>", "norm.>"),
    unused("decoder.>", "the decoder of the pre-training task"),
    unused("classifier.>", "the head of a fine-tuned `ViTForImageClassification`"),
];

/// timm's names are the original ones.
const TIMM_NAMES: &[Rule] = &[unused("head.>", "a classifier"), same(">", ">")];

/// The layouts MAE is published in: facebookresearch/mae's `.pth` (under `model`), timm's copy of it, Hugging Face.
pub const LAYOUTS: &[(&str, &[Rule])] = &[("fb", &[]), ("timm", TIMM_NAMES), ("hf", HF)];

/// ViT-B/16, ViT-L/16 and ViT-H/14, and small models of the same code, for the demo: (width, depth, heads).
const B: Config = Config::published(768, 12, 12, 16);
const L: Config = Config::published(1024, 24, 16, 16);
const H: Config = Config::published(1280, 32, 16, 14);
const TINY_B: Config = Config::tiny(32, 2, 4);
const TINY_L: Config = Config::tiny(32, 3, 4);
const TINY_H: Config = Config::tiny(48, 3, 4);

/// MAE-B.
pub static MAE_B: BackboneEntry = BackboneEntry {
    name: "mae-b",
    title: "MAE-B",
    family: "MAE",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(16), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "mae_vit_base_patch16",
        parameters: 85_798_656,
        gmacs_224: 17.563,
        scan_gflops_224: None,
        feature: 768,
        tokens: (196, 768),
    },
    place,
    own: None,
    export: |word, t| export(word, t, (B, TINY_B), "vit_base_patch16_224"),
    build: |s, px, o, b| build(s, px, (B, TINY_B), o, b),
};

/// MAE-L.
pub static MAE_L: BackboneEntry = BackboneEntry {
    name: "mae-l",
    title: "MAE-L",
    family: "MAE",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(16), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "mae_vit_large_patch16",
        parameters: 303_301_632,
        gmacs_224: 61.554,
        scan_gflops_224: None,
        feature: 1024,
        tokens: (196, 1024),
    },
    place,
    own: None,
    export: |word, t| export(word, t, (L, TINY_L), "vit_large_patch16_224"),
    build: |s, px, o, b| build(s, px, (L, TINY_L), o, b),
};

/// MAE-H.
pub static MAE_H: BackboneEntry = BackboneEntry {
    name: "mae-h",
    title: "MAE-H",
    family: "MAE",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(14), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "mae_vit_huge_patch14",
        parameters: 630_764_800,
        gmacs_224: 167.294,
        scan_gflops_224: None,
        feature: 1280,
        tokens: (256, 1280),
    },
    place,
    own: None,
    export: |word, t| export(word, t, (H, TINY_H), "vit_huge_patch14_224"),
    build: |s, px, o, b| build(s, px, (H, TINY_H), o, b),
};

/// As upstream counts (`util/lr_decay.py`, `get_layer_id_for_vit`).
fn place(name: &str) -> Place {
    place_by(name, "blocks", &["cls_token", "pos_embed", "patch_embed"])
}

/// The encoder for inputs of `side` pixels.
fn build(
    scale: Scale,
    side: usize,
    (full, tiny): (Config, Config),
    options: Options,
    b: &Builder,
) -> Result<Box<dyn Backbone>> {
    let config = match scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    let across = patches_across(side, config.patch_size)?;
    let config = Config {
        input_grid: Some((across, across)),
        ..config
    };
    Ok(Box::new(Mae::new(config, options, b)?))
}

/// For timm, whose plain ViT can read the mean of the patches behind the norm; `transformers`' reads the class token.
fn export(word: &str, t: &Trained<'_>, (full, tiny): (Config, Config), timm: &str) -> Result<Exported> {
    let c = match t.spec.scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    if word != "timm" {
        let why = "its head would read the class token, and this one reads the mean of the patches";
        return Err(t.not_for(word, &["timm", "hub"], why).into());
    }
    let (weight, bias) = t.linear()?;
    let mut tensors = t.backbone.clone();
    tensors.extend([("head.weight".into(), weight), ("head.bias".into(), bias)]);
    let args = json!({
        "embed_dim": c.embed_dim, "depth": c.depth, "num_heads": c.num_heads, "patch_size": c.patch_size, "fc_norm": false,
    });
    Ok(Exported {
        config: t.timm_config(timm, "avg", &args),
        tensors,
    })
}

/// The shape of an MAE encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_ratio: usize,
    pub patch_size: usize,
    /// Side of the checkpoint's position grid.
    pub grid: usize,
    /// Rows and columns of patches in the input, where they differ from the checkpoint's grid: the table is then resized once
    /// when it is loaded, and the resized table is the parameter.
    pub input_grid: Option<(usize, usize)>,
    pub layer_norm_eps: f64,
}

impl Config {
    /// A published size, for 224 px.
    pub const fn published(embed_dim: usize, depth: usize, num_heads: usize, patch_size: usize) -> Self {
        Self {
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4,
            patch_size,
            grid: 224 / patch_size,
            input_grid: None,
            layer_norm_eps: 1e-6,
        }
    }

    /// A small model of the same code, for the demo: 16 px patches on a 3×3 grid that has to be resized.
    pub const fn tiny(embed_dim: usize, depth: usize, num_heads: usize) -> Self {
        Self {
            grid: 3,
            ..Self::published(embed_dim, depth, num_heads, 16)
        }
    }
}

/// An MAE encoder: pooled = mean of the patch tokens after the final norm, tokens = those.
pub struct Mae {
    config: Config,
    patch_weight: Tensor,
    patch_bias: Tensor,
    cls_token: Tensor,
    pos_embed: Tensor,
    blocks: Stack,
    norm: LayerNorm,
}

impl Mae {
    pub fn new(c: Config, options: Options, b: &Builder) -> Result<Self> {
        let d = c.embed_dim;
        let small = Init::Normal { std: 0.02 };
        let cls_token = b.param([1, 1, d], "cls_token", small)?;
        let input = c.input_grid.unwrap_or((c.grid, c.grid));
        let pos_embed = b.adapted([1, 1 + c.grid * c.grid, d], "pos_embed", small, |table| {
            positions(table, c.grid, input)
        })?;
        let patch = b.pp("patch_embed.proj");
        let bound = 1.0 / ((3 * c.patch_size * c.patch_size) as f32).sqrt();
        let patch_weight = patch.stem(
            [d, c.patch_size],
            options.channels,
            options.grey_stem,
            "weight",
            Init::Uniform(bound),
        )?;
        let patch_bias = patch.param([d], "bias", Init::Uniform(bound))?;
        let block = BlockConfig {
            dim: d,
            heads: c.num_heads,
            hidden: d * c.mlp_ratio,
            eps: c.layer_norm_eps,
            act: Act::GeluErf,
            layer_scale: None,
        };
        let blocks = blocks(c.depth, block, &TIMM, &b.pp("blocks"), options.checkpointing)?;
        Ok(Self {
            config: c,
            patch_weight,
            patch_bias,
            cls_token,
            pos_embed,
            blocks,
            norm: layer_norm(d, c.layer_norm_eps, &b.pp("norm"))?,
        })
    }
}

/// A position table (1, 1 + grid², D) for another grid of patches: plain bicubic by size, the class token's row kept.
fn positions(table: Tensor, grid: usize, (gh, gw): (usize, usize)) -> candle_core::Result<Tensor> {
    if (gh, gw) == (grid, grid) {
        return Ok(table);
    }
    let step = |g: usize| grid as f64 / g as f64;
    let patches = table.narrow(1, 1, grid * grid)?;
    let patches = resize_table(&patches, (grid, grid), (gh, gw), (step(gh), step(gw)))?;
    Tensor::cat(&[table.narrow(1, 0, 1)?, patches], 1)
}

impl Backbone for Mae {
    fn forward_observed(&self, x: &Tensor, seen: Observer<'_>) -> candle_core::Result<Features> {
        let x = patch_embed(x, &self.patch_weight, Some(&self.patch_bias))?;
        seen("patch_embed", &x);
        seen("pos_embed", &self.pos_embed);
        let x = prepend(&self.cls_token, &x)?.broadcast_add(&self.pos_embed)?;
        seen("embed", &x);
        let x = self.blocks.forward(&x, |i, x| {
            seen(&format!("block.{i}"), x);
            Ok(())
        })?;
        let x = self.norm.forward_float(&x)?;
        seen("norm", &x);
        let tokens = x.narrow(1, 1, x.dim(1)? - 1)?.contiguous()?;
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens,
        })
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        self.config.embed_dim
    }
}
