//! The paper's claims, decided from the cells.
//!
//! Every claim is a combination of weighted sums of cell means. It is computed once from the means themselves (the effect) and
//! once from every resample (its interval and p value): replicate r of a cell is its metric on the r-th resampled test set,
//! averaged over its seeds drawn anew with replacement. Data sets have resamples of their own, and so have the seeds of every
//! cell. A draw of n seeds spreads by too little, by the factor (n − 1)/n, which is put right.

use super::cells::{Cells, Key, Score};
use super::input::ReportInput;
use super::sampled::COVERAGE;
use crate::eval::{holm, kendall_tau_b, normal_two_sided, paired_bootstrap, percentile};
use crate::rng::{Purpose, Stream};
use crate::study::{Claim, ClaimTest, Claims, Freeze, HeadKind, Regimes};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", content = "why")]
pub enum ClaimVerdict {
    Supported,
    Refuted,
    Undetermined(String),
}

impl ClaimVerdict {
    /// Its one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Supported => "Supported",
            Self::Refuted => "Refuted",
            Self::Undetermined(_) => "Undetermined",
        }
    }

    /// Its reason, where it has one.
    pub fn why(&self) -> &str {
        match self {
            Self::Undetermined(why) => why,
            Self::Supported | Self::Refuted => "",
        }
    }
}

/// A number with its interval of level [`COVERAGE`] and its two-sided p value against 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    pub p: f64,
}

/// A claim with what the cells say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub claim: Claim,
    /// What speaks for the claim where it is positive; `None` where cells are missing.
    pub effect: Option<Effect>,
    /// What the effect is made of, by name: backbones, data sets or families.
    pub parts: Vec<(String, Effect)>,
    /// Of the decision, corrected over all claims (Holm).
    pub p: Option<f64>,
    pub verdict: ClaimVerdict,
}

/// Decides every claim. The order is that of the file.
pub fn judge(claims: &Claims, input: &ReportInput, cells: &Cells) -> Vec<Judged> {
    let grid = Grid { input, cells };
    let outcomes: Vec<Outcome> = claims.claims.iter().map(|c| grid.outcome(&c.test)).collect();
    // A claim without a p value stays in the family: what is missing today may not make tomorrow's correction milder.
    let p: Vec<f64> = outcomes.iter().map(|o| o.decision.map_or(1.0, |d| d.p)).collect();
    let corrected = holm(&p).unwrap_or_else(|_| vec![1.0; p.len()]);
    let judged = claims.claims.iter().zip(outcomes).zip(corrected);
    judged
        .map(|((claim, o), p)| Judged {
            verdict: match (&o.missing, o.decision) {
                (Some(why), _) => ClaimVerdict::Undetermined(why.clone()),
                (None, Some(d)) if p < claims.alpha && d.supports => ClaimVerdict::Supported,
                (None, Some(d)) if p < claims.alpha && !d.supports => ClaimVerdict::Refuted,
                (None, Some(_)) => ClaimVerdict::Undetermined("the test sets and seeds cannot tell".to_owned()),
                (None, None) => ClaimVerdict::Undetermined("the effect is not defined on these cells".to_owned()),
            },
            p: o.decision.map(|_| p),
            claim: claim.clone(),
            effect: o.effect,
            parts: o.parts,
        })
        .collect()
}

/// A weighted sum of cells.
type Sum = Vec<(Key, f64)>;

/// The observed value, then one value a replicate.
type Series = Vec<f64>;

#[derive(Clone, Copy)]
struct Decision {
    p: f64,
    supports: bool,
}

#[derive(Default)]
struct Outcome {
    missing: Option<String>,
    effect: Option<Effect>,
    parts: Vec<(String, Effect)>,
    decision: Option<Decision>,
}

struct Grid<'a> {
    input: &'a ReportInput,
    cells: &'a Cells,
}

