//! Operands of a product: where a row of them comes from, and their copy in the order in which the kernel reads.
//!
//! What precedes a product (normalisation, activation, LayerScale) is computed while the operand is packed, so its result
//! never goes through memory.

use super::kernel::{Strided, prefetch, turn};
use crate::act::Act;
use crate::cpu::Real;
use std::marker::PhantomData;
use std::ops::Range;

/// A row-major matrix, stored or computed on the way.
pub trait Rows<T>: Sync {
    /// Columns `cols` of a row: as stored, or written to the start of `buf`.
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, buf: &'a mut [T]) -> &'a [T];

    /// Where column `col` of a row is read from, for a prefetch; need not be inside the matrix.
    fn source(&self, row: usize, col: usize) -> *const T;
}

/// A stored matrix; `ld` elements from row to row.
#[derive(Clone, Copy)]
pub struct Plain<'a, T> {
    ptr: *const T,
    ld: usize,
    life: PhantomData<&'a T>,
}
// SAFETY: it is only read.
unsafe impl<T: Sync> Sync for Plain<'_, T> {}

impl<'a, T> Plain<'a, T> {
    pub fn new(data: &'a [T], ld: usize) -> Self {
        Self {
            ptr: data.as_ptr(),
            ld,
            life: PhantomData,
        }
    }

    /// # Safety
    /// Every row that is asked for must lie inside the buffer behind `ptr`, and nobody may write to it meanwhile.
    pub unsafe fn raw(ptr: *const T, ld: usize) -> Self {
        Self {
            ptr,
            ld,
            life: PhantomData,
        }
    }
}

impl<T: Real> Rows<T> for Plain<'_, T> {
    #[inline(always)]
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, _: &'a mut [T]) -> &'a [T] {
        // SAFETY: the matrix covers the rows and columns of the product; `raw` passes this on to its caller.
        unsafe { std::slice::from_raw_parts(self.ptr.add(row * self.ld + cols.start), cols.len()) }
    }

    #[inline(always)]
    fn source(&self, row: usize, col: usize) -> *const T {
        self.ptr.wrapping_add(row * self.ld + col)
    }
}

/// Rows after LayerNorm; `stats` holds each row's mean and 1/√(var+ε).
#[derive(Clone, Copy)]
pub struct Normed<'a, T> {
    pub x: &'a [T],
    pub stats: &'a [(T, T)],
    pub weight: &'a [T],
    pub bias: &'a [T],
}

impl<T: Real> Rows<T> for Normed<'_, T> {
    #[inline(always)]
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, buf: &'a mut [T]) -> &'a [T] {
        let (mean, rstd) = self.stats[row];
        let x = &self.x[row * self.weight.len()..][cols.clone()];
        let (w, b) = (&self.weight[cols.clone()], &self.bias[cols]);
        let out = &mut buf[..x.len()];
        for i in 0..out.len().min(x.len()).min(w.len()).min(b.len()) {
            out[i] = (x[i] - mean) * rstd * w[i] + b[i];
        }
        out
    }

    #[inline(always)]
    fn source(&self, row: usize, col: usize) -> *const T {
        self.x.as_ptr().wrapping_add(row * self.weight.len() + col)
    }
}

/// Rows after the activation of an MLP.
#[derive(Clone, Copy)]
pub struct Activated<'a, T> {
    pub x: &'a [T],
    pub ld: usize,
    pub act: Act,
}

impl<T: Real> Rows<T> for Activated<'_, T> {
    #[inline(always)]
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, buf: &'a mut [T]) -> &'a [T] {
        let x = &self.x[row * self.ld..][cols];
        let out = &mut buf[..x.len()];
        self.act.apply(x, out);
        out
    }

    #[inline(always)]
    fn source(&self, row: usize, col: usize) -> *const T {
        self.x.as_ptr().wrapping_add(row * self.ld + col)
    }
}

/// Rows times one factor each; a missing factor is 1.
#[derive(Clone, Copy)]
pub struct Scaled<'a, T> {
    pub x: &'a [T],
    pub ld: usize,
    pub by: Option<&'a [T]>,
}

impl<T: Real> Rows<T> for Scaled<'_, T> {
    #[inline(always)]
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, buf: &'a mut [T]) -> &'a [T] {
        let x = &self.x[row * self.ld..][cols];
        let Some(by) = self.by else { return x };
        let out = &mut buf[..x.len()];
        for (o, &v) in out.iter_mut().zip(x) {
            *o = v * by[row];
        }
        out
    }

    #[inline(always)]
    fn source(&self, row: usize, col: usize) -> *const T {
        self.x.as_ptr().wrapping_add(row * self.ld + col)
    }
}

/// One side of a product: a row-major matrix, or its transpose.
#[derive(Clone, Copy)]
pub struct Operand<R> {
    pub rows: R,
    pub transposed: bool,
}

