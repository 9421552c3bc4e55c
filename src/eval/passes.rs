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
    kind: TieKind,
}

/// What the positives of a run are: above all negatives so far, or tied with the negatives that follow, or those again.
#[derive(Clone, Copy, PartialEq)]
enum TieKind {
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
            // Most scores are nobody else's.
            if let &[i] = run {
                let p = u32::from(positive(i as usize));
                out.images.push(image(i as usize) as u32);
                out.push(1 - p, p, TieKind::Above);
                continue;
            }
            let is = |&i: &u32| positive(i as usize);
            let p = run.iter().copied().filter(is).count();
            let code = |i: u32| image(i as usize) as u32;
            let positives = run.iter().copied().filter(is).map(code);
            let negatives = run.iter().copied().filter(|i| !is(i)).map(code);
            let mut add = |n: bool, p: bool, kind| {
                let from = out.images.len();
                if n {
                    out.images.extend(negatives.clone());
                }
                let between = out.images.len();
                if p {
                    out.images.extend(positives.clone());
                }
                out.push((between - from) as u32, (out.images.len() - between) as u32, kind);
            };
            if p == 0 || p == run.len() {
                add(p == 0, p > 0, TieKind::Above);
            } else {
                add(false, true, TieKind::Tied);
                add(true, true, TieKind::TiedAgain);
            }
        }
        out
    }

    /// Adds a run of images just listed, or lengthens the last one.
    fn push(&mut self, n: u32, p: u32, kind: TieKind) {
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
            walk_narrow(&self.images, &self.runs, &block.counts)
        } else {
            walk_wide(&self.images, &self.runs, &block.counts)
        }
    }
}

medft_nn::vectorised! {
    /// [`walk`] where nothing passes 16 bits, and its products 32.
    fn walk_narrow(images: &[u32], runs: &[Run], counts: &[Counts]) -> [f64; LANES] {
        walk::<u16, u32>(images, runs, counts)
    }

    /// [`walk`] for any number of images.
    fn walk_wide(images: &[u32], runs: &[Run], counts: &[Counts]) -> [f64; LANES] {
        walk::<u32, u64>(images, runs, counts)
    }
}

#[inline(always)]
fn walk<S, W>(mut rest: &[u32], runs: &[Run], counts: &[Counts]) -> [f64; LANES]
where
    S: Copy + Default + From<u8> + AddAssign + Into<W>,
    W: Copy + Default + Into<u64> + AddAssign + Mul<Output = W> + Shl<u32, Output = W>,
    u64: From<S>,
{
    let (mut below, mut positives) = ([S::default(); LANES], [S::default(); LANES]);
    let mut twice_won = [W::default(); LANES];
    for run in runs {
        let (negative, tail) = rest.split_at(run.negatives as usize);
        let (positive, tail) = tail.split_at(run.positives as usize);
        rest = tail;
        add_drawn(&mut below, negative, counts);
        let mut drawn = [S::default(); LANES];
        add_drawn(&mut drawn, positive, counts);
        if run.kind != TieKind::TiedAgain {
            for l in 0..LANES {
                positives[l] += drawn[l];
            }
        }
        let doubled = u32::from(run.kind == TieKind::Above);
        for l in 0..LANES {
            twice_won[l] += (drawn[l].into() * below[l].into()) << doubled;
        }
    }
    let mut out = [0.0; LANES];
    for l in 0..LANES {
        let won: u64 = twice_won[l].into();
        out[l] = won as f64 / (2 * u64::from(positives[l]) * u64::from(below[l])) as f64;
    }
    out
}

/// How often these images were drawn together.
#[inline(always)]
pub(super) fn drawn_of<S: Copy + Default + From<u8> + AddAssign>(images: &[u32], counts: &[Counts]) -> [S; LANES] {
    let mut sum = [S::default(); LANES];
    add_drawn(&mut sum, images, counts);
    sum
}

#[inline(always)]
fn add_drawn<S: Copy + From<u8> + AddAssign>(sum: &mut [S; LANES], images: &[u32], counts: &[Counts]) {
    let mut total = *sum;
    for &i in images {
        let row = &counts[i as usize].0;
        for l in 0..LANES {
            total[l] += S::from(row[l]);
        }
    }
    *sum = total;
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
    for (s, &c) in sum.iter_mut().zip(&counts.0) {
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
        let counts: Vec<Counts> = (0..n)
            .map(|_| Counts(std::array::from_fn(|_| (next() % 4) as u8)))
            .collect();
        let pass = AreaPass::new(&scores, |i| truth[i], |i| i);
        let narrow = walk_narrow(&pass.images, &pass.runs, &counts);
        assert_eq!(narrow, walk_wide(&pass.images, &pass.runs, &counts));
        for (lane, found) in narrow.iter().enumerate() {
            let (mut twice_won, mut pairs) = (0, 0);
            for (i, j) in (0..n * n)
                .map(|k| (k / n, k % n))
                .filter(|&(i, j)| truth[i] && !truth[j])
            {
                let w = u32::from(counts[i].0[lane]) * u32::from(counts[j].0[lane]);
                pairs += w;
                twice_won += w * (u32::from(scores[i] > scores[j]) + u32::from(scores[i] >= scores[j]));
            }
            assert_eq!(*found, f64::from(twice_won) / f64::from(2 * pairs));
        }
    }
}
