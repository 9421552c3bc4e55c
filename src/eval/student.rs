//! Tails and quantiles of Student's t, Fisher's F and the normal distribution.
//!
//! Written out here because statrs 0.19 is not good enough in the tails (its t quantile misses the first digit for p =
//! 1e-10 and one degree of freedom) nor near the middle (P(T > 1e-6) is ½ for 22,348), and because it uses the system's
//! exponential.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

use super::error::{Result, argument};

/// P(T > t) of Student's t with `df` degrees of freedom, which need not be whole.
///
/// # Errors
/// `EvalError` for a t that is no number, or degrees of freedom that are not positive.
pub fn t_upper_tail(t: f64, df: f64) -> Result<f64> {
    argument("t", "a number", t, !t.is_nan())?;
    freedom(df)?;
    Ok(if t < 0.0 {
        1.0 - upper_tail(-t, df)
    } else {
        upper_tail(t, df)
    })
}

/// The t below which Student's t falls with probability `p`.
///
/// # Errors
/// `EvalError` for a probability outside 0 to 1, or degrees of freedom that are not positive.
pub fn t_quantile(p: f64, df: f64) -> Result<f64> {
    freedom(df)?;
    // A report asks for a handful of quantiles a thousand times, and halving down to the last bit is slow.
    thread_local! {
        static KNOWN: RefCell<BTreeMap<(u64, u64), f64>> = const { RefCell::new(BTreeMap::new()) };
    }
    let key = (p.to_bits(), df.to_bits());
    if let Some(t) = KNOWN.with_borrow(|k| k.get(&key).copied()) {
        return Ok(t);
    }
    let t = quantile(p, |t| upper_tail(t, df))?;
    KNOWN.with_borrow_mut(|k| {
        if k.len() > 4096 {
            k.clear();
        }
        k.insert(key, t);
    });
    Ok(t)
}

/// The z below which a standard normal number falls with probability `p`.
///
/// # Errors
/// `EvalError` for a probability outside 0 to 1.
pub fn normal_quantile(p: f64) -> Result<f64> {
    quantile(p, |z| normal_two_sided(z) / 2.0)
}

/// P(|Z| > |z|) of a standard normal number.
pub fn normal_two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * FRAC_1_SQRT_2)
}

/// P(X > x) of Fisher's F with `d1` and `d2` degrees of freedom, which need not be whole.
///
/// # Errors
/// `EvalError` for an F that is no number, or degrees of freedom that are not positive.
pub fn f_upper_tail(x: f64, d1: f64, d2: f64) -> Result<f64> {
    argument("F", "a number", x, !x.is_nan())?;
    freedom(d1)?;
    freedom(d2)?;
    Ok(if x <= 0.0 { 1.0 } else { f_tails(x, d1, d2).1 })
}

