//! A backbone with a head: what a run trains.

use super::backbone::{Backbone, Options};
use super::checkpoint::Checkpoint;
use super::head::{BodyConfig, DEIT, DEIT_BASE, Head, MhaHead, ONE_BLOCK, TINY_BODY};
use super::params::{Builder, Params};
use super::registry;
use super::vit::default_linear;
use crate::study::protocol::{MhaBody, Readout};
use crate::study::{Freeze, HeadKind, Protocol, RunSpec, Scale};
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use std::path::PathBuf;

/// A file of pretrained weights and the name map to read it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsFile {
    pub path: PathBuf,
    /// A layout word of the backbone's registry entry (`hub`, `hf`, …).
    pub layout: String,
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
    pub backbone: Box<dyn Backbone>,
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
        let body = match spec.head {
            HeadKind::Linear => (TINY_BODY, fresh.clone()),
            HeadKind::Mha => body(spec.scale, &spec.protocol, pretrained, &fresh)?,
        };
        let options = registry::options(entry, pretrained.backbone.as_ref(), &spec.protocol, channels);
        Self::assemble(spec, (options, outputs), &fresh, &source, &body)
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

    fn assemble(
        spec: &RunSpec,
        (options, outputs): (Options, usize),
        fresh: &Builder,
        source: &Builder,
        (config, body): &(BodyConfig, Builder),
    ) -> Result<Self> {
        let p = &spec.protocol;
        let entry = registry::find(&spec.backbone)?;
        let scope = match spec.head {
            HeadKind::Linear => "backbone",
            HeadKind::Mha => "foundation_model.backbone",
        };
        let b = source.scope(scope).trainable(spec.freeze == Freeze::Unfrozen);
        let backbone = (entry.build)(spec.scale, p.crop as usize, options, &b)?;
        source.finish_source()?;
        let head = match spec.head {
            HeadKind::Linear => {
                let dim = match p.readout {
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
            readout: p.readout,
        })
    }

    /// What the head reads: (B, D) for the linear head, (B, N, F) for MHA.
    pub fn features(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let f = self.backbone.forward(x)?;
        match (&self.head, self.readout) {
            (Head::Linear(_), Readout::Family) => Ok(f.pooled),
            (Head::Linear(_), Readout::MeanTokens) => f.tokens.mean(1),
            (Head::Mha(_), _) => Ok(f.tokens),
        }
    }

    /// What [`Classifier::features`] returns → logits (B, outputs).
    pub fn classify(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        match &self.head {
            Head::Linear(l) => l.forward(features),
            Head::Mha(m) => m.forward(features),
        }
    }

    /// Images (B, C, H, W) → logits (B, outputs).
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.classify(&self.features(x)?)
    }
}

/// The MHA body's shape and where its values come from.
fn body(scale: Scale, p: &Protocol, pretrained: &Pretrained, fresh: &Builder) -> Result<(BodyConfig, Builder)> {
    Ok(match (scale, p.mha_body) {
        (Scale::Tiny, MhaBody::DeitBase) => (TINY_BODY, fresh.with_seed(0)),
        (Scale::Tiny, MhaBody::OneBlock) => (BodyConfig { depth: 1, ..TINY_BODY }, fresh.clone()),
        (Scale::Full, MhaBody::OneBlock) => (ONE_BLOCK, fresh.clone()),
        (Scale::Full, MhaBody::DeitBase) => {
            let f = pretrained
                .deit
                .as_ref()
                .context("the multi-head attention head needs DeiT-B's weights (deit-b)")?;
            (DEIT_BASE, fresh.with_checkpoint(Checkpoint::open(&f.path, DEIT)?))
        }
    })
}
