//! What happens to a product on its way to memory: bias, residual, activation gradient, LayerNorm gradient.

use crate::act::Act;
use crate::cpu::{Ptr, Real};
use crate::norm::{layer_norm_params_grad, layer_norm_row_grad_onto};
use std::ops::Range;

/// The end of a product. Rows are handed over in pieces of up to a register tile's width, each piece once.
pub trait Store<T>: Sync {
    /// Columns `col..` of row `row` of the product. `sums` belongs to the task.
    fn put(&self, row: usize, col: usize, product: &[T], sums: &mut [T]);

    /// Length of the sums over all rows that the tasks collect.
    fn sums(&self) -> usize {
        0
    }

    /// All columns of `rows` have been handed over.
    fn done(&self, _rows: Range<usize>, _sums: &mut [T]) {}
}

/// `alpha · product + bias`, row-major.
pub struct Affine<'a, T> {
    pub out: Ptr<T>,
    pub ld: usize,
    pub alpha: T,
    pub bias: Option<&'a [T]>,
}

impl<T: Real> Affine<'_, T> {
    /// The product alone.
    pub fn plain(out: Ptr<T>, ld: usize) -> Self {
        Self {
            out,
            ld,
            alpha: T::of(1.0),
            bias: None,
        }
    }
}

impl<T: Real> Store<T> for Affine<'_, T> {
    #[inline(always)]
    fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        // SAFETY: `out` covers the product, and each piece is written by one task.
        let out = unsafe { self.out.slice(row * self.ld + col, product.len()) };
        match self.bias {
            Some(bias) => {
                let bias = &bias[col..col + product.len()];
                for i in 0..product.len() {
                    out[i] = self.alpha * product[i] + bias[i];
                }
            }
            None => {
                for i in 0..product.len() {
                    out[i] = self.alpha * product[i];
                }
            }
        }
    }
}

/// The transpose of the product: element (r, c) goes to row c, column r.
pub struct Transposed<T> {
    pub out: Ptr<T>,
    pub ld: usize,
}

impl<T: Real> Store<T> for Transposed<T> {
    #[inline(always)]
    fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        for (i, &v) in product.iter().enumerate() {
            // SAFETY: as above, with rows and columns exchanged.
            unsafe { *self.out.at((col + i) * self.ld + row) = v };
        }
    }
}

/// `x + gamma ⊙ (product + bias)`: the end of a residual branch.
pub struct Residual<'a, T> {
    pub out: Ptr<T>,
    pub ld: usize,
    pub x: &'a [T],
    pub bias: &'a [T],
    pub gamma: Option<&'a [T]>,
}

impl<T: Real> Store<T> for Residual<'_, T> {
    #[inline(always)]
    fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        let (n, at) = (product.len(), row * self.ld + col);
        // SAFETY: `out` covers the product, and each piece is written by one task.
        let out = unsafe { self.out.slice(at, n) };
        let (x, bias) = (&self.x[at..at + n], &self.bias[col..col + n]);
        match self.gamma {
            Some(gamma) => {
                let gamma = &gamma[col..col + n];
                for i in 0..n {
                    out[i] = x[i] + gamma[i] * (product[i] + bias[i]);
                }
            }
            None => {
                for i in 0..n {
                    out[i] = x[i] + (product[i] + bias[i]);
                }
            }
        }
    }
}

/// `product ⊙ act'(h)`, written over `h`; sums: its column sums.
pub struct ActGrad<T> {
    pub h: Ptr<T>,
    pub ld: usize,
    pub act: Act,
}

impl<T: Real> Store<T> for ActGrad<T> {
    #[inline(always)]
    fn put(&self, row: usize, col: usize, product: &[T], sums: &mut [T]) {
        // SAFETY: `h` covers the product, and each piece is read and written by one task.
        let h = unsafe { self.h.slice(row * self.ld + col, product.len()) };
        self.act.grad_in_place(product, h);
        for (s, &v) in sums[col..col + product.len()].iter_mut().zip(h.iter()) {
            *s += v;
        }
    }

    fn sums(&self) -> usize {
        self.ld
    }
}

/// The product is the gradient at a LayerNorm's output: `out = residual +` the gradient at its input.
/// Sums: the gradients of the LayerNorm's weight and bias.
pub struct NormGrad<'a, T> {
    pub out: Ptr<T>,
    pub x: &'a [T],
    pub stats: &'a [(T, T)],
    pub weight: &'a [T],
    /// The gradient that reaches `x` past the branch.
    pub residual: &'a [T],
}

impl<T: Real> Store<T> for NormGrad<'_, T> {
    #[inline(always)]
    fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        // SAFETY: `out` covers the product, and each piece is written by one task.
        unsafe { self.out.slice(row * self.weight.len() + col, product.len()) }.copy_from_slice(product);
    }

    fn sums(&self) -> usize {
        2 * self.weight.len()
    }

    fn done(&self, rows: Range<usize>, sums: &mut [T]) {
        let d = self.weight.len();
        let (dw, db) = sums.split_at_mut(d);
        for r in rows {
            let at = r * d..(r + 1) * d;
            // SAFETY: the row belongs to this task, which has written all of it.
            let g = unsafe { self.out.slice(r * d, d) };
            let (mean, rstd) = self.stats[r];
            layer_norm_params_grad(&self.x[at.clone()], g, mean, rstd, dw, db);
            layer_norm_row_grad_onto(&self.x[at.clone()], self.weight, mean, rstd, &self.residual[at], g);
        }
    }
}
