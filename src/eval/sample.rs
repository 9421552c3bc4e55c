//! What a handful of seeds says: mean, interval, and tests against a published value or against other seeds.

use super::confusion::mean;
use super::error::{EvalError, Result, argument, finite, length};
use super::interval::{Equivalence, Interval, equivalence, level};
use super::student::{t_quantile, t_upper_tail};

/// Mean and spread of independent values, one a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub n: usize,
    pub mean: f64,
    /// Standard deviation with n − 1; NaN for a single value.
    pub sd: f64,
}

impl Sample {
    /// Errors when empty or when a value is not finite.
    ///
    /// # Errors
    /// [`EvalError`] for no values, or values that are not finite.
    pub fn of(values: &[f64]) -> Result<Self> {
        finite("values", values)?;
        let n = values.len();
        let mean = mean(values.iter().copied());
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        Ok(Self {
            n,
            mean,
            sd: (squares / (n as f64 - 1.0)).sqrt(),
        })
    }

    /// Standard error of the mean.
    pub fn standard_error(&self) -> f64 {
        self.sd / (self.n as f64).sqrt()
    }

    /// Student's interval of the mean; errors below two values.
    ///
    /// # Errors
    /// [`EvalError`] for fewer than two values, or a coverage outside 0 to 1.
    pub fn interval(&self, coverage: f64) -> Result<Interval> {
        level(coverage)?;
        at_least_two("seeds", self.n)?;
        around(self.mean, self.standard_error(), self.n as f64 - 1.0, coverage)
    }
}

/// Two one-sided t tests of a mean against a fixed published value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tost {
    pub sample: Sample,
    pub df: f64,
    /// Against "the mean is at most published − margin".
    pub t_lower: f64,
    pub p_lower: f64,
    /// Against "the mean is at least published + margin".
    pub t_upper: f64,
    pub p_upper: f64,
    /// The larger of the two: equivalent at α when below it.
    pub p: f64,
    /// Interval of the mean with coverage 1 − 2α, which says the same as the two tests.
    pub interval: Interval,
    pub answer: Equivalence,
}

/// Is the mean over seeds within `margin` of a published value that was read off to ± `reading`?
///
/// The published value carries no spread of its own (one run), so it is a constant; its reading error narrows the
/// margin, because equivalence must hold for every value it may have had. `Different` needs the whole interval beyond
/// `margin + reading`; anything else is `Undetermined`, never "not significant, hence equal". Errors below two values,
/// for a negative margin or reading, and for α outside (0, ½).
///
/// # Errors
/// [`EvalError`] in the cases above.
pub fn tost(values: &[f64], published: f64, reading: f64, margin: f64, alpha: f64) -> Result<Tost> {
    let sample = Sample::of(values)?;
    at_least_two("seeds", sample.n)?;
    let bounds = Bounds::new(published, reading, margin, alpha)?;
    two_one_sided(sample, sample.standard_error(), sample.n as f64 - 1.0, &bounds)
}

/// What an equivalence test holds a mean against.
struct Bounds {
    published: f64,
    reading: f64,
    margin: f64,
    alpha: f64,
}

impl Bounds {
    fn new(published: f64, reading: f64, margin: f64, alpha: f64) -> Result<Self> {
        argument("published value", "a finite number", published, published.is_finite())?;
        argument(
            "margin",
            "a finite number, not negative",
            margin,
            margin.is_finite() && margin >= 0.0,
        )?;
        argument(
            "reading uncertainty",
            "a finite number, not negative",
            reading,
            reading.is_finite() && reading >= 0.0,
        )?;
        argument("alpha", "a number between 0 and 0.5", alpha, alpha > 0.0 && alpha < 0.5)?;
        Ok(Self {
            published,
            reading,
            margin,
            alpha,
        })
    }
}

fn two_one_sided(sample: Sample, se: f64, df: f64, bounds: &Bounds) -> Result<Tost> {
    let &Bounds {
        published,
        reading,
        margin,
        alpha,
    } = bounds;
    let inner = margin - reading;
    let t_lower = ratio(sample.mean - (published - inner), se);
    let t_upper = ratio(sample.mean - (published + inner), se);
    let (p_lower, p_upper) = (t_upper_tail(t_lower, df)?, t_upper_tail(-t_upper, df)?);
    let interval = around(sample.mean, se, df, 1.0 - 2.0 * alpha)?;
    Ok(Tost {
        sample,
        df,
        t_lower,
        p_lower,
        t_upper,
        p_upper,
        p: p_lower.max(p_upper),
        interval,
        answer: equivalence(&interval, published, reading, margin),
    })
}

/// A comparison of two means by Student's t.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TwoSample {
    /// Mean of the first minus mean of the second.
    pub difference: f64,
    pub t: f64,
    pub df: f64,
    /// Two-sided.
    pub p: f64,
    pub interval: Interval,
    /// Standard error of the difference.
    pub standard_error: f64,
}

