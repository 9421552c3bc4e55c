//! Studies from their file to their records: runs, ids, switches, the command line, verdicts, plans.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod caches;
mod claims;
mod cli;
mod divergence;
mod golden;
mod json;
mod money;
mod own_data;
mod own_model;
mod own_story;
mod pipes;
#[path = "../shared/place/mod.rs"]
mod place;
mod runs;
#[path = "../shared/simulate/mod.rs"]
mod simulate;
#[path = "../shared/skip.rs"]
mod skip;
mod terminal;
mod verdicts;
