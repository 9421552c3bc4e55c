//! The forward pass of a transformer block.

use super::{BlockOp, Element, SavedActivations, Sizes, Values};
use crate::attention::{self, packed_views};
use crate::cpu::{Real, filled, par_rows};
use crate::gemm::{Activated, Affine, Normed, Plain, Residual, of, product, transposed};
use crate::norm::row_stats;

/// Each row's mean and 1/√(var+ε); `x` (rows, d).
fn stats<T: Real>(x: &[T], d: usize, eps: f64) -> Vec<(T, T)> {
    let rows = x.len() / d;
    filled(rows, |p| {
        par_rows(rows, d, |range| {
            for r in range {
                // SAFETY: rows are disjoint.
                unsafe { p.slice(r, 1)[0] = row_stats(&x[r * d..(r + 1) * d], T::of(eps)) };
            }
        });
    })
}

/// What a forward pass is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Output,
    OutputAndSaved,
    /// Only what the backward pass needs: a third of the work, the last product, is left out.
    Saved,
}

/// Returns the block's output (empty where it is not wanted), and what the backward pass needs where it is wanted.
pub(super) fn forward<T: Element>(
    op: &BlockOp,
    s: Sizes,
    x: &[T],
    v: &Values<'_, T>,
    want: Want,
) -> (Vec<T>, Option<SavedActivations<T>>) {
    let keep = want != Want::Output;
    let (rows, d, hidden) = (s.rows, s.d, s.hidden);
    let normed = |x, stats, (weight, bias)| of(Normed { x, stats, weight, bias });
    let affine = |out, ld, bias| Affine {
        bias: Some(bias),
        ..Affine::plain(out, ld)
    };
    let residual = |out, x, bias, gamma| Residual {
        out,
        ld: d,
        x,
        bias,
        gamma,
    };

    let stats1 = stats(x, d, op.block.norm1.eps);
    let mut qkv = filled(rows * 3 * d, |out| {
        let left = normed(x, &stats1, v.norm1);
        let right = transposed(Plain::new(v.qkv.0, d));
        product((rows, 3 * d, d), &left, &right, &affine(out, 3 * d, v.qkv.1));
    });
    let (a, softmax) = attention::forward(s.heads, packed_views(qkv.as_mut_ptr(), s.heads));
    if !keep {
        qkv = Vec::new();
    }
    let x1 = filled(rows * d, |out| {
        let right = transposed(Plain::new(v.proj.0, d));
        let store = residual(out, x, v.proj.1, v.ls1);
        product((rows, d, d), &of(Plain::new(&a, d)), &right, &store);
    });
    let stats2 = stats(&x1, d, op.block.norm2.eps);
    let h = filled(rows * hidden, |out| {
        let left = normed(&x1, &stats2, v.norm2);
        let right = transposed(Plain::new(v.fc1.0, d));
        product((rows, hidden, d), &left, &right, &affine(out, hidden, v.fc1.1));
    });
    let output = || {
        filled(rows * d, |out| {
            let left = of(Activated {
                x: &h,
                ld: hidden,
                act: op.block.act,
            });
            let right = transposed(Plain::new(v.fc2.0, hidden));
            let store = residual(out, &x1, v.fc2.1, v.ls2);
            product((rows, d, hidden), &left, &right, &store);
        })
    };
    let y = if want == Want::Saved { Vec::new() } else { output() };
    let saved = keep.then_some(SavedActivations {
        stats1,
        qkv,
        softmax,
        a,
        x1,
        stats2,
        h,
    });
    (y, saved)
}
