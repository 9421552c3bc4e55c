//! Agreement of two lists (RMSE, Kendall's tau-b) and correction for many tests (Holm).

use super::error::{Result, argument, finite, length};

/// Root of the mean squared difference of two equally long lists.
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

fn sign(x: f64, y: f64) -> i64 {
    i64::from(x > y) - i64::from(x < y)
}

/// Holm's step-down adjustment: compare every returned value with α to keep the family-wise error below α.
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

    #[test]
    fn p_values_outside_zero_to_one_are_refused() {
        assert!(holm(&[0.1, 1.1]).is_err() && holm(&[f64::NAN]).is_err() && holm(&[]).is_err());
    }
}
