//! A backbone with a head: what a run trains.

use super::backbone::{Backbone, Features, Options};
use super::checkpoint::Checkpoint;
use super::head::{BodyConfig, DEIT, DEIT_BASE, Head, MhaHead, ONE_BLOCK, TINY_BODY};
use super::params::{Builder, Params};
use super::registry;
use super::vit::default_linear;
use crate::study::protocol::{MhaBody, Readout};
use crate::study::{Freeze, HeadKind, RunSpec, Scale};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use medft_nn::to_float;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of pretrained weights and the name map to read it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    pub path: PathBuf,
    /// A layout word of the backbone's registry entry (`hub`, `hf`, …).
    pub layout: String,
    /// What the file must hash to; `None` for a file that nobody verified.
    pub sha256: Option<String>,
}

/// Where the pretrained parts of a model come from; `None` where they are seeded (tiny models).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pretrained {
    pub backbone: Option<WeightsFile>,
    /// DeiT-B, for the MHA head of the faithful protocol.
    pub deit: Option<WeightsFile>,
}

/// A backbone, a head and their parameters.
pub struct Classifier {
    pub backbone: Arc<dyn Backbone>,
    pub head: Head,
    pub params: Params,
    readout: Readout,
}

impl Classifier {
    /// Builds the model of a run for images with `channels` channels and `outputs` logits.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] where a checkpoint does not fit.
    pub fn new(
        spec: &RunSpec,
        channels: usize,
        outputs: usize,
        pretrained: &Pretrained,
        device: &Device,
    ) -> Result<Self> {
        let entry = registry::find(&spec.backbone)?;
        let fresh = Builder::seeded(spec.seed, device);
        let source = match &pretrained.backbone {
            Some(f) => fresh.with_checkpoint(registry::open(entry, f)?),
            // The pretrained weights of a tiny model do not change with the run's seed, as real ones do not.
            None if spec.scale == Scale::Tiny => fresh.with_seed(0),
            None => anyhow::bail!("{} has no weights file", entry.name),
        };
        let body = body(spec, pretrained, &fresh)?;
        let options = registry::options(entry, pretrained.backbone.as_ref(), &spec.protocol, channels);
        Self::assemble(spec, (options, outputs), &fresh, &source, &body)
    }

    /// The model of a run that differs from the one of `other` in nothing but the head of a frozen backbone; the backbone is
    /// held once. Equal in every byte to [`Classifier::new`].
    ///
    /// # Errors
    /// [`crate::error::BadInput`] where a checkpoint does not fit.
    pub fn sharing(
        other: &Self,
        spec: &RunSpec,
        outputs: usize,
        pretrained: &Pretrained,
        device: &Device,
    ) -> Result<Self> {
        ensure!(spec.freeze == Freeze::Frozen, "only a frozen backbone can be shared");
        let fresh = Builder::seeded(spec.seed, device);
        let dot = |head| format!("{}.", scope(head));
        fresh.adopt(&other.params, &dot(other.head.kind()), &dot(spec.head));
        let body = body(spec, pretrained, &fresh)?;
        Self::with_head(spec, outputs, other.backbone.clone(), &fresh, &body)
    }

    /// A model of the spec's scale with seeded random values everywhere, for measurements.
    pub fn random(spec: &RunSpec, channels: usize, outputs: usize, device: &Device) -> Result<Self> {
        let fresh = Builder::seeded(spec.seed, device);
        let config = match spec.scale {
            Scale::Full => DEIT_BASE,
            Scale::Tiny => TINY_BODY,
        };
        let options = Options::new(&spec.protocol, channels);
        Self::assemble(spec, (options, outputs), &fresh, &fresh, &(config, fresh.clone()))
    }

    /// What the model of a run counts, from shapes alone: of any size in no memory, and without its weights.
    ///
    /// # Errors
    /// For an unknown backbone.
    pub fn counts(spec: &RunSpec, channels: usize, outputs: usize) -> Result<Counts> {
        let shapes = Builder::shapes();
        let (config, _) = body_config(spec.scale, spec.protocol.mha_body);
        let options = Options::new(&spec.protocol, channels);
        let model = Self::assemble(spec, (options, outputs), &shapes, &shapes, &(config, shapes.clone()))?;
        let backbone = format!("{}.", scope(spec.head));
        let count = |inside: bool| -> u64 {
            let of = model.params.0.iter();
            let of = of.filter(|p| p.name.starts_with(&backbone) == inside);
            of.map(|p| p.tensor.elem_count() as u64).sum()
        };
        let (backbone, head) = (count(true), count(false));
        Ok(Counts {
            backbone,
            trainable: match spec.freeze {
                Freeze::Frozen => head,
                Freeze::Unfrozen => backbone + head,
            },
            total: backbone + head,
        })
    }

