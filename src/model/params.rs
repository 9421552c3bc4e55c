//! Parameters: where their values come from, whether they train, and in which order they stand.
//!
//! A model is built through a [`Builder`]. It draws each tensor from a checkpoint or from a seeded stream and notes it in
//! [`Params`], in the order of construction: the order every sum over parameters uses, so that no result depends on a hash map.

use super::checkpoint::Checkpoint;
use crate::rng::{Purpose, Stream};
use crate::spec::protocol::GreyStem;
use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor, Var};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::cell::RefCell;
use std::rc::Rc;

/// How a parameter starts when no checkpoint gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Const(f32),
    /// Uniform on ±bound.
    Uniform(f32),
    Normal {
        std: f32,
    },
}

/// Where a parameter stands between a network's input and its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerPosition {
    /// Before the blocks: patches, positions, class token.
    Stem,
    /// Block `1` of stage `0`, both from 0; a network without stages has one.
    Block(usize, usize),
    /// Between a stage and the next: counted with the stage's last block.
    StageEnd(usize),
    /// Behind the blocks: norms, necks, and every head.
    Top,
}

/// One tensor of a model.
#[derive(Debug, Clone)]
pub struct Param {
    /// Full name, as in the authors' state dict: `backbone.blocks.0.…`, `fc.weight`, `main_model.backbone.…`.
    pub name: String,
    pub tensor: Tensor,
    /// `None` where frozen: such a tensor records no graph.
    pub var: Option<Var>,
    /// Where it stands between input and output, for layer decay.
    pub place: LayerPosition,
}

/// All tensors of a model, in order of construction.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<Param>);

impl Params {
    /// Parameters that train, with their variables.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().filter_map(|p| Some((p.name.as_str(), p.var.as_ref()?)))
    }

    /// Number of scalars, trainable or not.
    pub fn count(&self) -> usize {
        self.0.iter().map(|p| p.tensor.elem_count()).sum()
    }

    pub fn get(&self, name: &str) -> Option<&Param> {
        self.0.iter().find(|p| p.name == name)
    }
}

/// Where values come from.
enum ParamSource {
    Seed(u64),
    Checkpoint(RefCell<Checkpoint>),
    /// Shapes without values.
    Shapes,
    /// A trained model, by the names that its parameters have in it.
    Trained(RefCell<Checkpoint>),
    /// Another model, whose memory is used and not trained.
    Same(Params),
}

/// Draws named tensors for a model and records them.
#[derive(Clone)]
pub struct Builder {
    source: Rc<ParamSource>,
    params: Rc<RefCell<Params>>,
    device: Device,
    /// Prefix of names in the model (`backbone.`).
    scope: String,
    /// Prefix of names that seeded values are drawn by; the scope, unless [`Builder::drawn_as`] says otherwise.
    key: String,
    /// Prefix inside the checkpoint.
    path: String,
    trainable: bool,
    /// Name inside the checkpoint → place.
    place: fn(&str) -> LayerPosition,
}

impl Builder {
    /// Seeded random values: each tensor has its own stream, keyed by the seed and its full name.
    pub fn seeded(seed: u64, device: &Device) -> Self {
        Self::new(ParamSource::Seed(seed), device)
    }

    /// Values from a checkpoint; a missing, extra or mis-shaped tensor is an error that names it.
    pub fn from_checkpoint(checkpoint: Checkpoint, device: &Device) -> Self {
        Self::new(ParamSource::Checkpoint(RefCell::new(checkpoint)), device)
    }

    /// One broadcast zero per tensor: a model of any size whose names and shapes can be listed without its memory. Nothing
    /// of it trains.
    pub fn shapes() -> Self {
        Self::new(ParamSource::Shapes, &Device::Cpu).trainable(false)
    }

    /// The values of a trained model, by the full names of its parameters and in the shapes that it has them in.
    pub fn trained(checkpoint: Checkpoint, device: &Device) -> Self {
        Self::new(ParamSource::Trained(RefCell::new(checkpoint)), device)
    }

    /// The memory of another model, by the names of its parameters, of which nothing trains: what is computed from it is part of
    /// no graph, and follows the other model's training.
    pub fn same(params: &Params, device: &Device) -> Self {
        Self::new(ParamSource::Same(params.clone()), device).trainable(false)
    }

