//! Rank metrics: ROC-AUC (binary, one-vs-one, one-vs-rest, per label), ROC curves and average precision.
//!
//! The area is the Mann–Whitney count: every (positive, negative) pair is won, lost or a tie worth ½. The count is kept
//! doubled in integers over the sorted scores, O(n log n), so the area is exact up to one division and never depends on
//! the order of the images.

use super::confusion::mean;
use super::error::{Result, finite, label_table, length, table};

/// What an area means where it is not defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AucRule {
    /// The authors' code: scikit-learn raises when a class of a multi-class task is missing or a row of probabilities
    /// does not sum to 1 within 1e-5, and the handler reports 0.5; a label without positives is given 0.5 as well. A
    /// binary task or label of a single class otherwise is NaN, as scikit-learn ≥ 1.6 has it.
    Authors,
    /// NaN wherever the area is not defined.
    Strict,
}

/// A corner of a ROC curve: predicting positive from `threshold` up gives these rates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RocPoint {
    pub fpr: f64,
    pub tpr: f64,
    pub threshold: f64,
}

/// Positions in ascending order of score, equal ones in ascending order themselves.
pub(super) fn ascending(scores: &[f64]) -> Vec<u32> {
    // As integers in the order of `f64::total_cmp`, beside their positions: nothing is looked up while sorting.
    let key = |s: &f64| {
        let bits = s.to_bits();
        bits ^ ((bits.cast_signed() >> 63).cast_unsigned() | 1 << 63)
    };
    let mut keyed: Vec<(u64, u32)> = scores.iter().map(key).zip(0..).collect();
    if keyed.len() < RADIX_PAYS {
        keyed.sort_unstable();
    } else {
        radix_sort(&mut keyed);
    }
    keyed.into_iter().map(|(_, i)| i).collect()
}

/// From so many scores on counting digits is faster than comparing.
const RADIX_PAYS: usize = 1024;
/// Bits of a digit: a table of counts that stays in the first cache.
const DIGIT: u32 = 11;

/// Sorts by key, stably, least digit first. A digit that all keys share (of probabilities mostly the highest) costs no pass.
fn radix_sort(keyed: &mut Vec<(u64, u32)>) {
    const VALUES: usize = 1 << DIGIT;
    const DIGITS: usize = u64::BITS.div_ceil(DIGIT) as usize;
    let digit = |key: u64, d: usize| (key >> (d as u32 * DIGIT)) as usize % VALUES;
    let mut counts = vec![[0u32; VALUES]; DIGITS];
    for &(key, _) in keyed.iter() {
        for (d, counts) in counts.iter_mut().enumerate() {
            counts[digit(key, d)] += 1;
        }
    }
    let mut sorted = vec![(0, 0); keyed.len()];
    for (d, counts) in counts.iter_mut().enumerate() {
        if counts.iter().any(|&c| c as usize == keyed.len()) {
            continue;
        }
        let mut before = 0;
        for c in counts.iter_mut() {
            before += std::mem::replace(c, before);
        }
        for &pair in keyed.iter() {
            let place = &mut counts[digit(pair.0, d)];
            sorted[*place as usize] = pair;
            *place += 1;
        }
        std::mem::swap(keyed, &mut sorted);
    }
}

/// Runs of equal scores in a sorted order (−0 and 0 are equal).
pub(super) fn ties<'a>(scores: &'a [f64], order: &'a [u32]) -> impl DoubleEndedIterator<Item = &'a [u32]> {
    order.chunk_by(move |&a, &b| scores[a as usize] == scores[b as usize])
}

/// Area of checked input; NaN when a class is empty.
fn area(scores: &[f64], positive: impl Fn(usize) -> bool) -> f64 {
    let order = ascending(scores);
    let (mut below, mut positives, mut twice_won) = (0u64, 0u64, 0u64);
    for run in ties(scores, &order) {
        let p = run.iter().filter(|&&i| positive(i as usize)).count() as u64;
        let n = run.len() as u64 - p;
        twice_won += p * (2 * below + n);
        below += n;
        positives += p;
    }
    twice_won as f64 / (2 * positives * below) as f64
}

/// Area under the ROC curve of one score column; NaN when all labels are equal.
///
/// # Errors
/// `EvalError` for no values, values that are not finite, or lists of different lengths.
pub fn roc_auc(scores: &[f64], truth: &[bool]) -> Result<f64> {
    finite("scores", scores)?;
    length("labels", scores.len(), truth.len())?;
    Ok(area(scores, |i| truth[i]))
}

/// How many of the classes occur in truth.
fn present(classes: usize, truth: &[u32]) -> usize {
    let mut seen = vec![false; classes];
    truth.iter().for_each(|&t| seen[t as usize] = true);
    seen.into_iter().filter(|&s| s).count()
}

