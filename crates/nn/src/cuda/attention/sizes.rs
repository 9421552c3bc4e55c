//! What both forms of attention know of a call.

/// Sizes of a call: images, queries, keys, heads, width of a head.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) b: usize,
    pub(super) n: usize,
    pub(super) m: usize,
    pub(super) h: usize,
    pub(super) d: usize,
}

impl Sizes {
    pub(super) fn scale(self) -> f64 {
        1.0 / (self.d as f64).sqrt()
    }
}
