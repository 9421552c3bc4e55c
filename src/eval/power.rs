//! How probable each verdict is before anything is run, as a function of the number of seeds.
//!
//! The verdicts are those of a value against a published one: with a difference d, its standard error s·c (s estimated with some
//! degrees of freedom) and a reading error u, a value is *reproduced* where the 1 − 2α interval lies inside ±margin, else *consistent*
//! where |d| is within the 1 − α prediction interval of one more run, and *differs* where the interval lies outside ±margin and |d|
//! outside the prediction interval. d is normal and s is its σ times a chi variable, independent of each other, so every probability is a one-dimensional
//! integral over s of normal probabilities.

use super::error::{Result, argument};
use super::student::{normal_quantile, t_quantile};
use std::f64::consts::FRAC_1_SQRT_2;

/// An experiment whose verdict is to be foreseen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prospect {
    /// True standard deviation of the difference between ours and the published value.
    pub se: f64,
    /// Degrees of freedom with which it will be estimated.
    pub df: f64,
    /// True standard deviation of one more run around our mean, over `se`; 1 against a single published run.
    pub prediction: f64,
    /// True difference.
    pub bias: f64,
    pub margin: f64,
    /// By how much the published value may be misread.
    pub reading: f64,
    /// Level of each one-sided test.
    pub alpha: f64,
}

/// Probability of each verdict; they sum to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outlook {
    pub reproduced: f64,
    pub consistent: f64,
    pub differs: f64,
    pub inconclusive: f64,
}

/// Points of Simpson's rule: the integrand is smooth but for a few corners, where this leaves an error of about 1e-6.
const POINTS: usize = 4000;

/// The probability of each verdict.
///
/// # Errors
/// Where a number is not finite, a deviation or the margin is not above 0, or α is not between 0 and ½.
pub fn outlook(p: &Prospect) -> Result<Outlook> {
    let above = |x: f64| x.is_finite() && x > 0.0;
    argument("standard error", "above 0", p.se, above(p.se))?;
    argument("prediction", "above 0", p.prediction, above(p.prediction))?;
    argument("margin", "above 0", p.margin, above(p.margin))?;
    argument(
        "reading error",
        "not negative",
        p.reading,
        p.reading >= 0.0 && p.reading.is_finite(),
    )?;
    argument("bias", "finite", p.bias, p.bias.is_finite())?;
    argument("alpha", "between 0 and 0.5", p.alpha, p.alpha > 0.0 && p.alpha < 0.5)?;
    let one = t_quantile(1.0 - p.alpha, p.df)?;
    let two = t_quantile(1.0 - p.alpha / 2.0, p.df)? * p.prediction;
    // P(|d| ≤ x) of the true difference.
    let within = |x: f64| {
        let z = |x: f64| (x - p.bias) / p.se;
        if x <= 0.0 { 0.0 } else { normal(z(x)) - normal(z(-x)) }
    };
    let width = 9.0 / p.df.sqrt();
    let (low, high) = ((1.0 - width).max(0.0), 1.0 + width);
    let step = (high - low) / POINTS as f64;
    let mut sum = Outlook::default();
    for i in 0..=POINTS {
        let weight = match i {
            0 | POINTS => 1.0,
            i if i % 2 == 1 => 4.0,
            _ => 2.0,
        };
        let q = low + step * i as f64;
        let weight = weight * step / 3.0 * chi_density(q, p.df);
        let s = q * p.se;
        let inner = within(p.margin - p.reading - one * s);
        let predicted = within(two * s + p.reading).max(inner);
        let outer = within(p.margin + p.reading + one * s).max(predicted);
        sum.reproduced += weight * inner;
        sum.consistent += weight * (predicted - inner);
        sum.differs += weight * (1.0 - outer);
        sum.inconclusive += weight * (outer - predicted);
    }
    Ok(sum)
}

/// Density of √(χ²/df).
fn chi_density(q: f64, df: f64) -> f64 {
    if q == 0.0 {
        return if df == 1.0 {
            (2.0 / std::f64::consts::PI).sqrt()
        } else {
            0.0
        };
    }
    let half = df / 2.0;
    2.0 * libm::exp(half * libm::log(half) - libm::lgamma(half) + (df - 1.0) * libm::log(q) - half * q * q)
}

/// P(Z ≤ z).
fn normal(z: f64) -> f64 {
    libm::erfc(-z * FRAC_1_SQRT_2) / 2.0
}

/// Probability that a two-sided test of level `alpha` on a normal estimate with standard error `se` rejects "no effect" in the
/// direction of a true `effect` above 0.
///
/// # Errors
/// Where `se` is not above 0 or `alpha` not between 0 and 1.
pub fn detects(effect: f64, se: f64, alpha: f64) -> Result<f64> {
    argument("standard error", "above 0", se, se.is_finite() && se > 0.0)?;
    Ok(normal(effect / se - normal_quantile(1.0 - alpha / 2.0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn against_one_run(seeds: f64, sd: f64, bias: f64) -> Outlook {
        outlook(&Prospect {
            se: sd * (1.0 + 1.0 / seeds).sqrt(),
            df: seeds - 1.0,
            prediction: 1.0,
            bias,
            margin: 0.01,
            reading: 0.0002,
            alpha: 0.05,
        })
        .unwrap()
    }

    /// Computed apart with SciPy 1.17: `reproduced` by quad over d of the normal density times chi2.cdf of the largest s that
    /// keeps the interval inside, `differs` and `consistent` by quad over d of that density times chi2 of the range of s that gives them.
    const VECTORS: &str = include_str!("power.csv");

    #[test]
    fn probabilities_are_those_of_scipy() {
        let mut n = 0;
        for line in VECTORS.lines().filter(|l| !l.starts_with('#')) {
            let v: Vec<f64> = line.split(',').map(|x| x.parse().unwrap()).collect();
            let o = against_one_run(v[0], v[1], v[2]);
            for (ours, theirs) in [(o.reproduced, v[3]), (o.differs, v[4]), (o.consistent, v[5])] {
                assert!((ours - theirs).abs() < 1e-5, "{line}: {o:?}");
            }
            assert!((o.reproduced + o.differs + o.consistent + o.inconclusive - 1.0).abs() < 1e-9);
            n += 1;
        }
        assert_eq!(n, 24);
    }

    /// statsmodels 0.14: normal_power(effect / se, 1, alpha) is two-sided; here its larger side, 1 − norm.cdf(z − effect/se).
    #[test]
    fn detection_is_that_of_statsmodels() {
        for (effect, se, alpha, power) in [
            (0.01, 0.004, 0.05, 0.705_413_9),
            (0.01, 0.004, 0.00625, 0.407_349_3),
            (0.0, 1.0, 0.05, 0.025),
        ] {
            assert!(
                (detects(effect, se, alpha).unwrap() - power).abs() < 1e-6,
                "{effect} {se} {alpha}"
            );
        }
    }

    /// With the published run's own noise more seeds help only so far.
    #[test]
    fn more_seeds_meet_a_ceiling() {
        let many = against_one_run(2000.0, 0.004, 0.0).reproduced;
        assert!(many < 0.62 && against_one_run(20.0, 0.004, 0.0).reproduced < many);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [f64::NAN, 0.0, -1.0] {
            assert!(detects(1.0, bad, 0.05).is_err());
            let p = Prospect {
                se: bad,
                df: 2.0,
                prediction: 1.0,
                bias: 0.0,
                margin: 0.01,
                reading: 0.0,
                alpha: 0.05,
            };
            assert!(outlook(&p).is_err());
        }
    }
}
