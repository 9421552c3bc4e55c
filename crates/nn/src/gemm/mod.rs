//! Matrix products with what surrounds them: operands are computed while they are packed, results are finished while they
//! are in cache.
//!
//! The `gemm` crate multiplies as fast, but takes stored operands and writes bare products: norm, bias, activation and
//! residual then each cost a pass over memory, a fifth of a step; and it orders small sums by the vectors of the processor. Here
//! work is cut by shapes only: the order of every sum is the same with any number of threads and with any vector width.

mod epilogue;
pub(crate) mod kernel;
mod pack;
#[cfg(test)]
mod tests;

pub(crate) use epilogue::{ActGrad, Affine, Epilogue, NormGrad, Residual, Transposed};
pub(crate) use pack::{Activated, InPlace, Left, Normed, Operand, Plain, Rows, Scaled, of, transposed};

use super::cpu::{Real, Shared, add_assign};
use kernel::{TILE_V3, TILE_V4, level};
use rayon::prelude::*;
use std::alloc::Layout;
use std::cell::RefCell;
use std::ops::Range;

/// Longest depth that is summed in registers.
const DEPTH: usize = 512;
/// Longest depth whose left block is kept packed as a whole.
const WHOLE: usize = 1024;
/// Panels of a right operand that are packed in one go.
const GROUP: usize = 8;

/// The depth of a product in equal blocks of at most [`DEPTH`].
#[derive(Clone, Copy)]
struct Blocks {
    depth: usize,
    size: usize,
}

impl Blocks {
    fn new(depth: usize) -> Self {
        let count = depth.div_ceil(DEPTH).max(1);
        Self {
            depth,
            size: depth.div_ceil(count).max(1),
        }
    }

    /// At least one, so that a product without a depth has results too.
    fn count(self) -> usize {
        self.depth.div_ceil(self.size).max(1)
    }

    fn range(self, i: usize) -> Range<usize> {
        i * self.size..((i + 1) * self.size).min(self.depth)
    }
}

/// Memory at a cache line's start, of types for which any bits are a value.
struct Buffer<T> {
    ptr: *mut T,
    len: usize,
}
// SAFETY: it owns its memory, as a `Vec` does.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Real> Buffer<T> {
    fn layout(len: usize) -> Layout {
        let bytes = len.max(1) * size_of::<T>();
        Layout::from_size_align(bytes, 64).unwrap_or_else(|_| panic!("{bytes} bytes are too many"))
    }

    /// Room for `len` zeros.
    pub(crate) fn zeroed(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty.
        let ptr = unsafe { std::alloc::alloc_zeroed(layout) };
        if ptr.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Self { ptr: ptr.cast(), len }
    }

    /// Room for `len` elements that are written before they are read.
    fn uninit(len: usize) -> Self {
        let layout = Self::layout(len);
        // SAFETY: the layout is not empty.
        let ptr = unsafe { std::alloc::alloc(layout) };
        if ptr.is_null() {
            std::alloc::handle_alloc_error(layout);
        }
        Self { ptr: ptr.cast(), len }
    }

    fn shared(&mut self) -> Shared<'_, T> {
        // SAFETY: the memory is the buffer's own, which is borrowed.
        unsafe { Shared::raw(self.ptr, self.len) }
    }

    /// # Safety
    /// All elements must have been written.
    unsafe fn written(&self) -> &[T] {
        // SAFETY: the memory is the buffer's own, and the caller has initialised it.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        let bytes = self.len.max(1) * size_of::<T>();
        // SAFETY: allocated with this layout.
        unsafe { std::alloc::dealloc(self.ptr.cast(), Layout::from_size_align_unchecked(bytes, 64)) };
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<Buffer<f64>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on `len` elements of this thread's working memory, which hold anything.
pub(crate) fn with_scratch<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
    let words = (len * size_of::<T>()).div_ceil(size_of::<f64>());
    let kept = SCRATCH.with_borrow_mut(Vec::pop);
    let buffer = match kept {
        Some(b) if b.len >= words => b,
        _ => Buffer::<f64>::zeroed(words),
    };
    // SAFETY: large enough, aligned, initialised (any bits are a number), and owned by this call.
    let out = f(unsafe { std::slice::from_raw_parts_mut(buffer.ptr.cast::<T>(), len) });
    SCRATCH.with_borrow_mut(|s| s.push(buffer));
    out
}

/// A right operand (K×N) in the kernel's order: depth blocks, in each panels of NR columns.
pub(crate) struct PackedRight<'a, T> {
    data: &'a [T],
    blocks: Blocks,
    n: usize,
}

/// Columns of a register tile on this processor.
fn tile_columns() -> usize {
    if level() == 4 { TILE_V4.1 } else { TILE_V3.1 }
}

