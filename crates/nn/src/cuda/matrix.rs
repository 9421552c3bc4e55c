//! Matrices and products as BLAS describes them.

use crate::cpu::{Real, Shared};
use crate::gemm::{Affine, Operand, Plain, product};
use candle_core::{Layout, Result, bail};

/// What a product that cuBLASLt refuses is called in its error.
pub(crate) const NO_ALGORITHM: &str = "cuBLASLt has no algorithm";

/// A matrix in memory, column after column, `leading` elements apart; its transpose is meant where `transposed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub leading: usize,
    pub transposed: bool,
    /// Elements from one matrix of the batch to the next.
    pub step: usize,
}

impl Matrix {
    /// The transpose of the last two axes of `l`: where these lie row after row, that is how BLAS reads them.
    pub(super) fn transpose_of(l: &Layout) -> Result<Self> {
        let (dims, strides) = (l.dims(), l.stride());
        let r = dims.len() - 2;
        let (rows, columns, major, minor) = (dims[r], dims[r + 1], strides[r], strides[r + 1]);
        let Some(step) = step(&dims[..r], &strides[..r]) else {
            bail!("a product's leading axes must be one, its layout is {l:?}")
        };
        if (minor == 1 || columns == 1) && (major >= columns || rows == 1) {
            Ok(Self {
                rows: columns,
                columns: rows,
                leading: if rows == 1 { columns } else { major },
                transposed: false,
                step,
            })
        } else if (major == 1 || rows == 1) && (minor >= rows || columns == 1) {
            Ok(Self {
                rows,
                columns,
                leading: if columns == 1 { rows } else { minor },
                transposed: true,
                step,
            })
        } else {
            bail!("a product's operand must be a matrix or its transpose, its layout is {l:?}")
        }
    }

    /// Its transpose by rows, the `i`-th of a batch in `data`.
    pub(super) fn by_rows<'a, T>(&self, data: &'a [T], i: usize) -> Operand<Plain<'a, T>> {
        Operand {
            rows: Plain::new(&data[i * self.step..], self.leading),
            transposed: self.transposed,
        }
    }

    /// Elements from the first of a batch to the end of the last.
    pub(crate) fn extent(&self, batch: usize) -> usize {
        (batch - 1) * self.step + (self.columns - 1) * self.leading + self.rows
    }
}

/// The stride of these axes taken as one; 0 where there is but one matrix.
fn step(dims: &[usize], strides: &[usize]) -> Option<usize> {
    let mut axes = dims.iter().zip(strides).rev().filter(|(d, _)| **d != 1);
    let Some((&d, &first)) = axes.next() else {
        return Some(0);
    };
    let mut next = first * d;
    for (&d, &s) in axes {
        if s != next {
            return None;
        }
        next = s * d;
    }
    Some(first)
}

/// `batch` products D = A · B.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Product {
    pub a: Matrix,
    pub b: Matrix,
    pub d: Matrix,
    pub batch: usize,
}

impl Product {
    /// `x · y` by rows, which is yᵀ · xᵀ by columns: A is `y`, B is `x`.
    pub(super) fn new(x: &Layout, y: &Layout) -> Result<Self> {
        let (xd, yd) = (x.dims(), y.dims());
        let rank = xd.len();
        if rank < 2 || yd.len() != rank || xd[rank - 1] != yd[rank - 2] || xd[..rank - 2] != yd[..rank - 2] {
            bail!("product of {xd:?} and {yd:?}");
        }
        if xd.contains(&0) || yd.contains(&0) {
            bail!("an empty product, of {xd:?} and {yd:?}");
        }
        let (m, n) = (xd[rank - 2], yd[rank - 1]);
        Ok(Self {
            a: Matrix::transpose_of(y)?,
            b: Matrix::transpose_of(x)?,
            d: Matrix {
                rows: n,
                columns: m,
                leading: n,
                transposed: false,
                step: m * n,
            },
            batch: xd[..rank - 2].iter().product(),
        })
    }

    /// The length of the sums.
    pub(super) fn depth(&self) -> usize {
        if self.a.transposed { self.a.rows } else { self.a.columns }
    }

    /// The same on the CPU, of the elements of A and B.
    pub(super) fn multiply<T: Real>(&self, a: &[T], b: &[T]) -> Result<Vec<T>> {
        if a.len() < self.a.extent(self.batch) || b.len() < self.b.extent(self.batch) {
            bail!("{self:?} leaves its operands");
        }
        let mut d = vec![T::default(); self.d.extent(self.batch)];
        for i in 0..self.batch {
            // By rows, so transposed once more.
            let (x, y) = (self.b.by_rows(b, i), self.a.by_rows(a, i));
            let to = Shared::new(&mut d[i * self.d.step..]);
            let sizes = (self.d.columns, self.d.rows, self.depth());
            product(sizes, &x, &y, &Affine::plain(to, self.d.leading));
        }
        Ok(d)
    }
}
