//! The learning rate. PROTOCOL 6.3.

use crate::spec::Protocol;
use crate::spec::protocol::Warmup;

/// η₀ of the authors' warm-up.
const ETA_MIN: f64 = 1e-8;

/// The learning rate as a function of the training iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    lr: f64,
    /// Warm-up iterations W; 0 is none.
    warmup: u64,
    overshoot: bool,
}

impl Schedule {
    /// `dataset` is the data set's own warm-up, used where the protocol says per-dataset.
    pub fn new(p: &Protocol, dataset: Warmup, steps_per_epoch: u64) -> Self {
        let rule = match p.warmup {
            Warmup::PerDataset => dataset,
            w => w,
        };
        let warmup = match rule {
            Warmup::Epochs(n) => u64::from(n) * steps_per_epoch,
            Warmup::Iterations(n) => u64::from(n),
            Warmup::None | Warmup::PerDataset => 0,
        };
        Self {
            lr: p.lr,
            warmup,
            overshoot: p.warmup_overshoot,
        }
    }

    /// The rate of iteration `n` = 1, 2, …: η₀ + min(n, W+1)/W · (η − η₀), or min(n, W) where the overshoot (Q22) is off.
    pub fn lr(&self, n: u64) -> f64 {
        if self.warmup == 0 {
            return self.lr;
        }
        let last = self.warmup + u64::from(self.overshoot);
        ETA_MIN + n.min(last) as f64 / self.warmup as f64 * (self.lr - ETA_MIN)
    }
}
