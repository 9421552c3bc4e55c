//! What a backbone is to the rest of medft: one entry, in its family's file.

use super::about::About;
use super::backbone::{Backbone, BackboneOptions};
use super::checkpoint::NameRule;
use super::params::{Builder, LayerPosition};
use super::vit::Act;
use crate::registry::Named;
use crate::spec::{RunSpec, Scale};
use anyhow::Result;
use candle_core::Tensor;
use serde_json::Value;

/// A backbone: its names, what is known of it, the layouts its weights are published in, and how it is built.
pub struct BackboneEntry {
    /// Name used in studies.
    pub name: &'static str,
    /// As the paper writes it.
    pub title: &'static str,
    pub family: &'static str,
    /// Layout name → name map to the canonical names.
    pub layouts: &'static [(&'static str, &'static [NameRule])],
    /// The activation that the weights of a layout were trained with, where the family leaves it open.
    pub activation: fn(&str) -> Act,
    /// What the images were normalised with in pre-training.
    pub statistics: InputStatistics,
    /// The input sides that the published model accepts, and those of the tiny one.
    pub sides: (Sides, Sides),
    pub facts: Facts,
    /// Where a parameter stands, by its canonical name: what layer decay counts.
    pub place: fn(&str) -> LayerPosition,
    /// The scale of a user's own checkpoint; `None` for a published backbone.
    pub own: Option<Scale>,
    /// How a trained model is written for `timm` and `transformers`.
    pub export: Export,
    /// `(scale, input side in pixels, switches, builder)` → encoder.
    pub build: Build,
}

/// How an encoder is built: `(scale, input side in pixels, switches, builder)`.
pub type Build = fn(Scale, usize, BackboneOptions, &Builder) -> Result<Box<dyn Backbone>>;

/// A trained model.
pub struct Trained<'a> {
    pub entry: &'a BackboneEntry,
    pub spec: &'a RunSpec,
    pub about: &'a About,
    /// By canonical names, in order.
    pub backbone: Vec<(String, Tensor)>,
    pub head: Vec<(String, Tensor)>,
}

/// What is written for a program: its `config.json` and the tensors under its names.
#[derive(Debug)]
pub struct Exported {
    pub config: Value,
    pub tensors: Vec<(String, Tensor)>,
}

/// How a family is exported: the layout that a program reads and the model to what is written.
pub type Export = fn(&str, &Trained<'_>) -> Result<Exported>;

impl BackboneEntry {
    /// The layout whose names are the canonical ones, or the first: that of models without a file.
    pub fn own_layout(&self) -> &'static str {
        let canonical = self.layouts.iter().find(|l| l.1.is_empty());
        canonical.or(self.layouts.first()).map_or("", |l| l.0)
    }

    /// The input sides accepted at a scale.
    pub fn sides(&self, scale: Scale) -> Sides {
        match scale {
            Scale::Full => self.sides.0,
            Scale::Tiny => self.sides.1,
        }
    }
}

impl Named for BackboneEntry {
    fn name(&self) -> &str {
        self.name
    }
}

/// Which input sides a model accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sides {
    /// Multiples of the patch side, or of the coarsest stride where the map is halved from stage to stage.
    MultipleOf(u32),
    /// This side alone: the position table is used as it is.
    Exactly(u32),
}

impl Sides {
    pub fn accept(self, side: u32) -> bool {
        match self {
            Self::MultipleOf(n) => side > 0 && side.is_multiple_of(n),
            Self::Exactly(n) => side == n,
        }
    }
}

/// In words, behind "a crop of": `a multiple of 14 pixels`.
impl std::fmt::Display for Sides {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MultipleOf(n) => write!(f, "a multiple of {n}, the patch or the coarsest stride"),
            Self::Exactly(n) => write!(f, "{n}, the side of the position table"),
        }
    }
}

/// Mean and standard deviation of RGB values in 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InputStatistics {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// ImageNet's, of most upstream preprocessing.
pub const IMAGENET: InputStatistics = InputStatistics {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};

/// Google's, of Inception and the original ViT.
pub const INCEPTION: InputStatistics = InputStatistics {
    mean: [0.5; 3],
    std: [0.5; 3],
};

/// OpenAI CLIP's, which CoCa and AIMv2 use too.
pub const OPENAI_CLIP: InputStatistics = InputStatistics {
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
};

/// The size of a backbone, counted on the upstream implementation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Facts {
    /// The variant's name in the upstream code.
    pub upstream: &'static str,
    /// Scalars of the encoder, without a classification head.
    pub parameters: u64,
    /// Multiply-adds of one 224 px image, in units of 10⁹.
    pub gmacs_224: f64,
    /// Floating-point operations of the selective scan, in units of 10⁹; they are not in `gmacs_224`.
    pub scan_gflops_224: Option<f64>,
    /// D: width of what the linear head reads.
    pub feature: usize,
    /// (N, F): the tokens that the MHA head reads under the faithful protocol.
    pub tokens: (usize, usize),
}

/// The activation of families that have one only.
pub fn erf_gelu(_layout: &str) -> Act {
    Act::GeluErf
}

/// The place of a parameter in a network whose blocks are `<before>.N.…` and whose stem's names begin with one of `stem`.
pub fn place_by(name: &str, before: &str, stem: &[&str]) -> LayerPosition {
    match number_behind(name, before) {
        Some((n, _)) => LayerPosition::Block(0, n),
        None if stem.iter().any(|s| name.starts_with(s)) => LayerPosition::Stem,
        None => LayerPosition::Top,
    }
}

/// `N` and `rest` of `<before>.N.rest`.
pub fn number_behind<'n>(name: &'n str, before: &str) -> Option<(usize, &'n str)> {
    let rest = name.strip_prefix(before)?.strip_prefix('.')?;
    let (number, rest) = rest.split_once('.')?;
    Some((number.parse().ok()?, rest))
}
