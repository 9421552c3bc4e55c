//! Matrix products with what surrounds them: operands are computed while they are packed, results are finished while they
//! are in cache.
//!
//! The `gemm` crate multiplies as fast, but takes stored operands and writes bare products: norm, bias, activation and
//! residual then each cost a pass over memory, a fifth of a step. Work is cut by shapes only: the order of every sum is the
//! same with any number of threads and with any vector width.

pub(super) mod kernel;
mod pack;
mod store;
#[cfg(test)]
mod tests;

pub use pack::{Activated, InPlace, Left, Normed, Operand, Plain, Rows, Scaled, of, transposed};
pub use store::{ActGrad, Affine, NormGrad, Residual, Store, Transposed};

use super::cpu::{Ptr, Real, add_assign};
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

    fn count(self) -> usize {
        self.depth.div_ceil(self.size)
    }

    fn range(self, i: usize) -> Range<usize> {
        i * self.size..((i + 1) * self.size).min(self.depth)
    }
}

/// Memory at a cache line's start, not initialised.
pub struct Buffer<T> {
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
    pub fn zeroed(len: usize) -> Self {
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
pub fn with_scratch<T: Real, R>(len: usize, f: impl FnOnce(&mut [T]) -> R) -> R {
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
pub struct PackedRight<'a, T> {
    ptr: *const T,
    blocks: Blocks,
    n: usize,
    life: std::marker::PhantomData<&'a T>,
}
// SAFETY: it is only read.
unsafe impl<T: Sync> Sync for PackedRight<'_, T> {}

/// Columns of a register tile on this processor.
fn tile_columns() -> usize {
    if level() == 4 { TILE_V4.1 } else { TILE_V3.1 }
}

/// Elements of a packed right operand (K×N).
pub fn packed_len(n: usize, k: usize) -> usize {
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
        body::$f::<$($g,)* 6, 16, 0>($($a),*)
    }};
}

macro_rules! compiled_for {
    ($name:ident, $features:literal, $mr:literal, $nr:literal, $level:literal) => {
        #[cfg(target_arch = "x86_64")]
        mod $name {
            use super::*;

            #[target_feature(enable = $features)]
            pub unsafe fn pack_panels<T: Real, R: Rows<T>>(
                right: &Operand<R>,
                job: (Range<usize>, Range<usize>),
                out: &mut [T],
            ) {
                body::pack_panels::<T, R, $mr, $nr, $level>(right, job, out)
            }

            #[target_feature(enable = $features)]
            pub unsafe fn rows<T: Real, L: Left<T>, S: Store<T>>(job: Job<'_, T, L, S>, work: Work<'_, T>) {
                body::rows::<T, L, S, $mr, $nr, $level>(job, work)
            }
        }
    };
}
// Without "fma": what surrounds a product gives the same bits everywhere.
compiled_for!(v3, "avx2", 6, 16, 3);
compiled_for!(v4, "avx512f,avx512vl,avx512dq,avx512bw", 12, 32, 4);

/// Some rows of a product.
struct Job<'a, T, L, S> {
    rows: Range<usize>,
    left: &'a L,
    right: &'a PackedRight<'a, T>,
    store: &'a S,
}

/// The memory of a task: packed left rows, partial sums, and what the store collects.
struct Work<'a, T> {
    packed: &'a mut [T],
    partial: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Real, L: Left<T>, S: Store<T>> Job<'_, T, L, S> {
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
    use kernel::{Strided, Sums, ahead};
    use pack::{SEGMENT, pack};
    use std::mem::MaybeUninit;

    /// Packs some columns at some depth of a right operand.
    #[inline(always)]
    pub fn pack_panels<T: Real, R: Rows<T>, const MR: usize, const NR: usize, const LEVEL: u8>(
        right: &Operand<R>,
        (columns, depth): (Range<usize>, Range<usize>),
        out: &mut [T],
    ) {
        let mut buf = [T::default(); SEGMENT];
        pack::<T, R, NR>(&right.rows, right.transposed, columns, depth, &mut buf, out);
    }

    /// One register tile: depth block `i`, column panel `j`, row panel `p` at `a`; `next` are block and column panel that come
    /// after; `kept` holds its partial sums.
    #[inline(always)]
    fn tile<T: Real, L: Left<T>, S: Store<T>, const MR: usize, const NR: usize, const LEVEL: u8>(
        job: &Job<'_, T, L, S>,
        (i, j, p): (usize, usize, usize),
        next: (usize, usize),
        a: Strided<T>,
        kept: &mut [T],
        sums: &mut [T],
    ) {
        let PackedRight { ptr, blocks, n, .. } = *job.right;
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
            next: ptr.wrapping_add(start(next.0, next.1) + p * ahead::<T>(k.len(), LEVEL)),
        };
        // SAFETY: the left block has this panel, the packed right operand this column panel; `kept` is a tile where there
        // are several depth blocks.
        unsafe { T::micro::<MR, NR, LEVEL>(k.len(), a, ptr.add(start(i, j)), to) };
        if !last {
            return;
        }
        // SAFETY: the last depth block's sums were written to it.
        let acc = unsafe { acc.assume_init_ref() };
        let cols = (n - j * NR).min(NR);
        for (r, row) in (job.rows.start + p * MR..job.rows.end).zip(acc) {
            if cols == NR {
                job.store.put(r, j * NR, row, sums);
            } else {
                job.store.put(r, j * NR, &row[..cols], sums);
            }
        }
    }

    /// Some rows of a product, on this thread.
    #[inline(always)]
    pub fn rows<T: Real, L: Left<T>, S: Store<T>, const MR: usize, const NR: usize, const LEVEL: u8>(
        job: Job<'_, T, L, S>,
        work: Work<'_, T>,
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
                        tile::<T, L, S, MR, NR, LEVEL>(&job, (i, j, p), next, panel(l, p), kept, work.sums);
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
                        tile::<T, L, S, MR, NR, LEVEL>(&job, (i, j, p), next, panel(l, p), kept, work.sums);
                    }
                }
            }
        }
        job.store.done(job.rows, work.sums);
    }
}

