//! Rectangles, and labels along one line that do not touch each other.

/// An upright rectangle, `x0 ≤ x1`, `y0 ≤ y1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub x0: f64,
    pub y0: f64,
    pub x1: f64,
    pub y1: f64,
}

/// Moves the middles of labels apart along one line: at least `gap` between neighbours, inside `low` to `high` where there is
/// room, and in all as near to where they were as that allows (least squares, by pooling neighbours that touch).
pub(crate) fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    // With the k-th shifted back by k gaps, the condition is that the places do not decrease.
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (k, &i) in order.iter().enumerate() {
        pools.push((wanted[i] - k as f64 * gap, 1));
        while let [.., a, b] = pools[..]
            && a.0 > b.0
        {
            pools.truncate(pools.len() - 2);
            let n = a.1 + b.1;
            pools.push(((a.0 * a.1 as f64 + b.0 * b.1 as f64) / n as f64, n));
        }
    }
    let last = high - wanted.len().saturating_sub(1) as f64 * gap;
    let places = pools.iter().flat_map(|&(at, n)| std::iter::repeat_n(at, n));
    let mut out = vec![0.0; wanted.len()];
    for (k, (&i, at)) in order.iter().zip(places).enumerate() {
        out[i] = at.min(last).max(low) + k as f64 * gap;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: 10 and 12 want 4 between them, so 9 and 13; 40 stays; 99 is held back to 95.
    #[test]
    fn crowded_labels_move_apart_by_the_least() {
        assert_eq!(
            spread(&[12.0, 40.0, 10.0, 99.0], 4.0, 0.0, 95.0),
            [13.0, 40.0, 9.0, 95.0]
        );
        assert_eq!(spread(&[0.0, 0.0, 0.0], 4.0, 0.0, 95.0), [0.0, 4.0, 8.0]);
        assert_eq!(spread(&[], 4.0, 0.0, 95.0), [0.0; 0]);
    }
}
