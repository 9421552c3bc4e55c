//! What resampling and metrics share: replicates side by side, and a metric that is measured on them.

/// Replicates that are measured together: as many as there are bytes in a cache line.
pub const LANES: usize = 64;

/// How often one image was drawn in each replicate of a block: one cache line, since a walk in the order of scores meets
/// the images in no order and waits for every line it touches.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Counts(pub(super) [u8; LANES]);

/// [`LANES`] replicates.
pub struct Block {
    /// A row for every image.
    pub(super) counts: Vec<Counts>,
    /// Images in the largest replicate, repeats counted; bounds every sum over images.
    pub(super) most_drawn: u64,
}

impl Block {
    pub(super) fn new(counts: Vec<Counts>) -> Self {
        let mut drawn = [0u64; LANES];
        for row in &counts {
            for (d, &c) in drawn.iter_mut().zip(&row.0) {
                *d += u64::from(c);
            }
        }
        let most_drawn = drawn.into_iter().max().unwrap_or(0);
        Self { counts, most_drawn }
    }
}

/// A metric prepared for resampling.
pub trait Statistic: Send + Sync {
    /// Images of the test set.
    fn images(&self) -> usize;

    /// The metric in every lane, given how often every image was drawn; NaN where undefined.
    fn measure(&self, block: &Block) -> [f64; LANES];

    /// The metric on the test set itself.
    fn observed(&self) -> f64 {
        self.measure(&Block::new(vec![Counts([1; LANES]); self.images()]))[0]
    }
}
