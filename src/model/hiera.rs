//! Hiera as SAM 2 uses it (Ryali et al. 2023; sam2/modeling/backbones/hieradet.py): a trunk of windowed attention on
//! channels-last maps, halved in size at three stage changes. PROTOCOL 3.2.

use super::backbone::{BackboneOptions, Probe};
use super::params::{Builder, Init};
use super::vit::{layer_norm, trunc_linear};
use anyhow::Result;
use candle_core::{Tensor, bail};
use medft_nn::{
    Layer, LayerNorm, Linear, Stack, Windows, add, conv2d_tokens, max_pool, resize_table, window_attention,
};

/// Kernel, stride and padding of the stem.
const STEM: (usize, usize, usize) = (7, 4, 3);

/// The shape of a trunk.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width of the first stage.
    pub embed_dim: usize,
    /// Heads of the first stage.
    pub num_heads: usize,
    /// Blocks of each stage.
    pub stages: Vec<usize>,
    /// Blocks that attend to the whole map.
    pub global_att_blocks: Vec<usize>,
    /// Window side of each stage.
    pub window_spec: Vec<usize>,
    /// Size of the background position table.
    pub window_pos_embed_bkg_spatial_size: (usize, usize),
    /// Stage changes at which the map is pooled, from the first.
    pub q_pool: usize,
    /// Pooling at those, (vertical, horizontal).
    pub q_stride: (usize, usize),
    /// Factors on width and heads at a stage change.
    pub dim_mul: f64,
    pub head_mul: f64,
    pub mlp_ratio: f64,
    pub layer_norm_eps: f64,
}

/// One block, as the stage table implies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockPlan {
    pub dim: usize,
    pub dim_out: usize,
    pub heads: usize,
    /// Window side; 0: the whole map.
    pub window: usize,
    pub q_pool: bool,
}

impl Config {
    /// The blocks in order. The first block of a stage still has the window of the stage before: it is cut before it is
    /// pooled.
    pub fn blocks(&self) -> Vec<BlockPlan> {
        let (mut dim, mut heads, mut plan) = (self.embed_dim, self.num_heads, Vec::new());
        for (stage, &n) in self.stages.iter().enumerate() {
            for i in 0..n {
                let change = stage > 0 && i == 0;
                let window = self.window_spec[stage - usize::from(change)];
                let dim_in = dim;
                if change {
                    dim = (dim as f64 * self.dim_mul) as usize;
                    heads = (heads as f64 * self.head_mul) as usize;
                }
                plan.push(BlockPlan {
                    dim: dim_in,
                    dim_out: dim,
                    heads,
                    window: if self.global_att_blocks.contains(&plan.len()) {
                        0
                    } else {
                        window
                    },
                    q_pool: change && stage <= self.q_pool,
                });
            }
        }
        plan
    }

    /// Width of each stage's output.
    pub fn widths(&self) -> Vec<usize> {
        let plan = self.blocks();
        self.ends().map(|i| plan[i].dim_out).collect()
    }

    /// The last block of each stage.
    fn ends(&self) -> impl Iterator<Item = usize> {
        self.stages.iter().scan(0, |sum, &n| {
            *sum += n;
            Some(*sum - 1)
        })
    }
}

/// A trunk: images → one channels-last map per stage.
pub struct Hiera {
    patch_weight: Tensor,
    patch_bias: Tensor,
    pos_embed: Tensor,
    pos_embed_window: Tensor,
    stages: Vec<Stack>,
}

