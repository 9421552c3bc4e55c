//! What tests of the kernels share: the emulator, and the count of tests that did not run.

pub mod emulator;
pub mod skip;