fn pack_panels<T: Real, R: Rows<T>>(right: &Operand<R>, job: (Range<usize>, Range<usize>), out: &mut [T]) {
    on_this_processor!(pack_panels::<T, R>(right, job, out))
}

fn run<T: Real, L: Left<T>, S: Store<T>>(job: Job<'_, T, L, S>, work: Work<'_, T>) {
    on_this_processor!(rows::<T, L, S>(job, work))
}

/// Rows `rows` of `left · right`, on this thread.
pub fn product_rows<T: Real, L: Left<T>, S: Store<T>>(
    rows: Range<usize>,
    left: &L,
    right: &PackedRight<'_, T>,
    store: &S,
    sums: &mut [T],
) {
    let job = Job {
        rows,
        left,
        right,
        store,
    };
    let (a, b) = job.room();
    with_scratch::<T, _>(a + b, |scratch| {
        let (packed, partial) = scratch.split_at_mut(a);
        let work = Work { packed, partial, sums };
        run(job, work);
    });
}

/// Packs a right operand (K×N) into `out`, which has [`packed_len`] elements, on this thread.
pub fn pack_right<'a, T: Real, R: Rows<T>>(
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
    PackedRight {
        ptr: out.as_ptr(),
        blocks,
        n,
        life: std::marker::PhantomData,
    }
}

/// `left (M×K) · right (K×N)` into `store`, in parallel; returns the sums that the store collects.
pub fn product<T: Real, L: Left<T>, R: Rows<T>, S: Store<T>>(
    (m, n, k): (usize, usize, usize),
    left: &L,
    right: &Operand<R>,
    store: &S,
) -> Vec<T> {
    let blocks = Blocks::new(k);
    let nr = tile_columns();
    let columns = n.div_ceil(nr);
    let packed = Buffer::<T>::uninit(columns * nr * k);
    let p = Ptr(packed.ptr);
    let groups = columns.div_ceil(GROUP);
    (0..blocks.count() * groups).into_par_iter().for_each(|job| {
        let (depth, group) = (blocks.range(job / groups), job % groups);
        let first = group * GROUP;
        let last = (first + GROUP).min(columns);
        // SAFETY: jobs have disjoint parts, which cover the buffer.
        let out = unsafe {
            p.slice(
                depth.start * columns * nr + first * nr * depth.len(),
                (last - first) * nr * depth.len(),
            )
        };
        pack_panels(right, (first * nr..(last * nr).min(n), depth), out);
    });
    let right = PackedRight {
        ptr: packed.ptr,
        blocks,
        n,
        life: std::marker::PhantomData,
    };
    // Rows of a task: a multiple of both tiles' heights.
    let size = if m >= 1024 { 96 } else { 48 };
    let tasks = m.div_ceil(size);
    let len = store.sums();
    let mut sums = vec![T::default(); tasks * len];
    let q = Ptr(sums.as_mut_ptr());
    (0..tasks).into_par_iter().with_max_len(1).for_each(|t| {
        // SAFETY: each task has its own sums.
        let mine = unsafe { q.slice(t * len, len) };
        product_rows(t * size..((t + 1) * size).min(m), left, &right, store, mine);
    });
    if len == 0 {
        return sums;
    }
    let (total, rest) = sums.split_at_mut(len);
    for part in rest.chunks_exact(len) {
        add_assign(total, part);
    }
    sums.truncate(len);
    sums
}
