//! CoCa's image encoder (Yu et al. 2022; open_clip). PROTOCOL 3.5.
//!
//! A CLIP tower whose tokens, class token included, are read by learned queries. Query 0 gives the contrastive embedding,
//! the others the tokens of the MHA head; they have no place in the image (Q29), so the corrected variant takes the patches
//! that the pooler reads.

use super::backbone::{Backbone, BackboneOptions, Features, Observer};
use super::checkpoint::{NameRule, same, unused};
use super::clip::{Tower, TowerConfig, place};
use super::entry::{BackboneEntry, Facts, OPENAI_CLIP, Sides, erf_gelu};
use super::export::hub_alone;
use super::params::{Builder, Init};
use super::vit::{Act, layer_norm, same_grid, trunc_linear};
use crate::spec::Scale;
use crate::spec::protocol::CocaTokens;
use anyhow::Result;
use candle_core::Tensor;
use medft_nn::{LayerNorm, Linear, attention, linear, to_float};

/// open_clip's own names: the whole model, of which `visual.` is used.
pub const WHOLE: &[NameRule] = &[
    same("visual.>", "visual.>"),
    unused("text.>", "the text encoder"),
    unused("text_decoder.>", "the captioning decoder"),
    unused("logit_scale", "the contrastive loss"),
];

/// The layout CoCa is published in.
pub const LAYOUTS: &[(&str, &[NameRule])] = &[("open_clip", WHOLE)];

/// CoCa-B.
pub static COCA_B: BackboneEntry = BackboneEntry {
    name: "coca-b",
    title: "CoCa-B",
    family: "CoCa",
    layouts: LAYOUTS,
    activation: erf_gelu,
    statistics: OPENAI_CLIP,
    sides: (Sides::Exactly(224), Sides::MultipleOf(32)),
    facts: Facts {
        upstream: "coca_ViT-B-32",
        parameters: 89_164_032,
        gmacs_224: 4.595,
        scan_gflops_224: None,
        feature: 512,
        tokens: (256, 512),
    },
    place,
    own: None,
    export: hub_alone,
    build: |s, px, o, b| build(s, px, (B32, ((32, 2, 4), 32, 9)), o, b),
};

/// CoCa-L.
pub static COCA_L: BackboneEntry = BackboneEntry {
    name: "coca-l",
    title: "CoCa-L",
    sides: (Sides::Exactly(224), Sides::MultipleOf(16)),
    facts: Facts {
        upstream: "coca_ViT-L-14",
        parameters: 306_724_864,
        gmacs_224: 81.82,
        scan_gflops_224: None,
        feature: 768,
        tokens: (256, 768),
    },
    build: |s, px, o, b| build(s, px, (L14, ((48, 3, 4), 16, 16)), o, b),
    ..COCA_B
};

/// (width, depth, heads), patch side and number of queries of a tiny encoder.
type Tiny = ((usize, usize, usize), usize, usize);

/// A published or a tiny encoder for inputs of `side` pixels.
fn build(
    scale: Scale,
    side: usize,
    (published, (sizes, patch, queries)): (Config, Tiny),
    options: BackboneOptions,
    b: &Builder,
) -> Result<Box<dyn Backbone>> {
    let config = match scale {
        Scale::Full => published,
        Scale::Tiny => Config {
            tower: TowerConfig::tiny(sizes, patch, side)?,
            embed_dim: 24,
            queries,
            pooler_heads: 4,
        },
    };
    same_grid(side, config.tower.patch_size, config.tower.grid)?;
    Ok(Box::new(Coca::new(config, options, b)?))
}

/// The shape of a CoCa image encoder.
#[derive(Debug, Clone, Copy)]
pub struct Config {
    pub tower: TowerConfig,
    /// Width of the queries, of the tokens and of the embedding that images and texts share.
    pub embed_dim: usize,
    pub queries: usize,
    pub pooler_heads: usize,
}

/// coca_ViT-B-32.
pub const B32: Config = Config {
    tower: TowerConfig::published((768, 12, 12), 32),
    embed_dim: 512,
    queries: 256,
    pooler_heads: 8,
};

/// coca_ViT-L-14.
pub const L14: Config = Config {
    tower: TowerConfig::published((1024, 24, 16), 14),
    embed_dim: 768,
    queries: 256,
    pooler_heads: 8,
};

/// Learned queries (Q, E) that attend over all tokens (B, M, W); no residual.
struct Pooler {
    query: Tensor,
    ln_q: LayerNorm,
    ln_k: LayerNorm,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Biases of q, k, v, one after the other: (3·E).
    bias: Tensor,
    out: Linear,
    heads: usize,
}

