//! VMamba (Liu et al. 2024; MzeroMiko/VMamba, VSSM of the 0229 checkpoints): a state-space model that scans a map in four
//! directions. The authors' repository has no code for it (Q3): feature and tokens are this project's definition.

use super::backbone::{Backbone, BackboneOptions, Features, Observer, Probe};
use super::checkpoint::{How, NameRule, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, number_behind};
use super::export::hub_alone;
use super::params::{Builder, Init, LayerPosition};
use super::vit::{layer_norm, trunc_linear};
use crate::spec::Scale;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{
    LayerNorm, Linear, Orders, SelectiveScan, Stack, add, conv2d_map, conv2d_tokens, depthwise_conv2d, gelu, linear,
    precision::with_f32,
};
use std::sync::Arc;

/// A weight of a linear layer that some checkpoints store as a 1×1 convolution (out, in, 1, 1).
const fn matrix(name: &'static str) -> NameRule {
    NameRule {
        from: name,
        to: name,
        how: How::Reshape,
    }
}

/// Names of `vssm_{small,base}_0229_*.pth` (under key `model`).
pub const VSSM: &[NameRule] = &[
    unused("classifier.head.>", "ImageNet classes"),
    matrix("layers.*.blocks.*.op.in_proj.weight"),
    matrix("layers.*.blocks.*.op.out_proj.weight"),
    matrix("layers.*.blocks.*.mlp.fc1.weight"),
    matrix("layers.*.blocks.*.mlp.fc2.weight"),
    same("patch_embed.>", "patch_embed.>"),
    same("layers.>", "layers.>"),
    same("classifier.norm.>", "classifier.norm.>"),
];

/// The layouts VMamba is published in.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("vmamba", VSSM)];

/// VMamba-S.
pub static VMAMBA_S: BackboneEntry = BackboneEntry {
    name: "vmamba-s",
    title: "VMamba-S",
    family: "VMamba",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(32), Sides::MultipleOf(32)),
    facts: Facts {
        upstream: "vmamba_small_0229",
        parameters: 49_378_752,
        gmacs_224: 8.499,
        scan_gflops_224: Some(0.169),
        feature: 768,
        tokens: (49, 768),
    },
    place,
    own: None,
    export: hub_alone,
    build: |s, _, o, b| {
        let config = match s {
            Scale::Full => Config::published(96, [2, 2, 15, 2]),
            Scale::Tiny => Config::published(12, [1, 1, 1, 1]),
        };
        Ok(Box::new(Vmamba::new(&config, o, b)?))
    },
};

/// VMamba-B.
pub static VMAMBA_B: BackboneEntry = BackboneEntry {
    name: "vmamba-b",
    title: "VMamba-B",
    facts: Facts {
        upstream: "vmamba_base_0229",
        parameters: 87_532_800,
        gmacs_224: 15.07,
        scan_gflops_224: Some(0.225),
        feature: 1024,
        tokens: (49, 1024),
    },
    build: |s, _, o, b| {
        let config = match s {
            Scale::Full => Config::published(128, [2, 2, 15, 2]),
            Scale::Tiny => Config::published(12, [1, 1, 2, 1]),
        };
        Ok(Box::new(Vmamba::new(&config, o, b)?))
    },
    ..VMAMBA_S
};

/// Stage by stage, as SimMIM counts Swin's (`optimizer.py`, `get_swin_layer`), whose names these are: a downsampling belongs to the
/// last block before it.
fn place(name: &str) -> LayerPosition {
    let Some((stage, rest)) = number_behind(name, "layers") else {
        let stem = name.starts_with("patch_embed");
        return if stem { LayerPosition::Stem } else { LayerPosition::Top };
    };
    match number_behind(rest, "blocks") {
        Some((block, _)) => LayerPosition::Block(stage, block),
        None => LayerPosition::StageEnd(stage),
    }
}

/// The shape of a VSSM encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Width of each stage.
    pub dims: Vec<usize>,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// States a channel.
    pub d_state: usize,
    /// Kernel of the depthwise convolution.
    pub d_conv: usize,
    pub conv_bias: bool,
    /// Rank of the step sizes; `None`: a sixteenth of the width, rounded up.
    pub dt_rank: Option<usize>,
    /// Inner width over width.
    pub ssm_ratio: f64,
    pub mlp_ratio: f64,
    pub layer_norm_eps: f64,
}

impl Config {
    /// A size of the 0229 series: the width doubles from stage to stage.
    pub fn published(dim: usize, depths: [usize; 4]) -> Self {
        Self {
            dims: (0..4).map(|i| dim << i).collect(),
            depths: depths.to_vec(),
            d_state: 1,
            d_conv: 3,
            conv_bias: false,
            dt_rank: None,
            ssm_ratio: 2.0,
            mlp_ratio: 4.0,
            layer_norm_eps: 1e-5,
        }
    }
}

/// Directions of a scan.
const K: usize = 4;

