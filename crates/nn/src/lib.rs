#![doc = include_str!("../README.md")]

mod act;
mod attention;
mod autograd;
mod block;
mod conv;
mod conv_map;
mod cpu;
mod cuda;
mod depthwise;
pub mod device;
mod dispatch;
pub mod emulation;
mod gemm;
pub mod isa;
mod linear;
pub mod loss;
pub mod memory;
mod norm;
pub mod optimiser;
pub mod peak;
mod pool;
pub mod precision;
pub mod reference;
mod residual;
mod resize;
mod scan;
mod simd;
mod stack;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod window;

pub use act::{Act, gelu, quick_gelu, silu_mul};
pub use attention::{attention, attention_packed};
pub use autograd::{Gradients, backward};
pub use block::TransformerBlock;
pub use conv::{conv2d_tokens, patch_embed};
pub use conv_map::conv2d_map;
pub use depthwise::depthwise_conv2d;
pub use linear::{Linear, linear, linear_float};
pub use norm::{LayerNorm, RmsNorm};
pub use pool::{max_pool, upsample_nearest};
pub use precision::to_float;
pub use residual::{add, add_scaled};
pub use resize::{bicubic_matrix, resize_table};
pub use scan::{Orders, SelectiveScan, cross_merge, cross_scan};
pub use stack::{Layer, Stack};
pub use window::{Windows, window_attention};
