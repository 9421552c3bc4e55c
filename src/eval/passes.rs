//! Walks along sorted scores that measure all lanes of a block at once, in integers.

use std::ops::{AddAssign, Mul, Shl};

use super::auc::{ascending, ties};
use super::block::{Block, Counts, LANES};

/// One score column in ascending order, cut into runs of negatives and positives.
///
/// Twice the wins of a run of equal scores are P·(2·below + N), `below` being the negatives of lower score. Where a run
/// is pure one term vanishes, and neighbouring pure runs of one kind join. In a mixed run the positives are walked
/// twice, before and after its negatives, and win `below` each time, which adds up to the same.
pub(super) struct AreaPass {
    images: Vec<u32>,
    runs: Vec<Run>,
}

/// Some negatives, then some positives.
#[derive(Clone, Copy, PartialEq)]
struct Run {
    negatives: u32,
    positives: u32,
    kind: Kind,
}

/// What the positives of a run are: above all negatives so far, or tied with the negatives that follow, or those again.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Above,
    Tied,
    TiedAgain,
}

impl AreaPass {
    pub(super) fn new(scores: &[f64], positive: impl Fn(usize) -> bool, image: impl Fn(usize) -> usize) -> Self {
        let order = ascending(scores);
        let mut out = Self {
            images: Vec::with_capacity(order.len()),
            runs: Vec::new(),
        };
        for run in ties(scores, &order) {
            let (p, n): (Vec<u32>, Vec<u32>) = run.iter().partition(|&&i| positive(i as usize));
            let code = |list: Vec<u32>| -> Vec<u32> { list.iter().map(|&i| image(i as usize) as u32).collect() };
            let (p, n) = (code(p), code(n));
            if p.is_empty() || n.is_empty() {
                out.push(&n, &p, Kind::Above);
            } else {
                out.push(&[], &p, Kind::Tied);
                out.push(&n, &p, Kind::TiedAgain);
            }
        }
        out
    }

    /// Appends a run, or lengthens the last one.
    fn push(&mut self, negatives: &[u32], positives: &[u32], kind: Kind) {
        self.images.extend_from_slice(negatives);
        self.images.extend_from_slice(positives);
        let (n, p) = (negatives.len() as u32, positives.len() as u32);
        match self.runs.last_mut() {
            Some(last) if n == 0 && last.kind == kind && last.positives > 0 => last.positives += p,
            Some(last) if last.positives == 0 => {
                (last.negatives, last.positives, last.kind) = (last.negatives + n, p, kind);
            }
            _ => self.runs.push(Run {
                negatives: n,
                positives: p,
                kind,
            }),
        }
    }

    /// Half-width integers while nothing can overflow: with T drawn images every count is at most T, and twice the wins
    /// are at most 2·(T/2)².
    pub(super) fn measure(&self, block: &Block) -> [f64; LANES] {
        if block.most_drawn <= u64::from(u16::MAX) {
            self.walk::<u16, u32>(&block.counts)
        } else {
            self.walk::<u32, u64>(&block.counts)
        }
    }

    fn walk<S, W>(&self, counts: &[Counts]) -> [f64; LANES]
    where
        S: Copy + Default + From<u8> + AddAssign + Into<W>,
        W: Copy + Default + Into<u64> + AddAssign + Mul<Output = W> + Shl<u32, Output = W>,
        u64: From<S>,
    {
        let (mut below, mut positives) = ([S::default(); LANES], [S::default(); LANES]);
        let mut twice_won = [W::default(); LANES];
        let mut rest = self.images.as_slice();
        for run in &self.runs {
            let (negative, tail) = rest.split_at(run.negatives as usize);
            let (positive, tail) = tail.split_at(run.positives as usize);
            rest = tail;
            for (b, r) in below.iter_mut().zip(drawn_of::<S>(negative, counts)) {
                *b += r;
            }
            let drawn = drawn_of::<S>(positive, counts);
            if run.kind != Kind::TiedAgain {
                for (p, r) in positives.iter_mut().zip(drawn) {
                    *p += r;
                }
            }
            let doubled = u32::from(run.kind == Kind::Above);
            for ((w, r), &b) in twice_won.iter_mut().zip(drawn).zip(&below) {
                *w += (r.into() * b.into()) << doubled;
            }
        }
        std::array::from_fn(|l| {
            let won: u64 = twice_won[l].into();
            won as f64 / (2 * u64::from(positives[l]) * u64::from(below[l])) as f64
        })
    }
}

