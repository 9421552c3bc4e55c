//! Counter-based random numbers: every stream is a pure function of (seed, purpose, epoch, index).
//!
//! Philox 4×32-10 (Salmon et al., SC 2011). The key is the seed; the counter is (block, index, epoch, purpose). No stream
//! depends on how many numbers another one drew, on thread order or on the C library (`libm` is the pure-Rust crate).

/// What a stream is for; part of the counter, so that two uses never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    Init = 1,
    Shuffle = 2,
    Augment = 3,
    ValidationSubset = 4,
    Bootstrap = 5,
    Phantom = 6,
    Test = 7,
}

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    key: [u32; 2],
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream for (seed, purpose, epoch, index). `index` is an image, tensor or replicate number.
    /// A seed of more than 64 bits of entropy is not offered; `epoch` must fit 32 bits together with the high half of `index`.
    pub fn new(seed: u64, purpose: Purpose, epoch: u32, index: u32) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            counter: [0, index, epoch, purpose as u32],
            block: [0; 4],
            used: 4,
        }
    }

    /// The same stream from its `block`-th four 32-bit values on.
    ///
    /// # Panics
    /// Where the stream has no such block.
    pub fn at_block(&self, block: usize) -> Self {
        let mut s = self.clone();
        s.counter[0] = u32::try_from(block).expect("a stream holds 2^34 numbers");
        s.used = 4;
        s
    }

    /// Uniform over all 32-bit values.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key);
            self.counter[0] = self.counter[0].checked_add(1).expect("a stream holds 2^34 numbers");
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform over all 64-bit values.
    pub fn next_u64(&mut self) -> u64 {
        let lo = u64::from(self.next_u32());
        lo | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in [lo, hi).
    pub fn uniform_in(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.uniform()
    }

    /// Uniform in 0..n without bias; `n` must be positive.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0);
        let reject = n.wrapping_neg() % n;
        loop {
            let m = u64::from(self.next_u32()) * u64::from(n);
            if m as u32 >= reject {
                return (m >> 32) as u32;
            }
        }
    }

    /// Standard normal (Box–Muller, one of the pair).
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.uniform();
        let v = self.uniform();
        libm::sqrt(-2.0 * libm::log(u)) * libm::cos(2.0 * std::f64::consts::PI * v)
    }

    /// Fisher–Yates in place.
    pub fn shuffle<T>(&mut self, xs: &mut [T]) {
        for i in (1..xs.len()).rev() {
            let j = self.below(u32::try_from(i + 1).expect("fewer than 2^32 items")) as usize;
            xs.swap(i, j);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of Random123's `kat_vectors` for philox4x32 with 10 rounds.
    #[test]
    fn philox_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_in_every_coordinate() {
        let draw = |s, p, e, i| Stream::new(s, p, e, i).next_u64();
        let base = draw(1, Purpose::Init, 0, 0);
        assert_ne!(base, draw(2, Purpose::Init, 0, 0));
        assert_ne!(base, draw(1, Purpose::Shuffle, 0, 0));
        assert_ne!(base, draw(1, Purpose::Init, 1, 0));
        assert_ne!(base, draw(1, Purpose::Init, 0, 1));
        assert_eq!(base, draw(1, Purpose::Init, 0, 0));
    }

    #[test]
    fn below_is_in_range_and_hits_every_value() {
        let mut s = Stream::new(0, Purpose::Test, 0, 0);
        let mut seen = [0u32; 7];
        for _ in 0..7000 {
            seen[s.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
