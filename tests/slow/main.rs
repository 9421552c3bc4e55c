//! The slow ones: studies killed, disturbed and exchanged behind their back, over and over; every instruction set.
#![allow(clippy::disallowed_methods)] // What a test reads it has written.

mod crash;
mod faults;
mod isa;
mod learn;
#[path = "../shared/place/mod.rs"]
mod place;
#[path = "../shared/skip.rs"]
mod skip;
mod swaps;
