//! MAE's encoder (He et al. 2022; facebookresearch/mae), a plain ViT. PROTOCOL 3.3.

use super::backbone::{Backbone, Features, Observer, Options};
use super::layers::{LayerNorm, patch_embed, recompute};
use super::params::{Builder, Init};
use super::vit::{Act, Block, BlockConfig, TIMM, layer_norm, prepend};
use anyhow::Result;
use candle_core::Tensor;

/// The shape of an MAE encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    pub mlp_ratio: usize,
    pub patch_size: usize,
    /// Side of the position grid; the input must have it.
    pub grid: usize,
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
            layer_norm_eps: 1e-6,
        }
    }
}

/// An MAE encoder: pooled = mean of the patch tokens after the final norm, tokens = those.
pub struct Mae {
    config: Config,
    options: Options,
    patch_weight: Tensor,
    patch_bias: Tensor,
    cls_token: Tensor,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Mae {
    pub fn new(c: Config, options: Options, b: &Builder) -> Result<Self> {
        let d = c.embed_dim;
        let small = Init::Normal { std: 0.02 };
        let cls_token = b.param([1, 1, d], "cls_token", small)?;
        let pos_embed = b.param([1, 1 + c.grid * c.grid, d], "pos_embed", small)?;
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
        let blocks = (0..c.depth)
            .map(|i| Block::new(block, &TIMM, &b.pp("blocks").pp(i)))
            .collect::<Result<_>>()?;
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
}

impl Backbone for Mae {
    fn forward_observed(&self, x: &Tensor, seen: Observer<'_>) -> candle_core::Result<Features> {
        let x = patch_embed(x, &self.patch_weight, Some(&self.patch_bias))?;
        let mut x = prepend(&self.cls_token, &x)?.broadcast_add(&self.pos_embed)?;
        seen("embed", &x);
        for (i, block) in self.blocks.iter().enumerate() {
            let b = block.clone();
            x = recompute(self.options.checkpointing, &x, move |x| b.forward(x))?;
            seen(&format!("block.{i}"), &x);
        }
        let x = self.norm.forward(&x)?;
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
