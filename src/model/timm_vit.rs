//! timm's plain ViT-B/16 with a class token, in three pre-trainings (huggingface/pytorch-image-models, `vision_transformer.py`).
//!
//! A name of timm without a tag stands for the first tag of its list, and that has been the same in every release from 0.9.0 (May 2023) to
//! 1.0.15 (February 2025): `vit_base_patch16_224` is `augreg2_in21k_ft_in1k`, `vit_base_patch16_clip_224` is
//! `laion2b_ft_in12k_in1k`, LAION-2B's CLIP fine-tuned on ImageNet-12k and ImageNet-1k, and no bare CLIP encoder.

use super::backbone::{Backbone, BackboneOptions};
use super::checkpoint::{NameRule, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, INCEPTION, OPENAI_CLIP, Sides, erf_gelu, place_by};
use super::entry::{Exported, Trained};
use super::params::{Builder, LayerPosition};
use super::plain_vit::{Config, Pool, for_timm};
use super::vit::same_grid;
use crate::spec::Scale;
use anyhow::Result;

/// timm's names are the canonical ones; a supervised file has its classifier.
const LAYOUTS: &[(&str, &[NameRule])] = &[("timm", &[unused("head.>", "a classifier"), same(">", ">")])];

/// The position table is used as it is: timm resizes one with antialiasing, which is another rule than the other families'.
const SIDES: (Sides, Sides) = (Sides::Exactly(224), Sides::MultipleOf(16));

const fn plain(c: Config) -> Config {
    Config {
        pool: Pool::ClassToken,
        ..c
    }
}

const fn pre_norm(c: Config) -> Config {
    Config {
        pre_norm: true,
        layer_norm_eps: 1e-5,
        ..plain(c)
    }
}

const PLAIN: (Config, Config) = (plain(Config::published(768, 12, 12, 16)), plain(Config::tiny(32, 2, 4)));
const PRE_NORM: (Config, Config) = (pre_norm(PLAIN.0), pre_norm(PLAIN.1));

/// ViT-B/16: AugReg on ImageNet-21k, fine-tuned on ImageNet-1k.
pub static VIT_B: BackboneEntry = BackboneEntry {
    name: "vit-b",
    title: "ViT-B/16",
    family: "ViT",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: INCEPTION,
    sides: SIDES,
    facts: facts("vit_base_patch16_224", 85_798_656),
    place,
    own: None,
    export: |layout, t| export(layout, t, PLAIN, "vit_base_patch16_224"),
    build: |s, px, o, b| build(s, px, PLAIN, o, b),
};

/// DINO's ViT-B/16 (Caron et al. 2021).
pub static DINO_B: BackboneEntry = BackboneEntry {
    name: "dino-b",
    title: "DINO ViT-B/16",
    family: "DINO",
    statistics: IMAGENET,
    facts: facts("vit_base_patch16_224.dino", 85_798_656),
    ..VIT_B
};

/// CLIP's ViT-B/16 as timm names it: LAION-2B, fine-tuned on ImageNet-12k and ImageNet-1k.
pub static VIT_CLIP_B: BackboneEntry = BackboneEntry {
    name: "vit-clip-b",
    title: "CLIP ViT-B/16",
    family: "CLIP ViT",
    statistics: OPENAI_CLIP,
    facts: facts("vit_base_patch16_clip_224", 85_799_424),
    export: |layout, t| export(layout, t, PRE_NORM, "vit_base_patch16_clip_224"),
    build: |s, px, o, b| build(s, px, PRE_NORM, o, b),
    ..VIT_B
};

const fn facts(upstream: &'static str, parameters: u64) -> Facts {
    Facts {
        upstream,
        parameters,
        gmacs_224: 17.563,
        scan_gflops_224: None,
        feature: 768,
        tokens: (196, 768),
    }
}

/// The encoder for inputs of `side` pixels, which at the published size is that of the position table.
fn build(
    scale: Scale,
    side: usize,
    configs: (Config, Config),
    o: BackboneOptions,
    b: &Builder,
) -> Result<Box<dyn Backbone>> {
    if scale == Scale::Full {
        same_grid(side, configs.0.patch_size, configs.0.grid)?;
    }
    super::plain_vit::build(scale, side, configs, o, b)
}

/// As timm groups them (`group_matcher`): what comes before the blocks is one layer, and the final norm is of the last block's.
fn place(name: &str) -> LayerPosition {
    match name.starts_with("norm.") {
        true => LayerPosition::StageEnd(0),
        false => place_by(name, "blocks", &["cls_token", "pos_embed", "patch_embed", "norm_pre"]),
    }
}

/// For timm, whose class it is; one that reads the mean of the patches is timm's too.
fn export(layout: &str, t: &Trained<'_>, configs: (Config, Config), timm: &str) -> Result<Exported> {
    let pool = if t.reads_mean() { "avg" } else { "token" };
    for_timm(
        layout,
        t,
        configs,
        (timm, pool),
        "transformers has no class for it under these names",
    )
}
