//! An estimate with its sources of variance kept apart, and intervals that no further source can narrow.
//!
//! Satterthwaite's degrees of freedom join variances into one, and the joined interval can be *narrower* than that of its
//! largest source alone: a second, well-known variance lends its degrees of freedom. So the half-widths are joined instead, as
//! the root of their sum of squares (MOVER: Zou and Donner 2008). Each keeps its own quantile, and the sum only grows.

use super::error::{Result, argument};
use super::interval::{Interval, level};
use super::student::{normal_quantile, normal_two_sided, t_quantile, t_upper_tail};

/// One source of variance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VarianceSource {
    pub standard_error: f64,
    /// Of Student's t; `None` is the normal distribution.
    pub df: Option<f64>,
}

impl VarianceSource {
    /// Of Student's t with these degrees of freedom, or of the normal distribution.
    pub fn new(standard_error: f64, df: Option<f64>) -> Self {
        Self { standard_error, df }
    }

    /// Half-width of the two-sided interval of this source alone.
    ///
    /// # Errors
    /// `EvalError` for a coverage outside 0 to 1, or degrees of freedom or a standard error that are none.
    pub fn half_width(&self, coverage: f64) -> Result<f64> {
        level(coverage)?;
        argument(
            "standard error",
            "a finite number, not negative",
            self.standard_error,
            self.standard_error.is_finite() && self.standard_error >= 0.0,
        )?;
        let upper = (1.0 + coverage) / 2.0;
        let quantile = match self.df {
            Some(df) => t_quantile(upper, df)?,
            None => normal_quantile(upper)?,
        };
        Ok(quantile * self.standard_error)
    }
}

/// A value with its sources of variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Estimate {
    pub value: f64,
    pub sources: Vec<VarianceSource>,
}

impl Estimate {
    /// The two-sided interval: half-widths of all sources joined as the root of their sum of squares.
    ///
    /// # Errors
    /// `EvalError` for a coverage outside 0 to 1, or degrees of freedom or a standard error that are none.
    pub fn interval(&self, coverage: f64) -> Result<Interval> {
        let half = self.half_width(coverage)?;
        Ok(Interval {
            low: self.value - half,
            high: self.value + half,
            level: coverage,
        })
    }

    fn half_width(&self, coverage: f64) -> Result<f64> {
        let mut squares = 0.0;
        for s in &self.sources {
            let half = s.half_width(coverage)?;
            squares += half * half;
        }
        Ok(squares.sqrt())
    }

    /// One-sided p of "the true value is at most `bound`": half of what lies outside the widest interval that leaves `bound`
    /// out; ½ or more where the value itself is not above it.
    ///
    /// # Errors
    /// `EvalError` for a value or bound that is no number, or a source without degrees of freedom.
    pub fn p_above(&self, bound: f64) -> Result<f64> {
        let distance = (self.value - bound).abs();
        let tail = self.tail(distance)?;
        Ok(if self.value > bound { tail } else { 1.0 - tail })
    }

    /// One-sided p of "the true value is at least `bound`".
    ///
    /// # Errors
    /// As [`Estimate::p_above`].
    pub fn p_below(&self, bound: f64) -> Result<f64> {
        let mirrored = Self {
            value: -self.value,
            sources: self.sources.clone(),
        };
        mirrored.p_above(-bound)
    }

    /// Two-sided p of "the true value is 0".
    ///
    /// # Errors
    /// As [`Estimate::p_above`].
    pub fn p_two_sided(&self) -> Result<f64> {
        Ok((2.0 * self.tail(self.value.abs())?).min(1.0))
    }