/// scikit-learn's `allclose(1, sum)` on every row.
fn rows_sum_to_one(probs: &[f64], classes: usize) -> bool {
    probs.chunks_exact(classes).all(|row| {
        let sum: f64 = row.iter().sum();
        (1.0 - sum).abs() <= 1e-8 + 1e-5 * sum.abs()
    })
}

/// Whether scikit-learn computes a multi-class area at all.
pub(super) fn multiclass_area_exists(probs: &[f64], classes: usize, truth: &[u32]) -> bool {
    present(classes, truth) == classes && rows_sum_to_one(probs, classes)
}

/// The unordered pairs of classes, each with the images of either.
pub(super) fn class_pairs(classes: usize, truth: &[u32]) -> impl Iterator<Item = (u32, u32, Vec<usize>)> {
    (0..classes as u32)
        .flat_map(move |a| (a + 1..classes as u32).map(move |b| (a, b)))
        .map(move |(a, b)| {
            let images = (0..truth.len()).filter(|&i| truth[i] == a || truth[i] == b);
            (a, b, images.collect())
        })
}

/// One-vs-one macro area of (n, classes) probabilities (Hand and Till 2001): the mean over unordered class pairs of the
/// mean of the two areas restricted to the pair. Two classes: the area of column 1.
///
/// `rule` says what a missing class, or rows that do not sum to 1 within 1e-5, give (PROTOCOL 7.2).
///
/// # Errors
/// `EvalError` for a table that is none of as many rows as there are truths, or a truth out of range.
pub fn roc_auc_ovo(probs: &[f64], classes: usize, truth: &[u32], rule: AucRule) -> Result<f64> {
    table(probs, classes, truth)?;
    if classes == 2 {
        let scores = column(probs, 2, 1);
        return Ok(area(&scores, |i| truth[i] == 1));
    }
    if !multiclass_area_exists(probs, classes, truth) {
        return Ok(match rule {
            AucRule::Authors => 0.5,
            AucRule::Strict => f64::NAN,
        });
    }
    Ok(mean(class_pairs(classes, truth).map(|(a, b, images)| {
        let directed = |class: u32| {
            let scores: Vec<f64> = images.iter().map(|&i| probs[i * classes + class as usize]).collect();
            area(&scores, |k| truth[images[k]] == class)
        };
        (directed(a) + directed(b)) / 2.0
    })))
}

/// One-vs-rest macro area of (n, classes) probabilities; NaN where scikit-learn raises. Two classes: the area of column
/// 1.
///
/// # Errors
/// `EvalError` for a table that is none of as many rows as there are truths, or a truth out of range.
pub fn roc_auc_ovr(probs: &[f64], classes: usize, truth: &[u32]) -> Result<f64> {
    table(probs, classes, truth)?;
    if classes == 2 {
        return roc_auc_ovo(probs, 2, truth, AucRule::Strict);
    }
    if !multiclass_area_exists(probs, classes, truth) {
        return Ok(f64::NAN);
    }
    Ok(mean((0..classes).map(|k| {
        let scores = column(probs, classes, k);
        area(&scores, |i| truth[i] as usize == k)
    })))
}

/// Area of every label of an (n, labels) table; NaN for a label that is constant in truth.
///
/// # Errors
/// `EvalError` for a table that is none of as many rows as there are truths, or a truth out of range.
pub fn label_aucs(probs: &[f64], labels: usize, truth: &[u8]) -> Result<Vec<f64>> {
    label_table(probs, labels, truth)?;
    Ok((0..labels)
        .map(|k| {
            let scores = column(probs, labels, k);
            area(&scores, |i| truth[i * labels + k] == 1)
        })
        .collect())
}

/// Column `k` of a row-major table.
pub(super) fn column(table: &[f64], width: usize, k: usize) -> Vec<f64> {
    table.iter().skip(k).step_by(width).copied().collect()
}

/// Average precision of one score column, Σ (Rₖ − Rₖ₋₁) Pₖ over descending thresholds; 0 without positives, as
/// scikit-learn.
///
/// # Errors
/// `EvalError` for no values, values that are not finite, or lists of different lengths.
pub fn average_precision(scores: &[f64], truth: &[bool]) -> Result<f64> {
    finite("scores", scores)?;
    length("labels", scores.len(), truth.len())?;
    let order = ascending(scores);
    let (mut hits, mut seen, mut sum) = (0u64, 0u64, 0.0);
    for run in ties(scores, &order).rev() {
        let p = run.iter().filter(|&&i| truth[i as usize]).count() as u64;
        hits += p;
        seen += run.len() as u64;
        sum += p as f64 * (hits as f64 / seen as f64);
    }
    Ok(if hits == 0 { 0.0 } else { sum / hits as f64 })
}

