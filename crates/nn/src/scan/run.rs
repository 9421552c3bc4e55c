//! The scan over a whole batch on the CPU: gathers chunks in scanning order, runs the inner loops, puts results in place.

use super::kernels::{Chunk, Grads, Steps, steps_backward, steps_forward};
use super::orders::Orders;
use crate::cpu::{self, Real, Shared, filled, par_filled};
use crate::gemm::{Plain, of, product_here, transposed};
use rayon::prelude::*;

/// Steps between two stored states.
const CHUNK: usize = 64;
/// Channels of a task.
const BLOCK: usize = 64;

/// Sizes of one call.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub b: usize,
    pub l: usize,
    pub d: usize,
    /// Directions.
    pub k: usize,
    /// States a channel.
    pub n: usize,
    /// Rank of the step sizes.
    pub r: usize,
}

impl Sizes {
    /// Values of a direction in a row of `projected`.
    fn q(&self) -> usize {
        self.r + 2 * self.n
    }

    /// Values of a channel in `parameters`.
    fn p(&self) -> usize {
        self.r + self.n + 2
    }

    fn blocks(&self) -> usize {
        self.d.div_ceil(BLOCK)
    }

    fn chunks(&self) -> usize {
        self.l.div_ceil(CHUNK)
    }

    /// (image, first channel, channels) of a task.
    fn task(&self, t: usize) -> (usize, usize, usize) {
        let d0 = t % self.blocks() * BLOCK;
        (t / self.blocks(), d0, BLOCK.min(self.d - d0))
    }

    /// Where the states of a chunk's start are kept, (N, D) for each image, direction and chunk.
    fn state(&self, b: usize, k: usize, c: usize) -> usize {
        ((b * self.k + k) * self.chunks() + c) * self.n * self.d
    }
}

/// The parameters of one direction of one block of channels.
struct Channels<'a, T> {
    /// A, (N, width).
    a: Vec<T>,
    skip: Vec<T>,
    bias: Vec<T>,
    /// W_Δ (width, R) inside the packed parameters, whose rows are longer.
    weight: &'a [T],
}

impl<'a, T: Real> Channels<'a, T> {
    fn new(z: &Sizes, parameters: &'a [T], k: usize, d0: usize, width: usize) -> Self {
        let rows = &parameters[(k * z.d + d0) * z.p()..][..width * z.p()];
        let column = |i: usize| rows.chunks_exact(z.p()).map(move |row| row[i]);
        Self {
            a: (0..z.n).flat_map(|n| column(z.r + n).map(|v| -v.exp_())).collect(),
            skip: column(z.r + z.n).collect(),
            bias: column(z.r + z.n + 1).collect(),
            weight: rows,
        }
    }
}

/// What one chunk of a scan reads, gathered in scanning order.
#[derive(Default)]
struct Gathered<T> {
    /// (steps, width).
    u: Vec<T>,
    /// (steps, R).
    step: Vec<T>,
    /// (steps, 2N): B then C.
    bc: Vec<T>,
    /// Δ before bias and softplus, (steps, width).
    raw: Vec<T>,
}

impl<T: Real> Gathered<T> {
    #[allow(clippy::too_many_arguments)]
    fn fill(
        &mut self,
        z: &Sizes,
        (u, projected): (&[T], &[T]),
        channels: &Channels<'_, T>,
        b: usize,
        k: usize,
        (d0, width): (usize, usize),
        order: &[u32],
    ) {
        self.u.clear();
        self.step.clear();
        self.bc.clear();
        for &p in order {
            let row = b * z.l + p as usize;
            self.u.extend_from_slice(&u[row * z.d + d0..][..width]);
            let (step, bc) = projected[(row * z.k + k) * z.q()..][..z.q()].split_at(z.r);
            self.step.extend_from_slice(step);
            self.bc.extend_from_slice(bc);
        }
        self.raw.resize(order.len() * width, T::default());
        // Δ (steps×width) = step (steps×R) · W_Δᵀ (R×width).
        product_here(
            (order.len(), width, z.r),
            T::of(1.0),
            &of(Plain::new(&self.step, z.r)),
            &transposed(Plain::new(channels.weight, z.p())),
            &mut self.raw,
        );
    }

    fn steps<'a>(&'a self, z: &Sizes, channels: &'a Channels<T>, width: usize) -> Steps<'a, T> {
        Steps {
            width,
            n: z.n,
            raw: &self.raw,
            u: &self.u,
            bc: &self.bc,
            a: &channels.a,
            skip: &channels.skip,
            bias: &channels.bias,
        }
    }
}

