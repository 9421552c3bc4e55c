//! MAE's encoder (He et al. 2022; facebookresearch/mae), a plain ViT. PROTOCOL 3.3.

use super::checkpoint::{NameRule, part, same, unused};
use super::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, place_by};
use super::entry::{Exported, Trained};
use super::params::LayerPosition;
use super::plain_vit::{Config, build, for_timm};
use anyhow::Result;

/// Names of transformers' `ViTMAEForPreTraining` (facebook/vit-mae-*) to the original ones.
pub const HF: &[NameRule] = &[
    same("vit.embeddings.cls_token", "cls_token"),
    same("vit.embeddings.position_embeddings", "pos_embed"),
    same("vit.embeddings.patch_embeddings.projection.>", "patch_embed.proj.>"),
    part(
        "vit.encoder.layer.*.attention.attention.query.>",
        "blocks.*.attn.qkv.>",
        0,
        3,
    ),
    part(
        "vit.encoder.layer.*.attention.attention.key.>",
        "blocks.*.attn.qkv.>",
        1,
        3,
    ),
    part(
        "vit.encoder.layer.*.attention.attention.value.>",
        "blocks.*.attn.qkv.>",
        2,
        3,
    ),
    same("vit.encoder.layer.*.attention.output.dense.>", "blocks.*.attn.proj.>"),
    same("vit.encoder.layer.*.intermediate.dense.>", "blocks.*.mlp.fc1.>"),
    same("vit.encoder.layer.*.output.dense.>", "blocks.*.mlp.fc2.>"),
    same("vit.encoder.layer.*.layernorm_before.>", "blocks.*.norm1.>"),
    same("vit.encoder.layer.*.layernorm_after.>", "blocks.*.norm2.>"),
    same("vit.layernorm.>", "norm.>"),
    unused("decoder.>", "the decoder of the pre-training task"),
    unused("classifier.>", "the head of a fine-tuned `ViTForImageClassification`"),
];

/// timm's names are the original ones.
const TIMM_NAMES: &[NameRule] = &[unused("head.>", "a classifier"), same(">", ">")];

/// The layouts MAE is published in: facebookresearch/mae's `.pth` (under `model`), timm's copy of it, Hugging Face.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("fb", &[]), ("timm", TIMM_NAMES), ("hf", HF)];

/// ViT-B/16, ViT-L/16 and ViT-H/14, and small models of the same code, for the demo: (width, depth, heads).
const B: Config = Config::published(768, 12, 12, 16);
const L: Config = Config::published(1024, 24, 16, 16);
const H: Config = Config::published(1280, 32, 16, 14);
const TINY_B: Config = Config::tiny(32, 2, 4);
const TINY_L: Config = Config::tiny(32, 3, 4);
const TINY_H: Config = Config::tiny(48, 3, 4);

/// MAE-B.
pub static MAE_B: BackboneEntry = BackboneEntry {
    name: "mae-b",
    title: "MAE-B",
    family: "MAE",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(16), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "mae_vit_base_patch16",
        parameters: 85_798_656,
        gmacs_224: 17.563,
        scan_gflops_224: None,
        feature: 768,
        tokens: (196, 768),
    },
    place,
    own: None,
    export: |layout, t| export(layout, t, (B, TINY_B), "vit_base_patch16_224"),
    build: |s, px, o, b| build(s, px, (B, TINY_B), o, b),
};

/// MAE-L.
pub static MAE_L: BackboneEntry = BackboneEntry {
    name: "mae-l",
    title: "MAE-L",
    facts: Facts {
        upstream: "mae_vit_large_patch16",
        parameters: 303_301_632,
        gmacs_224: 61.554,
        scan_gflops_224: None,
        feature: 1024,
        tokens: (196, 1024),
    },
    export: |layout, t| export(layout, t, (L, TINY_L), "vit_large_patch16_224"),
    build: |s, px, o, b| build(s, px, (L, TINY_L), o, b),
    ..MAE_B
};

/// MAE-H.
pub static MAE_H: BackboneEntry = BackboneEntry {
    name: "mae-h",
    title: "MAE-H",
    sides: (Sides::MultipleOf(14), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "mae_vit_huge_patch14",
        parameters: 630_764_800,
        gmacs_224: 167.294,
        scan_gflops_224: None,
        feature: 1280,
        tokens: (256, 1280),
    },
    export: |layout, t| export(layout, t, (H, TINY_H), "vit_huge_patch14_224"),
    build: |s, px, o, b| build(s, px, (H, TINY_H), o, b),
    ..MAE_B
};

/// As upstream counts (`util/lr_decay.py`, `get_layer_id_for_vit`).
fn place(name: &str) -> LayerPosition {
    place_by(name, "blocks", &["cls_token", "pos_embed", "patch_embed"])
}

/// For timm, whose plain ViT can read the mean of the patches behind the norm; `transformers`' reads the class token.
fn export(layout: &str, t: &Trained<'_>, configs: (Config, Config), timm: &str) -> Result<Exported> {
    let why = "its head would read the class token, and this one reads the mean of the patches";
    for_timm(layout, t, configs, (timm, "avg"), why)
}