/// The ROC curve from (0, 0) at threshold ∞ to (1, 1), one point a distinct score.
///
/// `corners_only` leaves out points between collinear neighbours, as scikit-learn's `drop_intermediate` does: the drawn
/// curve and its area stay the same. A rate without a denominator is NaN.
///
/// # Errors
/// `EvalError` for no values, values that are not finite, or lists of different lengths.
pub fn roc_curve(scores: &[f64], truth: &[bool], corners_only: bool) -> Result<Vec<RocPoint>> {
    finite("scores", scores)?;
    length("labels", scores.len(), truth.len())?;
    let order = ascending(scores);
    let (mut fp, mut tp) = (0u64, 0u64);
    let mut steps: Vec<(u64, u64, f64)> = Vec::new();
    for run in ties(scores, &order).rev() {
        let p = run.iter().filter(|&&i| truth[i as usize]).count() as u64;
        tp += p;
        fp += run.len() as u64 - p;
        steps.push((fp, tp, scores[run[0] as usize]));
    }
    if corners_only {
        let bends = |k: usize| {
            let ((f0, t0, _), (f1, t1, _), (f2, t2, _)) = (steps[k - 1], steps[k], steps[k + 1]);
            f1 - f0 != f2 - f1 || t1 - t0 != t2 - t1
        };
        let last = steps.len() - 1;
        steps = (0..=last)
            .filter(|&k| k == 0 || k == last || bends(k))
            .map(|k| steps[k])
            .collect();
    }
    let start = (0, 0, f64::INFINITY);
    Ok(std::iter::once(start)
        .chain(steps)
        .map(|(f, t, threshold)| RocPoint {
            fpr: f as f64 / fp as f64,
            tpr: t as f64 / tp as f64,
            threshold,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::EvalError;

    #[test]
    fn area_by_hand() {
        let truth = [false, true, false, true];
        assert_eq!(roc_auc(&[0.1, 0.1, 0.4, 0.9], &truth), Ok(2.5 / 4.0));
        assert_eq!(roc_auc(&[-0.0, 0.0, 0.0, -0.0], &truth), Ok(0.5));
        assert!(roc_auc(&[0.1, 0.2], &[true, true]).unwrap().is_nan());
    }

    /// Digits are counted from [`RADIX_PAYS`] scores on, with every kind of number and with ties.
    #[test]
    fn many_scores_are_sorted_as_few_are() {
        let mut next = crate::eval::resample::splitmix(5);
        for n in [0, 1, RADIX_PAYS - 1, RADIX_PAYS, 5000] {
            for shape in 0..4u32 {
                let scores: Vec<f64> = (0..n)
                    .map(|_| match (shape, next()) {
                        (0, x) => (x >> 11) as f64 / (1u64 << 53) as f64,
                        (1, x) => (x % 7) as f64 - 3.0,
                        (2, x) => f64::from_bits(x),
                        (_, x) => [0.0, -0.0, f64::MIN_POSITIVE, f64::MAX, -1e300, 0.5][(x % 6) as usize],
                    })
                    .collect();
                let mut want: Vec<u32> = (0..n as u32).collect();
                want.sort_by(|&a, &b| scores[a as usize].total_cmp(&scores[b as usize]));
                assert_eq!(ascending(&scores), want, "{n} of shape {shape}");
            }
        }
    }

    #[test]
    fn bad_scores_are_named() {
        let e = roc_auc(&[0.1, f64::NAN], &[true, false]).unwrap_err();
        assert!(matches!(e, EvalError::NotFinite { at: 1, .. }), "{e}");
        assert!(matches!(roc_auc(&[], &[]), Err(EvalError::Empty { .. })));
        assert!(matches!(roc_auc(&[0.1], &[]), Err(EvalError::Length { .. })));
    }

    #[test]
    fn a_missing_class_is_half_for_the_authors_and_undefined_otherwise() {
        let p = [0.5, 0.3, 0.2, 0.1, 0.8, 0.1];
        assert_eq!(roc_auc_ovo(&p, 3, &[0, 1], AucRule::Authors), Ok(0.5));
        assert!(roc_auc_ovo(&p, 3, &[0, 1], AucRule::Strict).unwrap().is_nan());
    }

    /// (Q26): float16 probabilities do not sum to 1 within 1e-5, and the authors' code reports 0.5.
    #[test]
    fn rows_that_do_not_sum_to_one_are_half_for_the_authors() {
        let p = [0.5, 0.3, 0.2002, 0.1, 0.8, 0.1, 0.1, 0.1, 0.8];
        assert_eq!(roc_auc_ovo(&p, 3, &[0, 1, 2], AucRule::Authors), Ok(0.5));
        let fine = [0.5, 0.3, 0.200001, 0.1, 0.8, 0.1, 0.1, 0.1, 0.8];
        assert_eq!(roc_auc_ovo(&fine, 3, &[0, 1, 2], AucRule::Authors), Ok(1.0));
    }
}