/// Elements of a packed right operand (K×N).
pub(crate) fn packed_len(n: usize, k: usize) -> usize {
    n.next_multiple_of(tile_columns()) * k
}

/// Runs a generic function with the register tile of this processor, compiled for it.
macro_rules! on_this_processor {
    ($f:ident::<$($g:ident),*>($($a:expr),*)) => {{
        #[cfg(target_arch = "x86_64")]
        match level() {
            // SAFETY: the features were detected.
            4 => return unsafe { v4::$f::<$($g),*>($($a),*) },
            // SAFETY: as above.
            3 => return unsafe { v3::$f::<$($g),*>($($a),*) },
            _ => {}
        }
        // SAFETY: what the caller of an unsafe function promises; some are safe.
        #[allow(unused_unsafe)]
        unsafe {
            body::$f::<$($g,)* 6, 16, 0>($($a),*)
        }
    }};
}

macro_rules! compiled_for {
    ($name:ident, $features:literal, $mr:literal, $nr:literal, $level:literal) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub(crate) unsafe fn pack_panels<T: Real, R: Rows<T>>(
                right: &Operand<R>,
                job: (Range<usize>, Range<usize>),
                out: &mut [T],
            ) {
                body::pack_panels::<T, R, $mr, $nr, $level>(right, job, out)
            }

            #[target_feature(enable = $features)]
            pub(crate) unsafe fn rows<T: Real, L: Left<T>, E: Epilogue<T>>(
                job: Job<'_, T, L, E>,
                work: Scratch<'_, T>,
            ) {
                // SAFETY: passed on to the caller.
                unsafe { body::rows::<T, L, E, $mr, $nr, $level>(job, work) }
            }
        }
    };
}
// Without "fma": what surrounds a product gives the same bits everywhere.
compiled_for!(v3, "avx2", 6, 16, 3);
compiled_for!(v4, "avx512f,avx512vl,avx512dq,avx512bw", 12, 32, 4);

/// Some rows of a product.
struct Job<'a, T, L, E> {
    rows: Range<usize>,
    left: &'a L,
    right: &'a PackedRight<'a, T>,
    epilogue: &'a E,
}

/// The memory of a task: packed left rows, partial sums, and what the epilogue collects.
struct Scratch<'a, T> {
    packed: &'a mut [T],
    partial: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Real, L: Left<T>, E: Epilogue<T>> Job<'_, T, L, E> {
    /// Elements of `packed` and of `partial`, enough for any register tile.
    fn room(&self) -> (usize, usize) {
        let (blocks, rows) = (self.right.blocks, self.rows.len());
        let whole = blocks.depth <= WHOLE;
        let depth = if whole { blocks.depth } else { blocks.size };
        let width = if whole {
            TILE_V4.1
        } else {
            self.right.n.next_multiple_of(TILE_V4.1)
        };
        let partial = if blocks.count() > 1 {
            rows.next_multiple_of(TILE_V4.0) * width
        } else {
            0
        };
        (self.left.room(rows, depth), partial)
    }
}

mod body {
    use super::*;
    use kernel::{Strided, Sums, ahead, micro};
    use pack::{SEGMENT, pack};
    use std::mem::MaybeUninit;

    /// Packs some columns at some depth of a right operand.
    #[inline(always)]
    pub(crate) fn pack_panels<T: Real, R: Rows<T>, const MR: usize, const NR: usize, const LEVEL: u8>(
        right: &Operand<R>,
        (columns, depth): (Range<usize>, Range<usize>),
        out: &mut [T],
    ) {
        let mut buf = [T::default(); SEGMENT];
        pack::<T, R, NR>(&right.rows, right.transposed, columns, depth, &mut buf, out);
    }