impl TwoSample {
    /// p value of equivalence within ± `margin` (two one-sided tests).
    ///
    /// # Errors
    /// [`EvalError`] for a margin that is no number.
    pub fn tost_p(&self, margin: f64) -> Result<f64> {
        let lower = t_upper_tail(ratio(self.difference + margin, self.standard_error), self.df)?;
        let upper = t_upper_tail(ratio(margin - self.difference, self.standard_error), self.df)?;
        Ok(lower.max(upper))
    }

    fn new(difference: f64, standard_error: f64, df: f64, coverage: f64) -> Result<Self> {
        level(coverage)?;
        let t = ratio(difference, standard_error);
        Ok(Self {
            difference,
            t,
            df,
            p: (2.0 * t_upper_tail(t.abs(), df)?).min(1.0),
            interval: around(difference, standard_error, df, coverage)?,
            standard_error,
        })
    }
}

/// Welch's test: two sets of seeds, spreads not assumed equal.
///
/// Errors below two values on either side. When neither side varies there are no degrees of freedom to estimate, and
/// the smaller n − 1 stands in.
///
/// # Errors
/// [`EvalError`] for fewer than two values on a side, values that are not finite, or a coverage outside 0 to 1.
pub fn welch(a: &[f64], b: &[f64], coverage: f64) -> Result<TwoSample> {
    let (a, b) = (Sample::of(a)?, Sample::of(b)?);
    at_least_two("seeds", a.n.min(b.n))?;
    let (va, vb) = (a.sd * a.sd / a.n as f64, b.sd * b.sd / b.n as f64);
    let (fa, fb) = (a.n as f64 - 1.0, b.n as f64 - 1.0);
    let df = if va + vb > 0.0 {
        (va + vb) * (va + vb) / (va * va / fa + vb * vb / fb)
    } else {
        fa.min(fb)
    };
    TwoSample::new(a.mean - b.mean, (va + vb).sqrt(), df, coverage)
}

/// Paired test: the same seeds, data sets or backbones on both sides, in the same order.
///
/// # Errors
/// [`EvalError`] for fewer than two pairs, lists of different lengths, values that are not finite, or a coverage outside 0 to 1.
pub fn paired_t(a: &[f64], b: &[f64], coverage: f64) -> Result<TwoSample> {
    length("paired values", a.len(), b.len())?;
    finite("values", a)?;
    finite("values", b)?;
    let d: Vec<f64> = a.iter().zip(b).map(|(x, y)| x - y).collect();
    let d = Sample::of(&d)?;
    at_least_two("pairs", d.n)?;
    TwoSample::new(d.mean, d.standard_error(), d.n as f64 - 1.0, coverage)
}

fn at_least_two(what: &'static str, found: usize) -> Result<()> {
    if found < 2 {
        return Err(EvalError::TooFew { what, needed: 2, found });
    }
    Ok(())
}

fn around(centre: f64, se: f64, df: f64, coverage: f64) -> Result<Interval> {
    let half = t_quantile((1.0 + coverage) / 2.0, df)? * se;
    Ok(Interval {
        low: centre - half,
        high: centre + half,
        level: coverage,
    })
}

/// x/se; seeds that all agree (se = 0) leave no doubt: ±∞, and 0 exactly on the bound.
fn ratio(x: f64, se: f64) -> f64 {
    if x == 0.0 { 0.0 } else { x / se }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_has_a_mean_but_no_interval() {
        let s = Sample::of(&[0.9]).unwrap();
        assert!(s.mean == 0.9 && s.sd.is_nan());
        assert!(matches!(s.interval(0.95), Err(EvalError::TooFew { .. })));
        assert!(matches!(
            tost(&[0.9], 0.9, 0.0, 0.1, 0.05),
            Err(EvalError::TooFew { .. })
        ));
        assert!(matches!(Sample::of(&[]), Err(EvalError::Empty { .. })));
        assert!(matches!(Sample::of(&[f64::NAN]), Err(EvalError::NotFinite { .. })));
    }

    #[test]
    fn seeds_that_agree_to_the_bit_decide() {
        let t = |x: f64| tost(&[x; 3], 0.5, 0.0, 0.25, 0.05).unwrap();
        assert_eq!((t(0.5).p, t(0.5).answer), (0.0, Equivalence::Equivalent));
        assert_eq!((t(0.875).p, t(0.875).answer), (1.0, Equivalence::Different));
        assert_eq!((t(0.75).p, t(0.75).answer), (0.5, Equivalence::Undetermined));
        let w = welch(&[0.5, 0.5], &[0.25, 0.25, 0.25], 0.95).unwrap();
        assert_eq!((w.p, w.df, w.interval.low), (0.0, 1.0, 0.25));
    }

    #[test]
    fn a_reading_error_wider_than_the_margin_never_confirms() {
        let t = tost(&[0.9, 0.9001, 0.8999], 0.9, 0.02, 0.01, 0.05).unwrap();
        assert_eq!(t.answer, Equivalence::Undetermined);
        assert!(t.p > 0.5);
    }
}
