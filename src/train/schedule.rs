//! The learning rate. PROTOCOL 6.3; its fall by half a cosine is timm's `CosineLRScheduler`.

use crate::study::Protocol;
use crate::study::protocol::{LrSchedule, Warmup};
use std::f64::consts::PI;

/// η₀ of the authors' warm-up.
const ETA_MIN: f64 = 1e-8;

/// The learning rate as a function of the training iteration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    lr: f64,
    /// Warm-up iterations W; 0 is none.
    warmup: u64,
    overshoot: bool,
    /// Steps of an epoch, epochs, and whether an epoch has the rate of the one before it, where the rate falls.
    cosine: Option<(u64, u32, bool)>,
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
            cosine: (p.schedule == LrSchedule::Cosine).then_some((steps_per_epoch.max(1), p.epochs, p.schedule_lag)),
        }
    }

    /// The rate of iteration `n` = 1, 2, …: η₀ + min(n, W+1)/W · (η − η₀), or min(n, W) where the overshoot (Q22) is off.
    ///
    /// Where it falls, times ½ (1 + cos(π · e / epochs)) in epoch e = 0, 1, …, or of the epoch before where the schedule lags.
    pub fn lr(&self, n: u64) -> f64 {
        let risen = match self.warmup {
            0 => self.lr,
            warmup => {
                let last = warmup + u64::from(self.overshoot);
                ETA_MIN + n.min(last) as f64 / warmup as f64 * (self.lr - ETA_MIN)
            }
        };
        let Some((steps, epochs, lag)) = self.cosine else {
            return risen;
        };
        let epoch = n.saturating_sub(1) / steps;
        let at = epoch.saturating_sub(u64::from(lag)) as f64 / f64::from(epochs);
        risen * (0.5 * (1.0 + libm::cos(PI * at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// timm 1.0.31's `CosineLRScheduler(optimizer, t_initial=100, cycle_limit=1)` on a rate of 1e-4, stepped with `epoch` after each
    /// epoch: the rate that epochs 0, 1, 2, 3, 26, 51, 76 and 99 are trained with.
    const TIMM: [(u64, f64); 8] = [
        (0, 0.0001),
        (1, 0.0001),
        (2, 9.997532801828658e-05),
        (3, 9.990133642141359e-05),
        (26, 8.535533905932738e-05),
        (51, 5e-05),
        (76, 1.4644660940672627e-05),
        (99, 9.866357858642205e-08),
    ];

    #[test]
    fn a_cosine_is_timm_s_and_lags_where_the_rate_is_set_after_an_epoch() {
        let p = |schedule_lag| Protocol {
            warmup: Warmup::None,
            schedule: LrSchedule::Cosine,
            schedule_lag,
            ..Protocol::faithful()
        };
        let (lags, leads) = (
            Schedule::new(&p(true), Warmup::None, 9),
            Schedule::new(&p(false), Warmup::None, 9),
        );
        for (epoch, rate) in TIMM {
            for step in 1..=9 {
                let found = lags.lr(epoch * 9 + step);
                assert!((found / rate - 1.0).abs() < 1e-13, "epoch {epoch}: {found} {rate}");
                if epoch > 0 {
                    assert_eq!(leads.lr((epoch - 1) * 9 + step), found);
                }
            }
        }
        let constant = Protocol {
            schedule: LrSchedule::Constant,
            ..p(true)
        };
        assert_eq!(Schedule::new(&constant, Warmup::None, 9).lr(900), 1e-4);
    }
}
