//! The slow ones: studies killed, disturbed and exchanged behind their back, over and over; every instruction set.

mod crash;
mod faults;
mod isa;
#[path = "../shared/place/mod.rs"]
mod place;
mod swaps;