    fn new(source: ParamSource, device: &Device) -> Self {
        Self {
            source: Rc::new(source),
            params: Rc::default(),
            device: device.clone(),
            scope: String::new(),
            key: String::new(),
            path: String::new(),
            trainable: true,
            place: |_| LayerPosition::Top,
        }
    }

    /// Says where the parameters made from here on stand, by their names inside the checkpoint.
    pub fn placed(&self, place: fn(&str) -> LayerPosition) -> Self {
        Self { place, ..self.clone() }
    }

    /// A builder with another source that records into the same parameters.
    pub fn with_checkpoint(&self, checkpoint: Checkpoint) -> Self {
        Self {
            source: Rc::new(ParamSource::Checkpoint(RefCell::new(checkpoint))),
            path: String::new(),
            ..self.clone()
        }
    }

    /// A seeded builder that records into the same parameters.
    pub fn with_seed(&self, seed: u64) -> Self {
        Self {
            source: Rc::new(ParamSource::Seed(seed)),
            path: String::new(),
            ..self.clone()
        }
    }

    /// The builder for a part of the model whose names carry `scope.` in front but whose checkpoint does not.
    pub fn scope(&self, scope: &str) -> Self {
        Self {
            scope: format!("{}{scope}.", self.scope),
            key: format!("{}{scope}.", self.key),
            ..self.clone()
        }
    }

    /// Draws seeded values by the names that a scope `key` would give, so that parts that are called differently in two
    /// models can have the same values.
    pub fn drawn_as(&self, key: &str) -> Self {
        Self {
            key: format!("{key}."),
            ..self.clone()
        }
    }

    /// Records the tensors of another model whose names start with `from` under names that start with `to`: both models
    /// then hold the same memory.
    pub fn adopt(&self, other: &Params, from: &str, to: &str) {
        let renamed = other.0.iter().filter_map(|p| {
            Some(Param {
                name: format!("{to}{}", p.name.strip_prefix(from)?),
                ..p.clone()
            })
        });
        self.params.borrow_mut().0.extend(renamed);
    }

    /// Whether parameters made from here on train.
    pub fn trainable(&self, trainable: bool) -> Self {
        Self {
            trainable,
            ..self.clone()
        }
    }

