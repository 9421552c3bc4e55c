//! What is made of records: tables, pages, figures, bundles, and what is found when one of them was changed.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod answer;
mod bundle;
mod page;
mod pages;
#[path = "../shared/place/mod.rs"]
mod place;
#[path = "../shared/synthetic/mod.rs"]
mod synthetic;
mod verify_results;
