//! The backward pass of a transformer block. With `y = x₁ + γ₂(g W₂ᵀ + b₂)`, `g = act(h)`, `h = LN₂(x₁) W₁ᵀ + b₁`:
//!
//! * `G = dyᵀ g` gives `dW₂ = γ₂ G` (by rows), and `dγ₂` are the rows' products with `W₂`, plus `b₂ ⊙ Σ dy`;
//! * `dh = (dy (γ₂ W₂)) ⊙ act'(h)`; `dW₁ = dhᵀ LN₂(x₁)`; the gradient at `x₁` is `dy` plus LN₂'s of `dh W₁`;
//! * the same with γ₁, W_proj, the heads' output, W_qkv and LN₁ for the first branch.

use super::types::{SavedActivations, Sizes, TransformerBlock, Values, note};
use crate::attention::{self, packed_targets, packed_views};
use crate::cpu::{Real, Shared, add_assign, filled, lane_sum, par_columns, simd_fn};
use crate::gemm::{ActGrad, Activated, Affine, NormGrad, Normed, Plain, Rows, Scaled, of, product};
use crate::linear::{Linear, weight_gradient};
use crate::norm::LayerNorm;
use candle_core::{Result, Tensor};
use rayon::prelude::*;

simd_fn! {
    fn dot<T>(a: &[T], b: &[T]) -> T {
        lane_sum(a.len().min(b.len()), |i| a[i] * b[i])
    }
}

simd_fn! {
    fn scale<T>(x: &mut [T], by: T) {
        for v in x.iter_mut() {
            *v *= by;
        }
    }
}

/// Column sums of `x` (rows, n).
fn column_sums<T: Real>(x: &[T], n: usize) -> Vec<T> {
    par_columns(x.len() / n, n, |r, acc| add_assign(acc, &x[r * n..(r + 1) * n]))
}

/// Gradients of a branch's last layer and its LayerScale, from `dy` (rows, D) past the scale and the layer's input.
fn branch_end<T: Real>(
    (rows, d): (usize, usize),
    layer: (&Linear, (&[T], &[T])),
    gamma: (Option<&Tensor>, Option<&[T]>),
    dy: &[T],
    x: impl Rows<T>,
) -> Result<()> {
    let (linear, (w, b)) = layer;
    let scaled = gamma.0.is_some_and(Tensor::track_op);
    let sums = column_sums(dy, d);
    if linear.weight.track_op() || scaled {
        let inp = w.len() / d;
        let mut g = weight_gradient((rows, d, inp), Plain::new(dy, d), x);
        if let (Some(tensor), Some(gamma)) = gamma {
            let mut dgamma = vec![T::default(); d];
            g.par_chunks_exact_mut(inp)
                .zip(&mut dgamma)
                .enumerate()
                .for_each(|(j, (row, dg))| {
                    *dg = dot(row, &w[j * inp..(j + 1) * inp]) + b[j] * sums[j];
                    scale(row, gamma[j]);
                });
            note(tensor, || dgamma)?;
        }
        note(&linear.weight, || g)?;
    }
    if let Some(bias) = &linear.bias {
        note(bias, || match gamma.1 {
            Some(gamma) => sums.iter().zip(gamma).map(|(&s, &g)| s * g).collect(),
            None => sums,
        })?;
    }
    Ok(())
}

/// Stashes the parameters' gradients and returns the gradient at `x` (rows, D).
pub(super) fn backward<T: Real>(
    block: &TransformerBlock,
    s: Sizes,
    x: &[T],
    v: &Values<'_, T>,
    saved: SavedActivations<T>,
    dy: &[T],
) -> Result<Vec<T>> {
    let (rows, d, hidden) = (s.rows, s.d, s.hidden);
    let SavedActivations {
        stats1,
        qkv,
        softmax,
        a,
        x1,
        stats2,
        mut h,
    } = saved;

    // The MLP branch.
    let g = Activated {
        x: &h,
        ld: hidden,
        act: block.act,
    };
    branch_end((rows, d), (&block.fc2, v.fc2), (block.ls2.as_ref(), v.ls2), dy, g)?;
    let epilogue = ActGrad {
        h: Shared::new(&mut h),
        ld: hidden,
        act: block.act,
    };
    let right = of(Scaled {
        x: v.fc2.0,
        ld: hidden,
        by: v.ls2,
    });
    let db1 = product((rows, hidden, d), &of(Plain::new(dy, d)), &right, &epilogue);
    let dh = h;
    let x1_part = (&block.norm2, v.norm2, &x1[..], &stats2[..]);
    let dx1 = branch_start((rows, d, hidden), (&block.fc1, v.fc1.0), x1_part, &dh, db1, dy)?;
    drop((dh, x1));

    // The attention branch.
    let heads = Plain::new(&a, d);
    branch_end(
        (rows, d),
        (&block.proj, v.proj),
        (block.ls1.as_ref(), v.ls1),
        &dx1,
        heads,
    )?;
    let right = of(Scaled {
        x: v.proj.0,
        ld: d,
        by: v.ls1,
    });
    let mut da = a;
    let epilogue = Affine::plain(Shared::new(&mut da), d);
    product((rows, d, d), &of(Plain::new(&dx1, d)), &right, &epilogue);
    // SAFETY: the heads of q, k and v are a projection's disjoint parts, and all of it.
    let dqkv = unsafe {
        filled(rows * 3 * d, |out| {
            let (operands, targets) = (packed_views(&qkv, s.heads), packed_targets(&out, s.heads));
            attention::backward(s.heads, operands, &softmax, &da, targets);
        })
    };
    drop((qkv, da));
    let dbqkv = column_sums(&dqkv, 3 * d);
    let x_part = (&block.norm1, v.norm1, x, &stats1[..]);
    let dx = branch_start((rows, d, 3 * d), (&block.qkv, v.qkv.0), x_part, &dqkv, dbqkv, &dx1)?;
    Ok(dx)
}

/// What a branch starts with: its LayerNorm with weight and bias, the norm's input and row statistics.
type Start<'a, T> = (&'a LayerNorm, (&'a [T], &'a [T]), &'a [T], &'a [(T, T)]);

/// Gradients of a branch's first layer and its LayerNorm from `dy` (rows, out) at the layer's output, whose column sums are
/// `db`; returns the gradient at the norm's input, `residual` included.
fn branch_start<T: Real>(
    (rows, d, out): (usize, usize, usize),
    (linear, w): (&Linear, &[T]),
    (norm, (weight, bias), x, stats): Start<'_, T>,
    dy: &[T],
    db: Vec<T>,
    residual: &[T],
) -> Result<Vec<T>> {
    let normed = Normed { x, stats, weight, bias };
    note(&linear.weight, || {
        weight_gradient((rows, out, d), Plain::new(dy, out), normed)
    })?;
    if let Some(b) = &linear.bias {
        note(b, || db)?;
    }
    let mut sums = Vec::new();
    // SAFETY: a product hands over every element once, and the epilogue writes it.
    let dx = unsafe {
        filled(rows * d, |p| {
            let epilogue = NormGrad {
                out: p,
                x,
                stats,
                weight,
                residual,
            };
            let right = of(Plain::new(w, d));
            sums = product((rows, d, out), &of(Plain::new(dy, out)), &right, &epilogue);
        })
    };
    let db = sums.split_off(d);
    note(&norm.weight, || sums)?;
    note(&norm.bias, || db)?;
    Ok(dx)
}
