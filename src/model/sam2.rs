//! SAM 2.1's image encoder (Ravi et al. 2024; facebookresearch/sam2): a Hiera trunk and a feature pyramid. PROTOCOL 3.2.

use super::backbone::{Backbone, BackboneOptions, Features, Observer, Probe};
use super::checkpoint::{NameRule, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, place_by};
use super::export::hub_alone;
use super::hiera::{self, Hiera};
use super::params::{Builder, Init, LayerPosition};
use crate::error::BadInput;
use crate::spec::Scale;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{add, linear, to_float, upsample_nearest};

/// Names of `sam2.1_hiera_*.pt` (under key `model`): everything behind the image encoder segments and tracks.
pub const PT: &[NameRule] = &[
    same("image_encoder.>", "image_encoder.>"),
    unused("sam_mask_decoder.>", "predicts masks from the encoder's features"),
    unused(
        "sam_prompt_encoder.>",
        "encodes points, boxes and masks that a user gives",
    ),
    unused("memory_attention.>", "looks at earlier frames of a video"),
    unused("memory_encoder.>", "stores a frame for later ones"),
    unused("mask_downsample.>", "reads a mask given as prompt"),
    unused("maskmem_tpos_enc", "time of a remembered frame"),
    unused("no_mem_embed", "stands for an empty memory"),
    unused("no_mem_pos_enc", "stands for an empty memory"),
    unused("no_obj_ptr", "stands for an absent object"),
    unused("no_obj_embed_spatial", "stands for an absent object"),
    unused("obj_ptr_proj.>", "pointer to a tracked object"),
    unused("obj_ptr_tpos_proj.>", "time of a pointer to a tracked object"),
];

/// The layouts SAM 2.1 is published in and that are read here.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("sam2-pt", PT)];

/// SAM2-B.
pub static SAM2_B: BackboneEntry = BackboneEntry {
    name: "sam2-b",
    title: "SAM2-B",
    family: "SAM2",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(32), Sides::MultipleOf(32)),
    facts: Facts {
        upstream: "sam2.1_hiera_base_plus",
        parameters: 69_106_816,
        gmacs_224: 12.808,
        scan_gflops_224: None,
        feature: 256,
        tokens: (196, 256),
    },
    place,
    own: None,
    export: hub_alone,
    build: |s, px, o, b| {
        let config = match s {
            Scale::Full => Config::base_plus(),
            Scale::Tiny => Config::tiny(false),
        };
        build(px, &config, o, b)
    },
};

/// SAM2-L.
pub static SAM2_L: BackboneEntry = BackboneEntry {
    name: "sam2-l",
    title: "SAM2-L",
    facts: Facts {
        upstream: "sam2.1_hiera_large",
        parameters: 212_703_280,
        gmacs_224: 44.44,
        scan_gflops_224: None,
        feature: 256,
        tokens: (196, 256),
    },
    build: |s, px, o, b| {
        let config = match s {
            Scale::Full => Config::large(),
            Scale::Tiny => Config::tiny(true),
        };
        build(px, &config, o, b)
    },
    ..SAM2_B
};

/// As upstream counts (`hieradet.py`, `get_layer_id`): the trunk's blocks are numbered through its stages; the neck is behind them.
fn place(name: &str) -> LayerPosition {
    let stem = ["image_encoder.trunk.pos_embed", "image_encoder.trunk.patch_embed"];
    place_by(name, "image_encoder.trunk.blocks", &stem)
}

/// An encoder for images of `px` × `px`.
///
/// # Errors
/// [`BadInput`] where the position table does not tile the map of such an image.
fn build(px: usize, config: &Config, options: BackboneOptions, b: &Builder) -> Result<Box<dyn Backbone>> {
    // The stem divides by 4, and the first stage's window table is repeated over what is left.
    let unit = 4 * config.trunk.window_spec[0];
    if px == 0 || !px.is_multiple_of(unit) {
        return Err(BadInput::new(
            "crop",
            format!("a multiple of {unit} px, as SAM 2's position table needs"),
            format!("{px} px"),
            "Correct the crop in the study.",
        )
        .into());
    }
    Ok(Box::new(Sam2::new(config, options, b)?))
}

/// The shape of an image encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub trunk: hiera::Config,
    /// Width of the pyramid.
    pub d_model: usize,
    /// Levels (0 is the finest) to which the next coarser one is added.
    pub fpn_top_down_levels: Vec<usize>,
    /// Coarsest levels that are dropped; the coarsest that is left is what the heads read.
    pub scalp: usize,
}

impl Config {
    fn published(trunk: hiera::Config) -> Self {
        Self {
            trunk,
            d_model: 256,
            fpn_top_down_levels: vec![2, 3],
            scalp: 1,
        }
    }

    fn trunk(
        embed_dim: usize,
        heads: usize,
        stages: [usize; 4],
        global: [usize; 3],
        windows: [usize; 4],
    ) -> hiera::Config {
        hiera::Config {
            embed_dim,
            num_heads: heads,
            stages: stages.to_vec(),
            global_att_blocks: global.to_vec(),
            window_spec: windows.to_vec(),
            window_pos_embed_bkg_spatial_size: (14, 14),
            q_pool: 3,
            q_stride: (2, 2),
            dim_mul: 2.0,
            head_mul: 2.0,
            mlp_ratio: 4.0,
            layer_norm_eps: 1e-6,
        }
    }