/// A convolution 3×3, stride 2, padding 1.
struct Conv {
    weight: Tensor,
    bias: Tensor,
}

impl Conv {
    fn new(input: usize, output: usize, b: &Builder) -> Result<Self> {
        let init = Init::Uniform(1.0 / ((9 * input) as f32).sqrt());
        Ok(Self {
            weight: b.param([output, input, 3, 3], "weight", init)?,
            bias: b.param([output], "bias", init)?,
        })
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        conv2d_map(x, &self.weight, Some(&self.bias), 2, 1)
    }
}

struct Stage {
    blocks: Vec<Arc<Block>>,
    /// Convolution and norm to the next stage.
    downsample: Option<(Conv, LayerNorm)>,
}

/// A VSSM encoder: tokens = the last map after the final norm, row by row; pooled = their mean.
pub struct Vmamba {
    stem: Conv,
    stem_norm: LayerNorm,
    embed: Conv,
    embed_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    dim: usize,
    checkpointing: bool,
}

impl Vmamba {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: &Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let (Some(&first), Some(&dim)) = (c.dims.first(), c.dims.last()) else {
            anyhow::bail!("VMamba has no stage");
        };
        if c.dims.len() != c.depths.len() {
            anyhow::bail!("VMamba: {} widths, {} depths", c.dims.len(), c.depths.len());
        }
        let eps = c.layer_norm_eps;
        let patch = b.pp("patch_embed");
        let init = Init::Uniform(1.0 / 27f32.sqrt());
        let stem = Conv {
            weight: patch
                .pp(0)
                .stem([first / 2, 3], options.channels, options.grey_stem, "weight", init)?,
            bias: patch.pp(0).param([first / 2], "bias", init)?,
        };
        let stem_norm = layer_norm(first / 2, eps, &patch.pp(2))?;
        let embed = Conv::new(first / 2, first, &patch.pp(5))?;
        let embed_norm = layer_norm(first, eps, &patch.pp(7))?;
        let mut stages = Vec::with_capacity(c.dims.len());
        for (i, (&d, &depth)) in c.dims.iter().zip(&c.depths).enumerate() {
            let b = b.pp("layers").pp(i);
            stages.push(Stage {
                blocks: (0..depth)
                    .map(|j| Block::new(c, d, &b.pp("blocks").pp(j)).map(Arc::new))
                    .collect::<Result<_>>()?,
                downsample: match c.dims.get(i + 1) {
                    None => None,
                    Some(&next) => Some((
                        Conv::new(d, next, &b.pp("downsample.1"))?,
                        layer_norm(next, eps, &b.pp("downsample.3"))?,
                    )),
                },
            });
        }
        Ok(Self {
            stem,
            stem_norm,
            embed,
            embed_norm,
            stages,
            norm: layer_norm(dim, eps, &b.pp("classifier.norm"))?,
            dim,
            checkpointing: options.checkpointing,
        })
    }

    fn run(&self, x: &Tensor, probe: &mut Probe<'_>) -> candle_core::Result<Features> {
        let mut x = with_f32(|| {
            let x = conv2d_tokens(x, &self.stem.weight, Some(&self.stem.bias), 2, 1)?;
            let x = gelu(&self.stem_norm.forward(&x)?)?;
            self.embed_norm.forward(&self.embed.forward(&x)?)
        })?;
        probe.see_map("embed", &x)?;
        for (i, stage) in self.stages.iter().enumerate() {
            let (_, h, w, _) = x.dims4()?;
            let orders = Orders::cross(h, w);
            if probe.0.is_some() {
                for (j, block) in stage.blocks.iter().enumerate() {
                    let name = format!("layer.{i}.block.{j}");
                    x = block.forward(&x, &orders, &name, probe)?;
                    probe.see_map(&name, &x)?;
                }
            } else {
                let parts = stage.blocks.iter().map(|b| {
                    let (b, o) = (b.clone(), orders.clone());
                    move |x: &Tensor| b.forward(x, &o, "", &mut Probe(None))
                });
                x = Stack::new(parts, self.checkpointing).forward(&x, |_, _| Ok(()))?;
            }
            if let Some((conv, norm)) = &stage.downsample {
                x = with_f32(|| norm.forward(&conv.forward(&x)?))?;
                probe.see_map(&format!("layer.{i}.downsample"), &x)?;
            }
        }
        let x = self.norm.forward_float(&x)?;
        probe.see_map("norm", &x)?;
        let (b, h, w, d) = x.dims4()?;
        let tokens = x.reshape((b, h * w, d))?;
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens,
        })
    }
}

impl Backbone for Vmamba {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        self.run(x, &mut Probe(Some(observer)))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Features> {
        self.run(x, &mut Probe(None))
    }

    /// Some 24 values of the width, for eight that its layers put out: the scan and its convolution keep values of the inner width.
    fn kept_per_output(&self) -> f64 {
        3.0
    }

    /// 1.8 numbers for each that its linear layers put out (docs/GPU.md).
    fn forward_share(&self) -> f64 {
        0.6
    }

