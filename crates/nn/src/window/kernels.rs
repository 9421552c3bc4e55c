//! Attention of every head of every window on the CPU: gathered into small matrices, computed, put back.

use super::geometry::Geometry;
use crate::attention::{softmax_row, softmax_row_again, softmax_row_grad};
use crate::cpu::{Real, Shared, filled};
use crate::gemm::{Operand, Plain, of, product_here, transposed};
use rayon::prelude::*;

/// One head of one window, gathered.
#[derive(Default)]
struct Window<T> {
    q: Vec<T>,
    k: Vec<T>,
    v: Vec<T>,
    /// Queries, keys (the padded ones count as one, the last) and padded positions.
    nq: usize,
    m: usize,
    pads: usize,
    /// Where each channel of a pooled query came from: position in the window.
    from: Vec<u32>,
}

impl<T: Real> Window<T> {
    fn gather(&mut self, g: &Geometry, qkv: &[T], bias: &[T], t: usize) {
        let (b, wy, wx, head) = g.task(t);
        let (keys, queries) = (g.keys(wy, wx), g.queries(wy, wx));
        for (part, to) in [(1, &mut self.k), (2, &mut self.v)] {
            to.clear();
            for y in keys.y..keys.y + keys.h {
                for x in keys.x..keys.x + keys.w {
                    to.extend_from_slice(&qkv[g.at(part, b, y, x, head)..][..g.d]);
                }
            }
        }
        self.pads = g.wh * g.ww - keys.len();
        (self.nq, self.m) = (queries.len(), keys.len() + usize::from(self.pads > 0));
        if self.pads > 0 {
            self.k.extend_from_slice(&bias[g.width() + head * g.d..][..g.d]);
            self.v.extend_from_slice(&bias[2 * g.width() + head * g.d..][..g.d]);
        }
        self.q.clear();
        self.from.clear();
        for y in queries.y..queries.y + queries.h {
            for x in queries.x..queries.x + queries.w {
                if g.pooled() {
                    self.pool(g, qkv, bias, (b, wy, wx, head), (y - queries.y, x - queries.x));
                } else {
                    self.q.extend_from_slice(&qkv[g.at(0, b, y, x, head)..][..g.d]);
                }
            }
        }
    }

    /// Appends one pooled query: the maximum over its positions, of equal values the first in reading order.
    fn pool(
        &mut self,
        g: &Geometry,
        qkv: &[T],
        bias: &[T],
        (b, wy, wx, head): (usize, usize, usize, usize),
        (qy, qx): (usize, usize),
    ) {
        let start = self.q.len();
        for i in 0..g.py * g.px {
            let (ly, lx) = (qy * g.py + i / g.px, qx * g.px + i % g.px);
            let (y, x) = (wy * g.wh + ly, wx * g.ww + lx);
            let place = (ly * g.ww + lx) as u32;
            let v = if y < g.h && x < g.w {
                &qkv[g.at(0, b, y, x, head)..][..g.d]
            } else {
                &bias[head * g.d..][..g.d]
            };
            if i == 0 {
                self.q.extend_from_slice(v);
                self.from.resize(start + g.d, place);
                continue;
            }
            for (c, &v) in v.iter().enumerate() {
                if v > self.q[start + c] {
                    self.q[start + c] = v;
                    self.from[start + c] = place;
                }
            }
        }
    }

    /// Scores (nq, m) before the softmax.
    fn scores(&self, g: &Geometry, s: &mut Vec<T>) {
        s.resize(self.nq * self.m, T::default());
        let (q, k) = (of(Plain::new(&self.q, g.d)), transposed(Plain::new(&self.k, g.d)));
        product_here((self.nq, self.m, g.d), g.scale(), &q, &k, s);
        if self.pads > 1 {
            let more = T::of(libm::log(self.pads as f64));
            for row in s.chunks_exact_mut(self.m) {
                row[self.m - 1] += more;
            }
        }
    }
}

/// `c (m×n) = alpha · a (m×k) · b (k×n)`.
fn product<T: Real>((m, n, k): (usize, usize, usize), a: Operand<Plain<'_, T>>, b: &[T], alpha: T, c: &mut Vec<T>) {
    c.resize(m * n, T::default());
    product_here((m, n, k), alpha, &a, &of(Plain::new(b, n)), c);
}

/// Output (B, Ho, Wo, C), and the softmax's row maxima and reciprocal sums (B, heads, Ho·Wo).
pub(crate) fn forward<T: Real>(g: &Geometry, qkv: &[T], bias: &[T]) -> (Vec<T>, Vec<(T, T)>) {
    let mut out = Vec::new();
    // SAFETY: the windows cover the output (`Geometry::new`), and every query has its place in both.
    let stats = unsafe {
        filled(g.b * g.oh * g.ow * g.heads, |stats| {
            out = filled(g.b * g.oh * g.ow * g.width(), |out| attend(g, qkv, bias, &out, &stats));
        })
    };
    (out, stats)
}