    /// SAM 2.1 Hiera-B+.
    pub fn base_plus() -> Self {
        Self::published(Self::trunk(112, 2, [2, 3, 16, 3], [12, 16, 20], [8, 4, 14, 7]))
    }

    /// SAM 2.1 Hiera-L.
    pub fn large() -> Self {
        Self::published(hiera::Config {
            window_pos_embed_bkg_spatial_size: (7, 7),
            ..Self::trunk(144, 2, [2, 6, 36, 4], [23, 33, 43], [8, 4, 16, 8])
        })
    }

    /// A small model of the same code, for the demo: windows that fit the maps of a 64 px image (`large`: that do not).
    pub fn tiny(large: bool) -> Self {
        let (stages, windows) = if large {
            ([1, 1, 3, 1], [8, 4, 6, 3])
        } else {
            ([1, 1, 2, 1], [8, 4, 4, 2])
        };
        Self {
            d_model: 32,
            ..Self::published(hiera::Config {
                window_pos_embed_bkg_spatial_size: (5, 5),
                global_att_blocks: vec![3],
                ..Self::trunk(16, 1, stages, [3; 3], windows)
            })
        }
    }
}

/// An image encoder: tokens = the chosen level of the pyramid, row by row; pooled = their mean.
pub struct Sam2 {
    trunk: Hiera,
    /// 1×1 convolutions, the *coarsest* stage first: weight (D, C, 1, 1), bias (D).
    convs: Vec<(Tensor, Tensor)>,
    top_down: Vec<usize>,
    scalp: usize,
    d_model: usize,
}

impl Sam2 {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: &Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let b = b.pp("image_encoder");
        let trunk = Hiera::new(&c.trunk, options, &b.pp("trunk"))?;
        let widths = c.trunk.widths();
        if c.scalp >= widths.len() {
            anyhow::bail!("a pyramid of {} levels cannot drop {}", widths.len(), c.scalp);
        }
        let mut convs = Vec::with_capacity(widths.len());
        for (i, &width) in widths.iter().rev().enumerate() {
            let b = b.pp("neck.convs").pp(i).pp("conv");
            let init = Init::Uniform(1.0 / (width as f32).sqrt());
            convs.push((
                b.param([c.d_model, width, 1, 1], "weight", init)?,
                b.param([c.d_model], "bias", init)?,
            ));
        }
        Ok(Self {
            trunk,
            convs,
            top_down: c.fpn_top_down_levels.clone(),
            scalp: c.scalp,
            d_model: c.d_model,
        })
    }

    /// Stage `level`'s map at the pyramid's width.
    fn lateral(&self, level: usize, stages: &[Tensor]) -> candle_core::Result<Tensor> {
        let (weight, bias) = &self.convs[self.convs.len() - 1 - level];
        let (d, c, _, _) = weight.dims4()?;
        linear(&stages[level], &weight.reshape((d, c))?, Some(bias))
    }

    /// Level `level` of the pyramid: its own map, and from above where it is asked for.
    fn level(&self, level: usize, stages: &[Tensor]) -> candle_core::Result<Tensor> {
        let own = self.lateral(level, stages)?;
        if level + 1 == stages.len() || !self.top_down.contains(&level) {
            return Ok(own);
        }
        add(&own, &upsample_nearest(&self.level(level + 1, stages)?)?)
    }

    /// The level the heads read; finer ones play no part in it and are formed only to be seen.
    fn run(&self, x: &Tensor, probe: &mut Probe<'_>) -> candle_core::Result<Features> {
        let stages = self.trunk.forward(x, probe)?;
        let n = stages.len();
        if probe.0.is_some() {
            for i in 0..n {
                probe.see_map(&format!("neck.convs.{i}"), &self.lateral(n - 1 - i, &stages)?)?;
            }
            for i in 0..n - self.scalp {
                probe.see_map(&format!("fpn.{i}"), &self.level(i, &stages)?)?;
            }
        }
        let map = to_float(&self.level(n - 1 - self.scalp, &stages)?)?;
        probe.see_map("vision_features", &map)?;
        let (b, h, w, d) = map.dims4()?;
        let tokens = map.reshape((b, h * w, d))?;
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens,
        })
    }
}

impl Backbone for Sam2 {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        self.run(x, &mut Probe(Some(observer)))
    }

    fn forward(&self, x: &Tensor) -> candle_core::Result<Features> {
        self.run(x, &mut Probe(None))
    }

    /// Eighteen values of the width, the hidden layer before and after its activation among them, for nine that its layers put out.
    fn kept_per_output(&self) -> f64 {
        2.0
    }

    fn releases_blocks(&self) -> bool {
        false
    }

    fn feature_dim(&self) -> usize {
        self.d_model
    }

    fn token_dim(&self) -> usize {
        self.d_model
    }
}
