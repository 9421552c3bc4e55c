//! What is read and fetched: readers, manifests and lists, downloads of data and weights against servers on 127.0.0.1.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod acquire;
#[path = "../shared/fixtures.rs"]
mod common;
mod datasets;
mod fetch;
mod manifest;
#[path = "../shared/place/mod.rs"]
mod place;
#[path = "../shared/server/mod.rs"]
mod server;
