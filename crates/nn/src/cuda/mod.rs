//! The layers on CUDA: each public op of [`super`] as kernels, with its own backward pass.
//!
//! `kernels/` holds the sources. An op says what it launches, with which operands, in terms of tensors ([`launch`]), so the same
//! code runs on a GPU and, in tests, on the CPU through an emulator of the kernels' own source ([`emulate`]). What differs
//! between the two is one function that runs a kernel by name.

mod act;
mod attention;
#[cfg(feature = "cuda")]
mod driver;
mod launch;
mod linear;
pub mod loss;
#[cfg(feature = "cuda")]
mod lt;
mod map;
mod node;
mod norm;
pub mod optimiser;
mod product;
mod residual;
mod scan;
mod tables;
mod tape;
mod window;

pub use act::{activation, silu_mul};
pub use attention::{attention, attention_packed};
#[cfg(feature = "cuda")]
pub use driver::prepare;
pub use launch::{Executor, Launch, Value, Word, computed_in, emulate, emulate_from_here, emulated, wanted};
pub use linear::{linear, linear_as};
pub use map::{Unfold, depthwise_conv2d, max_pool, silu, unfold};
pub use node::{cast, compute_type, node1, seeded, to_float};
pub use norm::{layer_norm, rms_norm};
pub use residual::{add, add_scaled};
pub use scan::{cross_merge, cross_scan, selective_scan};
pub use tape::{Tape, without_graph};
pub use window::{Grid, cut_windows, join_windows};
