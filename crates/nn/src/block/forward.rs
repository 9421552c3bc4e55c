//! The forward pass of a transformer block.

use super::types::{BlockOp, Element, SavedActivations, Sizes, Values};
use crate::attention::{self, packed_views};
use crate::cpu::{Real, Shared, filled, par_filled};
use crate::gemm::{Activated, Affine, Normed, Plain, Residual, of, product, transposed};
use crate::norm::row_stats;

/// Each row's mean and 1/√(var+ε); `x` (rows, d).
fn stats<T: Real>(x: &[T], d: usize, eps: f64) -> Vec<(T, T)> {
    let rows = x.len() / d;
    par_filled(rows, 1, |rows, stats| {
        for (stats, row) in stats.iter_mut().zip(x[rows.start * d..rows.end * d].chunks_exact(d)) {
            *stats = row_stats(row, T::of(eps));
        }
    })
}

fn affine<'a, T: Real>(out: Shared<'a, T>, ld: usize, bias: &'a [T]) -> Affine<'a, T> {
    Affine {
        bias: Some(bias),
        ..Affine::plain(out, ld)
    }
}

fn residual<'a, T>(out: Shared<'a, T>, x: &'a [T], bias: &'a [T], gamma: Option<&'a [T]>) -> Residual<'a, T> {
    Residual {
        out,
        ld: bias.len(),
        x,
        bias,
        gamma,
    }
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
    let stats1 = stats(x, d, op.block.norm1.eps);
    // SAFETY: a product hands over every element once, and the epilogue writes it.
    let mut qkv = unsafe {
        filled(rows * 3 * d, |out| {
            let left = normed(x, &stats1, v.norm1);
            let right = transposed(Plain::new(v.qkv.0, d));
            product((rows, 3 * d, d), &left, &right, &affine(out, 3 * d, v.qkv.1));
        })
    };
    let (a, softmax) = attention::forward(s.heads, packed_views(&qkv, s.heads));
    if !keep {
        qkv = Vec::new();
    }
    // SAFETY: as above.
    let x1 = unsafe {
        filled(rows * d, |out| {
            let right = transposed(Plain::new(v.proj.0, d));
            let epilogue = residual(out, x, v.proj.1, v.ls1);
            product((rows, d, d), &of(Plain::new(&a, d)), &right, &epilogue);
        })
    };
    let stats2 = stats(&x1, d, op.block.norm2.eps);
    // SAFETY: as above.
    let h = unsafe {
        filled(rows * hidden, |out| {
            let left = normed(&x1, &stats2, v.norm2);
            let right = transposed(Plain::new(v.fc1.0, d));
            product((rows, hidden, d), &left, &right, &affine(out, hidden, v.fc1.1));
        })
    };
    // SAFETY: as above.
    let output = || unsafe {
        filled(rows * d, |out| {
            let left = of(Activated {
                x: &h,
                ld: hidden,
                act: op.block.act,
            });
            let right = transposed(Plain::new(v.fc2.0, hidden));
            let epilogue = residual(out, &x1, v.fc2.1, v.ls2);
            product((rows, d, hidden), &left, &right, &epilogue);
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