impl Grid<'_> {
    fn outcome(&self, test: &ClaimTest) -> Outcome {
        let parts = self.parts(test);
        let measured = parts.and_then(|p| self.measure(p));
        let parts = match measured {
            Ok(parts) => parts,
            Err(missing) => {
                return Outcome {
                    missing: Some(missing),
                    ..Outcome::default()
                };
            }
        };
        let series: Vec<&Series> = parts.iter().map(|p| &p.1).collect();
        let effects: Vec<(String, Effect)> = parts
            .iter()
            .filter_map(|(name, s)| Some((name.clone(), linear(s)?)))
            .collect();
        if effects.len() < parts.len() {
            return Outcome::default();
        }
        let over = |f: &dyn Fn(&[f64]) -> f64| -> Series {
            (0..series[0].len())
                .map(|r| f(&series.iter().map(|s| s[r]).collect::<Vec<f64>>()))
                .collect()
        };
        let (effect, decision) = match test {
            ClaimTest::Group { .. } | ClaimTest::Contrast { .. } => {
                let e = effects[0].1;
                (Some(e), Some(sign(e)))
            }
            ClaimTest::Top { families } => {
                let ours: Vec<bool> = parts.iter().map(|p| families.contains(&p.0)).collect();
                let e = counted(&over(&|v| worst_above_best(v, &ours)));
                (e, e.map(sign))
            }
            ClaimTest::Trend { dates } => {
                let x: Vec<f64> = dates.iter().map(|d| d.1).collect();
                let e = counted(&over(&|v| kendall_tau_b(&x, v).unwrap_or(f64::NAN)));
                (e, e.map(sign))
            }
            ClaimTest::SizeSlope { images, .. } => {
                let x: Vec<f64> = images.iter().map(|i| libm::log10(i.1)).collect();
                let e = linear(&over(&|v| slope(&x, v)));
                (e, e.map(sign))
            }
            ClaimTest::ContrastEveryBackbone { .. } => {
                let lowest = effects
                    .iter()
                    .map(|e| e.1)
                    .reduce(|a, b| if b.value < a.value { b } else { a });
                (lowest, Some(every(&effects)))
            }
            ClaimTest::SizeTurns { .. } => {
                let spread =
                    |v: &[f64]| v.iter().copied().fold(f64::MIN, f64::max) - v.iter().copied().fold(f64::MAX, f64::min);
                (counted(&over(&spread)), Some(turns(&effects)))
            }
        };
        Outcome {
            missing: None,
            effect,
            parts: if effects.len() > 1 { effects } else { Vec::new() },
            decision: decision.filter(|_| effect.is_some()),
        }
    }

    /// The named sums that a test is made of, or why it cannot be asked of this study.
    fn parts(&self, test: &ClaimTest) -> Result<Vec<(String, Sum)>, String> {
        let datasets: Vec<&str> = self.input.datasets.iter().map(|d| d.name.as_str()).collect();
        let all = Regimes {
            freeze: None,
            head: None,
        };
        match test {
            ClaimTest::Group { families } => {
                let (ours, others): (Vec<_>, Vec<_>) = self.backbones().partition(|b| families.contains(&b.1));
                let names = |list: Vec<(&str, String)>| list.into_iter().map(|b| b.0.to_owned()).collect::<Vec<_>>();
                let (ours, others) = (names(ours), names(others));
                self.some(&ours, families)?;
                self.some(&others, &["other".to_owned()])?;
                let sum = minus(self.mean(&datasets, &ours, all), self.mean(&datasets, &others, all));
                Ok(vec![("difference".to_owned(), sum)])
            }
            ClaimTest::Top { families } => {
                let mut names: Vec<String> = families.clone();
                names.extend(self.backbones().map(|b| b.1).filter(|f| !families.contains(f)));
                let mut seen = Vec::new();
                names.retain(|n| {
                    !seen.contains(n) && {
                        seen.push(n.clone());
                        true
                    }
                });
                names.into_iter().map(|f| self.family(f, &datasets)).collect()
            }
            ClaimTest::Trend { dates } => dates.iter().map(|d| self.family(d.0.clone(), &datasets)).collect(),
            ClaimTest::Contrast { plus, minus: m, less } => {
                let backbones: Vec<String> = self.backbones().map(|b| b.0.to_owned()).collect();
                let mean = |r: Regimes| self.mean(&datasets, &backbones, r);
                let mut sum = minus(mean(*plus), mean(*m));
                if let Some((p, m)) = less {
                    sum = minus(sum, minus(mean(*p), mean(*m)));
                }
                Ok(vec![("difference".to_owned(), sum)])
            }
            ClaimTest::ContrastEveryBackbone { plus, minus: m } => Ok(self
                .backbones()
                .map(|b| {
                    let one = [b.0.to_owned()];
                    let sum = minus(self.mean(&datasets, &one, *plus), self.mean(&datasets, &one, *m));
                    (self.input.backbone_title(b.0).to_owned(), sum)
                })
                .collect()),
            ClaimTest::SizeTurns { pairs } => datasets.iter().map(|d| self.larger(d, pairs)).collect(),
            ClaimTest::SizeSlope { pairs, images } => images.iter().map(|(d, _)| self.larger(d, pairs)).collect(),
        }
    }

    /// Every backbone with its family.
    fn backbones(&self) -> impl Iterator<Item = (&str, String)> {
        self.input.backbones.iter().map(|b| (b.name.as_str(), b.family.clone()))
    }

    fn some(&self, found: &[String], wanted: &[String]) -> Result<(), String> {
        if found.is_empty() {
            return Err(format!("this study has no backbone of {}", wanted.join(", ")));
        }
        Ok(())
    }

    fn family(&self, family: String, datasets: &[&str]) -> Result<(String, Sum), String> {
        let of: Vec<String> = self
            .backbones()
            .filter(|b| b.1 == family)
            .map(|b| b.0.to_owned())
            .collect();
        self.some(&of, std::slice::from_ref(&family))?;
        let all = Regimes {
            freeze: None,
            head: None,
        };
        Ok((family, self.mean(datasets, &of, all)))
    }

    /// Larger minus smaller, averaged over the pairs and all regimes, on one data set.
    fn larger(&self, dataset: &str, pairs: &[(String, String)]) -> Result<(String, Sum), String> {
        let all = Regimes {
            freeze: None,
            head: None,
        };
        let title = self
            .input
            .dataset(dataset)
            .ok_or_else(|| format!("this study has no data set {dataset}"))?
            .title
            .clone();
        let side =
            |pick: fn(&(String, String)) -> &String| -> Vec<String> { pairs.iter().map(|p| pick(p).clone()).collect() };
        let sum = minus(
            self.mean(&[dataset], &side(|p| &p.1), all),
            self.mean(&[dataset], &side(|p| &p.0), all),
        );
        Ok((title, sum))
    }

    /// The plain mean of the cells of a block.
    fn mean(&self, datasets: &[&str], backbones: &[String], regimes: Regimes) -> Sum {
        let mut keys = Vec::new();
        for d in datasets {
            for b in backbones {
                for freeze in Freeze::ALL.iter().copied() {
                    for head in HeadKind::ALL.iter().copied().filter(|h| regimes.holds(freeze, *h)) {
                        keys.push(((*d).to_owned(), b.clone(), freeze, head));
                    }
                }
            }
        }
        let weight = 1.0 / keys.len() as f64;
        keys.into_iter().map(|k| (k, weight)).collect()
    }

    /// Every sum on every replicate, or why it has no value.
    fn measure(&self, parts: Vec<(String, Sum)>) -> Result<Vec<(String, Series)>, String> {
        let mut needed = BTreeMap::<Key, Option<Series>>::new();
        for (key, _) in parts.iter().flat_map(|p| &p.1) {
            needed.entry(key.clone()).or_default();
        }
        let (mut without_result, mut without_images) = (0, 0);
        for (key, series) in &mut needed {
            match self.cells.get(&key.0, &key.1, key.2, key.3).filter(|s| s.n() > 0) {
                None => without_result += 1,
                Some(s) => {
                    *series = self.series(s);
                    without_images += usize::from(series.is_none());
                }
            }
        }
        let of = needed.len();
        if without_result > 0 {
            return Err(format!(
                "{without_result} of the {of} cells that it speaks of have no result"
            ));
        }
        if without_images > 0 {
            return Err(format!(
                "the test images of {without_images} of {of} cells were not resampled"
            ));
        }
        let length = needed.values().flatten().map(Vec::len).min().unwrap_or(0);
        let sum = |s: &Sum, r: usize| -> f64 {
            let terms = s.iter().filter_map(|(k, w)| Some(needed.get(k)?.as_ref()?.get(r)? * w));
            terms.sum()
        };
        Ok(parts
            .into_iter()
            .map(|(name, s)| (name, (0..length).map(|r| sum(&s, r)).collect()))
            .collect())
    }

    /// A cell's mean, then its replicates over images and seeds; `None` without evidence.
    fn series(&self, score: &Score) -> Option<Series> {
        let sampled = score.sampled.as_ref()?;
        let runs: Vec<&[f64]> = score
            .runs
            .iter()
            .map(|id| Some(self.input.evidence.get(id)?.replicates.as_slice()))
            .collect::<Option<_>>()?;
        let n = runs.len();
        let seed = score
            .runs
            .first()?
            .get(..16)
            .and_then(|h| u64::from_str_radix(h, 16).ok())?;
        let widen = if n > 1 {
            (n as f64 / (n as f64 - 1.0)).sqrt()
        } else {
            0.0
        };
        let mut out = vec![score.mean()?];
        for (r, &mean) in (0u32..).zip(&sampled.replicates) {
            let mut stream = Stream::new(seed, Purpose::Bootstrap, 1, r);
            let drawn: f64 = (0..n).map(|_| runs[stream.below(n as u32) as usize][r as usize]).sum();
            out.push(mean + widen * (drawn / n as f64 - mean));
        }
        Some(out)
    }
}