    /// p such that the interval of coverage 1 − 2p has this half-width; ½ for no distance.
    ///
    /// Solved for u = ln(−ln p), in which the logarithm of a half-width is nearly a straight line, by false position (Illinois).
    fn tail(&self, distance: f64) -> Result<f64> {
        argument("distance", "a number", distance, !distance.is_nan())?;
        if distance == 0.0 {
            return Ok(0.5);
        }
        let sources: Vec<&VarianceSource> = self.sources.iter().filter(|s| s.standard_error > 0.0).collect();
        match sources.as_slice() {
            [] => return Ok(0.0),
            [
                VarianceSource {
                    standard_error,
                    df: Some(df),
                },
            ] => return t_upper_tail(distance / standard_error, *df),
            [
                VarianceSource {
                    standard_error,
                    df: None,
                },
            ] => return Ok(normal_two_sided(distance / standard_error) / 2.0),
            _ => {}
        }
        let p_of = |u: f64| libm::exp(-libm::exp(u));
        // How much too wide: 0 at the solution.
        let excess = |u: f64| -> Result<f64> { Ok(libm::log(self.half_width_of(p_of(u))? / distance)) };
        let (mut low, mut high) = (libm::log(-libm::log(0.499_999_999)), libm::log(700.0));
        let (mut at_low, mut at_high) = (excess(low)?, excess(high)?);
        if at_low >= 0.0 {
            return Ok(0.5);
        }
        if at_high <= 0.0 {
            return Ok(p_of(high));
        }
        for _ in 0..100 {
            let u = (low * at_high - high * at_low) / (at_high - at_low);
            let at = excess(u)?;
            if at.abs() < 1e-13 || high - low < 1e-13 {
                return Ok(p_of(u));
            }
            if at < 0.0 {
                (low, at_low, at_high) = (u, at, at_high / 2.0);
            } else {
                (high, at_high, at_low) = (u, at, at_low / 2.0);
            }
        }
        Ok(p_of((low + high) / 2.0))
    }

    /// Half-width of the interval that leaves `p` on either side.
    fn half_width_of(&self, p: f64) -> Result<f64> {
        let mut squares = 0.0;
        for s in &self.sources {
            let quantile = match s.df {
                Some(df) => -t_quantile(p, df)?,
                None => -normal_quantile(p)?,
            };
            squares += (quantile * s.standard_error) * (quantile * s.standard_error);
        }
        Ok(squares.sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::{normal_two_sided, t_upper_tail};

    fn of(sources: &[(f64, Option<f64>)], value: f64) -> Estimate {
        let source = |&(standard_error, df): &(f64, Option<f64>)| VarianceSource { standard_error, df };
        Estimate {
            value,
            sources: sources.iter().map(source).collect(),
        }
    }

    #[test]
    fn one_source_is_the_plain_test() {
        for (value, df) in [(0.7, 2.0), (3.0, 1.0), (12.0, 5.0)] {
            let p = of(&[(0.5, Some(df))], value).p_above(0.0).unwrap();
            assert!((p / t_upper_tail(value / 0.5, df).unwrap() - 1.0).abs() < 1e-9, "{p}");
        }
        let p = of(&[(0.5, None)], 1.0).p_two_sided().unwrap();
        assert!((p / normal_two_sided(2.0) - 1.0).abs() < 1e-9);
        assert_eq!(of(&[(0.0, None)], 1.0).p_above(0.0), Ok(0.0));
        assert_eq!(of(&[(0.0, None)], 1.0).p_above(2.0), Ok(1.0));
        assert_eq!(of(&[(1.0, None)], 1.0).p_above(1.0), Ok(0.5));
    }

    #[test]
    fn the_interval_and_p_say_the_same() {
        let e = of(&[(0.004, Some(2.0)), (0.006, None)], 0.031);
        let i = e.interval(0.95).unwrap();
        assert!((e.p_above(i.low).unwrap() - 0.025).abs() < 1e-9);
        assert!((e.p_below(i.high).unwrap() - 0.025).abs() < 1e-9);
        let half = ((4.302_652_729_749_464 * 0.004f64).powi(2) + (1.959_963_984_540_054 * 0.006f64).powi(2)).sqrt();
        assert!((i.high - 0.031 - half).abs() < 1e-12);
    }

    /// The fault of joining by Satterthwaite: a source of many degrees of freedom narrowed the interval of two seeds.
    #[test]
    fn a_further_source_never_narrows() {
        let mut next = crate::eval::resample::splitmix(11);
        let mut unit = move || (next() >> 11) as f64 / (1u64 << 53) as f64;
        for _ in 0..500 {
            let mut sources = vec![(0.01 * unit(), Some(1.0 + (4.0 * unit()).floor()))];
            let mut before = of(&sources, 0.0).interval(0.95).unwrap().high;
            for _ in 0..3 {
                let df = (unit() < 0.5).then(|| 1.0 + 1000.0 * unit());
                sources.push((0.01 * unit(), df));
                let after = of(&sources, 0.0).interval(0.95).unwrap().high;
                assert!(after >= before, "{sources:?}");
                before = after;
            }
        }
    }
}
