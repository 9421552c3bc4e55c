//! The CUDA kernels' own source on the CPU: every op against its CPU form and finite differences, and the parity fixtures.
//!
//! A C++ compiler builds the kernels with `tests/cuda_emulator`; where there is none, every test says "skipped". Each launch
//! runs twice, in another order of blocks with another grid, and must give the same bytes; operands end at guard pages.

#[path = "kernels/emulator.rs"]
mod emulator;
#[path = "kernels/ops.rs"]
mod ops;

/// Calls `f` with layers run as kernels; says so where that is not possible.
fn emulated<R>(f: impl FnOnce() -> R) -> Option<R> {
    let Some(e) = emulator::get() else {
        println!("skipped: no C++ compiler");
        return None;
    };
    Some(medft::model::layers::cuda::emulate(e.clone(), f))
}
