//! AIMv2's image encoder (Fini et al. 2024; apple/ml-aim). PROTOCOL 3.4.

use super::backbone::{Backbone, BackboneOptions, Features, Observer};
use super::checkpoint::{How, NameRule, part, same};
use super::entry::{BackboneEntry, Facts, OPENAI_CLIP, Sides, erf_gelu, place_by};
use super::entry::{Exported, Trained};
use super::params::{Builder, Init, LayerPosition};
use super::vit::{patches_across, same_grid};
use crate::spec::Scale;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{Layer, Linear, RmsNorm, Stack, add, attention_packed, patch_embed, silu_mul};
use serde_json::json;

/// Names of transformers' own `Aimv2VisionModel` to Apple's.
pub const HF: &[NameRule] = &[
    same("embeddings.patch_embed.>", "preprocessor.patchifier.proj.>"),
    same("embeddings.rms_norm.weight", "preprocessor.patchifier.norm.weight"),
    // Published without a batch axis.
    NameRule {
        from: "embeddings.position_embedding.weight",
        to: "preprocessor.pos_embed",
        how: How::Reshape,
    },
    part(
        "encoder.layers.*.attention.q_proj.weight",
        "trunk.blocks.*.attn.qkv.weight",
        0,
        3,
    ),
    part(
        "encoder.layers.*.attention.k_proj.weight",
        "trunk.blocks.*.attn.qkv.weight",
        1,
        3,
    ),
    part(
        "encoder.layers.*.attention.v_proj.weight",
        "trunk.blocks.*.attn.qkv.weight",
        2,
        3,
    ),
    same(
        "encoder.layers.*.attention.out_proj.weight",
        "trunk.blocks.*.attn.proj.weight",
    ),
    same("encoder.layers.*.ffn.gate_proj.weight", "trunk.blocks.*.mlp.fc1.weight"),
    same("encoder.layers.*.ffn.up_proj.weight", "trunk.blocks.*.mlp.fc3.weight"),
    same("encoder.layers.*.ffn.down_proj.weight", "trunk.blocks.*.mlp.fc2.weight"),
    same("encoder.layers.*.rms_norm1.weight", "trunk.blocks.*.norm_1.weight"),
    same("encoder.layers.*.rms_norm2.weight", "trunk.blocks.*.norm_2.weight"),
    same("rms_norm.weight", "trunk.post_trunk_norm.weight"),
];

/// timm's names (`aimv2_*_patch14_224`).
const TIMM_NAMES: &[NameRule] = &[
    same("pos_embed", "preprocessor.pos_embed"),
    same("patch_embed.proj.>", "preprocessor.patchifier.proj.>"),
    same("patch_embed.norm.weight", "preprocessor.patchifier.norm.weight"),
    same("blocks.*.norm1.weight", "trunk.blocks.*.norm_1.weight"),
    same("blocks.*.attn.>", "trunk.blocks.*.attn.>"),
    same("blocks.*.norm2.weight", "trunk.blocks.*.norm_2.weight"),
    same("blocks.*.mlp.fc1_g.weight", "trunk.blocks.*.mlp.fc1.weight"),
    same("blocks.*.mlp.fc1_x.weight", "trunk.blocks.*.mlp.fc3.weight"),
    same("blocks.*.mlp.fc2.weight", "trunk.blocks.*.mlp.fc2.weight"),
    same("norm.weight", "trunk.post_trunk_norm.weight"),
];

/// For timm; `transformers` has no classifier of this encoder.
fn export(layout: &str, t: &Trained<'_>, (full, tiny): (Config, Config), timm: &str) -> Result<Exported> {
    let c = match t.spec.scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    if layout != "timm" {
        return Err(t
            .not_for(layout, &["timm", "hub"], "it has no classifier of this encoder")
            .into());
    }
    let (weight, bias) = t.linear()?;
    let mut tensors = t.in_layout(TIMM_NAMES)?;
    tensors.extend([("head.weight".into(), weight), ("head.bias".into(), bias)]);
    let args = json!({
        "embed_dim": c.embed_dim, "depth": c.depth, "num_heads": c.num_heads, "patch_size": c.patch_size,
        "mlp_ratio": c.mlp_hidden_dim as f64 / c.embed_dim as f64, "fc_norm": false,
    });
    Ok(Exported {
        config: t.timm_config(timm, "avg", &args),
        tensors,
    })
}