    fn assemble(
        spec: &RunSpec,
        (options, outputs): (Options, usize),
        fresh: &Builder,
        source: &Builder,
        body: &(BodyConfig, Builder),
    ) -> Result<Self> {
        let entry = registry::find(&spec.backbone)?;
        // A tiny backbone has the same values under either head, as a published one has.
        let b = source
            .scope(scope(spec.head))
            .drawn_as("backbone")
            .trainable(spec.freeze == Freeze::Unfrozen);
        let backbone = (entry.build)(spec.scale, spec.protocol.crop as usize, options, &b)?;
        source.finish_source()?;
        Self::with_head(spec, outputs, backbone.into(), fresh, body)
    }

    fn with_head(
        spec: &RunSpec,
        outputs: usize,
        backbone: Arc<dyn Backbone>,
        fresh: &Builder,
        (config, body): &(BodyConfig, Builder),
    ) -> Result<Self> {
        let readout = spec.protocol.readout;
        let head = match spec.head {
            HeadKind::Linear => {
                let dim = match readout {
                    Readout::Family => backbone.feature_dim(),
                    Readout::MeanTokens => backbone.token_dim(),
                };
                Head::Linear(default_linear(dim, outputs, &fresh.pp("fc"))?)
            }
            HeadKind::Mha => {
                let head = MhaHead::new(backbone.token_dim(), outputs, *config, fresh, body)?;
                body.finish_source()?;
                Head::Mha(Box::new(head))
            }
        };
        Ok(Self {
            backbone,
            head,
            params: fresh.params(),
            readout,
        })
    }

    /// What the head reads: (B, D) for the linear head, (B, N, F) for MHA.
    pub fn features(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.read(&self.backbone.forward(x)?)
    }

    /// The part of a backbone's features that this head reads.
    pub fn read(&self, f: &Features) -> candle_core::Result<Tensor> {
        match (&self.head, self.readout) {
            (Head::Linear(_), Readout::Family) => Ok(f.pooled.clone()),
            (Head::Linear(_), Readout::MeanTokens) => f.tokens.mean(1),
            (Head::Mha(_), _) => Ok(f.tokens.clone()),
        }
    }

    /// What [`Classifier::features`] returns → logits (B, outputs), float32 in any scope.
    pub fn classify(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        to_float(&match &self.head {
            Head::Linear(l) => l.forward(features),
            Head::Mha(m) => m.forward(features),
        }?)
    }

    /// Images (B, C, H, W) → logits (B, outputs).
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.classify(&self.features(x)?)
    }
}

/// What stands before the names of a backbone's parameters in the authors' state dict.
fn scope(head: HeadKind) -> &'static str {
    match head {
        HeadKind::Linear => "backbone",
        HeadKind::Mha => "foundation_model.backbone",
    }
}

/// Numbers of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub backbone: u64,
    /// Those that train.
    pub trainable: u64,
    /// Backbone and head.
    pub total: u64,
}

/// Where the MHA body's values come from.
enum BodyValues {
    /// Drawn for the run's seed.
    Fresh,
    /// Drawn for seed 0: pretrained weights do not change with the run's seed.
    Fixed,
    /// DeiT-B's file.
    Deit,
}

/// The MHA body's shape and where its values come from.
fn body_config(scale: Scale, body: MhaBody) -> (BodyConfig, BodyValues) {
    match (scale, body) {
        (Scale::Tiny, MhaBody::DeitBase) => (TINY_BODY, BodyValues::Fixed),
        (Scale::Tiny, MhaBody::OneBlock) => (BodyConfig { depth: 1, ..TINY_BODY }, BodyValues::Fresh),
        (Scale::Full, MhaBody::OneBlock) => (ONE_BLOCK, BodyValues::Fresh),
        (Scale::Full, MhaBody::DeitBase) => (DEIT_BASE, BodyValues::Deit),
    }
}

/// The MHA body with its values; a linear head has none and ignores it.
fn body(spec: &RunSpec, pretrained: &Pretrained, fresh: &Builder) -> Result<(BodyConfig, Builder)> {
    if spec.head == HeadKind::Linear {
        return Ok((TINY_BODY, fresh.clone()));
    }
    let (config, values) = body_config(spec.scale, spec.protocol.mha_body);
    let values = match values {
        BodyValues::Fresh => fresh.clone(),
        BodyValues::Fixed => fresh.with_seed(0),
        BodyValues::Deit => {
            let f = pretrained
                .deit
                .as_ref()
                .context("the multi-head attention head needs DeiT-B's weights (deit-b)")?;
            fresh.with_checkpoint(Checkpoint::open(&f.path, f.sha256.as_deref(), DEIT)?)
        }
    };
    Ok((config, values))
}