/// How often these images were drawn together.
#[inline(always)]
pub(super) fn drawn_of<S: Copy + Default + From<u8> + AddAssign>(images: &[u32], counts: &[Counts]) -> [S; LANES] {
    let mut sum = [S::default(); LANES];
    for &i in images {
        for (s, &c) in sum.iter_mut().zip(&counts[i as usize]) {
            *s += S::from(c);
        }
    }
    sum
}

/// One score column in descending order: `image << 2 | positive | settle`, where `settle` ends a run that holds
/// positives.
pub(super) struct PrecisionPass {
    steps: Vec<u32>,
    without_positives: bool,
}

const HIT: u32 = 1;
const SETTLE: u32 = 2;

impl PrecisionPass {
    pub(super) fn new(scores: &[f64], positive: &[bool]) -> Self {
        let order = ascending(scores);
        let mut steps = Vec::with_capacity(order.len());
        for run in ties(scores, &order).rev() {
            steps.extend(run.iter().map(|&i| (i << 2) | (u32::from(positive[i as usize]) * HIT)));
            if run.iter().any(|&i| positive[i as usize])
                && let Some(last) = steps.last_mut()
            {
                *last |= SETTLE;
            }
        }
        Self {
            steps,
            without_positives: !positive.contains(&true),
        }
    }

    pub(super) fn measure(&self, block: &Block) -> [f64; LANES] {
        if self.without_positives {
            return [0.0; LANES];
        }
        let (mut seen, mut hits, mut run) = ([0u32; LANES], [0u32; LANES], [0u32; LANES]);
        let mut sum = [0.0; LANES];
        for &step in &self.steps {
            let drawn = &block.counts[(step >> 2) as usize];
            add(&mut seen, drawn);
            if step & HIT != 0 {
                add(&mut run, drawn);
            }
            if step & SETTLE != 0 {
                for l in 0..LANES {
                    hits[l] += run[l];
                    // Nothing seen yet means nothing hit: 0 · 0/1.
                    sum[l] += f64::from(run[l]) * (f64::from(hits[l]) / f64::from(seen[l].max(1)));
                    run[l] = 0;
                }
            }
        }
        std::array::from_fn(|l| sum[l] / f64::from(hits[l]))
    }
}

fn add(sum: &mut [u32; LANES], counts: &Counts) {
    for (s, &c) in sum.iter_mut().zip(counts) {
        *s += u32::from(c);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::resample::splitmix;

    /// Counting pairs is the definition; the narrow and the wide walk must both find it.
    #[test]
    fn both_walks_count_pairs() {
        let n = 90;
        let mut next = splitmix(3);
        let scores: Vec<f64> = (0..n).map(|_| (next() % 13) as f64).collect();
        let truth: Vec<bool> = (0..n).map(|_| next().is_multiple_of(3)).collect();
        let counts: Vec<Counts> = (0..n).map(|_| std::array::from_fn(|_| (next() % 4) as u8)).collect();
        let pass = AreaPass::new(&scores, |i| truth[i], |i| i);
        let narrow = pass.walk::<u16, u32>(&counts);
        assert_eq!(narrow, pass.walk::<u32, u64>(&counts));
        for lane in 0..LANES {
            let (mut twice_won, mut pairs) = (0, 0);
            for (i, j) in (0..n * n)
                .map(|k| (k / n, k % n))
                .filter(|&(i, j)| truth[i] && !truth[j])
            {
                let w = u32::from(counts[i][lane]) * u32::from(counts[j][lane]);
                pairs += w;
                twice_won += w * (u32::from(scores[i] > scores[j]) + u32::from(scores[i] >= scores[j]));
            }
            assert_eq!(narrow[lane], f64::from(twice_won) / f64::from(2 * pairs));
        }
    }
}
