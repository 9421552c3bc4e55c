//! What a driver says of a GPU.

/// A GPU as its driver describes it, before it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability: (9, 0) is sm_90.
    pub capability: (u32, u32),
    /// Bytes.
    pub memory: u64,
}
