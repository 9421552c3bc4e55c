//! The effect of a claim as a number with its sources of variance, and the same claim on other numbers.

use super::cells::{Key, Score};
use super::sampled::COVERAGE;
use super::verdict::ClaimVerdict;
use crate::eval::{Estimate, VarianceSource, kendall_tau_b, normal_quantile};
use crate::study::{ClaimTest, Freeze, HeadKind};
use serde::{Deserialize, Serialize};

/// A number with its interval of level [`COVERAGE`] and its two-sided p value against 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub p: f64,
    /// What the interval is made of; empty where it is that of an order.
    pub sources: Vec<EffectSource>,
}

/// One source of variance of an effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EffectSource {
    pub name: String,
    pub standard_error: f64,
    /// `None` for the normal distribution.
    pub df: Option<f64>,
    /// Of the interval if this were the only source; half-widths are joined as the root of their sum of squares.
    pub half_width: f64,
}

impl Effect {
    /// Of a weighted sum.
    pub(super) fn of(e: &Estimate) -> Option<Self> {
        let i = e.interval(COVERAGE).ok()?;
        Some(Self {
            value: e.value,
            low: i.low,
            high: i.high,
            p: e.p_two_sided().ok()?,
            sources: named(&e.sources)?,
        })
    }

    /// Of the lowest of several: no higher than any of them, so the lower ends give the lower end, and the upper ends, each at a
    /// level that allows for having chosen, the upper one.
    pub(super) fn lowest(value: f64, parts: &[Estimate]) -> Option<Self> {
        let ends = ends(parts)?;
        Some(
            Self {
                value,
                low: ends.iter().map(|e| e.0).reduce(f64::min)?,
                high: ends.iter().map(|e| e.1).reduce(f64::min)?,
                p: 1.0,
                sources: widest(parts)?,
            }
            .with_p(parts),
        )
    }

    /// Of the smaller of the greatest advantage and the greatest disadvantage.
    pub(super) fn turned(value: f64, parts: &[Estimate]) -> Option<Self> {
        let ends = ends(parts)?;
        let up = |pick: fn(&(f64, f64)) -> f64| ends.iter().map(pick).reduce(f64::max);
        Some(
            Self {
                value,
                low: up(|e| e.0)?.min(up(|e| -e.1)?),
                high: up(|e| e.1)?.min(up(|e| -e.0)?),
                p: 1.0,
                sources: widest(parts)?,
            }
            .with_p(parts),
        )
    }

    /// Kendall's tau with the interval of Fieller, Hartley and Pearson (1957): atanh τ is nearly normal with variance
    /// 0.437/(n − 4). Below five values it says nothing.
    pub(super) fn tau(tau: f64, p: f64, n: usize) -> Self {
        let (low, high) = match n.checked_sub(4).filter(|d| *d > 0) {
            Some(d) => {
                // An order without an exception has no finite atanh; the largest below it with one pair undecided stands in.
                let most = 1.0 - 1.0 / (n * (n - 1)) as f64;
                let z = libm::atanh(tau.clamp(-most, most));
                let half = normal_quantile((1.0 + COVERAGE) / 2.0).unwrap_or(f64::NAN) * (0.437 / d as f64).sqrt();
                (libm::tanh(z - half), libm::tanh(z + half))
            }
            None => (-1.0, 1.0),
        };
        Self {
            value: tau,
            low: low.min(tau),
            high: high.max(tau),
            p,
            sources: Vec::new(),
        }
    }

    /// The largest p of the parts: the whole is no surer than its least sure one.
    fn with_p(mut self, parts: &[Estimate]) -> Self {
        let p = parts.iter().filter_map(|e| e.p_two_sided().ok()).fold(0.0, f64::max);
        self.p = p;
        self
    }
}

fn named(sources: &[VarianceSource]) -> Option<Vec<EffectSource>> {
    let names = ["seeds", "test images"];
    let all = sources.iter().enumerate().map(|(i, s)| {
        Some(EffectSource {
            name: (*names.get(i).unwrap_or(&"residuals")).to_owned(),
            standard_error: s.standard_error,
            df: s.df,
            half_width: s.half_width(COVERAGE).ok()?,
        })
    });
    all.collect()
}

