//! The inner loops of the selective scan: one chunk of steps over one block of channels.
//!
//! Buffers are (steps, width) with the channels side by side; they are passed as separate slices, so that the compiler
//! knows they do not overlap and vectorises over the channels.

use crate::cpu::{Real, lane_sum, simd_fn};

/// What a chunk reads, in scanning order.
#[derive(Clone, Copy)]
pub(crate) struct Steps<'a, T> {
    /// Channels.
    pub width: usize,
    /// States of a channel.
    pub n: usize,
    /// Δ before bias and softplus, (steps, width).
    pub raw: &'a [T],
    /// (steps, width).
    pub u: &'a [T],
    /// (steps, 2N): B then C.
    pub bc: &'a [T],
    /// (N, width).
    pub a: &'a [T],
    /// (width).
    pub skip: &'a [T],
    /// (width).
    pub bias: &'a [T],
}

/// Values of a chunk that the backward pass recomputes.
#[derive(Default)]
pub(crate) struct Chunk<T> {
    /// Δ and its derivative by the raw value, (steps, width).
    dt: Vec<T>,
    slope: Vec<T>,
    /// exp(Δ·A), (steps, N, width).
    decay: Vec<T>,
    /// States before and after every step, (steps + 1, N, width).
    h: Vec<T>,
    /// dΔ of one step, (width).
    ddt: Vec<T>,
}

/// What the backward pass of a chunk writes, and what it sums over a direction.
#[derive(Default)]
pub(crate) struct Grads<T> {
    /// (steps, width).
    pub u: Vec<T>,
    /// (steps, width).
    pub raw: Vec<T>,
    /// (steps, 2N).
    pub bc: Vec<T>,
    /// Gradient of the states that the next chunk starts from, (N, width); carried from chunk to chunk.
    h: Vec<T>,
    /// Sums: (N, width), (width), (width).
    pub a: Vec<T>,
    pub skip: Vec<T>,
    pub bias: Vec<T>,
}

impl<T: Real> Grads<T> {
    /// Clears the sums and the carried gradient.
    pub(crate) fn start(&mut self, n: usize, width: usize) {
        for (v, len) in [
            (&mut self.h, n * width),
            (&mut self.a, n * width),
            (&mut self.skip, width),
            (&mut self.bias, width),
        ] {
            v.clear();
            v.resize(len, T::default());
        }
    }
}

/// softplus(x), and e^−|x| on the way.
#[inline(always)]
fn softplus<T: Real>(x: T) -> (T, T) {
    let zero = T::default();
    let z = (if x > zero { -x } else { x }).exp_();
    ((if x > zero { x } else { zero }) + z.ln_1p_(), z)
}

simd_fn! {
    fn forward<T>(
        n: usize, w: usize, raw: &[T], u: &[T], bc: &[T], a: &[T], skip: &[T], bias: &[T],
        dt: &mut [T], h: &mut [T], y: &mut [T],
    ) {
        let (skip, bias, dt) = (&skip[..w], &bias[..w], &mut dt[..w]);
        for t in 0..raw.len() / w {
            let (raw, u, y) = (&raw[t * w..][..w], &u[t * w..][..w], &mut y[t * w..][..w]);
            for i in 0..w {
                dt[i] = softplus(raw[i] + bias[i]).0;
                y[i] = skip[i] * u[i];
            }
            for s in 0..n {
                let (b, c) = (bc[t * 2 * n + s], bc[t * 2 * n + n + s]);
                let (a, h) = (&a[s * w..][..w], &mut h[s * w..][..w]);
                for i in 0..w {
                    let v = (dt[i] * a[i]).exp_() * h[i] + dt[i] * u[i] * b;
                    h[i] = v;
                    y[i] += c * v;
                }
            }
        }
    }
}

/// Runs the steps from the states `h` (N, width), which are left at their end; writes y (steps, width).
pub(crate) fn steps_forward<T: Real>(s: Steps<'_, T>, dt: &mut Vec<T>, h: &mut [T], y: &mut [T]) {
    dt.resize(s.width, T::default());
    forward(s.n, s.width, s.raw, s.u, s.bc, s.a, s.skip, s.bias, dt, h, y);
}

