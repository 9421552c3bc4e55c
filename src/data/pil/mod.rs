//! Pillow's pixel operations, to the bit (PROTOCOL section 2).
//!
//! The authors transform 8-bit images with torchvision on top of Pillow, which rounds to 8 bits after every step. The
//! rounding is part of the data, so each operation here repeats Pillow's arithmetic: fixed point in the resize, truncated
//! float32 blends in the colour jitter, and a mix of float32 and float64 in the HSV round trip.

mod colour;
mod geometry;
mod resize;

pub use colour::{brightness, contrast, hue, luma, saturation, to_channels};
pub use geometry::{Window, centre_window, crop, flip_horizontal, flip_vertical, orient, short_side_size};
pub use resize::{resize, resize_window, resized_crop};

#[cfg(test)]
mod vectors;
