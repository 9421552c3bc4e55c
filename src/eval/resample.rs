//! Resampled test sets.
//!
//! A bootstrap replicate is how often every image was drawn. The counts of [`LANES`] replicates lie side by side, so
//! that a metric walks its images once for all of them with whole vectors of integers ([`Statistic`]); the drawing is
//! shared by every model measured on the set, which also makes comparisons paired. Replicate r depends on its own
//! stream only: neither threads nor the number of replicates change it.

use rayon::prelude::*;

use super::block::{Block, Counts, LANES, Statistic};
use super::error::{EvalError, Result, argument, few_enough, length};

/// Bootstrap replicates of one test set: (replicates, images) counts, a byte each.
pub struct Resamples {
    images: usize,
    replicates: usize,
    blocks: Vec<Block>,
}

impl Resamples {
    /// Draws `images` images with replacement, `replicates` times.
    ///
    /// `stream(r)` opens the random numbers of replicate r: uniform over all 64-bit values, a pure function of r.
    ///
    /// # Errors
    /// [`EvalError`] for no images, or a stream whose numbers repeat.
    pub fn draw<D: FnMut() -> u64>(images: usize, replicates: usize, stream: impl Fn(u32) -> D + Sync) -> Result<Self> {
        if images == 0 {
            return Err(EvalError::Empty { what: "test set" });
        }
        few_enough(images)?;
        argument(
            "replicates",
            "from 1 to 2^32 − 1",
            replicates as f64,
            replicates >= 1 && u32::try_from(replicates).is_ok(),
        )?;
        let blocks = (0..replicates.div_ceil(LANES))
            .into_par_iter()
            .map(|block| {
                let mut counts = vec![Counts([0; LANES]); images];
                for replicate in block * LANES..replicates.min((block + 1) * LANES) {
                    draw_one(&mut counts, replicate % LANES, stream(replicate as u32))
                        .ok_or(EvalError::Stream { replicate })?;
                }
                Ok(Block::new(counts))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            images,
            replicates,
            blocks,
        })
    }

    /// Draws whole groups with replacement: all images of a patient, case or lesion come and go together, as many
    /// groups as there are. `groups[i]` is the group of image i, numbered from 0 without gaps.
    ///
    /// Images of one patient are not independent; an interval that ignores it is too narrow.
    ///
    /// # Errors
    /// As [`Self::draw`].
    pub fn draw_groups<D: FnMut() -> u64>(
        groups: &[u32],
        replicates: usize,
        stream: impl Fn(u32) -> D + Sync,
    ) -> Result<Self> {
        let count = groups.iter().max().map_or(0, |&g| g as usize + 1);
        let drawn = Self::draw(count, replicates, stream)?;
        let spread = |block: &Block| Block::new(groups.iter().map(|&g| block.counts[g as usize]).collect());
        Ok(Self {
            images: groups.len(),
            replicates,
            blocks: drawn.blocks.par_iter().map(spread).collect(),
        })
    }

    pub fn images(&self) -> usize {
        self.images
    }

    pub fn replicates(&self) -> usize {
        self.replicates
    }

    /// The metric on every replicate, in order.
    ///
    /// # Errors
    /// [`EvalError`] for a statistic of another number of images.
    pub fn evaluate<S: Statistic + ?Sized>(&self, statistic: &S) -> Result<Vec<f64>> {
        length("images of the metric", self.images, statistic.images())?;
        let blocks: Vec<[f64; LANES]> = self.blocks.par_iter().map(|b| statistic.measure(b)).collect();
        Ok(blocks.into_iter().flatten().take(self.replicates).collect())
    }

    /// Any metric on every replicate, in order: `metric(counts)` with how often every image was drawn.
    ///
    /// For metrics without a [`Statistic`]; those are many times faster.
    pub fn map(&self, metric: impl Fn(&[u32]) -> f64 + Sync) -> Vec<f64> {
        (0..self.replicates)
            .into_par_iter()
            .map_init(
                || vec![0; self.images],
                |counts, r| {
                    for (c, lanes) in counts.iter_mut().zip(&self.blocks[r / LANES].counts) {
                        *c = u32::from(lanes.0[r % LANES]);
                    }
                    metric(counts)
                },
            )
            .collect()
    }
}

