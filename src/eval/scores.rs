//! From logits to probabilities and predictions, and from a metric to its three printed decimals.

use super::error::{EvalError, Result, argument};

/// Softmax over rows of (n, classes) float32 logits, in float64 with the largest logit subtracted.
///
/// The exponential is the `libm` crate's, so the bits do not depend on the machine. The authors' float32 softmax
/// differs from this by up to 3e-7 relative and may tie or separate scores that are equal here; see [`round_f32`].
///
/// A row whose softmax is not finite (weights that diverged) says nothing of its image and is uniform: the prediction is class 0,
/// as the argmax of NaN is, and where all rows are such every area is 0.5, which the authors' code reports then too (PROTOCOL 7.2).
///
/// # Errors
/// [`EvalError`] for no classes, or logits that are not whole rows of them.
pub fn softmax(logits: &[f32], classes: usize) -> Result<Vec<f64>> {
    argument("classes", "at least 1", classes as f64, classes >= 1)?;
    if !logits.len().is_multiple_of(classes) {
        return Err(EvalError::Length {
            what: "logits",
            expected: logits.len() / classes * classes,
            found: logits.len(),
        });
    }
    let mut out = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(classes) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let start = out.len();
        out.extend(row.iter().map(|&l| libm::exp(f64::from(l) - f64::from(top))));
        let sum: f64 = out[start..].iter().sum();
        match sum.is_finite() {
            true => out[start..].iter_mut().for_each(|p| *p /= sum),
            false => out[start..].fill(1.0 / classes as f64),
        }
    }
    Ok(out)
}

/// Logistic function of float32 logits, in float64; 0.5 of NaN, see [`softmax`].
pub fn sigmoid(logits: &[f32]) -> Vec<f64> {
    let one = |&l: &f32| {
        if l.is_nan() {
            0.5
        } else {
            1.0 / (1.0 + libm::exp(-f64::from(l)))
        }
    };
    logits.iter().map(one).collect()
}

/// Rounds every probability to float32, the resolution of the authors' scores: saturated scores tie as theirs do.
pub fn round_f32(probs: &mut [f64]) {
    probs.iter_mut().for_each(|p| *p = f64::from(*p as f32));
}

/// Index of the first maximum of every row of (n, classes), as `torch.max` reports it.
pub fn argmax(probs: &[f64], classes: usize) -> Vec<u32> {
    probs
        .chunks_exact(classes.max(1))
        .map(|row| {
            let mut best = 0;
            for (k, p) in row.iter().enumerate() {
                if *p > row[best] {
                    best = k;
                }
            }
            best as u32
        })
        .collect()
}

/// Rounds to 3 decimals as Python's `round(x, 3)` does on a float: the decimal nearest to the exact binary value, an
/// exact tie to the even digit. NaN and infinities pass through.
///
/// Multiplying by 1000 first would not do: 0.1235 lies below the tie, 0.1235·1000 on it.
pub fn round3(x: f64) -> f64 {
    if !x.is_finite() {
        return x;
    }
    format!("{x:.3}").parse().expect("a printed decimal is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_survives_large_logits_and_refuses_ragged_rows() {
        let p = softmax(&[3.0e38, -3.0e38, 1000.0, 1000.0], 2).unwrap();
        assert_eq!(p, [1.0, 0.0, 0.5, 0.5]);
        assert!(matches!(softmax(&[1.0, 2.0, 3.0], 2), Err(EvalError::Length { .. })));
        for diverged in [[f32::NAN, 0.0], [0.0, f32::INFINITY], [f32::NEG_INFINITY; 2]] {
            assert_eq!(softmax(&diverged, 2).unwrap(), [0.5, 0.5]);
        }
        assert_eq!(sigmoid(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), [0.5, 1.0, 0.0]);
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[0.2, 0.4, 0.4, 0.5, 0.5, 0.0], 3), [1, 0]);
    }

    #[test]
    fn float32_rounding_restores_saturation() {
        let mut p = sigmoid(&[30.0, 40.0]);
        assert!(p[0] < p[1]);
        round_f32(&mut p);
        assert_eq!(p, [1.0, 1.0]);
    }
}
