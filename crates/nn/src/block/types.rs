//! What forward and backward pass of a block share: its parameters, sizes, and what is saved between them.

use crate::act::Act;
use crate::attention;
use crate::autograd::stash_grad;
use crate::cpu::Real;
use crate::linear::Linear;
use crate::norm::LayerNorm;
use candle_core::{Result, Tensor};
use std::sync::Mutex;

/// The parameters of a block of width D.
#[derive(Debug, Clone)]
pub struct TransformerBlock {
    /// Before the attention branch.
    pub norm1: LayerNorm,
    /// (3·D, D): q | k | v, each (H, d).
    pub qkv: Linear,
    /// (D, D).
    pub proj: Linear,
    /// LayerScale of the attention branch (D).
    pub ls1: Option<Tensor>,
    /// Before the MLP branch.
    pub norm2: LayerNorm,
    /// (hidden, D).
    pub fc1: Linear,
    /// (D, hidden).
    pub fc2: Linear,
    /// LayerScale of the MLP branch (D).
    pub ls2: Option<Tensor>,
    /// Heads H; D is a multiple of it.
    pub heads: usize,
    /// Between the layers of the MLP.
    pub act: Act,
}

/// Sizes of a call.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    /// B·N.
    pub rows: usize,
    pub d: usize,
    pub hidden: usize,
    pub heads: attention::Dims,
}

/// The parameters' values.
pub(super) struct Values<'a, T> {
    pub norm1: (&'a [T], &'a [T]),
    pub qkv: (&'a [T], &'a [T]),
    pub proj: (&'a [T], &'a [T]),
    pub ls1: Option<&'a [T]>,
    pub norm2: (&'a [T], &'a [T]),
    pub fc1: (&'a [T], &'a [T]),
    pub fc2: (&'a [T], &'a [T]),
    pub ls2: Option<&'a [T]>,
}

/// What the backward pass needs of the forward pass.
pub(super) struct SavedActivations<T> {
    /// Mean and 1/√(var+ε) of each row of `x`.
    pub stats1: Vec<(T, T)>,
    pub qkv: Vec<T>,
    /// Maximum and 1/sum of each row of scores.
    pub softmax: Vec<(T, T)>,
    /// The heads' output.
    pub a: Vec<T>,
    /// After the attention branch.
    pub x1: Vec<T>,
    pub stats2: Vec<(T, T)>,
    /// Before the activation.
    pub h: Vec<T>,
}

pub(super) enum AnySaved {
    F32(SavedActivations<f32>),
    F64(SavedActivations<f64>),
}

/// The element types, with their case of [`AnySaved`].
pub(super) trait Element: Real {
    fn keep(k: SavedActivations<Self>) -> AnySaved;
    fn take(k: AnySaved) -> Option<SavedActivations<Self>>;
}

impl Element for f32 {
    fn keep(k: SavedActivations<Self>) -> AnySaved {
        AnySaved::F32(k)
    }
    fn take(k: AnySaved) -> Option<SavedActivations<Self>> {
        match k {
            AnySaved::F32(k) => Some(k),
            AnySaved::F64(_) => None,
        }
    }
}

impl Element for f64 {
    fn keep(k: SavedActivations<Self>) -> AnySaved {
        AnySaved::F64(k)
    }
    fn take(k: AnySaved) -> Option<SavedActivations<Self>> {
        match k {
            AnySaved::F64(k) => Some(k),
            AnySaved::F32(_) => None,
        }
    }
}

pub(super) struct BlockOp {
    pub block: TransformerBlock,
    /// Whether a gradient can be asked for.
    pub tracked: bool,
    pub saved: Mutex<Option<AnySaved>>,
}

/// Notes a parameter's gradient where the parameter trains.
pub(super) fn note<T: Real>(parameter: &Tensor, gradient: impl FnOnce() -> Vec<T>) -> Result<()> {
    if parameter.track_op() {
        let g = Tensor::from_vec(gradient(), parameter.shape(), parameter.device())?;
        stash_grad(parameter.id(), g);
    }
    Ok(())
}