/// The sources of the part that is known worst.
fn widest(parts: &[Estimate]) -> Option<Vec<EffectSource>> {
    let width = |e: &Estimate| e.interval(COVERAGE).map_or(0.0, |i| i.high - i.low);
    named(
        &parts
            .iter()
            .reduce(|a, b| if width(b) > width(a) { b } else { a })?
            .sources,
    )
}

/// Lower end of each part's interval; upper end at a level that allows for all of them (Bonferroni).
fn ends(parts: &[Estimate]) -> Option<Vec<(f64, f64)>> {
    let upper = 1.0 - (1.0 - COVERAGE) / parts.len() as f64;
    parts
        .iter()
        .map(|e| Some((e.interval(COVERAGE).ok()?.low, e.interval(upper).ok()?.high)))
        .collect()
}

/// The value of a test from those of its parts, which stand over `x` where the test is of a trend or a slope.
pub(super) fn statistic(test: &ClaimTest, names: &[&str], x: &[f64], values: &[f64]) -> Option<f64> {
    let lowest = || values.iter().copied().reduce(f64::min);
    let highest = || values.iter().copied().reduce(f64::max);
    let value = match test {
        ClaimTest::Group { .. } | ClaimTest::Contrast { .. } => *values.first()?,
        ClaimTest::ContrastEveryBackbone { .. } => lowest()?,
        ClaimTest::Top { families } => {
            let of = |wanted: bool| {
                let all = names.iter().zip(values);
                let own = all.filter(move |(n, _)| families.iter().any(|f| f == *n) == wanted);
                own.map(|(_, v)| *v)
            };
            of(true).reduce(f64::min)? - of(false).reduce(f64::max)?
        }
        ClaimTest::SizeTurns { .. } => highest()?.min(-lowest()?),
        ClaimTest::SizeSlope { .. } | ClaimTest::SizeFraction { .. } => {
            (x.len() == values.len()).then(|| slope(x, values))?
        }
        ClaimTest::Trend { .. } => kendall_tau_b(x, values).ok()?,
    };
    value.is_finite().then_some(value)
}

fn slope(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let xy: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let xx: f64 = x.iter().map(|a| (a - mx) * (a - mx)).sum();
    xy / xx
}

/// A cell that a claim speaks of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellUse {
    pub dataset: String,
    pub backbone: String,
    pub freeze: Freeze,
    pub head: HeadKind,
    pub planned: usize,
    pub n: usize,
    pub seeds: Vec<u64>,
    pub values: Vec<f64>,
    pub mean: Option<f64>,
    pub sd: Option<f64>,
    /// Of the mean, over test images.
    pub images_standard_error: Option<f64>,
}

impl CellUse {
    pub(super) fn of(key: &Key, score: Option<&Score>) -> Self {
        Self {
            dataset: key.0.clone(),
            backbone: key.1.clone(),
            freeze: key.2,
            head: key.3,
            planned: score.map_or(0, |s| s.planned),
            n: score.map_or(0, Score::n),
            seeds: score.map_or_else(Vec::new, |s| s.seeds.clone()),
            values: score.map_or_else(Vec::new, |s| s.values.clone()),
            mean: score.and_then(Score::mean),
            sd: score.and_then(Score::sd),
            images_standard_error: score.and_then(|s| s.sampled.as_ref()).map(|s| s.standard_error),
        }
    }
}

/// A claim on other numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    pub title: String,
    pub effect: Option<f64>,
    pub interval: Option<(f64, f64)>,
    /// Two-sided, where the test has one on these numbers.
    pub p: Option<f64>,
    /// For, against, or too small to matter; empty where it cannot be asked.
    pub says: String,
    /// Whether the effect has no unit in which it could be too small to matter: only its direction is compared.
    #[serde(default)]
    pub direction_only: bool,
    /// The verdict, where it can have one, or why it cannot be asked.
    pub answer: String,
}