    fn releases_blocks(&self) -> bool {
        false
    }

    fn feature_dim(&self) -> usize {
        self.dim
    }

    fn token_dim(&self) -> usize {
        self.dim
    }
}

/// x' = x + ss2d(norm x), then x' + mlp(norm2 x').
struct Block {
    norm: LayerNorm,
    op: Ss2d,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn new(c: &Config, d: usize, b: &Builder) -> Result<Self> {
        let hidden = (d as f64 * c.mlp_ratio) as usize;
        Ok(Self {
            norm: layer_norm(d, c.layer_norm_eps, &b.pp("norm"))?,
            op: Ss2d::new(c, d, &b.pp("op"))?,
            norm2: layer_norm(d, c.layer_norm_eps, &b.pp("norm2"))?,
            fc1: trunc_linear(d, hidden, &b.pp("mlp.fc1"))?,
            fc2: trunc_linear(hidden, d, &b.pp("mlp.fc2"))?,
        })
    }

    /// (B, H, W, C) → (B, H, W, C).
    fn forward(&self, x: &Tensor, orders: &Orders, name: &str, probe: &mut Probe<'_>) -> candle_core::Result<Tensor> {
        let y = with_f32(|| self.norm.forward(x))?;
        let y = self.op.forward(&y, orders, name, probe)?;
        let x = add(x, &y)?;
        let y = self.fc1.forward_gelu(&self.norm2.forward(&x)?)?;
        add(&x, &self.fc2.forward(&y)?)
    }
}

/// SS2D without gate (`v05_noz`): projection in, depthwise convolution, SiLU, scan in four directions, norm, projection out.
struct Ss2d {
    x_proj: Tensor,
    a_logs: Tensor,
    skip: Tensor,
    dt_weight: Tensor,
    dt_bias: Tensor,
    out_norm: LayerNorm,
    in_proj: Tensor,
    conv_weight: Tensor,
    conv_bias: Option<Tensor>,
    out_proj: Tensor,
}

impl Ss2d {
    fn new(c: &Config, d: usize, b: &Builder) -> Result<Self> {
        let inner = (c.ssm_ratio * d as f64) as usize;
        let rank = c.dt_rank.unwrap_or(d.div_ceil(16));
        let row = rank + 2 * c.d_state;
        let uniform = |fan: usize| Init::Uniform(1.0 / (fan as f32).sqrt());
        let small = Init::Normal { std: 0.02 };
        let conv = uniform(c.d_conv * c.d_conv);
        Ok(Self {
            x_proj: b.param([K, row, inner], "x_proj_weight", uniform(inner))?,
            a_logs: b.param([K * inner, c.d_state], "A_logs", Init::Const(0.0))?,
            skip: b.param([K * inner], "Ds", Init::Const(1.0))?,
            dt_weight: b.param([K, inner, rank], "dt_projs_weight", uniform(rank))?,
            // softplus(−4.6) = 0.01, the geometric middle of upstream's 0.001 … 0.1.
            dt_bias: b.param([K, inner], "dt_projs_bias", Init::Const(-4.6))?,
            out_norm: layer_norm(inner, c.layer_norm_eps, &b.pp("out_norm"))?,
            in_proj: b.param([inner, d], "in_proj.weight", small)?,
            conv_weight: b.param([inner, 1, c.d_conv, c.d_conv], "conv2d.weight", conv)?,
            conv_bias: if c.conv_bias {
                Some(b.param([inner], "conv2d.bias", conv)?)
            } else {
                None
            },
            out_proj: b.param([d, inner], "out_proj.weight", small)?,
        })
    }

    /// (B, H, W, C) → (B, H, W, C).
    fn forward(&self, x: &Tensor, orders: &Orders, name: &str, probe: &mut Probe<'_>) -> candle_core::Result<Tensor> {
        // What the scan reads stays float32: its step sizes are exponentiated, and its states add up over the whole map.
        let x = with_f32(|| linear(x, &self.in_proj, None))?;
        let conv = |silu| depthwise_conv2d(&x, &self.conv_weight, self.conv_bias.as_ref(), silu);
        if probe.0.is_some() {
            probe.see_map(&format!("{name}.op.conv2d"), &conv(false)?)?;
        }
        let u = conv(true)?;
        let (k, row, d) = self.x_proj.dims3()?;
        let projected = with_f32(|| linear(&u, &self.x_proj.reshape((k * row, d))?, None))?;
        let scan = SelectiveScan {
            u: &u,
            projected: &projected,
            dt_weight: &self.dt_weight,
            dt_bias: &self.dt_bias,
            a_log: &self.a_logs,
            skip: &self.skip,
        };
        let y = self.out_norm.forward(&scan.run(orders)?)?;
        probe.see_map(&format!("{name}.op.out_norm"), &y)?;
        let y = linear(&y, &self.out_proj, None)?;
        probe.see_map(&format!("{name}.op"), &y)?;
        Ok(y)
    }
}
