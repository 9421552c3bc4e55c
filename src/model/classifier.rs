//! A backbone with a head: what a run trains.

use super::backbone::{Backbone, BackboneOptions, Features};
use super::checkpoint::Checkpoint;
use super::head::{BodyConfig, DEIT, DEIT_BASE, Head, MhaHead, TINY_BODY};
use super::params::{Builder, Params};
use super::pretrained::{Pretrained, WeightsFile};
use super::registry;
use super::vit::{default_linear, trunc_linear};
use crate::spec::protocol::{FeatureDtype, HeadInit, MhaBody, Readout};
use crate::spec::{Freeze, HeadKind, RunSpec, Scale};
use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use medft_nn::to_float;
use std::sync::Arc;

/// Tensors by their names, in order.
pub type NamedTensors = Vec<(String, Tensor)>;

/// How many scalars a model has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelSizes {
    pub backbone: u64,
    /// Those that train under the run's freeze mode.
    pub trainable: u64,
    /// Backbone and head.
    pub total: u64,
}

/// A backbone, a head and their parameters.
pub struct Classifier {
    pub backbone: Arc<dyn Backbone>,
    pub head: Head,
    pub params: Params,
    readout: Readout,
    /// What the head reads is rounded to bfloat16.
    rounded: bool,
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
    ///
    /// # Errors
    /// For a backbone that nobody knows, or a configuration that cannot be built.
    pub fn random(spec: &RunSpec, channels: usize, outputs: usize, device: &Device) -> Result<Self> {
        let fresh = Builder::seeded(spec.seed, device);
        let options = BackboneOptions::new(&spec.protocol, channels);
        Self::assemble(
            spec,
            (options, outputs),
            &fresh,
            &fresh,
            &(body_config(spec), fresh.clone()),
        )
    }

    /// The sizes of a run's model, without its memory and without weights.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] for an unknown backbone or a side it does not accept.
    pub fn sizes(spec: &RunSpec, channels: usize, outputs: usize) -> Result<ModelSizes> {
        Ok(Self::shapes(spec, channels, outputs)?.count(spec))
    }

    /// The sizes of this model, which is the one of `spec`.
    pub fn count(&self, spec: &RunSpec) -> ModelSizes {
        let inner = format!("{}.", scope(spec.head));
        let count = |of_backbone: bool| -> u64 {
            let all = self.params.0.iter();
            let of = all.filter(|p| p.name.starts_with(&inner) == of_backbone);
            of.map(|p| p.tensor.elem_count() as u64).sum()
        };
        let (backbone, head) = (count(true), count(false));
        ModelSizes {
            backbone,
            trainable: head + if spec.freeze == Freeze::Unfrozen { backbone } else { 0 },
            total: backbone + head,
        }
    }

    /// A run's model without values: names, shapes and places of its parameters.
    ///
    /// # Errors
    /// As [`Classifier::sizes`].
    pub fn shapes(spec: &RunSpec, channels: usize, outputs: usize) -> Result<Self> {
        let shapes = Builder::shapes();
        let options = BackboneOptions::new(&spec.protocol, channels);
        Self::assemble(
            spec,
            (options, outputs),
            &shapes,
            &shapes,
            &(body_config(spec), shapes.clone()),
        )
    }

    /// A trained model from its file, whose backbone is in `file.layout` and whose head stands under `head.*`.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] naming the first tensor that is missing, extra or of another shape.
    pub fn trained(
        spec: &RunSpec,
        channels: usize,
        outputs: usize,
        file: &WeightsFile,
        device: &Device,
    ) -> Result<Self> {
        let entry = registry::find(&spec.backbone)?;
        let rules = registry::rules(entry, file)?;
        let inner = format!("{}.", scope(spec.head));
        let checkpoint = Checkpoint::trained(&file.path, file.sha256.as_deref(), rules, &inner)?;
        let all = Builder::trained(checkpoint, device);
        let options = registry::options(entry, Some(file), &spec.protocol, channels);
        let model = Self::assemble(spec, (options, outputs), &all, &all, &(body_config(spec), all.clone()))?;
        all.finish_trained()?;
        Ok(model)
    }

