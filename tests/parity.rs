//! Parity with the upstream Python implementations, a test (or more) per fixture folder.
//!
//! The folder is `MEDFT_FIXTURES` (default `tests/fixtures`); every configuration is read from its JSON files.

#[path = "parity/common.rs"]
mod common;
#[path = "parity/dinov2.rs"]
mod dinov2;
#[path = "parity/mha.rs"]
mod mha;
#[path = "parity/model.rs"]
mod model;
#[path = "parity/train.rs"]
mod train;
#[path = "parity/metrics.rs"]
mod metrics;
