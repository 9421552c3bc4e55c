//! What a backbone offers to the two heads.

use super::vit::Act;
use crate::spec::Protocol;
use crate::spec::protocol::{CocaTokens, Dinov2Tokens, GreyStem, PositionRule};
use candle_core::{Result, Tensor};

/// What the heads read, as PROTOCOL sections 3 and 4 define it for each family.
#[derive(Debug, Clone)]
pub struct Features {
    /// What the linear head sees: (B, D).
    pub pooled: Tensor,
    /// What the "multi-head attention" head sees: (B, N, F).
    pub tokens: Tensor,
}

/// Hears intermediate tensors by name (`embed`, `block.3`, `norm`), for parity tests and diagnosis.
pub type Observer<'a> = &'a mut dyn FnMut(&str, &Tensor);

/// An observer that may be absent, for results that are formed only to be seen (another layout, an unused branch).
pub struct Probe<'a>(pub Option<Observer<'a>>);

impl Probe<'_> {
    /// Shows what `t` forms, if anyone looks.
    ///
    /// # Errors
    /// Those of `t`.
    pub fn see(&mut self, name: &str, t: impl FnOnce() -> Result<Tensor>) -> Result<()> {
        if let Some(observer) = &mut self.0 {
            observer(name, &t()?);
        }
        Ok(())
    }

    /// Shows a channels-last map (B, H, W, C) as (B, C, H, W).
    ///
    /// # Errors
    /// For a map that is not of four dimensions.
    pub fn see_map(&mut self, name: &str, map: &Tensor) -> Result<()> {
        self.see(name, || map.permute((0, 3, 1, 2))?.contiguous())
    }
}

/// An image encoder.
pub trait Backbone: Send + Sync {
    /// Images (B, C, H, W), normalised → [`Features`]; calls `observer` for intermediate results.
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> Result<Features>;

    /// Images (B, C, H, W), normalised → [`Features`].
    ///
    /// # Errors
    /// Where shapes do not fit or a kernel fails.
    fn forward(&self, x: &Tensor) -> Result<Features> {
        self.forward_observed(x, &mut |_, _| {})
    }

    /// Floats that a block keeps for its backward pass, for each number that its linear layers put out: measured on the CPU engine,
    /// for estimates of memory.
    fn kept_per_output(&self) -> f64 {
        KEPT_PER_OUTPUT
    }

    /// The part of what a block would keep that a forward pass without a backward one holds at once, measured likewise.
    fn forward_share(&self) -> f64 {
        1.0
    }

    /// Whether what a block keeps goes when the gradient has passed it, on the CPU: where a block is one op, not where it is several,
    /// which candle's graph holds to the end.
    fn releases_blocks(&self) -> bool {
        true
    }

    /// D of the pooled vector.
    fn feature_dim(&self) -> usize;

    /// F of the tokens.
    fn token_dim(&self) -> usize;
}

/// Of blocks that are one op: queries, keys and values, the heads' output, the middle and the hidden layer, and the input.
pub const KEPT_PER_OUTPUT: f64 = 10.0 / 9.0;

/// The protocol switches a backbone obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackboneOptions {
    /// Input channels: 1 or 3.
    pub channels: usize,
    pub grey_stem: GreyStem,
    pub position_rule: PositionRule,
    /// (Q31) DINOv2's and CLIP's patches before or after the final norm.
    pub dinov2_tokens: Dinov2Tokens,
    pub coca_tokens: CocaTokens,
    /// The activation of families whose weights decide it: CLIP's erf GELU (LAION) or QuickGELU (OpenAI).
    pub activation: Act,
    /// Recompute block activations in the backward pass.
    pub checkpointing: bool,
}

impl BackboneOptions {
    pub fn new(p: &Protocol, channels: usize) -> Self {
        Self {
            channels,
            grey_stem: p.grey_stem,
            position_rule: p.position_rule,
            dinov2_tokens: p.dinov2_tokens,
            coca_tokens: p.coca_tokens,
            activation: Act::GeluErf,
            checkpointing: p.checkpointing,
        }
    }
}
