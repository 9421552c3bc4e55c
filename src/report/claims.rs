//! The paper's claims, decided from the cells.
//!
//! Every claim is made of weighted sums of cell means. A sum is uncertain because other seeds would give other means, and
//! other patients another test set: the variance of the seeds is taken in closed form, that of the test set from replicates of
//! whole groups (patients, lesions, cases) drawn anew, paired within a data set. Half-widths are joined so that no source narrows an
//! interval ([`crate::eval::Estimate`]). A trend over families is tested by permuting them, a slope by its residuals.
//!
//! *Supported* needs an effect larger than the smallest one that matters, *Refuted* one below 0 or shown to be smaller than that on either
//! side; all else is *Undetermined*, with what is missing. The number of resamples behind a decision is fixed ([`crate::results::DECISION`]):
//! `--replicates` is a matter of what is printed.

use super::cells::{Cells, Key};
use super::claim_decision::{BELOW, Decision, every, line, three_ways, turns};
use super::claim_effect::{CellUse, Effect, Variant, statistic};
use super::claim_sums::{Sum, Used, every_regime, mean, mean_over, minus, ranks};
use super::input::{PublishedPoint, ReportInput};
use super::verdict::ClaimVerdict;
use crate::eval::{Estimate, VarianceSource, holm, kendall_permutation};
use crate::study::{Claim, ClaimTest, Claims, Freeze, HeadKind, Regimes};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A claim with what the cells say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub claim: Claim,
    /// What speaks for the claim where it is positive; `None` where cells are missing.
    pub effect: Option<Effect>,
    /// What the effect is made of, by name: backbones, data sets or families.
    pub parts: Vec<(String, Effect)>,
    /// Of the decision: two-sided, corrected over all claims (Holm).
    pub p: Option<f64>,
    pub verdict: ClaimVerdict,
    /// The cells that it speaks of.
    pub cells: Vec<CellUse>,
    /// The same claim on other numbers: the published values alone, without backbones that the authors have no code for, on ranks.
    pub variants: Vec<Variant>,
    /// Where these disagree with the main answer, in words.
    pub disagreement: Option<String>,
}

/// Decides every claim. The order is that of the file.
pub fn judge(claims: &Claims, input: &ReportInput, cells: &Cells) -> Vec<Judged> {
    let none = BTreeSet::new();
    let without: BTreeSet<&str> = input.without_code.iter().map(String::as_str).collect();
    let grid = |skip| Grid { input, cells, skip };
    let main = decided(claims, &grid(&none));
    let fewer = (!without.is_empty()).then(|| decided(claims, &grid(&without)));
    let ranks = ranks(cells);
    let mut out = Vec::with_capacity(main.len());
    for (i, (claim, (outcome, p, verdict))) in claims.claims.iter().zip(main).enumerate() {
        let mut variants = vec![grid(&none).on_published(claim)];
        if let Some(fewer) = &fewer {
            let (o, _, v) = &fewer[i];
            let title = format!("without {}", families(input, &without));
            variants.push(Variant::decided(&title, o.effect.as_ref(), v, claim.smallest));
        }
        variants.push(grid(&none).on_ranks(claim, &ranks));
        let effect = outcome.effect.as_ref();
        out.push(Judged {
            disagreement: Variant::disagreement(effect.map(|e| e.value), claim.smallest, &variants),
            p: outcome.decision.as_ref().map(|_| p),
            verdict,
            effect: outcome.effect,
            parts: outcome.parts,
            cells: outcome.cells,
            variants,
            claim: claim.clone(),
        });
    }
    out
}

/// The families of these backbones as printed.
fn families(input: &ReportInput, of: &BTreeSet<&str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for b in input.backbones.iter().filter(|b| of.contains(b.name.as_str())) {
        if !names.contains(&b.family.as_str()) {
            names.push(&b.family);
        }
    }
    names.join(" and ")
}

