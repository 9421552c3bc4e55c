//! Do probabilities mean what they say? Reliability bins and the expected calibration error.

use super::error::{Result, argument, finite, length, table};
use super::scores::argmax;

/// One bin of a reliability diagram: confidences in (low, high].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CalibrationBin {
    pub low: f64,
    pub high: f64,
    pub count: u64,
    /// Mean confidence of the bin; NaN when empty.
    pub confidence: f64,
    /// Share of hits in the bin; NaN when empty.
    pub accuracy: f64,
}

/// A reliability diagram with its summaries.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    pub bins: Vec<CalibrationBin>,
    /// Expected calibration error: Σ count/n · |accuracy − confidence| (Guo et al. 2017).
    pub ece: f64,
    /// Largest |accuracy − confidence| of a bin that is not empty.
    pub mce: f64,
}

/// Sorts confidences in [0, 1] into `bins` equal right-closed bins, 0 in the first (scikit-learn's uniform strategy).
///
/// Multi-class: pass what [`top_label`] gives. One label: pass its probabilities and its truth.
///
/// # Errors
/// `EvalError` for no bins, lists of different lengths, or confidences outside 0 to 1.
pub fn calibration(confidence: &[f64], hit: &[bool], bins: usize) -> Result<Calibration> {
    finite("confidences", confidence)?;
    length("hits", confidence.len(), hit.len())?;
    argument("bins", "at least 1", bins as f64, bins >= 1)?;
    if let Some(&c) = confidence.iter().find(|c| !(0.0..=1.0).contains(*c)) {
        argument("confidences", "numbers from 0 to 1", c, false)?;
    }
    let edges: Vec<f64> = (0..=bins).map(|k| k as f64 / bins as f64).collect();
    let mut sums = vec![(0u64, 0.0, 0u64); bins];
    for (&c, &h) in confidence.iter().zip(hit) {
        let (count, sum, hits) = &mut sums[edges[1..bins].partition_point(|&e| e < c)];
        *count += 1;
        *sum += c;
        *hits += u64::from(h);
    }
    let n = confidence.len() as f64;
    let (mut ece, mut mce) = (0.0, 0.0f64);
    let bins = sums
        .into_iter()
        .enumerate()
        .map(|(k, (count, sum, hits))| {
            let bin = CalibrationBin {
                low: edges[k],
                high: edges[k + 1],
                count,
                confidence: sum / count as f64,
                accuracy: hits as f64 / count as f64,
            };
            if count > 0 {
                let gap = (bin.accuracy - bin.confidence).abs();
                ece += count as f64 / n * gap;
                mce = mce.max(gap);
            }
            bin
        })
        .collect();
    Ok(Calibration { bins, ece, mce })
}

/// The largest probability of every row of (n, classes), and whether its class is the true one.
///
/// # Errors
/// `EvalError` for a table that is none of as many rows as there are truths, or a truth out of range.
pub fn top_label(probs: &[f64], classes: usize, truth: &[u32]) -> Result<(Vec<f64>, Vec<bool>)> {
    table(probs, classes, truth)?;
    let top = argmax(probs, classes);
    let confidence = top
        .iter()
        .enumerate()
        .map(|(i, &k)| probs[i * classes + k as usize])
        .collect();
    Ok((confidence, top.iter().zip(truth).map(|(p, t)| p == t).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_belong_to_the_lower_bin() {
        let c = calibration(&[0.0, 0.5, 0.75, 1.0], &[false, true, true, true], 2).unwrap();
        assert_eq!((c.bins[0].count, c.bins[1].count), (2, 2));
        assert_eq!(c.bins[0].accuracy, 0.5);
        assert_eq!(c.ece, 0.5 * 0.25 + 0.5 * 0.125);
        assert_eq!(c.mce, 0.25);
        assert!(calibration(&[1.5], &[true], 2).is_err());
    }

    #[test]
    fn top_label_is_the_first_maximum() {
        let (c, h) = top_label(&[0.4, 0.4, 0.2, 0.1, 0.2, 0.7], 3, &[1, 2]).unwrap();
        assert_eq!((c, h), (vec![0.4, 0.7], vec![false, true]));
    }
}
