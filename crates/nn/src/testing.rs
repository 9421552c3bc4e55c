//! Random numbers for tests.

use rand_mt::Mt64;

/// Standard normal numbers (Box–Muller).
pub(crate) struct Normal(Mt64);

impl Normal {
    pub(crate) fn new(seed: u64, key: u32) -> Self {
        Self(Mt64::new(seed << 32 | u64::from(key)))
    }

    pub(crate) fn draw(&mut self) -> f64 {
        let mut uniform = || (self.0.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64);
        let (u, v) = (1.0 - uniform(), uniform());
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(2.0 * std::f64::consts::PI * v)
    }
}