simd_fn! {
    /// Fills Δ, its slope, the decays and the states; `states` starts with the states before the first step, which are
    /// also in `h`.
    fn recompute<T>(
        n: usize, w: usize, raw: &[T], u: &[T], bc: &[T], a: &[T], bias: &[T],
        h: &mut [T], dt: &mut [T], slope: &mut [T], decay: &mut [T], states: &mut [T],
    ) {
        let one = T::of(1.0);
        let bias = &bias[..w];
        for t in 0..raw.len() / w {
            let (raw, u) = (&raw[t * w..][..w], &u[t * w..][..w]);
            let (dt, slope) = (&mut dt[t * w..][..w], &mut slope[t * w..][..w]);
            for i in 0..w {
                let x = raw[i] + bias[i];
                let (d, z) = softplus(x);
                dt[i] = d;
                slope[i] = (if x > T::default() { one } else { z }) / (one + z);
            }
            for s in 0..n {
                let b = bc[t * 2 * n + s];
                let (a, h) = (&a[s * w..][..w], &mut h[s * w..][..w]);
                let at = (t * n + s) * w;
                let (decay, state) = (&mut decay[at..][..w], &mut states[at + n * w..][..w]);
                for i in 0..w {
                    let e = (dt[i] * a[i]).exp_();
                    let v = e * h[i] + dt[i] * u[i] * b;
                    decay[i] = e;
                    h[i] = v;
                    state[i] = v;
                }
            }
        }
    }
}

simd_fn! {
    /// Runs the steps backwards; `g` (N, width) is the gradient of the states, of the last at entry, of the first at exit.
    fn reverse<T>(
        n: usize, w: usize, u: &[T], bc: &[T], a: &[T], skip: &[T], dy: &[T],
        dt: &[T], slope: &[T], decay: &[T], states: &[T],
        g: &mut [T], du: &mut [T], draw: &mut [T], dbc: &mut [T],
        da: &mut [T], dskip: &mut [T], dbias: &mut [T], ddt: &mut [T],
    ) {
        let (skip, dskip, dbias, ddt) = (&skip[..w], &mut dskip[..w], &mut dbias[..w], &mut ddt[..w]);
        for t in (0..u.len() / w).rev() {
            let (u, dy, dt, slope) = (&u[t * w..][..w], &dy[t * w..][..w], &dt[t * w..][..w], &slope[t * w..][..w]);
            let (du, draw) = (&mut du[t * w..][..w], &mut draw[t * w..][..w]);
            for i in 0..w {
                du[i] = skip[i] * dy[i];
                dskip[i] += u[i] * dy[i];
                ddt[i] = T::default();
            }
            for s in 0..n {
                let (b, c) = (bc[t * 2 * n + s], bc[t * 2 * n + n + s]);
                let at = (t * n + s) * w;
                let (decay, before, after) = (&decay[at..][..w], &states[at..][..w], &states[at + n * w..][..w]);
                let (a, g, da) = (&a[s * w..][..w], &mut g[s * w..][..w], &mut da[s * w..][..w]);
                dbc[t * 2 * n + n + s] = lane_sum(w, |i| after[i] * dy[i]);
                for i in 0..w {
                    g[i] += c * dy[i];
                }
                dbc[t * 2 * n + s] = lane_sum(w, |i| g[i] * (dt[i] * u[i]));
                for i in 0..w {
                    let carried = g[i] * decay[i];
                    let through = carried * before[i];
                    du[i] += g[i] * dt[i] * b;
                    ddt[i] += g[i] * u[i] * b + through * a[i];
                    da[i] += through * dt[i];
                    g[i] = carried;
                }
            }
            for i in 0..w {
                let d = ddt[i] * slope[i];
                draw[i] = d;
                dbias[i] += d;
            }
        }
    }
}

/// Recomputes the steps from the states `h` (N, width), which are left at their end, and runs them backwards with
/// dy (steps, width).
pub(crate) fn steps_backward<T: Real>(s: Steps<'_, T>, h: &mut [T], dy: &[T], k: &mut Chunk<T>, g: &mut Grads<T>) {
    let (n, w) = (s.n, s.width);
    let steps = s.raw.len() / w;
    for (v, len) in [
        (&mut k.dt, steps * w),
        (&mut k.slope, steps * w),
        (&mut k.decay, steps * n * w),
        (&mut k.h, (steps + 1) * n * w),
        (&mut k.ddt, w),
        (&mut g.u, steps * w),
        (&mut g.raw, steps * w),
        (&mut g.bc, steps * 2 * n),
    ] {
        v.resize(len, T::default());
    }
    k.h[..n * w].copy_from_slice(h);
    recompute(
        n,
        w,
        s.raw,
        s.u,
        s.bc,
        s.a,
        s.bias,
        h,
        &mut k.dt,
        &mut k.slope,
        &mut k.decay,
        &mut k.h,
    );
    reverse(
        n,
        w,
        s.u,
        s.bc,
        s.a,
        s.skip,
        dy,
        &k.dt,
        &k.slope,
        &k.decay,
        &k.h,
        &mut g.h,
        &mut g.u,
        &mut g.raw,
        &mut g.bc,
        &mut g.a,
        &mut g.skip,
        &mut g.bias,
        &mut k.ddt,
    );
}
