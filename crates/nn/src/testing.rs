//! Random numbers for tests and self-checks: the stream of medft's own generator, Philox 4×32-10 (Salmon et al., SC 2011).

/// Standard normal numbers (Box–Muller).
pub(crate) struct Normal {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Normal {
    /// The stream of these two numbers.
    pub(crate) fn new(seed: u32, key: u32) -> Self {
        Self {
            key: [seed, 0],
            counter: [0, 0, key, 7],
            block: [0; 4],
            used: 4,
        }
    }

    pub(crate) fn draw(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(2.0 * std::f64::consts::PI * v)
    }

    /// In [0, 1) with 53 bits.
    fn uniform(&mut self) -> f64 {
        let low = u64::from(self.next());
        let all = low | u64::from(self.next()) << 32;
        (all >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    fn next(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] += 1;
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }
}

fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [
            (b >> 32) as u32 ^ c[1] ^ k[0],
            b as u32,
            (a >> 32) as u32 ^ c[3] ^ k[1],
            a as u32,
        ];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}