/// Draws one replicate into its lane; `None` when an image would be counted past 255 or draw after draw is rejected,
/// which uniform numbers never do.
///
/// Every 64-bit number gives two draws. A 32-bit number x becomes ⌊x·n/2³²⌋, redrawn where that would favour some
/// images (Lemire 2019).
fn draw_one(counts: &mut [Counts], lane: usize, mut next: impl FnMut() -> u64) -> Option<()> {
    let n = counts.len() as u64;
    let reject = (1u64 << 32) % n;
    let (mut drawn, mut rejected) = (0, 0);
    let mut half = None;
    while drawn < counts.len() {
        let x = match half.take() {
            Some(high) => high,
            None => {
                let both = next();
                half = Some(both >> 32);
                both & 0xFFFF_FFFF
            }
        };
        let product = x * n;
        if product & 0xFFFF_FFFF >= reject {
            let cell = &mut counts[(product >> 32) as usize].0[lane];
            *cell = cell.checked_add(1)?;
            drawn += 1;
            rejected = 0;
        } else if rejected < 128 {
            rejected += 1;
        } else {
            return None;
        }
    }
    Some(())
}

#[cfg(test)]
pub(super) use tests::splitmix;

#[cfg(test)]
mod tests {
    use super::*;

    /// splitmix64, keyed as `tests/vectors/make/resample.py` does it.
    pub(in crate::eval) fn splitmix(replicate: u32) -> impl FnMut() -> u64 {
        let mut state = 0x5EED ^ (u64::from(replicate) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        move || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }
    }

    #[test]
    fn every_replicate_draws_as_many_images_as_there_are() {
        let r = Resamples::draw(301, 70, splitmix).unwrap();
        assert!(r.map(|c| f64::from(c.iter().sum::<u32>())).iter().all(|&s| s == 301.0));
        assert_eq!(r.replicates(), r.map(|_| 0.0).len());
    }

    #[test]
    fn a_replicate_depends_on_its_own_stream_only() {
        let fingerprint =
            |r: &Resamples| r.map(|c| c.iter().enumerate().map(|(i, &c)| (i as f64) * f64::from(c * c)).sum());
        let (few, many) = (
            Resamples::draw(97, 33, splitmix).unwrap(),
            Resamples::draw(97, 200, splitmix).unwrap(),
        );
        assert_eq!(fingerprint(&few), fingerprint(&many)[..33]);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        assert_eq!(
            pool.install(|| fingerprint(&Resamples::draw(97, 200, splitmix).unwrap())),
            fingerprint(&many)
        );
    }

    #[test]
    fn images_of_a_group_come_and_go_together() {
        let r = Resamples::draw_groups(&[0, 0, 1, 2, 2, 2], 40, splitmix).unwrap();
        assert_eq!(r.images(), 6);
        let apart = r.map(|c| f64::from(u8::from(c[0] != c[1] || c[3] != c[4] || c[4] != c[5])));
        assert_eq!(apart, [0.0; 40]);
        assert!(r.map(|c| f64::from(c[0] + c[2] + c[3])).iter().all(|&s| s == 3.0));
    }

    #[test]
    fn a_stuck_stream_and_an_empty_set_are_refused() {
        assert_eq!(
            Resamples::draw(300, 2, |_| || u64::MAX).err(),
            Some(EvalError::Stream { replicate: 0 })
        );
        assert!(Resamples::draw(300, 2, |_| || 0).is_err());
        assert!(matches!(Resamples::draw(0, 1, splitmix), Err(EvalError::Empty { .. })));
        assert!(matches!(
            Resamples::draw_groups(&[], 1, splitmix),
            Err(EvalError::Empty { .. })
        ));
        assert!(matches!(
            Resamples::draw(3, 0, splitmix),
            Err(EvalError::Argument { .. })
        ));
    }
}