/// Writes output and statistics. A query belongs to one window, which is one task's.
fn attend<T: Real>(g: &Geometry, qkv: &[T], bias: &[T], out: &Shared<'_, T>, stats: &Shared<'_, (T, T)>) {
    (0..g.tasks()).into_par_iter().for_each_init(
        || (Window::<T>::default(), Vec::new(), Vec::new()),
        |(win, s, o), t| {
            win.gather(g, qkv, bias, t);
            if win.nq == 0 {
                return;
            }
            win.scores(g, s);
            let (b, wy, wx, head) = g.task(t);
            let r = g.queries(wy, wx);
            for (i, row) in s.chunks_exact_mut(win.m).enumerate() {
                let at = (r.y + i / r.w) * g.ow + r.x + i % r.w;
                // SAFETY: a query belongs to one window.
                unsafe { stats.slice((b * g.heads + head) * g.oh * g.ow + at, 1)[0] = softmax_row(row) };
            }
            product((win.nq, g.d, win.m), of(Plain::new(s, win.m)), &win.v, T::of(1.0), o);
            for (i, row) in o.chunks_exact(g.d).enumerate() {
                let at = g.out(b, r.y + i / r.w, r.x + i % r.w, head);
                // SAFETY: as above.
                unsafe { out.slice(at, g.d) }.copy_from_slice(row);
            }
        },
    );
}

/// Buffers of the backward pass.
#[derive(Default)]
struct Scratch<T> {
    win: Window<T>,
    p: Vec<T>,
    dp: Vec<T>,
    go: Vec<T>,
    dq: Vec<T>,
    dk: Vec<T>,
    dv: Vec<T>,
}

/// Gradients of `qkv` and, where there is padding, each task's share of the bias's: q | k | v of its head.
pub(crate) fn backward<T: Real>(g: &Geometry, qkv: &[T], bias: &[T], stats: &[(T, T)], dout: &[T]) -> (Vec<T>, Vec<T>) {
    let mut shares = vec![T::default(); if g.padded() { g.tasks() * 3 * g.d } else { 0 }];
    let pb = Shared::new(&mut shares);
    let task = |s: &mut Scratch<T>, t: usize, grad: &Shared<'_, T>| {
        s.win.gather(g, qkv, bias, t);
        let (b, wy, wx, head) = g.task(t);
        let (r, win) = (g.queries(wy, wx), &s.win);
        s.go.clear();
        for i in 0..win.nq {
            let at = g.out(b, r.y + i / r.w, r.x + i % r.w, head);
            s.go.extend_from_slice(&dout[at..at + g.d]);
        }
        win.scores(g, &mut s.p);
        s.dp.resize(win.nq * win.m, T::default());
        // dP (nq×m) = dO (nq×d) · Vᵀ (d×m).
        let (left, right) = (of(Plain::new(&s.go, g.d)), transposed(Plain::new(&win.v, g.d)));
        product_here((win.nq, win.m, g.d), T::of(1.0), &left, &right, &mut s.dp);
        let rows = s.p.chunks_exact_mut(win.m).zip(s.dp.chunks_exact_mut(win.m));
        for (i, (p, dp)) in rows.enumerate() {
            let at = (r.y + i / r.w) * g.ow + r.x + i % r.w;
            let (max, inv) = stats[(b * g.heads + head) * g.oh * g.ow + at];
            softmax_row_again(p, max, inv);
            softmax_row_grad(p, dp);
        }
        let (mdn, one) = ((win.m, g.d, win.nq), T::of(1.0));
        let (p, dp) = (Plain::new(&s.p, win.m), Plain::new(&s.dp, win.m));
        product(mdn, transposed(p), &s.go, one, &mut s.dv);
        product(mdn, transposed(dp), &win.q, g.scale(), &mut s.dk);
        product((win.nq, g.d, win.m), of(dp), &win.k, g.scale(), &mut s.dq);
        let share = if g.padded() {
            // SAFETY: each task has its own piece.
            unsafe { pb.slice(t * 3 * g.d, 3 * g.d) }
        } else {
            &mut []
        };
        // SAFETY: each task has its own window and head.
        unsafe { scatter(g, s, t, grad, share) };
    };
    // SAFETY: every position of the map belongs to one window, and q, k and v of it are written.
    let grad = unsafe {
        filled(qkv.len(), |grad| {
            (0..g.tasks())
                .into_par_iter()
                .for_each_init(Scratch::<T>::default, |s, t| task(s, t, &grad));
        })
    };
    (grad, shares)
}

/// Writes one task's gradients to their places in the map, and what belongs to padding into `share`.
///
/// # Safety
/// Nobody else may use the gradient of the task's head in its window.
unsafe fn scatter<T: Real>(g: &Geometry, s: &Scratch<T>, t: usize, grad: &Shared<'_, T>, share: &mut [T]) {
    let (b, wy, wx, head) = g.task(t);
    let keys = g.keys(wy, wx);
    // SAFETY: a position of the map belongs to one window, and one such slice is used at a time.
    let cell = |part, y, x| unsafe { grad.slice(g.at(part, b, y, x, head), g.d) };
    for i in 0..keys.len() {
        let (y, x) = (keys.y + i / keys.w, keys.x + i % keys.w);
        cell(1, y, x).copy_from_slice(&s.dk[i * g.d..][..g.d]);
        cell(2, y, x).copy_from_slice(&s.dv[i * g.d..][..g.d]);
        if g.pooled() {
            cell(0, y, x).fill(T::default());
        } else {
            cell(0, y, x).copy_from_slice(&s.dq[i * g.d..][..g.d]);
        }
    }
    if g.pooled() {
        for (i, (&dq, &from)) in s.dq.iter().zip(&s.win.from).enumerate() {
            let (y, x) = (wy * g.wh + from as usize / g.ww, wx * g.ww + from as usize % g.ww);
            if y < g.h && x < g.w {
                cell(0, y, x)[i % g.d] += dq;
            } else {
                share[i % g.d] += dq;
            }
        }
    }
    if s.win.pads > 0 {
        share[g.d..2 * g.d].copy_from_slice(&s.dk[keys.len() * g.d..][..g.d]);
        share[2 * g.d..].copy_from_slice(&s.dv[keys.len() * g.d..][..g.d]);
    }
}
