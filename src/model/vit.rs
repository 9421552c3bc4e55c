//! The pre-norm transformer block that DINOv2, MAE, DeiT, CLIP and CoCa share, under each one's parameter names.

use super::params::{Builder, Init};
use crate::error::BadInput;
use anyhow::Result;
use candle_core::Tensor;
pub use medft_nn::Act;
use medft_nn::{LayerNorm, Linear, Stack, TransformerBlock};

/// The names of a block's parameters in the published checkpoints.
#[derive(Debug, Clone, Copy)]
pub struct BlockNames {
    pub norm1: &'static str,
    pub qkv_weight: &'static str,
    pub qkv_bias: &'static str,
    pub proj: &'static str,
    pub norm2: &'static str,
    pub fc1: &'static str,
    pub fc2: &'static str,
}

/// timm, facebookresearch/mae, facebookresearch/dinov2, facebookresearch/deit.
pub const TIMM: BlockNames = BlockNames {
    norm1: "norm1",
    qkv_weight: "attn.qkv.weight",
    qkv_bias: "attn.qkv.bias",
    proj: "attn.proj",
    norm2: "norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
};

/// open_clip and openai/CLIP.
pub const OPEN_CLIP: BlockNames = BlockNames {
    norm1: "ln_1",
    qkv_weight: "attn.in_proj_weight",
    qkv_bias: "attn.in_proj_bias",
    proj: "attn.out_proj",
    norm2: "ln_2",
    fc1: "mlp.c_fc",
    fc2: "mlp.c_proj",
};

/// The shape of a block.
#[derive(Debug, Clone, Copy)]
pub struct BlockConfig {
    /// Width D.
    pub dim: usize,
    pub heads: usize,
    /// Hidden width of the MLP.
    pub hidden: usize,
    /// ε of both LayerNorms.
    pub eps: f64,
    pub act: Act,
    /// LayerScale on both branches (`ls1.gamma`, `ls2.gamma`), with its start value.
    pub layer_scale: Option<f32>,
}

/// `depth` blocks `x + ls1·Attn(norm1 x)`, then `+ ls2·MLP(norm2 ·)`, with parameters at `b.0`, `b.1`, …
///
/// # Errors
/// Where a tensor is missing, or has another shape than the configuration states.
pub fn blocks(depth: usize, c: BlockConfig, n: &BlockNames, b: &Builder, checkpointing: bool) -> Result<Stack> {
    let blocks: Vec<_> = (0..depth).map(|i| block(c, n, &b.pp(i))).collect::<Result<_>>()?;
    Ok(Stack::new(blocks, checkpointing))
}

fn block(c: BlockConfig, n: &BlockNames, b: &Builder) -> Result<TransformerBlock> {
    let (d, h) = (c.dim, c.hidden);
    let gamma = |name: &str| -> Result<Option<Tensor>> {
        c.layer_scale.map(|v| b.param([d], name, Init::Const(v))).transpose()
    };
    Ok(TransformerBlock {
        norm1: layer_norm(d, c.eps, &b.pp(n.norm1))?,
        qkv: Linear::new(
            b.param([3 * d, d], n.qkv_weight, Init::Normal { std: 0.02 })?,
            Some(b.param([3 * d], n.qkv_bias, Init::Const(0.0))?),
        ),
        proj: trunc_linear(d, d, &b.pp(n.proj))?,
        ls1: gamma("ls1.gamma")?,
        norm2: layer_norm(d, c.eps, &b.pp(n.norm2))?,
        fc1: trunc_linear(d, h, &b.pp(n.fc1))?,
        fc2: trunc_linear(h, d, &b.pp(n.fc2))?,
        ls2: gamma("ls2.gamma")?,
        heads: c.heads,
        act: c.act,
    })
}

/// A LayerNorm (weight 1, bias 0 at start) of width `d`.
///
/// # Errors
/// Where a tensor is missing, or has another shape than the configuration states.
pub fn layer_norm(d: usize, eps: f64, b: &Builder) -> Result<LayerNorm> {
    Ok(LayerNorm::new(
        b.param([d], "weight", Init::Const(1.0))?,
        b.param([d], "bias", Init::Const(0.0))?,
        eps,
    ))
}

/// A linear layer as transformers start them: normal with σ = 0.02, bias 0.
///
/// # Errors
/// Where a tensor is missing, or has another shape than the configuration states.
pub fn trunc_linear(input: usize, output: usize, b: &Builder) -> Result<Linear> {
    Ok(Linear::new(
        b.param([output, input], "weight", Init::Normal { std: 0.02 })?,
        Some(b.param([output], "bias", Init::Const(0.0))?),
    ))
}

/// A linear layer with PyTorch's default start: weight and bias uniform on ±1/√in.
///
/// # Errors
/// Where a tensor is missing, or has another shape than the configuration states.
pub fn default_linear(input: usize, output: usize, b: &Builder) -> Result<Linear> {
    let bound = 1.0 / (input as f32).sqrt();
    Ok(Linear::new(
        b.param([output, input], "weight", Init::Uniform(bound))?,
        Some(b.param([output], "bias", Init::Uniform(bound))?),
    ))
}

/// How many patches lie side by side in `side` pixels.
///
/// # Errors
/// [`BadInput`] where the patches do not fill the side.
pub fn patches_across(side: usize, patch: usize) -> Result<usize> {
    if side == 0 || !side.is_multiple_of(patch) {
        return Err(BadInput::new(
            "crop",
            format!("a multiple of the patch side, {patch} px"),
            format!("{side} px"),
            "Correct the crop in the study.",
        )
        .into());
    }
    Ok(side / patch)
}

/// As [`patches_across`], for encoders whose position table is used as it is: the grid must be the published one.
///
/// # Errors
/// [`BadInput`] where it is not.
pub fn same_grid(side: usize, patch: usize, grid: usize) -> Result<()> {
    if side != patch * grid {
        return Err(BadInput::new(
            "crop",
            format!("{} px, the side this encoder's position table is for", patch * grid),
            format!("{side} px"),
            "Correct the crop in the study, or choose a backbone that resizes its table (DINOv2, MAE, SAM2).",
        )
        .into());
    }
    Ok(())
}

/// Prepends a class token (1, 1, D) to (B, N, D).
///
/// # Errors
/// Where shapes do not fit or a kernel fails.
pub fn prepend(token: &Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
    let (b, _, d) = x.dims3()?;
    Tensor::cat(&[&token.broadcast_as((b, 1, d))?.contiguous()?, x], 1)
}