/// y (B, L, D), and the states at the start of every chunk.
pub(crate) fn forward<T: Real>(
    z: Sizes,
    orders: &Orders,
    u: &[T],
    projected: &[T],
    parameters: &[T],
) -> (Vec<T>, Vec<T>) {
    let mut y = Vec::new();
    // SAFETY: the first direction writes all of y, and every chunk its states.
    let states = unsafe {
        filled(z.b * z.k * z.chunks() * z.n * z.d, |states| {
            y = filled(z.b * z.l * z.d, |y| {
                scan(z, orders, (u, projected, parameters), &y, &states)
            });
        })
    };
    (y, states)
}

/// Writes y and the states. Each task has its own channels of its image in both.
fn scan<T: Real>(
    z: Sizes,
    orders: &Orders,
    (u, projected, parameters): (&[T], &[T], &[T]),
    y: &Shared<'_, T>,
    states: &Shared<'_, T>,
) {
    (0..z.b * z.blocks()).into_par_iter().for_each_init(
        || (Gathered::<T>::default(), Vec::new(), Vec::new(), Vec::new()),
        |(gathered, dt, h, out), t| {
            let (b, d0, width) = z.task(t);
            for (k, order) in orders.iter().enumerate() {
                let channels = Channels::new(&z, parameters, k, d0, width);
                h.clear();
                h.resize(z.n * width, T::default());
                for (c, order) in order.chunks(CHUNK).enumerate() {
                    for (n, h) in h.chunks_exact(width).enumerate() {
                        // SAFETY: each task owns its channels of the states.
                        unsafe { states.slice(z.state(b, k, c) + n * z.d + d0, width) }.copy_from_slice(h);
                    }
                    gathered.fill(&z, (u, projected), &channels, b, k, (d0, width), order);
                    out.resize(order.len() * width, T::default());
                    steps_forward(gathered.steps(&z, &channels, width), dt, h, out);
                    for (&p, row) in order.iter().zip(out.chunks_exact(width)) {
                        // SAFETY: each task owns its channels of its image.
                        let to = unsafe { y.slice((b * z.l + p as usize) * z.d + d0, width) };
                        put(to, row, k == 0);
                    }
                }
            }
        },
    );
}

/// The first direction writes, the others add.
fn put<T: Real>(to: &mut [T], from: &[T], first: bool) {
    if first {
        to.copy_from_slice(from);
    } else {
        cpu::add_assign(to, from);
    }
}

/// Gradients of u (B, L, D), projected (B, L, K·Q) and parameters (K·D, P).
pub(crate) fn backward<T: Real>(
    z: Sizes,
    orders: &Orders,
    (u, projected, parameters): (&[T], &[T], &[T]),
    states: &[T],
    dy: &[T],
) -> [Vec<T>; 3] {
    let (row, table) = (z.k * z.q(), z.k * z.d * z.p());
    let mut du = vec![T::default(); z.b * z.l * z.d];
    // Shares of the blocks of channels (B, blocks, L, K·Q) and of the images (B, K·D, P); added below in a fixed order.
    let mut shares = vec![T::default(); z.b * z.blocks() * z.l * row];
    let mut tables = vec![T::default(); z.b * table];
    let (pu, pq, pt) = (Shared::new(&mut du), Shared::new(&mut shares), Shared::new(&mut tables));
    (0..z.b * z.blocks())
        .into_par_iter()
        .for_each_init(Scratch::<T>::default, |w, t| {
            let (b, d0, width) = z.task(t);
            for (k, order) in orders.iter().enumerate() {
                let channels = Channels::new(&z, parameters, k, d0, width);
                w.start(&z, width);
                for (c, order) in order.chunks(CHUNK).enumerate().rev() {
                    w.gathered.fill(&z, (u, projected), &channels, b, k, (d0, width), order);
                    w.load(&z, states, z.state(b, k, c) + d0, dy, b, (d0, width), order);
                    let steps = w.gathered.steps(&z, &channels, width);
                    steps_backward(steps, &mut w.h, &w.dy, &mut w.chunk, &mut w.grads);
                    w.project(&z, &channels, width, order.len());
                    for (i, &p) in order.iter().enumerate() {
                        let p = p as usize;
                        // SAFETY: each task owns its channels of its image, and its share.
                        let (to, share) = unsafe {
                            (
                                pu.slice((b * z.l + p) * z.d + d0, width),
                                pq.slice((t * z.l + p) * row + k * z.q(), z.q()),
                            )
                        };
                        put(to, &w.grads.u[i * width..][..width], k == 0);
                        share[..z.r].copy_from_slice(&w.dstep[i * z.r..][..z.r]);
                        share[z.r..].copy_from_slice(&w.grads.bc[i * 2 * z.n..][..2 * z.n]);
                    }
                }
                // SAFETY: each task owns its channels of its image's table.
                let to = unsafe { pt.slice(b * table + (k * z.d + d0) * z.p(), width * z.p()) };
                w.table(&z, &channels, width, to);
            }
        });
    let dprojected = sum_parts(&shares, z.b, z.blocks(), z.l * row, row);
    let dparameters = sum_parts(&tables, 1, z.b, table, z.p());
    [du, dprojected, dparameters]
}