    /// The same model over the same memory, of which nothing trains: what it computes builds no graph and keeps nothing, and it
    /// follows this one's training. `file` is the one that the backbone was built from.
    ///
    /// # Errors
    /// As [`Classifier::new`].
    pub fn evaluator(
        &self,
        spec: &RunSpec,
        channels: usize,
        outputs: usize,
        file: Option<&WeightsFile>,
        device: &Device,
    ) -> Result<Self> {
        let all = Builder::same(&self.params, device);
        let body = (body_config(spec), all.clone());
        if spec.freeze == Freeze::Frozen {
            return Self::with_head(spec, outputs, self.backbone.clone(), &all, &body);
        }
        let options = registry::options(registry::find(&spec.backbone)?, file, &spec.protocol, channels);
        Self::assemble(spec, (options, outputs), &all, &all, &body)
    }

    /// The backbone's parameters by their canonical names, and the head's by theirs, in order.
    pub fn parts(spec: &RunSpec, params: impl Iterator<Item = (String, Tensor)>) -> (NamedTensors, NamedTensors) {
        let inner = format!("{}.", scope(spec.head));
        let (mut backbone, mut head) = (Vec::new(), Vec::new());
        for (name, tensor) in params {
            match name.strip_prefix(&inner) {
                Some(canonical) => backbone.push((canonical.to_owned(), tensor)),
                None => head.push((name, tensor)),
            }
        }
        (backbone, head)
    }

    fn assemble(
        spec: &RunSpec,
        (options, outputs): (BackboneOptions, usize),
        fresh: &Builder,
        source: &Builder,
        body: &(BodyConfig, Builder),
    ) -> Result<Self> {
        let entry = registry::find(&spec.backbone)?;
        // A tiny backbone has the same values under either head, as a published one has.
        let b = source
            .scope(scope(spec.head))
            .drawn_as("backbone")
            .placed(entry.place)
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
                let linear = match spec.protocol.head_init {
                    HeadInit::Uniform => default_linear,
                    HeadInit::Normal => trunc_linear,
                };
                Head::Linear(linear(dim, outputs, &fresh.pp("fc"))?)
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
            rounded: spec.freeze == Freeze::Frozen && spec.protocol.feature_dtype == FeatureDtype::Bf16,
        })
    }

    /// What the head reads: (B, D) for the linear head, (B, N, F) for MHA.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn features(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.read(&self.backbone.forward(x)?)
    }

    /// The part of a backbone's features that this head reads.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn read(&self, f: &Features) -> candle_core::Result<Tensor> {
        let read = match (&self.head, self.readout) {
            (Head::Linear(_), Readout::Family) => f.pooled.clone(),
            (Head::Linear(_), Readout::MeanTokens) => f.tokens.mean(1)?,
            (Head::Mha(_), _) => f.tokens.clone(),
        };
        match self.rounded {
            true => read.to_dtype(DType::BF16)?.to_dtype(DType::F32),
            false => Ok(read),
        }
    }

    /// What [`Classifier::features`] returns → logits (B, outputs), float32 in any scope.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    pub fn classify(&self, features: &Tensor) -> candle_core::Result<Tensor> {
        to_float(&match &self.head {
            Head::Linear(l) => l.forward(features),
            Head::Mha(m) => m.forward(features),
        }?)
    }

    /// Images (B, C, H, W) → logits (B, outputs).
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
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

/// The MHA body's shape.
fn body_config(spec: &RunSpec) -> BodyConfig {
    let shape = match spec.scale {
        Scale::Full => DEIT_BASE,
        Scale::Tiny => TINY_BODY,
    };
    BodyConfig {
        depth: match spec.protocol.mha_body {
            MhaBody::DeitBase => shape.depth,
            MhaBody::OneBlock => 1,
        },
        checkpointing: spec.protocol.checkpointing,
        ..shape
    }
}

/// The MHA body's shape and where its values come from; a linear head has none and ignores it.
fn body(spec: &RunSpec, pretrained: &Pretrained, fresh: &Builder) -> Result<(BodyConfig, Builder)> {
    let source = match (spec.head, spec.scale, spec.protocol.mha_body) {
        (HeadKind::Linear, ..) | (_, _, MhaBody::OneBlock) => fresh.clone(),
        (_, Scale::Tiny, MhaBody::DeitBase) => fresh.with_seed(0),
        (_, Scale::Full, MhaBody::DeitBase) => {
            let f = pretrained
                .deit
                .as_ref()
                .context("the multi-head attention head needs DeiT-B's weights (deit-b)")?;
            fresh.with_checkpoint(Checkpoint::open(&f.path, f.sha256.as_deref(), DEIT)?)
        }
    };
    Ok((body_config(spec), source))
}