/// The matrix as it is stored.
pub fn of<R>(rows: R) -> Operand<R> {
    Operand {
        rows,
        transposed: false,
    }
}

/// Its transpose.
pub fn transposed<R>(rows: R) -> Operand<R> {
    Operand { rows, transposed: true }
}

/// Elements of the buffer that [`pack`] needs beside its output.
pub const SEGMENT: usize = 2048;
/// Depth that is transposed in one go: [`SEGMENT`] over the widest panel.
const TURN: usize = SEGMENT / 32;
/// How many rows ahead of the copy memory is asked for: with a matrix row on every page the processor does not look ahead.
const AHEAD: usize = 12;

/// Copies `lanes` (rows of a left, columns of a right operand) × `depth` in panels of W lanes, depth by depth; lanes that are
/// missing in the last panel are zero. `along_depth`: the source's rows run along the depth.
#[inline(always)]
pub fn pack<T: Real, R: Rows<T>, const W: usize>(
    source: &R,
    along_depth: bool,
    lanes: Range<usize>,
    depth: Range<usize>,
    buf: &mut [T],
    out: &mut [T],
) {
    let k = depth.len();
    let panels = lanes.len().div_ceil(W);
    let out = &mut out[..panels * W * k];
    if along_depth {
        const { assert!(W * TURN <= SEGMENT) };
        let zeros = [T::default(); TURN];
        for (p, panel) in out.chunks_exact_mut(W * k).enumerate() {
            for (part, at) in panel.chunks_mut(W * TURN).zip(depth.clone().step_by(TURN)) {
                let cols = at..(at + TURN).min(depth.end);
                let mut rows: [&[T]; W] = [&zeros; W];
                for ((i, row), buf) in rows.iter_mut().enumerate().zip(buf.chunks_exact_mut(TURN)) {
                    let lane = lanes.start + p * W + i;
                    if lane < lanes.end {
                        *row = source.segment(lane, cols.clone(), buf);
                    }
                }
                turn::<T, W>(&rows, cols.len(), part);
            }
        }
        return;
    }
    let whole = lanes.len() / W;
    let line = 64 / size_of::<T>();
    for (l, at) in depth.enumerate() {
        for col in lanes.clone().step_by(line) {
            prefetch(source.source(at + AHEAD, col));
        }
        let s = source.segment(at, lanes.clone(), buf);
        for p in 0..whole {
            out[(p * k + l) * W..][..W].copy_from_slice(&s[p * W..][..W]);
        }
        if whole < panels {
            let last = &mut out[(whole * k + l) * W..][..W];
            last.fill(T::default());
            last[..lanes.len() - whole * W].copy_from_slice(&s[whole * W..]);
        }
    }
}

/// The left side of a product, block by block.
pub trait Left<T: Real>: Sync {
    /// Elements of `out` that a block of `lanes` rows and this depth needs.
    fn room(&self, lanes: usize, depth: usize) -> usize;

    /// The block's first panel, and the distance from panel to panel.
    fn block<const MR: usize>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        buf: &mut [T],
        out: &mut [T],
    ) -> (Strided<T>, usize);
}

impl<T: Real, R: Rows<T>> Left<T> for Operand<R> {
    fn room(&self, lanes: usize, depth: usize) -> usize {
        (lanes + 16) * depth
    }

    #[inline(always)]
    fn block<const MR: usize>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        buf: &mut [T],
        out: &mut [T],
    ) -> (Strided<T>, usize) {
        let k = depth.len();
        pack::<T, R, MR>(&self.rows, !self.transposed, rows, depth, buf, out);
        let first = Strided {
            ptr: out.as_ptr(),
            rs: 1,
            ks: MR,
        };
        (first, MR * k)
    }
}

/// A left side that the kernel reads where it is.
pub struct InPlace<T>(Strided<T>);
// SAFETY: it is only read.
unsafe impl<T: Sync> Sync for InPlace<T> {}

impl<T> InPlace<T> {
    /// # Safety
    /// The buffer must have 15 readable rows more than the product uses, and nobody may write to it meanwhile.
    pub unsafe fn new(ptr: *const T, rs: usize, ks: usize) -> Self {
        Self(Strided { ptr, rs, ks })
    }
}

impl<T: Real> Left<T> for InPlace<T> {
    fn room(&self, _: usize, _: usize) -> usize {
        0
    }

    #[inline(always)]
    fn block<const MR: usize>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        _: &mut [T],
        _: &mut [T],
    ) -> (Strided<T>, usize) {
        let Strided { ptr, rs, ks } = self.0;
        // SAFETY: inside the buffer, see `new`.
        let ptr = unsafe { ptr.add(rows.start * rs + depth.start * ks) };
        (Strided { ptr, rs, ks }, MR * rs)
    }
}