const FOR: &str = "for";
const AGAINST: &str = "against";
const LITTLE: &str = "too small to matter";

/// Which way a value speaks.
fn says(value: f64, smallest: f64) -> &'static str {
    if value > smallest {
        FOR
    } else if value < 0.0 {
        AGAINST
    } else {
        LITTLE
    }
}

impl Variant {
    pub(super) fn unasked(title: &str, why: &str) -> Self {
        Self {
            title: title.to_owned(),
            effect: None,
            interval: None,
            p: None,
            says: String::new(),
            direction_only: false,
            answer: format!("cannot be asked: {why}"),
        }
    }

    pub(super) fn value(title: &str, effect: f64, p: Option<f64>, smallest: f64) -> Self {
        Self {
            title: title.to_owned(),
            effect: Some(effect),
            interval: None,
            p,
            says: says(effect, smallest).to_owned(),
            direction_only: smallest == 0.0,
            answer: String::new(),
        }
    }

    pub(super) fn decided(title: &str, effect: Option<&Effect>, verdict: &ClaimVerdict, smallest: f64) -> Self {
        Self {
            title: title.to_owned(),
            effect: effect.map(|e| e.value),
            interval: effect.map(|e| (e.low, e.high)),
            p: effect.map(|e| e.p),
            says: effect.map_or_else(String::new, |e| says(e.value, smallest).to_owned()),
            direction_only: false,
            answer: match verdict.why() {
                "" => verdict.name().to_owned(),
                why => format!("{}: {why}", verdict.name()),
            },
        }
    }

    /// Which variants speak another way than the main effect, or than each other where there is none.
    pub(super) fn disagreement(main: Option<f64>, smallest: f64, variants: &[Self]) -> Option<String> {
        let known: Vec<&Self> = variants.iter().filter(|v| !v.says.is_empty()).collect();
        let reference = match main {
            Some(v) => says(v, smallest).to_owned(),
            None => known.first()?.says.clone(),
        };
        let others: Vec<String> = known
            .iter()
            .filter(|v| v.says != reference && !(v.direction_only && reference == LITTLE))
            .map(|v| format!("{}: {}", v.title, v.says))
            .collect();
        let first = if main.is_some() {
            "our cells"
        } else {
            known.first()?.title.as_str()
        };
        (!others.is_empty()).then(|| format!("{first}: {reference}; {}", others.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disagreement_is_said() {
        let v = [
            Variant::value("a", 0.02, None, 0.005),
            Variant::value("b", -0.02, None, 0.005),
            Variant::unasked("c", "no"),
        ];
        let said = Variant::disagreement(Some(0.01), 0.005, &v).unwrap();
        assert_eq!(said, "our cells: for; b: against");
        assert_eq!(Variant::disagreement(Some(0.01), 0.005, &v[..1]), None);
        assert_eq!(Variant::disagreement(None, 0.005, &v).unwrap(), "a: for; b: against");
        // Ranks know no size: they speak against an effect of the other sign alone.
        let ranks = [Variant::value("ranks", 0.1, None, 0.0)];
        assert_eq!(Variant::disagreement(Some(0.001), 0.005, &ranks), None);
        assert!(Variant::disagreement(Some(-0.01), 0.005, &ranks).is_some());
    }

    /// Seven families in perfect order: tau 1, and still an interval: atanh(1 − 1/42) ± 1.96·√(0.437/3).
    #[test]
    fn an_order_of_seven_is_uncertain() {
        let e = Effect::tau(11.0 / 21.0 * 2.0 - 1.0, 0.9, 7);
        assert!(e.low < -0.5 && e.high > 0.5, "{e:?}");
        let e = Effect::tau(1.0, 0.0004, 7);
        assert!(e.high == 1.0 && e.low > 0.8 && e.low < 1.0, "{e:?}");
        assert_eq!(
            (Effect::tau(0.5, 1.0, 4).low, Effect::tau(0.5, 1.0, 4).high),
            (-1.0, 1.0)
        );
    }
}