impl Pooler {
    fn new(c: &Config, b: &Builder) -> Result<Self> {
        let (e, w, eps) = (c.embed_dim, c.tower.width, c.tower.layer_norm_eps);
        let a = b.pp("attn");
        let small = Init::Normal { std: 0.02 };
        Ok(Self {
            query: b.param([c.queries, e], "query", Init::Normal { std: 1.0 })?,
            q: a.param([e, e], "q_proj_weight", small)?,
            k: a.param([e, w], "k_proj_weight", small)?,
            v: a.param([e, w], "v_proj_weight", small)?,
            bias: a.param([3 * e], "in_proj_bias", Init::Const(0.0))?,
            out: trunc_linear(e, e, &a.pp("out_proj"))?,
            ln_q: layer_norm(e, eps, &b.pp("ln_q"))?,
            ln_k: layer_norm(w, eps, &b.pp("ln_k"))?,
            heads: c.pooler_heads,
        })
    }

    /// (B, M, W) → (B, Q, E).
    fn forward(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Tensor> {
        let (b, m, _) = x.dims3()?;
        let (n, e) = self.query.dims2()?;
        let d = e / self.heads;
        let bias = |i: usize| self.bias.narrow(0, i * e, e)?.contiguous();
        let q = self.ln_q.forward(&self.query)?;
        observer("attn_pool.ln_q", &q);
        let x = self.ln_k.forward(x)?;
        observer("attn_pool.ln_k", &x);
        // The queries are the same for every image: projected once.
        let q = linear(&q, &self.q, Some(&bias(0)?))?
            .reshape((1, n, self.heads, d))?
            .broadcast_as((b, n, self.heads, d))?
            .contiguous()?;
        let heads = |w: &Tensor, i: usize| linear(&x, w, Some(&bias(i)?))?.reshape((b, m, self.heads, d));
        let y = attention(&q, &heads(&self.k, 1)?, &heads(&self.v, 2)?)?;
        self.out.forward(&y)
    }
}

/// A CoCa image encoder: pooled = query 0 after LayerNorm times `proj`; tokens = that, then the other queries after LayerNorm
/// (Q29: or the patches before the pooler).
pub struct Coca {
    config: Config,
    options: BackboneOptions,
    tower: Tower,
    pooler: Pooler,
    ln_post: LayerNorm,
    proj: Tensor,
}

impl Coca {
    /// # Errors
    /// Where a tensor is missing, or has another shape than the configuration states.
    pub fn new(c: Config, options: BackboneOptions, b: &Builder) -> Result<Self> {
        let b = b.pp("visual");
        let e = c.embed_dim;
        let std = 1.0 / (e as f32).sqrt();
        Ok(Self {
            config: c,
            options,
            tower: Tower::new(c.tower, Act::GeluErf, options, &b)?,
            pooler: Pooler::new(&c, &b.pp("attn_pool"))?,
            ln_post: layer_norm(e, c.tower.layer_norm_eps, &b.pp("ln_post"))?,
            proj: b.param([e, e], "proj", Init::Normal { std })?,
        })
    }
}

impl Backbone for Coca {
    fn forward_observed(&self, x: &Tensor, observer: Observer<'_>) -> candle_core::Result<Features> {
        let x = self.tower.forward_observed(x, observer)?;
        let y = self.pooler.forward(&x, observer)?;
        observer("attn_pool", &y);
        let y = self.ln_post.forward_float(&y)?;
        observer("norm", &y);
        let first = y.narrow(1, 0, 1)?;
        let others = y.narrow(1, 1, self.config.queries - 1)?;
        observer("patch_tokens", &others);
        let first = to_float(&linear(&first, &self.proj.t()?, None)?)?;
        let tokens = match self.options.coca_tokens {
            CocaTokens::Pooled => Tensor::cat(&[&first, &others], 1)?,
            CocaTokens::Patches => x.narrow(1, 1, x.dim(1)? - 1)?.contiguous()?,
        };
        Ok(Features {
            pooled: first.squeeze(1)?,
            tokens,
        })
    }

    fn feature_dim(&self) -> usize {
        self.config.embed_dim
    }

    fn token_dim(&self) -> usize {
        match self.options.coca_tokens {
            CocaTokens::Pooled => self.config.embed_dim,
            CocaTokens::Patches => self.config.tower.width,
        }
    }
}
