//! Running the CUDA kernels without a GPU: a test hook.
//!
//! What a layer launches on a GPU is handed to an [`Executor`] instead, on CPU tensors, for as long as a thread emulates. This
//! crate's tests pass one that compiles the kernels' own source with a C++ compiler (`tests/emulator`).

use candle_core::Result;
use std::cell::RefCell;
use std::sync::Arc;

/// One argument of a kernel as it is passed: an address with what may be accessed there, or a number in its low bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelParam {
    /// Memory that is read.
    Read {
        /// Its address.
        at: u64,
        /// Its length.
        bytes: usize,
    },
    /// Memory that is written, or read and written.
    Write {
        /// Its address.
        at: u64,
        /// Its length.
        bytes: usize,
    },
    /// A number.
    Number(u64),
}

impl KernelParam {
    /// Bytes that may be accessed there.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Read { bytes, .. } | Self::Write { bytes, .. } => *bytes,
            Self::Number(_) => 0,
        }
    }
}

/// A kernel launch: `grid` blocks of `block` threads. Results never depend on `grid`.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The source file's name, without its ending.
    pub module: &'static str,
    /// The kernel's name.
    pub kernel: &'a str,
    /// Blocks.
    pub grid: u32,
    /// Threads of a block.
    pub block: u32,
    /// The arguments.
    pub params: &'a [KernelParam],
    /// Memory that is reached through tables of addresses; what is read and written is there as both.
    pub indirect: &'a [KernelParam],
}

impl Launch<'_> {
    /// Bytes that the launch reads and writes: every operand once, as a whole, and what it reads and writes through tables twice.
    pub fn bytes(&self) -> usize {
        self.params.iter().chain(self.indirect).map(KernelParam::bytes).sum()
    }
}

/// A product by cuBLASLt: `batch` times (m, k) · (k, n), by rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LibraryProduct {
    /// Rows of the result.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Products.
    pub batch: usize,
    /// Bytes of the operands, of what is added and of what is written, each once.
    pub bytes: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether the result is added to a tensor.
    pub onto: bool,
    /// Whether the left operand's rows are summed up.
    pub sums: bool,
}

/// Runs kernels on CPU memory.
pub trait Executor {
    /// Runs one launch to its end.
    ///
    /// # Errors
    /// Where the kernel is unknown or fails.
    ///
    /// # Safety
    /// The memory that `params` and `indirect` name must be readable, and writable where [`KernelParam::Write`] or `indirect` name it,
    /// and nobody else may access it during the call.
    unsafe fn run(&self, launch: &Launch<'_>) -> Result<()>;

    /// Told of every product that cuBLASLt would compute; `false`: its result is not computed, for those who only count.
    ///
    /// # Errors
    /// Whatever the library is to be seen to say.
    fn product(&self, _: &LibraryProduct) -> Result<bool> {
        Ok(true)
    }

    /// Told of what candle's own kernels would do, with the bytes that they would read and write.
    fn elsewhere(&self, _op: &'static str, _bytes: usize) {}
}

thread_local! {
    static EXECUTOR: RefCell<Option<Arc<dyn Executor>>> = const { RefCell::new(None) };
}

/// Calls `f` with all layers of this thread's CPU tensors run as kernels, by `executor`.
pub fn emulate<R>(executor: Arc<dyn Executor>, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Executor>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            EXECUTOR.with_borrow_mut(|e| *e = self.0.take());
        }
    }
    let _restore = Restore(EXECUTOR.with_borrow_mut(|e| e.replace(executor)));
    f()
}

/// Calls `f` with this thread's layers run by the loops of the CPU engine again.
pub(crate) fn without<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<dyn Executor>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            EXECUTOR.with_borrow_mut(|e| *e = self.0.take());
        }
    }
    let _restore = Restore(EXECUTOR.with_borrow_mut(Option::take));
    f()
}

/// The same from here to the end of the thread.
pub fn emulate_from_here(executor: Arc<dyn Executor>) {
    EXECUTOR.with_borrow_mut(|e| *e = Some(executor));
}

/// The executor of this thread, where it emulates.
pub(crate) fn executor() -> Option<Arc<dyn Executor>> {
    EXECUTOR.with_borrow(Clone::clone)
}

/// Whether this thread emulates.
pub(crate) fn active() -> bool {
    EXECUTOR.with_borrow(Option::is_some)
}
