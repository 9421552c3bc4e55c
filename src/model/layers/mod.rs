//! The differentiable building blocks: what candle lacks, cuts or falsifies. Each op is checked by finite differences.

mod act;
mod attention;
mod conv;
pub mod cpu;
mod linear;
mod norm;
mod recompute;
mod residual;
mod resize;
#[cfg(test)]
mod tests;

pub use act::{gelu, quick_gelu, silu_mul};
pub use attention::{attention, attention_packed};
pub use conv::{conv2d_tokens, patch_embed};
pub use linear::{Linear, linear};
pub use norm::{LayerNorm, RmsNorm};
pub use recompute::{Gradients, backward, recompute};
pub use residual::add_scaled;
pub use resize::{bicubic_matrix, resize_table};