/// Outcome, corrected p and verdict of every claim.
fn decided(claims: &Claims, grid: &Grid) -> Vec<(ClaimOutcome, f64, ClaimVerdict)> {
    let outcomes: Vec<ClaimOutcome> = claims.claims.iter().map(|c| grid.outcome(c)).collect();
    // A claim without a p value stays in the family: what is missing today may not make tomorrow's correction milder.
    let p: Vec<f64> = outcomes
        .iter()
        .map(|o| o.decision.as_ref().map_or(1.0, Decision::p))
        .collect();
    let corrected = holm(&p).unwrap_or_else(|_| vec![1.0; p.len()]);
    let judged = claims.claims.iter().zip(outcomes).zip(corrected);
    judged
        .map(|((claim, o), p)| {
            let verdict = match (&o.missing, &o.decision) {
                (Some(why), _) => ClaimVerdict::Undetermined(why.clone()),
                (None, Some(d)) if p < claims.alpha && d.support <= d.refute => ClaimVerdict::Supported,
                (None, Some(d)) if p < claims.alpha => ClaimVerdict::Refuted(d.how.clone()),
                (None, Some(_)) => ClaimVerdict::Undetermined(o.open(claim)),
                (None, None) => ClaimVerdict::Undetermined("the effect is not defined on these cells".to_owned()),
            };
            (o, p, verdict)
        })
        .collect()
}

#[derive(Default)]
struct ClaimOutcome {
    missing: Option<String>,
    effect: Option<Effect>,
    parts: Vec<(String, Effect)>,
    decision: Option<Decision>,
    cells: Vec<CellUse>,
}

impl ClaimOutcome {
    /// Why neither answer can be given.
    fn open(&self, claim: &Claim) -> String {
        let Some(e) = &self.effect else {
            return "the test sets and seeds cannot tell".to_owned();
        };
        let total: f64 = e.sources.iter().map(|s| s.half_width * s.half_width).sum();
        let shares: Vec<String> = e
            .sources
            .iter()
            .filter(|s| total > 0.0 && s.half_width > 0.0)
            .map(|s| {
                let share = 100.0 * s.half_width * s.half_width / total;
                format!("{} {} %", s.name, super::text::fixed(share, 0))
            })
            .collect();
        let smallest = claim.smallest;
        let from = if shares.is_empty() {
            String::new()
        } else {
            format!("; the interval's width is of {}", shares.join(", "))
        };
        format!("whether the effect is larger than {smallest} cannot be told{from}")
    }
}

struct Grid<'a> {
    input: &'a ReportInput,
    cells: &'a Cells,
    /// Backbones left out.
    skip: &'a BTreeSet<&'a str>,
}