/// The layouts AIMv2 is published in: Apple's own classes, and transformers'.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("aimv2-apple", &[]), ("hf", HF)];

/// The published sizes, and small models of the same code, for the demo: (width, depth, heads, hidden width of the MLP).
const L: Config = Config::published((1024, 24, 8, 2816));
const H: Config = Config::published((1536, 24, 12, 4096));
const TINY_L: Config = Config::tiny((32, 2, 2, 88));
const TINY_H: Config = Config::tiny((48, 3, 3, 128));

/// AIMv2-L.
pub static AIMV2_L: BackboneEntry = BackboneEntry {
    name: "aimv2-l",
    title: "AIMv2-L",
    family: "AIMv2",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: OPENAI_CLIP,
    sides: (Sides::Exactly(224), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "aimv2-large-patch14-224",
        parameters: 309_197_824,
        gmacs_224: 82.295,
        scan_gflops_224: None,
        feature: 1024,
        tokens: (256, 1024),
    },
    place,
    own: None,
    export: |layout, t| export(layout, t, (L, TINY_L), "aimv2_large_patch14_224"),
    build: |s, px, o, b| build(s, px, (L, TINY_L), o, b),
};

/// AIMv2-H.
pub static AIMV2_H: BackboneEntry = BackboneEntry {
    name: "aimv2-h",
    title: "AIMv2-H",
    facts: Facts {
        upstream: "aimv2-huge-patch14-224",
        parameters: 680_851_968,
        gmacs_224: 179.009,
        scan_gflops_224: None,
        feature: 1536,
        tokens: (256, 1536),
    },
    export: |layout, t| export(layout, t, (H, TINY_H), "aimv2_huge_patch14_224"),
    build: |s, px, o, b| build(s, px, (H, TINY_H), o, b),
    ..AIMV2_L
};

/// Upstream's two parts: `preprocessor` makes the tokens, `trunk` holds the blocks and the norm behind them.
fn place(name: &str) -> LayerPosition {
    place_by(name, "trunk.blocks", &["preprocessor"])
}

/// The encoder for inputs of `side` pixels; a tiny one has the position grid that they need.
fn build(
    scale: Scale,
    side: usize,
    (full, tiny): (Config, Config),
    options: BackboneOptions,
    b: &Builder,
) -> Result<Box<dyn Backbone>> {
    let config = match scale {
        Scale::Full => full,
        Scale::Tiny => Config {
            grid: patches_across(side, tiny.patch_size)?,
            ..tiny
        },
    };
    same_grid(side, config.patch_size, config.grid)?;
    Ok(Box::new(Aimv2::new(config, options, b)?))
}

/// The shape of an AIMv2 encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Hidden width of the SwiGLU MLP.
    pub mlp_hidden_dim: usize,
    pub patch_size: usize,
    /// Side of the position grid; the input must have it.
    pub grid: usize,
    pub rms_norm_eps: f64,
}

impl Config {
    /// A published size for 224 px: (width, depth, heads, hidden width).
    pub const fn published((embed_dim, depth, num_heads, mlp_hidden_dim): (usize, usize, usize, usize)) -> Self {
        Self {
            embed_dim,
            depth,
            num_heads,
            mlp_hidden_dim,
            patch_size: 14,
            grid: 16,
            rms_norm_eps: 1e-5,
        }
    }

    /// A small model of the same code.
    pub const fn tiny(sizes: (usize, usize, usize, usize)) -> Self {
        Self {
            patch_size: 16,
            ..Self::published(sizes)
        }
    }
}

/// x + Attn(RMSNorm x), then x + SwiGLU(RMSNorm x); no biases.
struct Block {
    norm_1: RmsNorm,
    qkv: Linear,
    proj: Linear,
    norm_2: RmsNorm,
    /// The gate.
    fc1: Linear,
    /// The values that are gated.
    fc3: Linear,
    fc2: Linear,
    heads: usize,
}

