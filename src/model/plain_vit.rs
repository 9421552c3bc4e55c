//! The plain vision transformer (Dosovitskiy et al. 2021) under timm's names: MAE's encoder, and timm's ViT with a class token.

use super::backbone::{Backbone, BackboneOptions, Features, Observer};
use super::entry::{Exported, Trained};
use super::params::{Builder, Init};
use super::vit::{Act, BlockConfig, TIMM, blocks, layer_norm, patches_across, prepend};
use crate::spec::Scale;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{LayerNorm, Stack, patch_embed, resize_table};
use serde_json::json;

/// What the linear head reads, after the final norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    ClassToken,
    MeanPatches,
}

/// The encoder for inputs of `side` pixels.
///
/// # Errors
/// Where a tensor is missing, or has another shape than the configuration states.
pub fn build(
    scale: Scale,
    side: usize,
    (full, tiny): (Config, Config),
    options: BackboneOptions,
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
    Ok(Box::new(PlainVit::new(config, options, b)?))
}

/// The shape of a plain ViT.
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
    /// A LayerNorm before the blocks (`norm_pre`), and no bias of the patches: CLIP's variant.
    pub pre_norm: bool,
    pub pool: Pool,
}

impl Config {
    /// A published size of MAE, for 224 px.
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
            pre_norm: false,
            pool: Pool::MeanPatches,
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

/// A plain ViT: tokens = the patches after the final norm, pooled = as [`Config::pool`] says.
pub struct PlainVit {
    config: Config,
    patch_weight: Tensor,
    patch_bias: Option<Tensor>,
    cls_token: Tensor,
    pos_embed: Tensor,
    norm_pre: Option<LayerNorm>,
    blocks: Stack,
    norm: LayerNorm,
}

impl PlainVit {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
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
        let bias = || patch.param([d], "bias", Init::Uniform(bound));
        let patch_bias = (!c.pre_norm).then(bias).transpose()?;
        let pre = || layer_norm(d, c.layer_norm_eps, &b.pp("norm_pre"));
        let norm_pre = c.pre_norm.then(pre).transpose()?;
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
            norm_pre,
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

impl Backbone for PlainVit {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        let x = patch_embed(x, &self.patch_weight, self.patch_bias.as_ref())?;
        observer("patch_embed", &x);
        observer("pos_embed", &self.pos_embed);
        let mut x = prepend(&self.cls_token, &x)?.broadcast_add(&self.pos_embed)?;
        observer("embed", &x);
        if let Some(norm) = &self.norm_pre {
            x = norm.forward_float(&x)?;
            observer("norm_pre", &x);
        }
        let x = self.blocks.forward(&x, |i, x| {
            observer(&format!("block.{i}"), x);
            Ok(())
        })?;
        let x = self.norm.forward_float(&x)?;
        observer("norm", &x);
        let tokens = x.narrow(1, 1, x.dim(1)? - 1)?.contiguous()?;
        let pooled = match self.config.pool {
            Pool::ClassToken => x.narrow(1, 0, 1)?.squeeze(1)?.contiguous()?,
            Pool::MeanPatches => tokens.mean(1)?,
        };
        Ok(Features { pooled, tokens })
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        self.config.embed_dim
    }
}

/// A trained model for timm, whose class `timm` computes the same where it reads the tokens by `pool`; `why` there is no other.
///
/// # Errors
/// [`BadInput`](crate::error::BadInput) for another layout.
pub(super) fn for_timm(
    layout: &str,
    t: &Trained<'_>,
    (full, tiny): (Config, Config),
    (timm, pool): (&str, &str),
    why: &str,
) -> Result<Exported> {
    if layout != "timm" {
        return Err(t.not_for(layout, &["timm", "hub"], why).into());
    }
    let c = match t.spec.scale {
        Scale::Full => full,
        Scale::Tiny => tiny,
    };
    let (weight, bias) = t.linear()?;
    let mut tensors = t.backbone.clone();
    tensors.extend([("head.weight".into(), weight), ("head.bias".into(), bias)]);
    let args = json!({
        "embed_dim": c.embed_dim, "depth": c.depth, "num_heads": c.num_heads, "patch_size": c.patch_size, "fc_norm": false,
    });
    Ok(Exported {
        config: t.timm_config(timm, pool, &args),
        tensors,
    })
}
