//! The paper's two classifiers. PROTOCOL sections 3 (linear) and 4 ("multi-head attention").

use super::backbone::Observer;
use super::checkpoint::{NameRule, same, unused};
use super::params::{Builder, Init};
use super::vit::{Act, BlockConfig, TIMM, blocks, default_linear, layer_norm, prepend};
use crate::spec::HeadKind;
use anyhow::Result;
use candle_core::{Tensor, bail};
use medft_nn::{LayerNorm, Linear, Stack, resize_table};

/// What manifests call the weights of the body below.
pub const DEIT_NAME: &str = "deit-b";

/// deit_base_patch16_224 as published: the stem and the ImageNet head are dropped (PROTOCOL 4).
pub const DEIT: &[NameRule] = &[
    unused("patch_embed.>", "the body is fed projected tokens"),
    unused("head.>", "ImageNet classes"),
    same(">", ">"),
];

/// The body of the "multi-head attention" classifier.
#[derive(Debug, Clone, Copy)]
pub struct BodyConfig {
    pub embed_dim: usize,
    pub depth: usize,
    pub num_heads: usize,
    /// Side of the position grid (14 for DeiT-B).
    pub grid: usize,
    /// Recompute block activations in the backward pass.
    pub checkpointing: bool,
}

/// DeiT-B, ImageNet-1k supervised: what the code calls multi-head attention.
pub const DEIT_BASE: BodyConfig = BodyConfig {
    embed_dim: 768,
    depth: 12,
    num_heads: 12,
    grid: 14,
    checkpointing: false,
};

/// The demo's body.
pub const TINY_BODY: BodyConfig = BodyConfig {
    embed_dim: 32,
    depth: 2,
    num_heads: 4,
    grid: 3,
    checkpointing: false,
};

/// tokens (B, N, F) → Linear + LayerNorm → [CLS | ·] + positions → DeiT blocks → norm → CLS → fully connected.
#[derive(Debug, Clone)]
pub struct MhaHead {
    projector: Linear,
    projector_norm: LayerNorm,
    cls_token: Tensor,
    pos_embed: Tensor,
    grid: usize,
    blocks: Stack,
    norm: LayerNorm,
    fc: Linear,
}

impl MhaHead {
    /// `fresh` makes the projector and the last layer (always new), `body` the rest (DeiT's checkpoint, or a seed).
    ///
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(token_dim: usize, outputs: usize, c: BodyConfig, fresh: &Builder, body: &Builder) -> Result<Self> {
        Self::new_at(
            token_dim,
            outputs,
            c,
            &fresh.scope("linear_projector"),
            &body.scope("main_model.backbone"),
            &fresh.scope("main_model.fc"),
        )
    }

    /// As [`MhaHead::new`], with a builder for each of the three parts.
    ///
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new_at(
        token_dim: usize,
        outputs: usize,
        c: BodyConfig,
        p: &Builder,
        b: &Builder,
        fc: &Builder,
    ) -> Result<Self> {
        let d = c.embed_dim;
        let small = Init::Normal { std: 0.02 };
        let projector = default_linear(token_dim, d, &p.pp("0"))?;
        let projector_norm = layer_norm(d, 1e-5, &p.pp("1"))?;
        let cls_token = b.param([1, 1, d], "cls_token", small)?;
        let pos_embed = b.param([1, 1 + c.grid * c.grid, d], "pos_embed", small)?;
        let block = BlockConfig {
            dim: d,
            heads: c.num_heads,
            hidden: 4 * d,
            eps: 1e-6,
            act: Act::GeluErf,
            layer_scale: None,
        };
        let blocks = blocks(c.depth, block, &TIMM, &b.pp("blocks"), c.checkpointing)?;
        let norm = layer_norm(d, 1e-6, &b.pp("norm"))?;
        let fc = default_linear(d, outputs, fc)?;
        Ok(Self {
            projector,
            projector_norm,
            cls_token,
            pos_embed,
            grid: c.grid,
            blocks,
            norm,
            fc,
        })
    }

    /// The position table (1, 1 + n, D): DeiT's, resized by bicubic with scale factor √(n / grid²) where n differs.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn positions(&self, n: usize) -> candle_core::Result<Tensor> {
        deit_positions(&self.pos_embed, self.grid, n)
    }

    /// tokens (B, N, F) → logits (B, outputs).
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn forward(&self, tokens: &Tensor) -> candle_core::Result<Tensor> {
        self.forward_observed(tokens, &mut |_, _| {})
    }

    /// As [`MhaHead::forward`]; `observer` is told of `projector`, `embed`, `block.N`, `norm`, `feature`.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn forward_observed(&self, tokens: &Tensor, observer: Observer<'_>) -> candle_core::Result<Tensor> {
        let u = self.projector_norm.forward_float(&self.projector.forward(tokens)?)?;
        observer("projector", &u);
        let positions = self.positions(u.dim(1)?)?;
        observer("pos_embed", &positions);
        let x = prepend(&self.cls_token, &u)?.broadcast_add(&positions)?;
        observer("embed", &x);
        let x = self.blocks.forward(&x, |i, x| {
            observer(&format!("block.{i}"), x);
            Ok(())
        })?;
        let feature = self.norm.forward(&x.narrow(1, 0, 1)?)?.squeeze(1)?;
        observer("feature", &feature);
        self.fc.forward(&feature)
    }
}

/// Resizes DeiT's table (1, 1 + grid², D) to n patches, which must form a square.
///
/// # Errors
/// Where shapes do not fit or a kernel fails.
pub fn deit_positions(table: &Tensor, grid: usize, n: usize) -> candle_core::Result<Tensor> {
    if n == grid * grid {
        return Ok(table.clone());
    }
    let side = n.isqrt();
    if side * side != n {
        bail!("the multi-head attention classifier needs a square number of tokens, not {n}");
    }
    let step = 1.0 / (n as f64 / (grid * grid) as f64).sqrt();
    let patches = table.narrow(1, 1, grid * grid)?;
    let patches = resize_table(&patches, (grid, grid), (side, side), (step, step))?;
    Tensor::cat(&[table.narrow(1, 0, 1)?, patches], 1)
}

/// A classifier on top of a backbone.
#[derive(Debug, Clone)]
pub enum Head {
    /// One fully connected layer on the pooled feature (B, D).
    Linear(Linear),
    /// On the tokens (B, N, F).
    Mha(Box<MhaHead>),
}

impl Head {
    /// Its name in studies.
    pub fn kind(&self) -> HeadKind {
        match self {
            Self::Linear(_) => HeadKind::Linear,
            Self::Mha(_) => HeadKind::Mha,
        }
    }
}
