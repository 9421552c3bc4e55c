//! Intervals, what bootstrap replicates say, and when a difference is small enough to call two numbers equal.

use super::confusion::mean;
use super::error::{EvalError, Result, argument};

/// A two-sided interval; `level` is its coverage, for example 0.95.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
    pub level: f64,
}

/// A percentile interval over bootstrap replicates.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    pub interval: Interval,
    /// Standard deviation of the replicates.
    pub standard_error: f64,
    /// Replicates left out because the metric was not defined on them (a class was not drawn). Many of these mean that
    /// the test set is too small for this metric.
    pub undefined: usize,
}

/// The answer of an equivalence test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equivalence {
    /// The whole interval lies within the margin.
    Equivalent,
    /// The whole interval lies outside the margin.
    Different,
    /// The interval crosses the margin: the data cannot tell.
    Undetermined,
}

pub(super) fn level(level: f64) -> Result<()> {
    argument("level", "a number between 0 and 1", level, level > 0.0 && level < 1.0)
}

/// The `q` quantile of sorted numbers, linear between neighbours (type 7; numpy's default, to the bit).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let (a, b, t) = (sorted[below], sorted[above], at - below as f64);
    if t < 0.5 {
        a + (b - a) * t
    } else {
        b - (b - a) * (1.0 - t)
    }
}

/// Percentile interval and standard error of bootstrap replicates; NaN replicates are counted and left out.
///
/// Errors when no replicate is defined.
///
/// # Errors
/// [`EvalError`] for a coverage outside 0 to 1, or where no replicate is defined.
pub fn percentile(replicates: &[f64], coverage: f64) -> Result<Percentile> {
    level(coverage)?;
    let mut sorted: Vec<f64> = replicates.iter().copied().filter(|v| !v.is_nan()).collect();
    if sorted.is_empty() {
        return Err(EvalError::TooFew {
            what: "defined bootstrap replicates",
            needed: 1,
            found: 0,
        });
    }
    sorted.sort_unstable_by(f64::total_cmp);
    let centre = mean(sorted.iter().copied());
    let squares: f64 = sorted.iter().map(|v| (v - centre) * (v - centre)).sum();
    Ok(Percentile {
        interval: Interval {
            low: quantile(&sorted, (1.0 - coverage) / 2.0),
            high: quantile(&sorted, (1.0 + coverage) / 2.0),
            level: coverage,
        },
        standard_error: (squares / (sorted.len() as f64 - 1.0)).sqrt(),
        undefined: replicates.len() - sorted.len(),
    })
}

/// Holds an interval against `reference ± margin`, where the reference itself is only known to ± `reading`.
///
/// The answer holds for every value the reference may have: `Equivalent` needs the interval inside
/// `reference ± (margin − reading)`, `Different` needs it outside `reference ± (margin + reading)`. With an interval of
/// coverage 1 − 2α each answer is a test at level α (two one-sided tests).
pub fn equivalence(interval: &Interval, reference: f64, reading: f64, margin: f64) -> Equivalence {
    let (low, high) = (interval.low - reference, interval.high - reference);
    let (inner, outer) = (margin - reading, margin + reading);
    if low > -inner && high < inner {
        Equivalence::Equivalent
    } else if low > outer || high < -outer {
        Equivalence::Different
    } else {
        Equivalence::Undetermined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_replicates_are_counted_not_used() {
        let p = percentile(&[f64::NAN, 1.0, 3.0, f64::NAN, 2.0], 0.5).unwrap();
        assert_eq!((p.interval.low, p.interval.high, p.undefined), (1.5, 2.5, 2));
        assert_eq!(p.standard_error, 1.0);
        assert!(percentile(&[f64::NAN], 0.95).is_err() && percentile(&[1.0], 1.0).is_err());
    }

    #[test]
    fn the_reading_error_makes_both_answers_harder() {
        let at = |low, high| Interval { low, high, level: 0.9 };
        let judge = |low, high, reading| equivalence(&at(low, high), 0.9, reading, 0.01);
        assert_eq!(judge(0.895, 0.9095, 0.0), Equivalence::Equivalent);
        assert_eq!(judge(0.895, 0.9095, 0.001), Equivalence::Undetermined);
        assert_eq!(judge(0.9105, 0.92, 0.0), Equivalence::Different);
        assert_eq!(judge(0.9105, 0.92, 0.001), Equivalence::Undetermined);
        assert_eq!(judge(0.87, 0.92, 0.0), Equivalence::Undetermined);
        assert_eq!(judge(0.9, 0.9, 0.02), Equivalence::Undetermined);
        assert_eq!(judge(f64::NAN, f64::NAN, 0.0), Equivalence::Undetermined);
    }
}
