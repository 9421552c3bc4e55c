//! A toy backbone: 16 px patches, projected and averaged.

use anyhow::Result;
use candle_core::Tensor;
use medft::model::backbone::{Backbone, BackboneOptions, Features, Observer};
use medft::model::entry::{BackboneEntry, Facts, IMAGENET, Sides, erf_gelu, place_by};
use medft::model::params::{Builder, Init};
use medft_nn::patch_embed;

const PATCH: usize = 16;
const DIM: usize = 24;

/// The entry; its line in a registry is all that is needed besides.
pub(crate) static TOYNET: BackboneEntry = BackboneEntry {
    name: "toynet",
    title: "ToyNet",
    family: "Toy",
    layouts: &[],
    activation: erf_gelu,
    statistics: IMAGENET,
    sides: (Sides::MultipleOf(16), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "none",
        parameters: 18_456,
        gmacs_224: 0.004,
        scan_gflops_224: None,
        feature: DIM,
        tokens: (196, DIM),
    },
    place: |name| place_by(name, "blocks", &["patch"]),
    own: None,
    export: medft::model::export::hub_alone,
    build: |_, _, options, b| Ok(Box::new(ToyNet::new(options, b)?)),
};

struct ToyNet {
    weight: Tensor,
    bias: Tensor,
}

impl ToyNet {
    fn new(options: BackboneOptions, b: &Builder) -> Result<Self> {
        let b = b.pp("patch");
        let init = Init::Uniform(0.06);
        Ok(Self {
            weight: b.stem([DIM, PATCH], options.channels, options.grey_stem, "weight", init)?,
            bias: b.param([DIM], "bias", init)?,
        })
    }
}

impl Backbone for ToyNet {
    fn forward_observed(&self, x: &Tensor, seen: Observer<'_>) -> candle_core::Result<Features> {
        let tokens = patch_embed(x, &self.weight, Some(&self.bias))?.relu()?;
        seen("tokens", &tokens);
        Ok(Features {
            pooled: tokens.mean(1)?,
            tokens,
        })
    }

    fn feature_dim(&self) -> usize {
        DIM
    }

    fn token_dim(&self) -> usize {
        DIM
    }
}