/// (outer, parts, len) → (outer, len): the parts added in order, in pieces of `row` elements.
fn sum_parts<T: Real>(x: &[T], outer: usize, parts: usize, len: usize, row: usize) -> Vec<T> {
    let per = len / row;
    par_filled(outer * per, row, |rows, out| {
        for (r, to) in rows.zip(out.chunks_exact_mut(row)) {
            let (o, i) = (r / per, r % per);
            for part in 0..parts {
                put(to, &x[(o * parts + part) * len + i * row..][..row], part == 0);
            }
        }
    })
}

/// Buffers of a task of the backward pass.
#[derive(Default)]
struct Scratch<T> {
    gathered: Gathered<T>,
    chunk: Chunk<T>,
    grads: Grads<T>,
    h: Vec<T>,
    dy: Vec<T>,
    dstep: Vec<T>,
    /// dW_Δ (width, R), and a chunk's part of it.
    dweight: Vec<T>,
    part: Vec<T>,
}

impl<T: Real> Scratch<T> {
    /// Clears what is summed over a direction.
    fn start(&mut self, z: &Sizes, width: usize) {
        self.grads.start(z.n, width);
        self.dweight.clear();
        self.dweight.resize(width * z.r, T::default());
    }

    #[allow(clippy::too_many_arguments)]
    fn load(
        &mut self,
        z: &Sizes,
        states: &[T],
        state: usize,
        dy: &[T],
        b: usize,
        (d0, width): (usize, usize),
        order: &[u32],
    ) {
        self.h.clear();
        for n in 0..z.n {
            self.h.extend_from_slice(&states[state + n * z.d..][..width]);
        }
        self.dy.clear();
        for &p in order {
            self.dy
                .extend_from_slice(&dy[(b * z.l + p as usize) * z.d + d0..][..width]);
        }
    }

    /// From the gradient of the raw steps to those of the step inputs and of W_Δ.
    fn project(&mut self, z: &Sizes, channels: &Channels<'_, T>, width: usize, steps: usize) {
        self.dstep.resize(steps * z.r, T::default());
        let draw = Plain::new(&self.grads.raw, width);
        // dstep (steps×R) = dΔ (steps×width) · W_Δ (width×R).
        product_here(
            (steps, z.r, width),
            T::of(1.0),
            &of(draw),
            &of(Plain::new(channels.weight, z.p())),
            &mut self.dstep,
        );
        // dW_Δ (width×R) += dΔᵀ · step (steps×R).
        self.part.resize(width * z.r, T::default());
        product_here(
            (width, z.r, steps),
            T::of(1.0),
            &transposed(draw),
            &of(Plain::new(&self.gathered.step, z.r)),
            &mut self.part,
        );
        cpu::add_assign(&mut self.dweight, &self.part);
    }

    /// Writes the gradients of one block's parameters (width, P).
    fn table(&self, z: &Sizes, channels: &Channels<'_, T>, width: usize, to: &mut [T]) {
        for (i, row) in to.chunks_exact_mut(z.p()).enumerate() {
            row[..z.r].copy_from_slice(&self.dweight[i * z.r..][..z.r]);
            for n in 0..z.n {
                // d/d log(−A) = A · d/dA.
                row[z.r + n] = self.grads.a[n * width + i] * channels.a[n * width + i];
            }
            row[z.r + z.n] = self.grads.skip[i];
            row[z.r + z.n + 1] = self.grads.bias[i];
        }
    }
}