impl Hiera {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: &Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let (d, small) = (c.embed_dim, Init::Normal { std: 0.02 });
        let (bh, bw) = c.window_pos_embed_bkg_spatial_size;
        let side = c.window_spec.first().copied().unwrap_or(1);
        let pos_embed = b.param([1, d, bh, bw], "pos_embed", small)?;
        let pos_embed_window = b.param([1, d, side, side], "pos_embed_window", small)?;
        let patch = b.pp("patch_embed.proj");
        let init = Init::Uniform(1.0 / ((3 * STEM.0 * STEM.0) as f32).sqrt());
        let patch_weight = patch.stem([d, STEM.0], options.channels, options.grey_stem, "weight", init)?;
        let patch_bias = patch.param([d], "bias", init)?;
        let mut blocks = c.blocks().into_iter().enumerate();
        let stages = c
            .stages
            .iter()
            .map(|&n| {
                let blocks: Vec<_> = blocks
                    .by_ref()
                    .take(n)
                    .map(|(i, plan)| Block::new(c, plan, &b.pp("blocks").pp(i)))
                    .collect::<Result<_>>()?;
                Ok(Stack::new(blocks, options.checkpointing))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            patch_weight,
            patch_bias,
            pos_embed,
            pos_embed_window,
            stages,
        })
    }

    /// Images (B, C, H, W) → a map (B, h, w, C) for each stage, the finest first.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn forward(&self, x: &Tensor, probe: &mut Probe<'_>) -> candle_core::Result<Vec<Tensor>> {
        let x = conv2d_tokens(x, &self.patch_weight, Some(&self.patch_bias), STEM.1, STEM.2)?;
        probe.see("patch_embed", || Ok(x.clone()))?;
        let (_, h, w, _) = x.dims4()?;
        let positions = positions(&self.pos_embed, &self.pos_embed_window, (h, w))?;
        probe.see("pos_embed", || Ok(positions.clone()))?;
        let mut x = x.broadcast_add(&positions)?;
        probe.see("embed", || Ok(x.clone()))?;
        let mut before = 0;
        let mut maps = Vec::with_capacity(self.stages.len());
        for stage in &self.stages {
            x = stage.forward(&x, |i, x| probe.see(&format!("block.{}", before + i), || Ok(x.clone())))?;
            before += stage.len();
            maps.push(x.clone());
        }
        Ok(maps)
    }
}

/// The position table (1, h, w, C): the background (1, C, gh, gw) resized by bicubic (step g/h), plus the window's
/// (1, C, s, s) repeated over the map.
///
/// # Errors
/// Where shapes do not fit or a kernel fails.
pub fn positions(background: &Tensor, window: &Tensor, (h, w): (usize, usize)) -> candle_core::Result<Tensor> {
    let (_, c, gh, gw) = background.dims4()?;
    let (_, _, sh, sw) = window.dims4()?;
    if h % sh != 0 || w % sw != 0 {
        bail!("a window position table of {sh}×{sw} does not tile a map of {h}×{w}");
    }
    let table = background
        .permute((0, 2, 3, 1))?
        .contiguous()?
        .reshape((1, gh * gw, c))?;
    let steps = (gh as f64 / h as f64, gw as f64 / w as f64);
    let table = resize_table(&table, (gh, gw), (h, w), steps)?.reshape((h / sh, sh, w / sw, sw, c))?;
    let tile = window.permute((0, 2, 3, 1))?.contiguous()?.reshape((1, sh, 1, sw, c))?;
    table.broadcast_add(&tile)?.reshape((1, h, w, c))
}

/// x' = s + proj(attention(norm1 x)), where s is x, or at a stage change pool(proj(norm1 x)); then x' + mlp(norm2 x').
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    /// The shortcut's projection where the width changes.
    proj: Option<Linear>,
    windows: Windows,
}

impl Block {
    fn new(c: &Config, p: BlockPlan, b: &Builder) -> Result<Self> {
        let (d, hidden) = (p.dim_out, (p.dim_out as f64 * c.mlp_ratio) as usize);
        Ok(Self {
            norm1: layer_norm(p.dim, c.layer_norm_eps, &b.pp("norm1"))?,
            qkv: trunc_linear(p.dim, 3 * d, &b.pp("attn.qkv"))?,
            out: trunc_linear(d, d, &b.pp("attn.proj"))?,
            norm2: layer_norm(d, c.layer_norm_eps, &b.pp("norm2"))?,
            fc1: trunc_linear(d, hidden, &b.pp("mlp.layers.0"))?,
            fc2: trunc_linear(hidden, d, &b.pp("mlp.layers.1"))?,
            proj: if p.dim == d {
                None
            } else {
                Some(trunc_linear(p.dim, d, &b.pp("proj"))?)
            },
            windows: Windows {
                heads: p.heads,
                side: p.window,
                pool: if p.q_pool { c.q_stride } else { (1, 1) },
            },
        })
    }
}

/// (B, H, W, C) → (B, H', W', C').
impl Layer for Block {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.norm1.forward(x)?;
        let shortcut = match &self.proj {
            None => x.clone(),
            Some(proj) if self.windows.pool == (1, 1) => proj.forward(&y)?,
            Some(proj) => max_pool(&proj.forward(&y)?, self.windows.pool)?,
        };
        let qkv = self.qkv.forward(&y)?;
        let Some(bias) = &self.qkv.bias else {
            bail!("Hiera's projection has a bias");
        };
        let a = window_attention(&qkv, bias, self.windows)?;
        let x = add(&shortcut, &self.out.forward(&a)?)?;
        let y = self.fc1.forward_gelu(&self.norm2.forward(&x)?)?;
        add(&x, &self.fc2.forward(&y)?)
    }
}
