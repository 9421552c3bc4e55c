//! Agreement of two lists (RMSE, Kendall's tau-b with its permutation test) and correction for many tests (Holm).

use super::error::{Result, argument, finite, length};

/// Root of the mean squared difference of two equally long lists.
///
/// # Errors
/// `EvalError` for no values, values that are not finite, or lists of different lengths.
pub fn rmse(a: &[f64], b: &[f64]) -> Result<f64> {
    finite("values", a)?;
    finite("values", b)?;
    length("values", a.len(), b.len())?;
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum();
    Ok((sum / a.len() as f64).sqrt())
}

/// Kendall's tau-b, which corrects for ties in either list; NaN when a list is constant.
///
/// Counts all pairs: O(n²), meant for backbones, not for images.
///
/// # Errors
/// `EvalError` for no values, values that are not finite, or lists of different lengths.
pub fn kendall_tau_b(a: &[f64], b: &[f64]) -> Result<f64> {
    finite("values", a)?;
    finite("values", b)?;
    length("values", a.len(), b.len())?;
    let (mut concordance, mut pairs_a, mut pairs_b) = (0i64, 0u64, 0u64);
    for i in 0..a.len() {
        for j in 0..i {
            let (da, db) = (sign(a[i], a[j]), sign(b[i], b[j]));
            concordance += da * db;
            pairs_a += da.unsigned_abs();
            pairs_b += db.unsigned_abs();
        }
    }
    Ok(concordance as f64 / (pairs_a as f64).sqrt() / (pairs_b as f64).sqrt())
}

/// Kendall's tau-b with the probability of an order at least as good, or as bad, among all permutations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Order {
    pub tau: f64,
    /// Share of permutations whose tau is at least this one.
    pub p_greater: f64,
    /// Share of permutations whose tau is at most this one.
    pub p_less: f64,
    /// False where the permutations were too many to count and 100,000 were drawn.
    pub exact: bool,
}

impl Order {
    /// Two-sided: twice the smaller share, at most 1.
    pub fn p(&self) -> f64 {
        (2.0 * self.p_greater.min(self.p_less)).min(1.0)
    }
}

/// Lists of up to this length are permuted one by one where both have ties.
const ENUMERATED: usize = 8;
const DRAWN: u32 = 100_000;

/// The permutation test of Kendall's tau-b: under "no relation" every pairing of the two lists is as likely.
///
/// Ties do not change between permutations, so tau depends on the number of concordant less discordant pairs alone. Where at
/// most one list has ties, that number's distribution is exact (the inversions of a multiset, whose generating function is a
/// Gaussian multinomial coefficient). Where both have, all permutations are counted up to eight values, beyond that 100,000
/// are drawn by splitmix64 from a fixed state.
///
/// # Errors
/// Below two values, for unequal lengths, values that are not finite, and a list that is constant.
pub fn kendall_permutation(a: &[f64], b: &[f64]) -> Result<Order> {
    let tau = kendall_tau_b(a, b)?;
    argument("tau", "defined: neither list constant", tau, tau.is_finite())?;
    let score = concordance(a, b);
    let (ties_a, ties_b) = (ties(a), ties(b));
    let (p_greater, p_less, exact) = if ties_a.len() == a.len() || ties_b.len() == b.len() {
        let groups = if ties_a.len() == a.len() { ties_b } else { ties_a };
        let (greater, less) = inversions(&groups, score);
        (greater, less, true)
    } else if a.len() <= ENUMERATED {
        let mut order: Vec<usize> = (0..a.len()).collect();
        let mut count = [0u32; 3];
        permute(&mut order, a.len(), &mut |order| {
            let shuffled: Vec<f64> = order.iter().map(|&i| b[i]).collect();
            let found = concordance(a, &shuffled);
            count[0] += u32::from(found >= score);
            count[1] += u32::from(found <= score);
            count[2] += 1;
        });
        let of = |n: u32| f64::from(n) / f64::from(count[2]);
        (of(count[0]), of(count[1]), true)
    } else {
        let mut shuffled = b.to_vec();
        let (mut state, mut greater, mut less) = (0x9E37_79B9_7F4A_7C15u64, 1u32, 1u32);
        for _ in 0..DRAWN {
            for i in (1..shuffled.len()).rev() {
                let x = splitmix(&mut state);
                // The bias of the high product is below n/2^64.
                let j = ((u128::from(x) * (i as u128 + 1)) >> 64) as usize;
                shuffled.swap(i, j);
            }
            let found = concordance(a, &shuffled);
            greater += u32::from(found >= score);
            less += u32::from(found <= score);
        }
        let of = |n: u32| f64::from(n) / f64::from(DRAWN + 1);
        (of(greater), of(less), false)
    };
    Ok(Order {
        tau,
        p_greater,
        p_less,
        exact,
    })
}

