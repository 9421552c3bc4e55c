//! Parity with the upstream Python implementations, a test (or more) per fixture folder.
//!
//! The folder is `MEDFT_FIXTURES` (default `tests/fixtures`); every configuration is read from its JSON files.

#[path = "parity/common.rs"]
mod common;
#[path = "parity/preprocess.rs"]
mod preprocess;
