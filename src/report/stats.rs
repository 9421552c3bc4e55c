//! The one statistical test of the report: is a mean over seeds equivalent to a published value?

use statrs::distribution::{ContinuousCDF, StudentsT};

/// What the test can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The whole interval lies within the margin.
    Equivalent,
    /// The whole interval lies beyond the margin.
    Different,
    Undetermined,
}

/// Two one-sided t tests of a mean against a fixed published value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tost {
    /// Interval of the mean with coverage 1 − 2α.
    pub low: f64,
    pub high: f64,
    /// The larger of the two p values: equivalent at α when below it.
    pub p: f64,
    pub answer: Answer,
}

/// Is the mean of `values` within `margin` of a value that was read off to ± `reading`?
///
/// Equivalence must hold for every value that was possibly read, so the reading narrows the margin; to be different the mean
/// must be beyond the margin from all of them, so there it widens it. `None` below two values.
pub fn tost(values: &[f64], published: f64, reading: f64, margin: f64, alpha: f64) -> Option<Tost> {
    if values.len() < 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let sd = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0)).sqrt();
    let error = sd / n.sqrt();
    let t = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    // P(T ≥ x / error); without any spread the mean is certain.
    let above = |x: f64| match error {
        0.0 if x > 0.0 => 0.0,
        0.0 => 1.0,
        _ => t.cdf(-x / error),
    };
    let difference = mean - published;
    let (inner, outer) = (margin - reading, margin + reading);
    let p = above(difference + inner).max(above(inner - difference));
    let answer = if p < alpha {
        Answer::Equivalent
    } else if above(difference.abs() - outer) < alpha {
        Answer::Different
    } else {
        Answer::Undetermined
    };
    let half = if error == 0.0 {
        0.0
    } else {
        t.inverse_cdf(1.0 - alpha) * error
    };
    Some(Tost {
        low: mean - half,
        high: mean + half,
        p,
        answer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values from scipy 1.17.1: `ttest_1samp(x, ref - m, alternative="greater")` and
    /// `ttest_1samp(x, ref + m, alternative="less")`, the larger p; `t.interval(0.9, n - 1, mean - ref, scale)`; and the p value
    /// of "beyond the margin" is 0.9924, 0.0452 and 0.0528, so that the answers are these.
    #[test]
    fn tost_is_that_of_scipy() {
        type Case<'a> = (&'a [f64], f64, [f64; 3], Answer);
        let cases: [Case; 3] = [
            (
                &[0.938, 0.942, 0.941],
                0.940,
                [-0.0031760525778603186, 0.0038427192445269092, 0.007554182161789732],
                Answer::Equivalent,
            ),
            (
                &[0.90, 0.91],
                0.95,
                [-0.07656875757337518, -0.013431242426624718, 0.9548327646991333],
                Answer::Different,
            ),
            (
                &[0.861, 0.853, 0.859, 0.866, 0.858],
                0.845,
                [0.009897814151675191, 0.018902185848324742, 0.9471956492068738],
                Answer::Undetermined,
            ),
        ];
        for (values, reference, expected, answer) in cases {
            let e = tost(values, reference, 0.0, 0.01, 0.05).unwrap();
            let found = [e.low - reference, e.high - reference, e.p];
            assert!(
                found.iter().zip(expected).all(|(f, x)| (f - x).abs() < 1e-9),
                "{found:?} {expected:?}"
            );
            assert_eq!(e.answer, answer);
        }
    }

    #[test]
    fn the_reading_counts_against_both_answers() {
        let answer = |x: &[f64], reading| tost(x, 0.95, reading, 0.01, 0.05).unwrap().answer;
        assert_eq!(
            (answer(&[0.941, 0.941], 0.0), answer(&[0.941, 0.941], 0.002)),
            (Answer::Equivalent, Answer::Undetermined)
        );
        assert_eq!(
            (answer(&[0.939, 0.939], 0.0), answer(&[0.939, 0.939], 0.002)),
            (Answer::Different, Answer::Undetermined)
        );
        assert!(tost(&[0.9], 0.9, 0.0, 0.01, 0.05).is_none());
    }
}