    /// Descends one name component (or several, joined by dots).
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        Self {
            path: format!("{}{name}.", self.path),
            ..self.clone()
        }
    }

    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter of the given shape.
    ///
    /// # Errors
    /// Where the source has no such tensor, or one of another shape.
    pub fn param(&self, dims: impl Into<Vec<usize>>, name: &str, init: Init) -> Result<Tensor> {
        let dims = dims.into();
        let value = self.value(&dims, name, init)?;
        self.record(name, value)
    }

    /// A parameter of the given shape in the checkpoint that the model keeps in another form, which is what trains.
    ///
    /// # Errors
    /// As [`Self::param`], and those of `adapt`.
    pub fn adapted(
        &self,
        dims: impl Into<Vec<usize>>,
        name: &str,
        init: Init,
        adapt: impl FnOnce(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Tensor> {
        let dims = dims.into();
        let value = match &*self.source {
            // What was adapted when training began is stored as it was trained.
            ParamSource::Trained(_) => {
                let shape = adapt(Tensor::zeros(dims, DType::F32, &self.device)?)?;
                self.value(shape.dims(), name, init)?
            }
            ParamSource::Same(_) => self.value(&dims, name, init)?,
            _ => adapt(self.value(&dims, name, init)?)?,
        };
        self.record(name, value)
    }

    /// A stem kernel (D, 3, k, k), reduced to one input channel where `channels` is 1 (PROTOCOL 3.1, Q17).
    ///
    /// # Errors
    /// As [`Self::param`]; for neither one nor three channels.
    pub fn stem(&self, [d, k]: [usize; 2], channels: usize, rule: GreyStem, name: &str, init: Init) -> Result<Tensor> {
        self.adapted([d, 3, k, k], name, init, |w| match (channels, rule) {
            (3, _) => Ok(w),
            (1, GreyStem::RedKernel) => w.narrow(1, 0, 1)?.contiguous(),
            (1, GreyStem::SummedKernels) => w.sum_keepdim(1),
            _ => candle_core::bail!("a stem reads 1 or 3 channels, not {channels}"),
        })
    }

    fn value(&self, dims: &[usize], name: &str, init: Init) -> Result<Tensor> {
        let name = format!("{}{name}", self.path);
        match &*self.source {
            ParamSource::Trained(c) => c
                .borrow_mut()
                .take(&format!("{}{name}", self.scope), dims, &self.device),
            ParamSource::Same(params) => {
                let name = format!("{}{name}", self.scope);
                let found = params
                    .get(&name)
                    .with_context(|| format!("parameter {name} is not there"))?;
                Ok(found.tensor.detach())
            }
            ParamSource::Checkpoint(c) => c.borrow_mut().take(&name, dims, &self.device),
            ParamSource::Shapes => Ok(Tensor::zeros((), DType::F32, &self.device)?.broadcast_as(dims)?),
            ParamSource::Seed(seed) => {
                let n = dims.iter().product();
                let values = draw(*seed, &format!("{}{name}", self.key), n, init);
                Ok(Tensor::from_vec(values, dims, &self.device)?)
            }
        }
    }

    fn record(&self, name: &str, value: Tensor) -> Result<Tensor> {
        let place = (self.place)(&format!("{}{name}", self.path));
        let name = format!("{}{}{name}", self.scope, self.path);
        let var = if self.trainable && !matches!(*self.source, ParamSource::Shapes | ParamSource::Same(_)) {
            Some(Var::from_tensor(&value.contiguous()?).with_context(|| format!("parameter {name}"))?)
        } else {
            None
        };
        let tensor = var.as_ref().map_or_else(|| value.clone(), |v| v.as_tensor().clone());
        let mut params = self.params.borrow_mut();
        if params.get(&name).is_some() {
            anyhow::bail!("parameter {name} is made twice");
        }
        params.0.push(Param {
            name,
            tensor: tensor.clone(),
            var,
            place,
        });
        Ok(tensor)
    }

    /// Ends construction from this builder's source: the checkpoint must have no tensor left.
    ///
    /// # Errors
    /// [`crate::error::BadInput`] that names the extra tensors.
    pub fn finish_source(&self) -> Result<()> {
        match &*self.source {
            ParamSource::Checkpoint(c) => c.borrow().finish(),
            // Backbone and head are in one file.
            ParamSource::Seed(_) | ParamSource::Shapes | ParamSource::Trained(_) | ParamSource::Same(_) => Ok(()),
        }
    }

    /// Ends construction of a trained model: nothing of it may be left.
    ///
    /// # Errors
    /// As [`Builder::finish_source`].
    pub fn finish_trained(&self) -> Result<()> {
        match &*self.source {
            ParamSource::Trained(c) => c.borrow().finish(),
            _ => Ok(()),
        }
    }

    /// The parameters recorded so far, by all builders of this model.
    pub fn params(&self) -> Params {
        self.params.borrow().clone()
    }
}

/// `n` values for a named tensor; independent of every other tensor.
fn draw(seed: u64, name: &str, n: usize, init: Init) -> Vec<f32> {
    let h = Sha256::digest(name.as_bytes());
    let word = |i: usize| u32::from_le_bytes([h[i], h[i + 1], h[i + 2], h[i + 3]]);
    let s = Stream::new(seed, Purpose::Init, word(0), word(4));
    match init {
        Init::Const(c) => vec![c; n],
        Init::Uniform(b) => spread(&s, n, 2, |s| s.uniform_in(-1.0, 1.0) as f32 * b),
        Init::Normal { std } => spread(&s, n, 1, |s| s.normal() as f32 * std),
    }
}

/// `n` values of `f` in the order of the stream, by all threads; a block of the stream is `per_block` of them.
fn spread(s: &Stream, n: usize, per_block: usize, f: impl Fn(&mut Stream) -> f32 + Sync) -> Vec<f32> {
    const PIECE: usize = 1 << 14;
    let mut values = vec![0.0; n];
    let pieces = values.par_chunks_mut(PIECE).enumerate();
    pieces.for_each(|(i, piece)| {
        let mut s = s.at_block(i * PIECE / per_block);
        piece.fill_with(|| f(&mut s));
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_draw_what_one_would() {
        let n = (1 << 15) + 5;
        for (per_block, f) in [
            (1, Stream::normal as fn(&mut Stream) -> f64),
            (2, |s: &mut Stream| s.uniform_in(-1.0, 1.0)),
        ] {
            let s = Stream::new(3, Purpose::Init, 5, 7);
            let mut alone = s.clone();
            let expected: Vec<f32> = (0..n).map(|_| f(&mut alone) as f32).collect();
            assert_eq!(spread(&s, n, per_block, |s| f(s) as f32), expected);
        }
    }
}
