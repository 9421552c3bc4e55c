//! What tests of the kernels share: the emulator, and the count of tests that did not run.

pub(crate) mod emulator;
pub(crate) mod skip;