fn minus(a: Sum, b: Sum) -> Sum {
    a.into_iter().chain(b.into_iter().map(|(k, w)| (k, -w))).collect()
}

/// An effect that is a weighted sum of many cells: normal, with the spread of the replicates as its standard error, so that p
/// has no floor where many parts are corrected for.
fn linear(series: &[f64]) -> Option<Effect> {
    let p = percentile(&series[1..], COVERAGE).ok()?;
    let value = series[0];
    Some(Effect {
        value,
        low: p.interval.low,
        high: p.interval.high,
        p: if value == 0.0 {
            1.0
        } else {
            normal_two_sided(value / p.standard_error)
        },
    })
}

/// An effect that is no sum: p counts the replicates on the other side of 0.
fn counted(series: &[f64]) -> Option<Effect> {
    let against = paired_bootstrap(&series[1..], &vec![0.0; series.len() - 1], COVERAGE).ok()?;
    Some(Effect {
        value: series[0],
        low: against.difference.interval.low,
        high: against.difference.interval.high,
        p: against.p,
    })
}

fn sign(e: Effect) -> Decision {
    Decision {
        p: e.p,
        supports: e.value > 0.0,
    }
}

/// Every part is positive: supported by the weakest of them, refuted by the strongest that is not (Holm over the parts).
fn every(parts: &[(String, Effect)]) -> Decision {
    if parts.iter().all(|p| p.1.value > 0.0) {
        let p = parts.iter().map(|p| p.1.p).fold(0.0, f64::max);
        return Decision { p, supports: true };
    }
    let corrected = within(parts);
    let negative = parts.iter().zip(corrected).filter(|(e, _)| e.1.value <= 0.0);
    Decision {
        p: negative.map(|(_, p)| p).fold(1.0, f64::min),
        supports: false,
    }
}