impl Grid<'_> {
    fn outcome(&self, claim: &Claim) -> ClaimOutcome {
        let missing = |why: String| ClaimOutcome {
            missing: Some(why),
            ..ClaimOutcome::default()
        };
        let parts = match self.parts(&claim.test) {
            Ok(parts) => parts,
            Err(why) => return missing(why),
        };
        let used = match self.used(&parts) {
            Ok(used) => used,
            Err((why, cells)) => {
                return ClaimOutcome { cells, ..missing(why) };
            }
        };
        let estimates: Option<Vec<Estimate>> = parts.iter().map(|p| used.estimate(&p.1)).collect();
        let Some(estimates) = estimates else {
            return ClaimOutcome::default();
        };
        let decided = self.decide(claim, &parts, &estimates, &used);
        let effects = parts.iter().zip(&estimates);
        let effects: Vec<(String, Effect)> = effects
            .filter_map(|(p, e)| Some((p.0.clone(), Effect::of(e)?)))
            .collect();
        let (effect, decision) = decided.map_or((None, None), |(e, d)| (Some(e), Some(d)));
        ClaimOutcome {
            missing: None,
            effect,
            parts: if effects.len() > 1 { effects } else { Vec::new() },
            decision,
            cells: used.list,
        }
    }

    /// The effect of a test with the p values of both answers.
    fn decide(
        &self,
        claim: &Claim,
        parts: &[(String, Sum)],
        estimates: &[Estimate],
        used: &Used,
    ) -> Option<(Effect, Decision)> {
        let smallest = claim.smallest;
        let values: Vec<f64> = estimates.iter().map(|e| e.value).collect();
        let x = self.abscissa(&claim.test, parts);
        let value = statistic(&claim.test, &names(parts), &x, &values)?;
        match &claim.test {
            ClaimTest::Group { .. } | ClaimTest::Contrast { .. } => {
                let e = &estimates[0];
                Some((Effect::of(e)?, three_ways(e, smallest)?))
            }
            ClaimTest::ContrastEveryBackbone { .. } => {
                let d = every(estimates, smallest)?;
                Some((Effect::lowest(value, estimates)?, d))
            }
            ClaimTest::Top { families } => {
                // The lowest of the named above the highest of the others: every pair of them.
                let mut pairs = Vec::new();
                for (_, ours) in parts.iter().filter(|p| families.contains(&p.0)) {
                    for (_, other) in parts.iter().filter(|p| !families.contains(&p.0)) {
                        pairs.push(used.estimate(&minus(ours.clone(), other.clone()))?);
                    }
                }
                let d = every(&pairs, smallest)?;
                Some((Effect::lowest(value, &pairs)?, d))
            }
            ClaimTest::SizeTurns { .. } => Some((Effect::turned(value, estimates)?, turns(estimates, smallest)?)),
            ClaimTest::SizeSlope { .. } | ClaimTest::SizeFraction { .. } => {
                let fit = line(&x, &values)?;
                let mut sources = vec![VarianceSource::new(fit.1, Some(x.len() as f64 - 2.0))];
                // The residuals hold seeds and images already; joining both as well is never too narrow.
                let mean = x.iter().sum::<f64>() / x.len() as f64;
                let xx: f64 = x.iter().map(|v| (v - mean) * (v - mean)).sum();
                let weighted = parts.iter().zip(&x);
                let sum: Sum = weighted
                    .flat_map(|(p, x)| p.1.iter().map(move |(k, w)| (k.clone(), w * (x - mean) / xx)))
                    .collect();
                sources.extend(used.estimate(&sum)?.sources);
                let e = Estimate { value: fit.0, sources };
                let mut effect = Effect::of(&e)?;
                for (s, name) in effect.sources.iter_mut().zip(["residuals", "seeds", "test images"]) {
                    name.clone_into(&mut s.name);
                }
                Some((effect, three_ways(&e, smallest)?))
            }
            ClaimTest::Trend { .. } => {
                let order = kendall_permutation(&x, &values).ok()?;
                let effect = Effect::tau(order.tau, order.p(), x.len());
                Some((
                    effect,
                    Decision {
                        support: if order.tau >= smallest { order.p_greater } else { 1.0 },
                        // That there is no order worth the name cannot be shown with so few families.
                        refute: if order.tau < 0.0 { order.p_less } else { 1.0 },
                        how: BELOW.to_owned(),
                    },
                ))
            }
        }
    }

    /// What a trend's or a slope's values stand over: months, or the logarithm of a number or share of images.
    fn abscissa(&self, test: &ClaimTest, parts: &[(String, Sum)]) -> Vec<f64> {
        match test {
            ClaimTest::SizeSlope { images, .. } => images.iter().map(|i| libm::log10(i.1)).collect(),
            ClaimTest::SizeFraction { .. } => self.shares().into_iter().map(|d| libm::log10(d.1)).collect(),
            ClaimTest::Trend { dates } => parts
                .iter()
                .filter_map(|p| dates.iter().find(|d| d.0 == p.0).map(|d| d.1))
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The tables of the first data set with three training shares or more, by share.
    fn shares(&self) -> Vec<(&str, f64)> {
        for set in &self.input.datasets {
            let same = self.input.datasets.iter();
            let same = same.filter(|d| (&d.set, &d.split) == (&set.set, &set.split));
            let mut all: Vec<(&str, f64)> = same.map(|d| (d.name.as_str(), d.train_fraction)).collect();
            all.sort_by(|a, b| a.1.total_cmp(&b.1));
            all.dedup_by(|a, b| a.1 == b.1);
            if all.len() >= 3 {
                return all;
            }
        }
        Vec::new()
    }

    /// The tables that other claims speak of: those of the largest share of a data set that the study trains on.
    fn whole_sets(&self) -> Vec<&str> {
        let all = &self.input.datasets;
        let most = |set: &str| {
            all.iter()
                .filter(|d| d.set == set)
                .map(|d| d.train_fraction)
                .fold(0.0, f64::max)
        };
        let whole = all.iter().filter(|d| d.train_fraction == most(&d.set));
        whole.map(|d| d.name.as_str()).collect()
    }

    /// The named sums that a test is made of, or why it cannot be asked of this study.
    fn parts(&self, test: &ClaimTest) -> Result<Vec<(String, Sum)>, String> {
        let datasets = self.whole_sets();
        let all = Regimes {
            freeze: None,
            head: None,
        };
        match test {
            ClaimTest::Group { families } => {
                let (ours, others): (Vec<_>, Vec<_>) = self.backbones().partition(|b| families.contains(&b.1));
                let names = |list: Vec<(&str, String)>| list.into_iter().map(|b| b.0.to_owned()).collect::<Vec<_>>();
                let (ours, others) = (names(ours), names(others));
                some(&ours, families)?;
                some(&others, &["other".to_owned()])?;
                let sum = minus(mean(&datasets, &ours, all), mean(&datasets, &others, all));
                Ok(vec![("difference".to_owned(), sum)])
            }
            ClaimTest::Top { families } => {
                let mut names: Vec<String> = families.clone();
                for (_, family) in self.backbones() {
                    if !names.contains(&family) {
                        names.push(family);
                    }
                }
                if names.len() == families.len() {
                    return Err("this study has no backbone of another family".to_owned());
                }
                names.into_iter().map(|f| self.family(f, &datasets)).collect()
            }
            // A family that is left out has no place in the order.
            ClaimTest::Trend { dates } => dates
                .iter()
                .filter(|d| self.skip.is_empty() || self.backbones().any(|b| b.1 == d.0))
                .map(|d| self.family(d.0.clone(), &datasets))
                .collect(),
            ClaimTest::Contrast { plus, minus: m, less } => {
                let backbones: Vec<String> = self.backbones().map(|b| b.0.to_owned()).collect();
                let block = |r: Regimes| mean(&datasets, &backbones, r);
                let mut sum = minus(block(*plus), block(*m));
                if let Some((p, m)) = less {
                    sum = minus(sum, minus(block(*p), block(*m)));
                }
                Ok(vec![("difference".to_owned(), sum)])
            }
            ClaimTest::ContrastEveryBackbone { plus, minus: m } => Ok(self
                .backbones()
                .map(|b| {
                    let one = [b.0.to_owned()];
                    let sum = minus(mean(&datasets, &one, *plus), mean(&datasets, &one, *m));
                    (self.input.backbone_title(b.0).to_owned(), sum)
                })
                .collect()),
            ClaimTest::SizeTurns { pairs } => datasets
                .iter()
                .map(|d| self.larger(d, pairs, &every_regime()))
                .collect(),
            ClaimTest::SizeSlope { pairs, images } => images
                .iter()
                .map(|(d, _)| self.larger(d, pairs, &every_regime()))
                .collect(),
            ClaimTest::SizeFraction { pairs } => match self.shares().as_slice() {
                [] => Err("this study has no data set with three training shares".to_owned()),
                // A question of medft's own: in the regimes that the study has.
                shares => shares
                    .iter()
                    .map(|(d, _)| self.larger(d, pairs, &self.cells.regimes(d)))
                    .collect(),
            },
        }
    }

    /// Every backbone that counts, with its family.
    fn backbones(&self) -> impl Iterator<Item = (&str, String)> {
        let all = self.input.backbones.iter().map(|b| (b.name.as_str(), b.family.clone()));
        all.filter(|b| !self.skip.contains(b.0))
    }

    fn family(&self, family: String, datasets: &[&str]) -> Result<(String, Sum), String> {
        let of: Vec<String> = self
            .backbones()
            .filter(|b| b.1 == family)
            .map(|b| b.0.to_owned())
            .collect();
        some(&of, std::slice::from_ref(&family))?;
        let all = Regimes {
            freeze: None,
            head: None,
        };
        Ok((family, mean(datasets, &of, all)))
    }

    /// Larger minus smaller, averaged over the pairs and regimes, on one data set.
    fn larger(
        &self,
        dataset: &str,
        pairs: &[(String, String)],
        regimes: &[(Freeze, HeadKind)],
    ) -> Result<(String, Sum), String> {
        let title = self
            .input
            .dataset(dataset)
            .ok_or_else(|| format!("this study has no data set {dataset}"))?
            .title
            .clone();
        let kept = || {
            pairs
                .iter()
                .filter(|p| !self.skip.contains(p.0.as_str()) && !self.skip.contains(p.1.as_str()))
        };
        let (small, large): (Vec<String>, Vec<String>) = kept().cloned().unzip();
        if small.is_empty() {
            return Err("no pair of sizes is left".to_owned());
        }
        Ok((
            title,
            minus(
                mean_over(&[dataset], &large, regimes),
                mean_over(&[dataset], &small, regimes),
            ),
        ))
    }

    /// The cells of these sums, or why they cannot be used.
    fn used(&self, parts: &[(String, Sum)]) -> Result<Used<'_>, (String, Vec<CellUse>)> {
        let keys: BTreeSet<&Key> = parts.iter().flat_map(|p| &p.1).map(|(k, _)| k).collect();
        let of = keys.len();
        let (mut scores, mut list) = (BTreeMap::new(), Vec::new());
        let (mut without_result, mut broken, mut without_images) = (0, Vec::new(), 0);
        for key in keys {
            let score = self.cells.get(&key.0, &key.1, key.2, key.3);
            list.push(CellUse::of(key, score));
            match score.filter(|s| s.n() > 0) {
                None => without_result += 1,
                Some(s) => {
                    broken.extend(s.incomplete().map(|why| (key, why)));
                    without_images += usize::from(s.sampled.is_none());
                    scores.insert(key.clone(), s);
                }
            }
        }
        if without_result > 0 {
            let why = format!("{without_result} of the {of} cells that it speaks of have no result");
            return Err((why, list));
        }
        if let Some((key, why)) = broken.first() {
            let at = format!("{}, {}, {}", key.0, key.1, super::input::regime_title(key.2, key.3));
            let why = format!(
                "{} of the {of} cells that it speaks of lack a second seed or a planned one ({at}: {why})",
                broken.len()
            );
            return Err((why, list));
        }
        if without_images > 0 {
            let why = format!("the test images of {without_images} of {of} cells were not resampled");
            return Err((why, list));
        }
        Ok(Used { scores, list })
    }

    /// The claim on the published values alone, without any run.
    fn on_published(&self, claim: &Claim) -> Variant {
        let title = "the published values alone";
        let contrast = matches!(
            claim.test,
            ClaimTest::Contrast { .. } | ClaimTest::ContrastEveryBackbone { .. }
        );
        let point = |d: &str, b: &str| -> Vec<&PublishedPoint> {
            let all = self.input.published.iter();
            all.filter(|p| p.dataset == d && p.backbone == b).collect()
        };
        let says = |p: &&PublishedPoint| !contrast || (p.freeze.is_some() && p.head.is_some());
        let published = |d: &str, b: &str| point(d, b).iter().any(says);
        if self.input.published.is_empty() {
            return Variant::unasked(title, "nothing is published");
        }
        // The backbones that are published on every data set of the study that has published values.
        let datasets: Vec<_> = self
            .input
            .datasets
            .iter()
            .filter(|d| self.input.published.iter().any(|p| p.dataset == d.name && says(&p)))
            .collect();
        let skip: BTreeSet<&str> = self
            .input
            .backbones
            .iter()
            .filter(|b| !datasets.iter().all(|d| published(&d.name, &b.name)))
            .map(|b| b.name.as_str())
            .collect();
        let input = ReportInput {
            datasets: datasets.into_iter().cloned().collect(),
            ..self.input.clone()
        };
        let grid = Grid {
            input: &input,
            cells: self.cells,
            skip: &skip,
        };
        // What is stated of the regime comes before what may be of any.
        let value = |k: &Key| -> Option<f64> {
            let all = point(&k.0, &k.1);
            let fits = |p: &&&PublishedPoint| p.freeze.is_none_or(|f| f == k.2) && p.head.is_none_or(|h| h == k.3);
            let stated = |p: &&&PublishedPoint| p.freeze.is_some() && p.head.is_some();
            let mut values: Vec<f64> = all.iter().filter(fits).filter(stated).map(|p| p.value).collect();
            if values.is_empty() && !contrast {
                values = all.iter().filter(fits).map(|p| p.value).collect();
            }
            (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
        };
        if contrast
            && !self
                .input
                .published
                .iter()
                .any(|p| p.freeze.is_some() && p.head.is_some())
        {
            return Variant::unasked(title, "they do not say which regime they are of");
        }
        grid.on_values(title, claim, claim.smallest, &value)
    }

    /// The claim on ranks: within every data set each cell's place among all cells, from 0 to 1.
    fn on_ranks(&self, claim: &Claim, ranks: &BTreeMap<Key, f64>) -> Variant {
        // A place has no smallest size that matters: only the direction is compared.
        self.on_values("on ranks within each data set", claim, 0.0, &|k| ranks.get(k).copied())
    }

    fn on_values(&self, title: &str, claim: &Claim, smallest: f64, value: &dyn Fn(&Key) -> Option<f64>) -> Variant {
        let parts = match self.parts(&claim.test) {
            Ok(parts) => parts,
            Err(why) => return Variant::unasked(title, &why),
        };
        let values: Option<Vec<f64>> = parts
            .iter()
            .map(|(_, sum)| sum.iter().map(|(k, w)| Some(value(k)? * w)).sum())
            .collect();
        let Some(values) = values else {
            return Variant::unasked(title, "values that it speaks of are missing");
        };
        let x = self.abscissa(&claim.test, &parts);
        let Some(effect) = statistic(&claim.test, &names(&parts), &x, &values) else {
            return Variant::unasked(title, "the effect is not defined on these values");
        };
        let p = match &claim.test {
            ClaimTest::Trend { .. } => kendall_permutation(&x, &values).ok().map(|o| o.p()),
            ClaimTest::SizeSlope { .. } | ClaimTest::SizeFraction { .. } => {
                line(&x, &values).and_then(|(value, se)| {
                    let residual = VarianceSource::new(se, Some(x.len() as f64 - 2.0));
                    let e = Estimate {
                        value,
                        sources: vec![residual],
                    };
                    e.p_two_sided().ok()
                })
            }
            _ => None,
        };
        Variant::value(title, effect, p, smallest)
    }
}

fn names(parts: &[(String, Sum)]) -> Vec<&str> {
    parts.iter().map(|p| p.0.as_str()).collect()
}

fn some(found: &[String], wanted: &[String]) -> Result<(), String> {
    if found.is_empty() {
        return Err(format!("this study has no backbone of {}", wanted.join(", ")));
    }
    Ok(())
}