    /// One register tile: depth block `i`, column panel `j`, row panel `p` at `a`; `next` are block and column panel that come
    /// after; `kept` holds its partial sums.
    ///
    /// # Safety
    /// `a` must have MR rows of this depth block, `kept` a tile where there are several; the processor must have the features of
    /// `LEVEL`; and as [`product_rows`].
    #[inline(always)]
    unsafe fn tile<T: Real, L: Left<T>, E: Epilogue<T>, const MR: usize, const NR: usize, const LEVEL: u8>(
        job: &Job<'_, T, L, E>,
        (i, j, p): (usize, usize, usize),
        next: (usize, usize),
        a: Strided<T>,
        kept: &mut [T],
        sums: &mut [T],
    ) {
        let PackedRight { data, blocks, n } = *job.right;
        let k = blocks.range(i);
        let start = |i: usize, j: usize| {
            let k = blocks.range(i);
            k.start * n.div_ceil(NR) * NR + j * k.len() * NR
        };
        let last = i + 1 == blocks.count();
        let mut acc = MaybeUninit::<[[T; NR]; MR]>::uninit();
        let kept = kept.as_mut_ptr();
        let to = Sums {
            add: (i > 0).then_some(kept.cast_const()),
            out: if last { acc.as_mut_ptr().cast() } else { kept },
            next: data
                .as_ptr()
                .wrapping_add(start(next.0, next.1) + p * ahead::<T>(k.len(), LEVEL)),
        };
        let right = &data[start(i, j)..][..k.len() * NR];
        // SAFETY: the left block has this panel, the packed right operand this column panel; `kept` is a tile where there
        // are several depth blocks; the level is the processor's.
        unsafe { micro::<T, MR, NR, LEVEL>(k.len(), a, right.as_ptr(), to) };
        if !last {
            return;
        }
        // SAFETY: the last depth block's sums were written to it.
        let acc = unsafe { acc.assume_init_ref() };
        let cols = (n - j * NR).min(NR);
        for (r, row) in (job.rows.start + p * MR..job.rows.end).zip(acc) {
            // SAFETY: the rows are this thread's alone.
            unsafe {
                if cols == NR {
                    job.epilogue.put(r, j * NR, row, sums);
                } else {
                    job.epilogue.put(r, j * NR, &row[..cols], sums);
                }
            }
        }
    }

    /// Some rows of a product, on this thread.
    ///
    /// # Safety
    /// As [`product_rows`], and the processor must have the features of `LEVEL`.
    #[inline(always)]
    pub(crate) unsafe fn rows<
        T: Real,
        L: Left<T>,
        E: Epilogue<T>,
        const MR: usize,
        const NR: usize,
        const LEVEL: u8,
    >(
        job: Job<'_, T, L, E>,
        work: Scratch<'_, T>,
    ) {
        let blocks = job.right.blocks;
        let (panels, columns) = (job.rows.len().div_ceil(MR), job.right.n.div_ceil(NR));
        let several = blocks.count() > 1;
        let mut buf = [T::default(); SEGMENT];
        let panel = |(first, stride): (Strided<T>, usize), p: usize| Strided {
            ptr: first.ptr.wrapping_add(p * stride),
            ..first
        };
        if blocks.depth <= WHOLE {
            // The left rows stay packed at full depth, and a column panel is finished before the next.
            let mut lefts = [None; WHOLE / DEPTH + 1];
            let mut rest = work.packed;
            for (i, l) in lefts.iter_mut().enumerate().take(blocks.count()) {
                let k = blocks.range(i);
                let (here, after) = rest.split_at_mut((panels * MR * k.len()).min(rest.len()));
                *l = Some(job.left.block::<MR>(job.rows.clone(), k, &mut buf, here));
                rest = after;
            }
            for j in 0..columns {
                for (i, l) in lefts.iter().enumerate() {
                    let Some(l) = *l else { break };
                    let next = if i + 1 < blocks.count() { (i + 1, j) } else { (0, j + 1) };
                    for p in 0..panels {
                        let kept = if several { p * MR * NR..(p + 1) * MR * NR } else { 0..0 };
                        let kept = &mut work.partial[kept];
                        // SAFETY: the block has this panel, and the rows are this thread's.
                        unsafe { tile::<T, L, E, MR, NR, LEVEL>(&job, (i, j, p), next, panel(l, p), kept, work.sums) };
                    }
                }
            }
        } else {
            for i in 0..blocks.count() {
                let l = job
                    .left
                    .block::<MR>(job.rows.clone(), blocks.range(i), &mut buf, work.packed);
                for j in 0..columns {
                    let next = if j + 1 < columns { (i, j + 1) } else { (i + 1, 0) };
                    for p in 0..panels {
                        let t = j * panels + p;
                        let kept = &mut work.partial[t * MR * NR..(t + 1) * MR * NR];
                        // SAFETY: the block has this panel, and the rows are this thread's.
                        unsafe { tile::<T, L, E, MR, NR, LEVEL>(&job, (i, j, p), next, panel(l, p), kept, work.sums) };
                    }
                }
            }
        }
        // SAFETY: the rows are this thread's alone, and all of their columns were handed over.
        unsafe { job.epilogue.done(job.rows, work.sums) };
    }
}

fn pack_panels<T: Real, R: Rows<T>>(right: &Operand<R>, job: (Range<usize>, Range<usize>), out: &mut [T]) {
    on_this_processor!(pack_panels::<T, R>(right, job, out))
}

/// # Safety
/// As [`product_rows`].
unsafe fn run<T: Real, L: Left<T>, E: Epilogue<T>>(job: Job<'_, T, L, E>, work: Scratch<'_, T>) {
    on_this_processor!(rows::<T, L, E>(job, work))
}

