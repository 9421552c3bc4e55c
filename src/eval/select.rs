//! Which epoch's weights are tested (PROTOCOL 7.1): a pure function of the stored validation metrics, so that every
//! rule can be replayed on one run.

use super::scores::round3;

/// The epoch whose metric wins, or `None` when no epoch exceeds `start` and the initial weights are kept.
///
/// Walks the values in order; one wins when it is strictly greater than the best so far, so ties keep the earlier epoch
/// and NaN never wins. `rounding` compares at 3 decimals, as the authors do (Q14); `start` is 0 for the authors and −∞
/// for a reader of the paper (Q16). Pass the extra validation after the last epoch (Q15) as one more value or leave it
/// out.
pub fn select(values: &[f64], rounding: bool, start: f64) -> Option<usize> {
    let mut best = start;
    let mut chosen = None;
    for (epoch, &v) in values.iter().enumerate() {
        let v = if rounding { round3(v) } else { v };
        if v > best {
            best = v;
            chosen = Some(epoch);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: f64 = f64::NEG_INFINITY;

    #[test]
    fn the_first_of_rounded_equals_wins() {
        let v = [0.8, 0.9001, 0.9004, 0.9];
        assert_eq!(select(&v, true, 0.0), Some(1));
        assert_eq!(select(&v, false, 0.0), Some(2));
    }

    #[test]
    fn nothing_above_the_start_keeps_the_initial_weights() {
        assert_eq!(select(&[-0.2, 0.0, f64::NAN, 0.0004], true, 0.0), None);
        assert_eq!(select(&[-0.2, 0.0, f64::NAN, 0.0004], false, 0.0), Some(3));
        assert_eq!(select(&[-0.2, -0.3], false, FLOOR), Some(0));
        assert_eq!(select(&[f64::NAN, f64::NAN], false, FLOOR), None);
        assert_eq!(select(&[], false, FLOOR), None);
    }

    #[test]
    fn nan_neither_wins_nor_blocks() {
        assert_eq!(select(&[f64::NAN, 0.5, f64::NAN, 0.6], true, 0.0), Some(3));
    }
}