/// Concordant less discordant pairs.
fn concordance(a: &[f64], b: &[f64]) -> i64 {
    let pairs = (0..a.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    pairs.map(|(i, j)| sign(a[i], a[j]) * sign(b[i], b[j])).sum()
}

/// Sizes of the groups of equal values.
fn ties(x: &[f64]) -> Vec<usize> {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(<[f64]>::len).collect()
}

/// P(S ≥ score) and P(S ≤ score) where S = comparable pairs − 2 · inversions of a multiset with these groups.
fn inversions(groups: &[usize], score: i64) -> (f64, f64) {
    let mut counts = vec![1.0];
    let mut so_far = 0;
    for &g in groups {
        so_far += g;
        counts = product(&counts, &gaussian_binomial(so_far, g));
    }
    let pairs = counts.len() as i64 - 1;
    let all: f64 = counts.iter().sum();
    let share = |keep: &dyn Fn(i64) -> bool| {
        let of = (0i64..).zip(&counts).filter(|(d, _)| keep(pairs - 2 * d));
        of.map(|(_, c)| c).sum::<f64>() / all
    };
    (share(&|s| s >= score), share(&|s| s <= score))
}

/// Coefficients of [n choose k] in q: [n, k] = [n − 1, k − 1] + q^k [n − 1, k].
fn gaussian_binomial(n: usize, k: usize) -> Vec<f64> {
    // row[j] is [m, j] for the current m.
    let mut row: Vec<Vec<f64>> = vec![vec![1.0]];
    for m in 1..=n {
        let mut next = vec![vec![1.0]];
        for j in 1..=k.min(m) {
            let mut sum = row[j - 1].clone();
            if let Some(higher) = row.get(j) {
                sum.resize(sum.len().max(higher.len() + j), 0.0);
                for (s, h) in sum[j..].iter_mut().zip(higher) {
                    *s += h;
                }
            }
            next.push(sum);
        }
        row = next;
    }
    row[k].clone()
}

fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    let mut out = vec![0.0; a.len() + b.len() - 1];
    for (i, x) in a.iter().enumerate() {
        for (o, y) in out[i..].iter_mut().zip(b) {
            *o += x * y;
        }
    }
    out
}

/// Calls `seen` with every order of `x[..n]` (Heap's algorithm).
fn permute(x: &mut [usize], n: usize, seen: &mut impl FnMut(&[usize])) {
    if n <= 1 {
        seen(x);
        return;
    }
    for i in 0..n {
        permute(x, n - 1, seen);
        if i + 1 < n {
            x.swap(if n.is_multiple_of(2) { i } else { 0 }, n - 1);
        }
    }
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn sign(x: f64, y: f64) -> i64 {
    i64::from(x > y) - i64::from(x < y)
}

/// Holm's step-down adjustment: compare every returned value with α to keep the family-wise error below α.
///
/// # Errors
/// `EvalError` for no values, or one outside 0 to 1.
pub fn holm(p: &[f64]) -> Result<Vec<f64>> {
    finite("p values", p)?;
    if let Some(&bad) = p.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        argument("p values", "numbers from 0 to 1", bad, false)?;
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&i, &j| p[i].total_cmp(&p[j]));
    let mut out = vec![0.0; p.len()];
    let mut floor = 0.0f64;
    for (rank, &i) in order.iter().enumerate() {
        floor = floor.max((p.len() - rank) as f64 * p[i]).min(1.0);
        out[i] = floor;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_list_has_no_order_to_agree_with() {
        assert!(kendall_tau_b(&[1.0, 1.0], &[1.0, 2.0]).unwrap().is_nan());
    }

    /// All 3! orders of three: tau 1 once, −1 once. With a tie the three distinct orders of (1, 1, 2).
    #[test]
    fn permutations_of_three_by_hand() {
        let o = kendall_permutation(&[1.0, 2.0, 3.0], &[0.5, 0.6, 0.7]).unwrap();
        assert!((o.tau - 1.0).abs() < 1e-15);
        assert_eq!((o.p_greater, o.p_less, o.exact), (1.0 / 6.0, 1.0, true));
        let o = kendall_permutation(&[1.0, 2.0, 3.0], &[0.5, 0.5, 0.7]).unwrap();
        assert_eq!((o.p_greater, o.p_less), (1.0 / 3.0, 1.0));
        assert!(kendall_permutation(&[1.0, 1.0], &[1.0, 2.0]).is_err());
    }

    #[test]
    fn p_values_outside_zero_to_one_are_refused() {
        assert!(holm(&[0.1, 1.1]).is_err() && holm(&[f64::NAN]).is_err() && holm(&[]).is_err());
    }
}
