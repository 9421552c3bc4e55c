//! Operands of a product: where a row of them comes from, and their copy in the order in which the kernel reads.
//!
//! What precedes a product (normalisation, activation, LayerScale) is computed while the operand is packed, so its result
//! never goes through memory.

use super::kernel::{Strided, prefetch, turn};
use crate::act::Act;
use crate::cpu::Real;
use std::ops::Range;

/// A row-major matrix, stored or computed on the way.
pub(crate) trait Rows<T>: Sync {
    /// Columns `cols` of a row: as stored, or written to the start of `buf`.
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, buf: &'a mut [T]) -> &'a [T];

    /// Where column `col` of a row is read from, for a prefetch; need not be inside the matrix.
    fn source(&self, row: usize, col: usize) -> *const T;
}

/// A stored matrix; `ld` elements from row to row.
#[derive(Clone, Copy)]
pub(crate) struct Plain<'a, T> {
    data: &'a [T],
    ld: usize,
}

impl<'a, T> Plain<'a, T> {
    pub(crate) fn new(data: &'a [T], ld: usize) -> Self {
        Self { data, ld }
    }
}

impl<T: Real> Rows<T> for Plain<'_, T> {
    #[inline(always)]
    fn segment<'a>(&'a self, row: usize, cols: Range<usize>, _: &'a mut [T]) -> &'a [T] {
        &self.data[row * self.ld + cols.start..][..cols.len()]
    }

    #[inline(always)]
    fn source(&self, row: usize, col: usize) -> *const T {
        self.data.as_ptr().wrapping_add(row * self.ld + col)
    }
}

/// Rows after LayerNorm; `stats` holds each row's mean and 1/√(var+ε).
#[derive(Clone, Copy)]
pub(crate) struct Normed<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) stats: &'a [(T, T)],
    pub(crate) weight: &'a [T],
    pub(crate) bias: &'a [T],
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
pub(crate) struct Activated<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) ld: usize,
    pub(crate) act: Act,
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
pub(crate) struct Scaled<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) ld: usize,
    pub(crate) by: Option<&'a [T]>,
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
pub(crate) struct Operand<R> {
    pub(crate) rows: R,
    pub(crate) transposed: bool,
}

/// The matrix as it is stored.
pub(crate) fn of<R>(rows: R) -> Operand<R> {
    Operand {
        rows,
        transposed: false,
    }
}

/// Its transpose.
pub(crate) fn transposed<R>(rows: R) -> Operand<R> {
    Operand { rows, transposed: true }
}

/// Elements of the buffer that [`pack`] needs beside its output.
pub(crate) const SEGMENT: usize = 2048;
/// Depth that is transposed in one go: [`SEGMENT`] over the widest panel.
const TURN: usize = SEGMENT / 32;
/// How many rows ahead of the copy memory is asked for: with a matrix row on every page the processor does not look ahead.
const AHEAD: usize = 12;

/// Copies `lanes` (rows of a left, columns of a right operand) × `depth` in panels of W lanes, depth by depth; lanes that are
/// missing in the last panel are zero. `along_depth`: the source's rows run along the depth.
#[inline(always)]
pub(crate) fn pack<T: Real, R: Rows<T>, const W: usize>(
    source: &R,
    along_depth: bool,
    lanes: Range<usize>,
    depth: Range<usize>,
    buf: &mut [T],
    out: &mut [T],
) {
    let k = depth.len();
    if k == 0 {
        return;
    }
    let panels = lanes.len().div_ceil(W);
    let out = &mut out[..panels * W * k];
    let line = 64 / size_of::<T>();
    if along_depth {
        const { assert!(W * TURN <= SEGMENT) };
        let zeros = [T::default(); TURN];
        for (p, panel) in out.chunks_exact_mut(W * k).enumerate() {
            for (part, at) in panel.chunks_mut(W * TURN).zip(depth.clone().step_by(TURN)) {
                let cols = at..(at + TURN).min(depth.end);
                let mut rows: [&[T]; W] = [&zeros; W];
                for ((i, row), buf) in rows.iter_mut().enumerate().zip(buf.chunks_exact_mut(TURN)) {
                    let lane = lanes.start + p * W + i;
                    // What comes next: the row goes on, or the panel's row below begins.
                    let next = match cols.end < depth.end {
                        true => source.source(lane, cols.end),
                        false => source.source(lane + W, depth.start),
                    };
                    for i in (0..TURN).step_by(line) {
                        prefetch(next.wrapping_add(i));
                    }
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
///
/// # Safety
/// What [`Left::block`] returns must be readable as it says for as long as `self` and `out` are borrowed.
pub(crate) unsafe trait Left<T: Real>: Sync {
    /// Elements of `out` that a block of `lanes` rows and this depth needs.
    fn room(&self, lanes: usize, depth: usize) -> usize;

    /// The block's first panel of MR rows and this depth, and the distance from panel to panel; the last panel has MR rows too.
    fn block<const MR: usize>(
        &self,
        rows: Range<usize>,
        depth: Range<usize>,
        buf: &mut [T],
        out: &mut [T],
    ) -> (Strided<T>, usize);
}

// SAFETY: the panels lie in `out`, which `pack` fills.
unsafe impl<T: Real, R: Rows<T>> Left<T> for Operand<R> {
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

/// A left side that the kernel reads where it is: element (row, depth) at `row · rs + depth · ks`. Behind the rows of a product
/// there must be more, up to a whole panel, which are read and ignored.
pub(crate) struct InPlace<'a, T> {
    data: &'a [T],
    rs: usize,
    ks: usize,
}

impl<'a, T> InPlace<'a, T> {
    pub(crate) fn new(data: &'a [T], rs: usize, ks: usize) -> Self {
        Self { data, rs, ks }
    }
}

// SAFETY: `block` asserts that the panels lie inside the data.
unsafe impl<T: Real> Left<T> for InPlace<'_, T> {
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
        let last = rows.start + rows.len().next_multiple_of(MR);
        if !rows.is_empty() && !depth.is_empty() {
            assert!((last - 1) * self.rs + (depth.end - 1) * self.ks < self.data.len());
        }
        let first = Strided {
            ptr: self
                .data
                .as_ptr()
                .wrapping_add(rows.start * self.rs + depth.start * self.ks),
            rs: self.rs,
            ks: self.ks,
        };
        (first, MR * self.rs)
    }
}