/// Parts of both signs: supported by the surest of either sign (Holm over the parts), refuted when all have one sign, by the
/// weakest.
fn turns(parts: &[(String, Effect)]) -> Decision {
    let corrected = within(parts);
    let surest = |positive: bool| {
        let of = parts
            .iter()
            .zip(&corrected)
            .filter(|(e, _)| (e.1.value > 0.0) == positive);
        of.map(|(_, p)| *p).reduce(f64::min)
    };
    match (surest(true), surest(false)) {
        (Some(a), Some(b)) => Decision {
            p: a.max(b),
            supports: true,
        },
        _ => Decision {
            p: parts.iter().map(|p| p.1.p).fold(0.0, f64::max),
            supports: false,
        },
    }
}

fn within(parts: &[(String, Effect)]) -> Vec<f64> {
    let p: Vec<f64> = parts.iter().map(|e| e.1.p).collect();
    holm(&p).unwrap_or_else(|_| vec![1.0; p.len()])
}

/// Lowest value of the named ones minus highest of the others.
fn worst_above_best(values: &[f64], named: &[bool]) -> f64 {
    let of = |wanted: bool| {
        values
            .iter()
            .zip(named)
            .filter(move |(_, n)| **n == wanted)
            .map(|(v, _)| *v)
    };
    of(true).reduce(f64::min).unwrap_or(f64::NAN) - of(false).reduce(f64::max).unwrap_or(f64::NAN)
}

/// Least-squares slope of `y` on `x`.
fn slope(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len() as f64;
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let xy: f64 = x.iter().zip(y).map(|(a, b)| (a - mx) * (b - my)).sum();
    let xx: f64 = x.iter().map(|a| (a - mx) * (a - mx)).sum();
    xy / xx
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: f64, p: f64) -> (String, Effect) {
        let e = Effect {
            value,
            low: value,
            high: value,
            p,
        };
        (String::new(), e)
    }

    /// Holm over three by hand: 0.001 → 0.003, 0.02 → 0.04, 0.6 → 0.6.
    #[test]
    fn parts_decide_by_the_weakest_or_the_surest() {
        let d = every(&[part(0.1, 0.001), part(0.2, 0.02), part(0.3, 0.6)]);
        assert_eq!((d.p, d.supports), (0.6, true));
        let d = every(&[part(-0.1, 0.001), part(0.2, 0.02), part(-0.3, 0.6)]);
        assert_eq!((d.p, d.supports), (0.003, false));
        let d = turns(&[part(-0.1, 0.001), part(0.2, 0.02), part(-0.3, 0.6)]);
        assert_eq!((d.p, d.supports), (0.04, true));
        let d = turns(&[part(0.1, 0.001), part(0.2, 0.02), part(0.3, 0.6)]);
        assert_eq!((d.p, d.supports), (0.6, false));
    }

    #[test]
    fn gaps_and_slopes_by_hand() {
        assert_eq!(
            worst_above_best(&[0.75, 0.5, 0.25, 0.375], &[true, true, false, false]),
            0.125
        );
        assert_eq!(slope(&[1.0, 2.0, 3.0], &[0.0, 1.0, 5.0]), 2.5);
    }
}