impl Block {
    fn new(c: &Config, b: &Builder) -> Result<Self> {
        let (d, h) = (c.embed_dim, c.mlp_hidden_dim);
        Ok(Self {
            norm_1: rms_norm(d, c.rms_norm_eps, &b.pp("norm_1"))?,
            qkv: unbiased(d, 3 * d, &b.pp("attn.qkv"))?,
            proj: unbiased(d, d, &b.pp("attn.proj"))?,
            norm_2: rms_norm(d, c.rms_norm_eps, &b.pp("norm_2"))?,
            fc1: unbiased(d, h, &b.pp("mlp.fc1"))?,
            fc2: unbiased(h, d, &b.pp("mlp.fc2"))?,
            fc3: unbiased(d, h, &b.pp("mlp.fc3"))?,
            heads: c.num_heads,
        })
    }
}

/// (B, N, D) → (B, N, D).
impl Layer for Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let a = attention_packed(&self.qkv.forward(&self.norm_1.forward(x)?)?, self.heads)?;
        let x = add(x, &self.proj.forward(&a)?)?;
        let y = self.norm_2.forward(&x)?;
        let y = silu_mul(&self.fc1.forward(&y)?, &self.fc3.forward(&y)?)?;
        add(&x, &self.fc2.forward(&y)?)
    }
}

/// An AIMv2 encoder: tokens = all patches after the final norm, pooled = their mean; there is no class token.
pub struct Aimv2 {
    config: Config,
    patch_weight: Tensor,
    patch_bias: Tensor,
    patch_norm: RmsNorm,
    pos_embed: Tensor,
    blocks: Stack,
    norm: RmsNorm,
}

impl Aimv2 {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let d = c.embed_dim;
        let pre = b.pp("preprocessor");
        let patch = pre.pp("patchifier.proj");
        let bound = Init::Uniform(1.0 / ((3 * c.patch_size * c.patch_size) as f32).sqrt());
        let blocks: Vec<_> = (0..c.depth)
            .map(|i| Block::new(&c, &b.pp("trunk.blocks").pp(i)))
            .collect::<Result<_>>()?;
        Ok(Self {
            config: c,
            pos_embed: pre.param([1, c.grid * c.grid, d], "pos_embed", Init::Normal { std: 0.02 })?,
            patch_weight: patch.stem([d, c.patch_size], options.channels, options.grey_stem, "weight", bound)?,
            patch_bias: patch.param([d], "bias", bound)?,
            patch_norm: rms_norm(d, c.rms_norm_eps, &pre.pp("patchifier.norm"))?,
            blocks: Stack::new(blocks, options.checkpointing),
            norm: rms_norm(d, c.rms_norm_eps, &b.pp("trunk.post_trunk_norm"))?,
        })
    }
}

fn rms_norm(d: usize, eps: f64, b: &Builder) -> Result<RmsNorm> {
    Ok(RmsNorm::new(b.param([d], "weight", Init::Const(1.0))?, eps))
}

fn unbiased(input: usize, output: usize, b: &Builder) -> Result<Linear> {
    let weight = b.param([output, input], "weight", Init::Normal { std: 0.02 })?;
    Ok(Linear::new(weight, None))
}

impl Backbone for Aimv2 {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        let x = patch_embed(x, &self.patch_weight, Some(&self.patch_bias))?;
        let x = self.patch_norm.forward_float(&x)?;
        observer("patch_embed", &x);
        let x = x.broadcast_add(&self.pos_embed)?;
        observer("embed", &x);
        let x = self.blocks.forward(&x, |i, x| {
            observer(&format!("block.{i}"), x);
            Ok(())
        })?;
        let tokens = self.norm.forward_float(&x)?;
        observer("norm", &tokens);
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens,
        })
    }

    /// Ten values of the width and three of the hidden layer, for five and two that its layers put out.
    fn kept_per_output(&self) -> f64 {
        1.74
    }

    fn releases_blocks(&self) -> bool {
        false
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        self.config.embed_dim
    }
}
