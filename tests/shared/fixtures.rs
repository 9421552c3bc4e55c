//! Finding, reading and comparing fixtures.
#![allow(dead_code)]

#[path = "skip.rs"]
pub(crate) mod skip;

use std::path::PathBuf;

/// The fixture folder: `MEDFT_FIXTURES`, or `tests/fixtures` of the checkout.
pub(crate) fn fixtures() -> PathBuf {
    std::env::var_os("MEDFT_FIXTURES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures"),
        PathBuf::from,
    )
}

/// Parses `<fixtures>/<rel>` as JSON; panics with the path on failure.
pub(crate) fn json(rel: &str) -> serde_json::Value {
    let p = fixtures().join(rel);
    let bytes = std::fs::read(&p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", p.display()))
}

/// A folder of real files, or `None` with a line that says the test is skipped.
pub(crate) fn real(rel: &str) -> Option<PathBuf> {
    let root = std::env::var_os("MEDFT_REAL").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/real"),
        PathBuf::from,
    );
    let p = root.join(rel);
    if p.exists() {
        Some(p)
    } else {
        skip::skipped(&format!("{} is not here", p.display()));
        None
    }
}
