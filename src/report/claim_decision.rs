//! What estimates decide of a claim: larger than matters, the other way round, or too small to matter.

use crate::eval::{Estimate, EvalError};

/// One-sided p values of either answer.
pub(super) struct Decision {
    pub(super) support: f64,
    pub(super) refute: f64,
    /// What a refutation says.
    pub(super) how: String,
}

impl Decision {
    /// Two-sided: either answer may be false.
    pub(super) fn p(&self) -> f64 {
        (2.0 * self.support.min(self.refute)).min(1.0)
    }
}

pub(super) const BELOW: &str = "the effect is the other way round";
const SMALL: &str = "any effect is smaller than matters";

/// Larger than `smallest`; below 0, or within ± `smallest`.
pub(super) fn three_ways(e: &Estimate, smallest: f64) -> Option<Decision> {
    let below = e.p_below(0.0).ok()?;
    let small = e.p_above(-smallest).ok()?.max(e.p_below(smallest).ok()?);
    Some(Decision {
        support: e.p_above(smallest).ok()?,
        refute: below.min(small),
        how: if below <= small { BELOW } else { SMALL }.to_owned(),
    })
}

/// Every part is larger than matters: supported by the weakest of them, refuted by the surest that is not (Holm over the parts).
pub(super) fn every(parts: &[Estimate], smallest: f64) -> Option<Decision> {
    let each: Vec<Decision> = parts.iter().map(|e| three_ways(e, smallest)).collect::<Option<_>>()?;
    let surest = each.iter().reduce(|a, b| if b.refute < a.refute { b } else { a })?;
    Some(Decision {
        support: each.iter().map(|d| d.support).fold(0.0, f64::max),
        refute: (surest.refute * each.len() as f64).min(1.0),
        how: match surest.how.as_str() {
            BELOW => "for one of them the effect is the other way round",
            _ => "for one of them any effect is smaller than matters",
        }
        .to_owned(),
    })
}

/// Parts on both sides: supported by the surest of either side (Bonferroni over the parts), refuted when none lies on one side.
pub(super) fn turns(parts: &[Estimate], smallest: f64) -> Option<Decision> {
    let all = |f: &dyn Fn(&Estimate) -> Result<f64, EvalError>| -> Option<Vec<f64>> {
        parts.iter().map(|e| f(e).ok()).collect()
    };
    let lowest = |p: Vec<f64>| (p.iter().copied().fold(1.0, f64::min) * p.len() as f64).min(1.0);
    let highest = |p: Vec<f64>| p.into_iter().fold(0.0, f64::max);
    let up = lowest(all(&|e| e.p_above(smallest))?);
    let down = lowest(all(&|e| e.p_below(-smallest))?);
    let none_down = highest(all(&|e| e.p_above(-smallest))?);
    let none_up = highest(all(&|e| e.p_below(smallest))?);
    Some(Decision {
        support: up.max(down),
        refute: (2.0 * none_down.min(none_up)).min(1.0),
        how: "no data set turns the advantage round".to_owned(),
    })
}

/// Least-squares slope of `y` on `x` and its standard error by the residuals; `None` below three points.
pub(super) fn line(x: &[f64], y: &[f64]) -> Option<(f64, f64)> {
    if x.len() < 3 || x.len() != y.len() {
        return None;
    }
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let xy: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let xx: f64 = x.iter().map(|a| (a - mx) * (a - mx)).sum();
    let slope = xy / xx;
    let residuals: f64 = x
        .iter()
        .zip(y)
        .map(|(a, b)| b - my - slope * (a - mx))
        .map(|r| r * r)
        .sum();
    Some((slope, (residuals / (n - 2.0) / xx).sqrt())).filter(|f| f.0.is_finite() && f.1.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::VarianceSource;

    fn part(value: f64, se: f64) -> Estimate {
        Estimate {
            value,
            sources: vec![VarianceSource::new(se, None)],
        }
    }

    /// P(Z > 2) = 0.0227501, P(Z > 4) = 3.16712e-5, P(Z > 1) = 0.158655 (scipy).
    #[test]
    fn parts_decide_by_the_weakest_or_the_surest() {
        let near = |a: f64, b: f64| (a / b - 1.0).abs() < 1e-6;
        let d = every(&[part(0.05, 0.01), part(0.03, 0.01)], 0.01).unwrap();
        assert!(near(d.support, 0.022_750_131_948_179_2), "{}", d.support);
        let d = every(&[part(0.05, 0.01), part(-0.04, 0.01), part(0.0, 1.0)], 0.01).unwrap();
        assert!(
            near(d.refute, 3.0 * 3.167_124_183_311_99e-5) && d.how.contains("other way"),
            "{}",
            d.refute
        );
        let d = turns(&[part(0.03, 0.01), part(-0.05, 0.01)], 0.01).unwrap();
        assert!(near(d.support, 2.0 * 0.022_750_131_948_179_2));
        let d = turns(&[part(0.03, 0.01), part(0.00, 0.01)], 0.01).unwrap();
        assert!(near(d.refute, 2.0 * 0.158_655_253_931_457_05));
        // Within ± 0.01 by four standard errors on the nearer side.
        let d = three_ways(&part(0.002, 0.002), 0.01).unwrap();
        assert!(near(d.refute, 3.167_124_183_311_99e-5) && d.how == SMALL && d.support > 0.99);
    }

    /// scipy.stats.linregress([1, 2, 3, 4], [0, 1, 5, 4]): slope 1.6, standard error 0.648074.
    #[test]
    fn a_slope_has_its_residual_error() {
        let (slope, se) = line(&[1.0, 2.0, 3.0, 4.0], &[0.0, 1.0, 5.0, 4.0]).unwrap();
        assert!(
            (slope - 1.6).abs() < 1e-12 && (se - 0.648_074_069_840_786_1).abs() < 1e-9,
            "{se}"
        );
        assert_eq!(line(&[1.0, 2.0], &[0.0, 1.0]), None);
    }
}
