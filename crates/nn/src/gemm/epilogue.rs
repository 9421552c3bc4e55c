//! What becomes of a product on its way to memory: bias, residual, activation gradient, LayerNorm gradient.

use crate::act::Act;
use crate::cpu::{Real, Shared};
use crate::norm::{layer_norm_params_grad, layer_norm_row_grad_onto};
use std::ops::Range;

/// The end of a product. Rows are handed over in pieces of up to a register tile's width, each piece once.
pub(crate) trait Epilogue<T>: Sync {
    /// Columns `col..` of row `row` of the product. `sums` belongs to the task.
    ///
    /// # Safety
    /// No two threads may hand over the same elements of an epilogue at once.
    unsafe fn put(&self, row: usize, col: usize, product: &[T], sums: &mut [T]);

    /// Length of the sums over all rows that the tasks collect.
    fn sums(&self) -> usize {
        0
    }

    /// All columns of `rows` have been handed over.
    ///
    /// # Safety
    /// All of them were handed over by this thread, and are by no other.
    unsafe fn done(&self, _rows: Range<usize>, _sums: &mut [T]) {}
}

/// `alpha · product + bias`, row-major.
pub(crate) struct Affine<'a, T> {
    pub(crate) out: Shared<'a, T>,
    pub(crate) ld: usize,
    pub(crate) alpha: T,
    pub(crate) bias: Option<&'a [T]>,
}

impl<'a, T: Real> Affine<'a, T> {
    /// The product alone.
    pub(crate) fn plain(out: Shared<'a, T>, ld: usize) -> Self {
        Self {
            out,
            ld,
            alpha: T::of(1.0),
            bias: None,
        }
    }
}

impl<T: Real> Epilogue<T> for Affine<'_, T> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        // SAFETY: each piece is handed over by one thread, and is written here.
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
pub(crate) struct Transposed<'a, T> {
    pub(crate) out: Shared<'a, T>,
    pub(crate) ld: usize,
}

impl<T: Real> Epilogue<T> for Transposed<'_, T> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        for (i, &v) in product.iter().enumerate() {
            // SAFETY: as above, with rows and columns exchanged.
            unsafe { self.out.slice((col + i) * self.ld + row, 1)[0] = v };
        }
    }
}

/// `x + gamma ⊙ (product + bias)`: the end of a residual branch.
pub(crate) struct Residual<'a, T> {
    pub(crate) out: Shared<'a, T>,
    pub(crate) ld: usize,
    pub(crate) x: &'a [T],
    pub(crate) bias: &'a [T],
    pub(crate) gamma: Option<&'a [T]>,
}

impl<T: Real> Epilogue<T> for Residual<'_, T> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        let (n, at) = (product.len(), row * self.ld + col);
        // SAFETY: each piece is handed over by one thread, and is written here.
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
pub(crate) struct ActGrad<'a, T> {
    pub(crate) h: Shared<'a, T>,
    pub(crate) ld: usize,
    pub(crate) act: Act,
}

impl<T: Real> Epilogue<T> for ActGrad<'_, T> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, col: usize, product: &[T], sums: &mut [T]) {
        // SAFETY: each piece is handed over by one thread; `h` is initialised.
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
pub(crate) struct NormGrad<'a, T> {
    pub(crate) out: Shared<'a, T>,
    pub(crate) x: &'a [T],
    pub(crate) stats: &'a [(T, T)],
    pub(crate) weight: &'a [T],
    /// The gradient that reaches `x` past the branch.
    pub(crate) residual: &'a [T],
}

impl<T: Real> Epilogue<T> for NormGrad<'_, T> {
    #[inline(always)]
    unsafe fn put(&self, row: usize, col: usize, product: &[T], _: &mut [T]) {
        // SAFETY: each piece is handed over by one thread, and is written here.
        unsafe { self.out.slice(row * self.weight.len() + col, product.len()) }.copy_from_slice(product);
    }

    fn sums(&self) -> usize {
        2 * self.weight.len()
    }

    unsafe fn done(&self, rows: Range<usize>, sums: &mut [T]) {
        let d = self.weight.len();
        let (dw, db) = sums.split_at_mut(d);
        for r in rows {
            let at = r * d..(r + 1) * d;
            // SAFETY: the row is this thread's, which has written all of it.
            let g = unsafe { self.out.slice(r * d, d) };
            let (mean, rstd) = self.stats[r];
            layer_norm_params_grad(&self.x[at.clone()], g, mean, rstd, dw, db);
            layer_norm_row_grad_onto(&self.x[at.clone()], self.weight, mean, rstd, &self.residual[at], g);
        }
    }
}
