//! medft reproduces papers on medical image classification end to end; which, `experiments/papers` says.
//!
//! Read the modules in the order in which data flows: [`study`] says what is to be run, [`manifest`] proves that the
//! inputs are the right ones, [`data`] turns files into batches, [`model`] turns batches into features, [`train`] fits,
//! [`eval`] measures, [`results`] keeps records, [`report`] shows them beside the published numbers.
//! [`runner`] says which run goes where and when; `commands` is what each verb reads and prints, and nothing imports it.
#![forbid(unsafe_code)]
// A module's page may speak of what is private in it: `make lint` documents that too.
#![allow(rustdoc::private_intra_doc_links)]
// What is printed goes through `print`, which knows what a reader who leaves means.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
// Files are opened by `fsio`, which waits for none; tests read what they have written.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod build_info;
pub mod bundle;
pub mod cache;
pub mod canonical;
pub mod cli;
pub mod commands;
pub mod complete;
pub mod data;
pub mod device;
pub mod error;
pub mod eval;
pub mod fetch;
pub mod fsio;
mod guarantee;
pub mod lease;
pub mod limits;
pub mod machine;
pub mod manifest;
pub mod model;
mod names;
pub mod nan;
pub mod print;
mod privacy;
mod progress;
pub mod registry;
pub mod report;
pub mod results;
pub mod rng;
pub mod runner;
#[cfg(test)]
#[path = "../tests/shared/skip.rs"]
mod skip;
pub mod spec;
pub mod stop;
pub mod study;
mod text;
pub mod threads;
pub mod train;
mod zipfile;