/// Rows `rows` of `left · right`, on this thread.
///
/// # Safety
/// No other thread may be handing over the same rows to the epilogue.
pub(crate) unsafe fn product_rows<T: Real, L: Left<T>, E: Epilogue<T>>(
    rows: Range<usize>,
    left: &L,
    right: &PackedRight<'_, T>,
    epilogue: &E,
    sums: &mut [T],
) {
    let job = Job {
        rows,
        left,
        right,
        epilogue,
    };
    let (a, b) = job.room();
    with_scratch::<T, _>(a + b, |scratch| {
        let (packed, partial) = scratch.split_at_mut(a);
        let work = Scratch { packed, partial, sums };
        // SAFETY: passed on to the caller.
        unsafe { run(job, work) };
    });
}

/// Packs a right operand (K×N) into `out`, which has [`packed_len`] elements, on this thread.
pub(crate) fn pack_right<'a, T: Real, R: Rows<T>>(
    right: &Operand<R>,
    n: usize,
    k: usize,
    out: &'a mut [T],
) -> PackedRight<'a, T> {
    let (blocks, nr) = (Blocks::new(k), tile_columns());
    let columns = n.div_ceil(nr);
    for i in 0..blocks.count() {
        let depth = blocks.range(i);
        for first in (0..columns).step_by(GROUP) {
            let last = (first + GROUP).min(columns);
            let from = depth.start * columns * nr + first * nr * depth.len();
            let part = &mut out[from..][..(last - first) * nr * depth.len()];
            pack_panels(right, (first * nr..(last * nr).min(n), depth.clone()), part);
        }
    }
    PackedRight { data: out, blocks, n }
}

/// `out (M×N) = alpha · left (M×K) · right (K×N)`, row-major, on this thread.
pub(crate) fn product_here<T: Real>(
    (m, n, k): (usize, usize, usize),
    alpha: T,
    left: &Operand<Plain<'_, T>>,
    right: &Operand<Plain<'_, T>>,
    out: &mut [T],
) {
    with_scratch::<T, _>(packed_len(n, k), |packed| {
        let right = pack_right(right, n, k, packed);
        let epilogue = Affine {
            alpha,
            ..Affine::plain(Shared::new(out), n)
        };
        // SAFETY: nobody else has this epilogue.
        unsafe { product_rows(0..m, left, &right, &epilogue, &mut []) };
    });
}

/// `left (M×K) · right (K×N)` through the epilogue, in parallel; returns the sums that the epilogue collects.
pub(crate) fn product<T: Real, L: Left<T>, R: Rows<T>, E: Epilogue<T>>(
    (m, n, k): (usize, usize, usize),
    left: &L,
    right: &Operand<R>,
    epilogue: &E,
) -> Vec<T> {
    let blocks = Blocks::new(k);
    let nr = tile_columns();
    let columns = n.div_ceil(nr);
    let mut packed = Buffer::<T>::uninit(columns * nr * k);
    let p = packed.shared();
    let groups = columns.div_ceil(GROUP);
    (0..blocks.count() * groups).into_par_iter().for_each(|job| {
        let (depth, group) = (blocks.range(job / groups), job % groups);
        let first = group * GROUP;
        let last = (first + GROUP).min(columns);
        // SAFETY: jobs have disjoint parts, which `pack_panels` writes.
        let out = unsafe {
            p.slice(
                depth.start * columns * nr + first * nr * depth.len(),
                (last - first) * nr * depth.len(),
            )
        };
        pack_panels(right, (first * nr..(last * nr).min(n), depth), out);
    });
    let right = PackedRight {
        // SAFETY: the jobs' parts cover the buffer.
        data: unsafe { packed.written() },
        blocks,
        n,
    };
    // Rows of a task: a multiple of both tiles' heights.
    let size = if m >= 1024 { 96 } else { 48 };
    let tasks = m.div_ceil(size);
    let len = epilogue.sums();
    let mut sums = vec![T::default(); tasks * len];
    let run = |t: usize, mine: &mut [T]| {
        // SAFETY: each task has its own rows.
        unsafe { product_rows(t * size..((t + 1) * size).min(m), left, &right, epilogue, mine) };
    };
    if len == 0 {
        (0..tasks).into_par_iter().with_max_len(1).for_each(|t| run(t, &mut []));
        return sums;
    }
    sums.par_chunks_mut(len)
        .enumerate()
        .with_max_len(1)
        .for_each(|(t, mine)| run(t, mine));
    if tasks == 0 {
        return vec![T::default(); len];
    }
    let (total, rest) = sums.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        add_assign(total, part);
    }
    sums.truncate(len);
    sums
}
