//! The layers on CUDA: each public op of [`super`] as kernels, with its own backward pass.
//!
//! `kernels/` holds the sources. An op says what it launches, with which operands, in terms of tensors ([`launch`]), so the same
//! code runs on a GPU and, in tests, on the CPU through an emulator of the kernels' own source ([`crate::emulation`]). What differs
//! between the two is one function that runs a kernel by name.

mod act;
mod attention;
mod cast;
mod columns;
mod composed;
mod convert;
#[cfg(feature = "cuda")]
pub(crate) mod driver;
mod launch;
mod linear;
pub(crate) mod loss;
#[cfg(feature = "cuda")]
mod lt;
mod map;
mod matrix;
mod norm;
pub(crate) mod optimiser;
mod product;
mod residual;
mod scan;
mod tables;
mod window;

pub(crate) use act::{activation, silu_mul};
pub(crate) use attention::{attention, attention_packed};
pub(crate) use cast::cast;
pub(crate) use columns::column_sums;
pub(crate) use convert::cast_value;
pub(crate) use linear::{linear, linear_onto};
pub(crate) use map::{depthwise_conv2d, max_pool, unfold};
pub(crate) use norm::{layer_norm, rms_norm};
pub(crate) use residual::{add, add_scaled};
pub(crate) use scan::{cross_merge, cross_scan, selective_scan};
pub(crate) use window::window_attention;
