//! The factor on the loss that keeps float16 gradients from vanishing, as `torch.amp.GradScaler` moves it. PROTOCOL 6.4.

use serde::{Deserialize, Serialize};

const START: f64 = 65_536.0;
/// Steps without overflow after which the factor is doubled.
const PATIENCE: u32 = 2000;

/// The factor, and the steps since it last changed; a power of two, so that scaling rounds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LossScale {
    pub factor: f64,
    good_steps: u32,
}

impl Default for LossScale {
    fn default() -> Self {
        Self {
            factor: START,
            good_steps: 0,
        }
    }
}

impl LossScale {
    /// Moves the factor after a step whose gradients were all finite, or not (such a step must be skipped).
    pub fn update(&mut self, finite: bool) {
        if !finite {
            // torch keeps it in float32, where it ends at 0: from there on nothing is updated any more.
            self.factor = f64::from((self.factor * 0.5) as f32);
            self.good_steps = 0;
            return;
        }
        self.good_steps += 1;
        if self.good_steps == PATIENCE {
            self.factor *= 2.0;
            self.good_steps = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GradScaler's defaults: 65536, doubled after 2000 good steps in a row, halved at once.
    #[test]
    fn the_factor_moves_as_torch_moves_it() {
        let mut s = LossScale::default();
        for _ in 0..1999 {
            s.update(true);
        }
        assert_eq!(s.factor, 65_536.0);
        s.update(true);
        assert_eq!(s.factor, 131_072.0);
        s.update(false);
        s.update(false);
        assert_eq!(s.factor, 32_768.0);
        // An overflow starts the count anew.
        for _ in 0..1999 {
            s.update(true);
        }
        s.update(false);
        for _ in 0..1999 {
            s.update(true);
        }
        assert_eq!(s.factor, 16_384.0);
        s.update(true);
        assert_eq!(s.factor, 32_768.0);
    }

    #[test]
    fn the_factor_survives_a_checkpoint() {
        let mut s = LossScale::default();
        s.update(true);
        let again: LossScale = serde_json::from_str(&serde_json::to_string(&s).unwrap()).unwrap();
        assert_eq!(s, again);
    }
}