/// The x below which Fisher's F falls with probability `p`.
///
/// # Errors
/// `EvalError` for a probability outside 0 to 1, or degrees of freedom that are not positive.
pub fn f_quantile(p: f64, d1: f64, d2: f64) -> Result<f64> {
    freedom(d1)?;
    freedom(d2)?;
    argument("probability", "a number between 0 and 1", p, p > 0.0 && p < 1.0)?;
    let (mut low, mut high) = (0.0, 1.0);
    while f_tails(high, d1, d2).0 < p {
        (low, high) = (high, high * 2.0);
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return Ok(middle);
        }
        if f_tails(middle, d1, d2).0 < p {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// (P(X ≤ x), P(X > x)) for x > 0: the smaller one from its own continued fraction, so that neither loses digits.
fn f_tails(x: f64, d1: f64, d2: f64) -> (f64, f64) {
    let (a, b) = (d1 / 2.0, d2 / 2.0);
    if x == f64::INFINITY {
        return (1.0, 0.0);
    }
    let odds = d1 * x / d2;
    let (y, z) = (1.0 / (1.0 + 1.0 / odds), 1.0 / (1.0 + odds));
    // y^a z^b / B(a, b)
    let front =
        libm::exp(a * libm::log(y) + b * libm::log(z) + libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b));
    if y < (a + 1.0) / (a + b + 2.0) {
        let below = front / a * fraction(a, b, y);
        (below, 1.0 - below)
    } else {
        let above = front / b * fraction(b, a, z);
        (1.0 - above, above)
    }
}

fn freedom(df: f64) -> Result<()> {
    argument(
        "degrees of freedom",
        "a positive number",
        df,
        df.is_finite() && df > 0.0,
    )
}

/// Solves `upper(x) = min(p, 1 − p)` for x ≥ 0 by halving, down to neighbouring floats; `upper` falls from ½.
fn quantile(p: f64, upper: impl Fn(f64) -> f64) -> Result<f64> {
    argument("probability", "a number between 0 and 1", p, p > 0.0 && p < 1.0)?;
    let tail = p.min(1.0 - p);
    let (mut low, mut high) = (0.0, 1.0);
    while upper(high) > tail {
        (low, high) = (high, high * 2.0);
    }
    loop {
        let middle = low + (high - low) / 2.0;
        if middle <= low || middle >= high {
            return Ok(if p < 0.5 { -middle } else { middle });
        }
        if upper(middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// P(T > t) for t ≥ 0: ½·I_x(df/2, ½) with x = df/(df + t²), or ½ − ½·I_y(½, df/2) with y = 1 − x, whichever fraction
/// converges fast. Both x and y are formed without subtracting from 1.
fn upper_tail(t: f64, df: f64) -> f64 {
    let (a, b) = (df / 2.0, 0.5);
    let odds = t * t / df;
    if odds == f64::INFINITY {
        return 0.0;
    }
    let (x, y) = (1.0 / (1.0 + odds), 1.0 / (1.0 + 1.0 / odds));
    let front = libm::exp(-a * libm::log1p(odds)) * y.sqrt() * gamma_ratio(a) / PI.sqrt();
    if x < (a + 1.0) / (a + b + 2.0) {
        0.5 * front / a * fraction(a, b, x)
    } else {
        0.5 - 0.5 * front / b * fraction(b, a, y)
    }
}

/// Γ(a + ½)/Γ(a): the asymptotic series from 50 up, reached by the recurrence. The logarithms of two large gammas would
/// lose as many digits as they have in common.
fn gamma_ratio(a: f64) -> f64 {
    let (mut z, mut factor) = (a, 1.0);
    while z < 50.0 {
        factor *= z / (z + 0.5);
        z += 1.0;
    }
    let u = 1.0 / z;
    let series = [
        -399.0 / 262_144.0,
        -21.0 / 32_768.0,
        5.0 / 1024.0,
        1.0 / 128.0,
        -0.125,
        1.0,
    ];
    factor * z.sqrt() * series.into_iter().fold(0.0, |sum, c| sum * u + c)
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22) by Lentz's method.
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    let nudge = |v: f64| if v.abs() < 1e-300 { 1e-300 } else { v };
    let mut c = 1.0;
    let mut d = 1.0 / nudge(1.0 - (a + b) * x / (a + 1.0));
    let mut value = d;
    // The number of terms grows with √(a + b); a hundred thousand reach far beyond any df that has a meaning here.
    for m in 1..100_000 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut step = 1.0;
        for term in [even, odd] {
            d = 1.0 / nudge(1.0 + term * d);
            c = nudge(1.0 + term / c);
            step = c * d;
            value *= step;
        }
        if (step - 1.0).abs() < 1e-16 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One degree of freedom is Cauchy's distribution, two have a closed form.
    #[test]
    fn one_and_two_degrees_of_freedom_in_closed_form() {
        for t in [1e-9, 0.3, 1.0, 7.0, 1e8] {
            let one = libm::atan2(1.0, t) / PI;
            assert!((t_upper_tail(t, 1.0).unwrap() / one - 1.0).abs() < 1e-13, "{t}");
            let root = (2.0 + t * t).sqrt();
            let two = 1.0 / (root * (root + t));
            assert!((t_upper_tail(t, 2.0).unwrap() / two - 1.0).abs() < 1e-13, "{t}");
        }
        assert_eq!(t_upper_tail(f64::INFINITY, 3.0), Ok(0.0));
        assert_eq!(t_upper_tail(f64::NEG_INFINITY, 3.0), Ok(1.0));
        assert_eq!(t_quantile(0.5, 3.0), Ok(0.0));
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert!(t_quantile(1.0, 3.0).is_err() && t_quantile(f64::NAN, 3.0).is_err());
        assert!(t_upper_tail(1.0, 0.0).is_err() && t_upper_tail(f64::NAN, 1.0).is_err());
        assert!(normal_quantile(0.0).is_err());
    }
}
