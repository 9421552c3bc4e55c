//! The one statistical test of the report: is a mean over seeds equivalent to a given value?

use statrs::distribution::{ContinuousCDF, StudentsT};

/// Two one-sided t tests of `mean(values) − reference` against ±`margin` (TOST), and their mirror image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Equivalence {
    /// mean − reference.
    pub difference: f64,
    /// Interval of level 1 − 2α for the difference.
    pub low: f64,
    pub high: f64,
    /// Of "the difference is at least the margin"; small means equivalent.
    pub p_equivalent: f64,
    /// Of "the difference is at most the margin"; small means different.
    pub p_different: f64,
}

/// Tests `values` (at least two) against `reference`; `None` below two values or without a positive margin.
///
/// Without any spread the interval is a point and the p values are 0 or 1.
pub fn equivalence(values: &[f64], reference: f64, margin: f64, alpha: f64) -> Option<Equivalence> {
    let n = values.len() as f64;
    if values.len() < 2 || margin.is_nan() || margin <= 0.0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0)).sqrt();
    let difference = mean - reference;
    let error = sd / n.sqrt();
    if error == 0.0 {
        let inside = if difference.abs() < margin { 0.0 } else { 1.0 };
        return Some(Equivalence {
            difference,
            low: difference,
            high: difference,
            p_equivalent: inside,
            p_different: 1.0 - inside,
        });
    }
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let above = |x: f64| t.cdf(-x / error);
    let half = t.inverse_cdf(1.0 - alpha) * error;
    Some(Equivalence {
        difference,
        low: difference - half,
        high: difference + half,
        p_equivalent: above(difference + margin).max(above(margin - difference)),
        p_different: above(difference.abs() - margin),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from scipy 1.17.1: `ttest_1samp(x, ref - m, alternative="greater")` and
    /// `ttest_1samp(x, ref + m, alternative="less")`, the larger p; `t.interval(0.9, n - 1, loc, scale)`.
    #[test]
    fn tost_is_that_of_scipy() {
        type Case<'a> = (&'a [f64], f64, [f64; 5]);
        let cases: [Case; 3] = [
            (
                &[0.938, 0.942, 0.941],
                0.940,
                [
                    0.0003333333333332966,
                    -0.0031760525778603186,
                    0.0038427192445269092,
                    0.007554182161789732,
                    0.9924458178382103,
                ],
            ),
            (
                &[0.90, 0.91],
                0.95,
                [
                    -0.04499999999999993,
                    -0.07656875757337518,
                    -0.013431242426624718,
                    0.9548327646991333,
                    0.04516723530086669,
                ],
            ),
            (
                &[0.861, 0.853, 0.859, 0.866, 0.858],
                0.845,
                [
                    0.014399999999999968,
                    0.009897814151675191,
                    0.018902185848324742,
                    0.9471956492068738,
                    0.05280435079312623,
                ],
            ),
        ];
        for (values, reference, expected) in cases {
            let e = equivalence(values, reference, 0.01, 0.05).unwrap();
            let found = [e.difference, e.low, e.high, e.p_equivalent, e.p_different];
            assert!(
                found.iter().zip(expected).all(|(f, x)| (f - x).abs() < 1e-9),
                "{found:?} {expected:?}"
            );
        }
    }

    #[test]
    fn no_spread_and_too_few() {
        assert!(equivalence(&[0.9], 0.9, 0.01, 0.05).is_none());
        assert!(equivalence(&[0.9, 0.9], 0.9, 0.0, 0.05).is_none());
        let e = equivalence(&[0.9, 0.9], 0.95, 0.01, 0.05).unwrap();
        assert_eq!((e.p_equivalent, e.p_different), (1.0, 0.0));
    }
}
